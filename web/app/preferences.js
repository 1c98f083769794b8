/** What the page remembers of you, in this browser only. */
const KEY = 'exedra:preferences';
const DEFAULTS = { name: '', mic: true, cam: true, micId: '', camId: '', speakerId: '', size: '720', mirror: true };

function load() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(KEY) ?? '{}') };
  } catch {
    return { ...DEFAULTS };
  }
}

export const preferences = load();

export function remember(changes) {
  Object.assign(preferences, changes);
  try {
    localStorage.setItem(KEY, JSON.stringify(preferences));
  } catch {
    // Storage is switched off: then it is remembered for as long as the page is open.
  }
}
