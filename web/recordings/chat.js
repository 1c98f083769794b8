import { h, linkified, setAttribute } from '../app/dom.js';
import { time } from './words.js';

/** What was written, in time with what is played. */
export class Chat {
  constructor({ seek }) {
    this._seek = seek;
    this._lines = [];
    this._list = h('ol', {});
    this._empty = h('p', { class: 'panel-empty' }, 'Nobody wrote anything.');
    this._scroll = h('div', { class: 'chat-list', tabindex: '0', role: 'log', 'aria-live': 'off', 'aria-label': 'Messages' }, this._list);
    this.element = h('div', { class: 'chat' }, this._empty, this._scroll);
  }

  update(messages, names) {
    for (const { tMs, participant, text } of messages.slice(this._lines.length)) {
      const name = names.get(participant) ?? participant ?? 'Somebody';
      const at = h('button', { class: 'chat-at', type: 'button', 'aria-label': `Go to ${time(tMs)}`, onclick: () => this._seek(tMs) }, time(tMs));
      const element = h('li', { class: 'chat-message' }, h('div', { class: 'chat-head' }, h('span', { class: 'chat-name' }, name), at), h('p', { class: 'chat-text' }, linkified(text)));
      this._list.append(element);
      this._lines.push({ tMs, element });
    }
    this._empty.hidden = this._lines.length > 0;
  }

  show(at) {
    let last = null;
    for (const line of this._lines) {
      setAttribute(line.element, 'data-later', line.tMs > at);
      if (line.tMs <= at) last = line;
    }
    if (last === this._last) return;
    this._last = last;
    if (!last) return;
    const { element } = last;
    const below = element.offsetTop + element.offsetHeight - this._scroll.clientHeight + 12;
    this._scroll.scrollTop = Math.max(0, below);
  }
}
