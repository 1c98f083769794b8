import { DeviceSelects, testSpeaker } from './devices.js';
import { h, setText } from './dom.js';
import { icon } from './icons.js';
import { preferences, remember } from './preferences.js';

export const SHORTCUTS = [
  ['m', 'Microphone on or off'],
  ['v', 'Camera on or off'],
  ['s', 'Share a screen, or stop'],
  ['h', 'Raise or lower your hand'],
  ['c', 'Chat'],
  ['p', 'People'],
  ['l', 'Grid or stage'],
  ['f', 'Full screen'],
  ['Space', 'Hold to speak while muted'],
  ['?', 'This list'],
  ['Esc', 'Close what is open'],
];

/** A modal dialog with a title and a way out. @returns {() => void} closes it */
function openDialog(title, className, body, onClose = () => {}) {
  const id = `dialog-${className}`;
  const dialog = h(
    'dialog',
    { class: `dialog ${className}`, 'aria-labelledby': id },
    h('header', {}, h('h2', { id }, title), h('button', { class: 'icon-button', type: 'button', 'aria-label': 'Close', onclick: () => dialog.close() }, icon('close'))),
    body,
  );
  dialog.addEventListener('close', () => {
    onClose();
    dialog.remove();
  });
  dialog.addEventListener('click', (event) => event.target === dialog && dialog.close()); // the backdrop
  document.body.append(dialog);
  dialog.showModal();
  return () => dialog.close();
}

export function openSettings(media, room, changed) {
  const selects = new DeviceSelects(media, { onSpeaker: (id) => room.setSpeaker(id).catch(() => {}) });
  const mirror = h('input', { type: 'checkbox', id: 'mirror', checked: preferences.mirror, onchange: () => (remember({ mirror: mirror.checked }), changed()) });
  return openDialog(
    'Devices',
    'settings',
    [
      selects.element,
      h('div', { class: 'check' }, mirror, h('label', { for: 'mirror' }, 'Show me my own picture mirrored')),
      h('div', { class: 'dialog-actions' }, h('button', { class: 'button', type: 'button', onclick: () => testSpeaker() }, icon('speaker'), 'Play a test sound')),
    ],
    () => selects.close(),
  );
}

export function openHelp() {
  const rows = SHORTCUTS.map(([key, what]) => [h('dt', {}, h('kbd', {}, key)), h('dd', {}, what)]);
  return openDialog('Keyboard', 'help', h('dl', { class: 'keys' }, rows));
}

/** Numbers for those who want to know: measured here, and by the server. */
export function openConnection(room) {
  const output = h('pre', { class: 'numbers', tabindex: '0' }, 'Measuring…');
  let before = null;
  const update = async () => {
    const now = await room.stats().catch(() => null);
    if (!now) return;
    setText(output, report(room, now, before));
    before = now;
  };
  const timer = setInterval(update, 1000);
  update();
  return openDialog('Connection', 'connection', output, () => clearInterval(timer));
}

function report(room, now, before) {
  const seconds = before ? (now.at - before.at) / 1000 : 0;
  const lines = [`state       ${room.state.phase}`];
  for (const [name, side] of [['sending', now.pub], ['receiving', now.sub]]) {
    const { rttMs, remote, tracks } = side;
    lines.push('', `${name}`, `  path      ${remote ?? 'none'}${rttMs === null ? '' : `, ${rttMs} ms there and back`}`);
    for (const entry of tracks) lines.push(`  ${describe(room, entry, find(before, name, entry), seconds)}`);
  }
  return lines.join('\n');
}

function find(before, name, { mid, rid }) {
  return (name === 'sending' ? before?.pub : before?.sub)?.tracks.find((entry) => entry.mid === mid && entry.rid === rid);
}

function describe(room, entry, old, seconds) {
  const track = room.tracks.get(entry.track);
  const who = track?.participant.isLocal === false ? `${track.participant.name} ` : '';
  const bytes = (e) => e?.bytesSent ?? e?.bytesReceived ?? 0;
  const rate = old && seconds > 0 ? `${Math.round(((bytes(entry) - bytes(old)) * 8) / seconds / 1000)} kbit/s` : '…';
  const size = entry.frameWidth ? `${entry.frameWidth}×${entry.frameHeight} ${Math.round(entry.framesPerSecond ?? 0)}/s` : '';
  const lost = entry.packetsLost ? `${entry.packetsLost} lost` : '';
  return [`${who}${track?.source ?? entry.kind}`.padEnd(24), entry.rid ?? '', (entry.codec ?? '').replace(/^.*\//, ''), rate, size, lost].filter(Boolean).join('  ');
}
