import { h } from './dom.js';
import { icon, logo } from './icons.js';
import { asRoomName, inventRoomName } from './names.js';

/** `/`: makes a room, or asks for one. */
export function showHome(root, { enter }) {
  const field = h('input', { id: 'room-name', class: 'input', placeholder: 'Name or link of a room', autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false', enterkeyhint: 'go', maxlength: 300 });
  const problem = h('p', { class: 'problem', id: 'room-problem', role: 'alert' });
  const submit = (event) => {
    event.preventDefault();
    const name = asRoomName(field.value);
    if (name) return enter(name);
    problem.textContent = 'A room’s name has letters, digits, “-”, “_” and “.”.';
    field.setAttribute('aria-describedby', 'room-problem');
    field.focus();
  };
  root.replaceChildren(
    h(
      'main',
      { class: 'page home' },
      h('div', { class: 'home-mark' }, logo()),
      h('h1', {}, 'Exedra'),
      h('p', { class: 'lead' }, 'A place to sit down and talk. Make a room, send its link, and everybody who has it can join.'),
      h('div', { class: 'home-actions' }, h('button', { class: 'button button-primary button-large', type: 'button', id: 'new-room', onclick: () => enter(inventRoomName()) }, icon('camera'), 'New room')),
      h('form', { class: 'home-form', onsubmit: submit }, h('label', { for: 'room-name', class: 'visually-hidden' }, 'Name or link of a room'), field, h('button', { class: 'button', type: 'submit' }, 'Go there')),
      problem,
      h('p', { class: 'home-foot' }, h('a', { href: '/recordings' }, 'Recordings')),
    ),
  );
  return { close() {} };
}
