import { DeviceSelects, testSpeaker } from './devices.js';
import { h } from './dom.js';
import { icon } from './icons.js';
import { preferences, remember } from './preferences.js';

export const SHORTCUTS = [
  ['m', 'Microphone on or off'],
  ['v', 'Camera on or off'],
  ['s', 'Share a screen, or stop'],
  ['h', 'Raise or lower your hand'],
  ['r', 'Record, or stop recording'],
  ['c', 'Chat'],
  ['p', 'People'],
  ['i', 'Connection in figures'],
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

/** Asks before something that cannot be taken back. @returns {Promise<boolean>} */
export function confirm({ title, text, yes, no }) {
  return new Promise((resolve) => {
    let answer = false;
    const button = (label, className, value) => h('button', { class: `button ${className}`, type: 'button', onclick: () => ((answer = value), close()) }, label);
    const close = openDialog(title, 'confirm', [h('p', {}, text), h('div', { class: 'dialog-actions' }, button(yes, 'button-danger', true), button(no, '', false))], () => resolve(answer));
  });
}

export function openHelp() {
  const rows = SHORTCUTS.map(([key, what]) => [h('dt', {}, h('kbd', {}, key)), h('dd', {}, what)]);
  return openDialog('Keyboard', 'help', h('dl', { class: 'keys' }, rows));
}
