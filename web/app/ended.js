import { h } from './dom.js';
import { logo } from './icons.js';

/** After a meeting: what happened, and the way back. */
export function showEnded(root, { room, ended, rejoin, home }) {
  const back = h('button', { class: 'button button-primary button-large', type: 'button', id: 'rejoin', onclick: rejoin }, ended.why === 'stopped' ? 'Try to join again' : 'Join again');
  root.replaceChildren(
    h(
      'main',
      { class: 'page ended' },
      h('div', { class: 'home-mark' }, logo()),
      h('h1', { tabindex: '-1' }, ended.text),
      ended.detail && h('p', { class: 'lead' }, ended.detail),
      h('p', { class: 'muted' }, 'Room ', h('strong', {}, room)),
      h('div', { class: 'home-actions' }, back, h('button', { class: 'button button-large', type: 'button', onclick: home }, 'To the start page')),
    ),
  );
  back.focus({ preventScroll: true });
  return { close() {} };
}

/** While coming back after a reload, when there is no lobby to look at. */
export function showConnecting(root, room) {
  root.replaceChildren(h('main', { class: 'page connecting' }, h('div', { class: 'home-mark' }, logo()), h('p', { class: 'lead', role: 'status' }, h('span', { class: 'spinner', 'aria-hidden': 'true' }), `Joining ${room}…`)));
  return { close() {} };
}
