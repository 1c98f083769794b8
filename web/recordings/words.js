/** How the page says things. */
const date = new Intl.DateTimeFormat(undefined, { weekday: 'short', day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit' });
const UNITS = ['bytes', 'kB', 'MB', 'GB', 'TB'];

export const when = (ms) => date.format(ms);

/** `0:07`, `12:30`, `1:02:03`. */
export function time(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const two = (n) => String(n).padStart(2, '0');
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** `45 s`, `12 min`, `1 h 5 min`. */
export function length(ms) {
  const minutes = Math.round(ms / 60_000);
  if (ms < 90_000) return `${Math.round(ms / 1000)} s`;
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ''}`;
}

export function size(bytes) {
  let unit = 0;
  let value = bytes;
  for (; value >= 999.5 && unit < UNITS.length - 1; unit++) value /= 1000;
  return `${unit === 0 || value >= 10 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** Who was there: some names, and how many more. */
export function people({ participants, people: count }, most = 3) {
  if (count === 0) return 'Nobody';
  const names = participants.slice(0, count <= most + 1 ? most + 1 : most);
  const more = count - names.length;
  if (more <= 0 && names.length > 1) return `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
  return more > 0 ? `${names.join(', ')} and ${more} more` : names[0] ?? 'Somebody';
}

/** The state of a recording in a few words, whether that is trouble, and more words for who wants to know. */
export function state({ state: stage, ended }) {
  if (stage === 'recording' && !ended) return { text: 'Recording now', kind: 'live' };
  const trouble = {
    diskFull: ['The disk was full', 'The recording ended because the disk was full. What was written until then is here.'],
    diskError: ['Disk error', 'The recording ended because the disk refused to write. What was written until then is here.'],
    crash: ['Cut off', 'The server died while it recorded. The files were closed afterwards; the last seconds may be missing.'],
  }[ended];
  if (trouble) return { text: trouble[0], kind: 'trouble', why: trouble[1] };
  if (stage === 'recording') return { text: 'Being finished', kind: 'quiet', why: 'The files are just being closed.' };
  const why = { stopped: 'Somebody stopped it.', roomEnded: 'It ended when the last one left.', shutdown: 'It ended when the server was shut down.' }[ended];
  return { text: stage === 'healed' ? 'Repaired' : 'Complete', kind: 'quiet', why };
}

export const CAUSES = { muted: 'muted', loss: 'lost on the way', publisherGone: 'not sending', disk: 'the disk could not follow' };
export const CONTENTS = { camera: 'camera', screen: 'screen', composite: 'all together' };
