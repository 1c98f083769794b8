import { announce, h, linkified } from './dom.js';
import { icon } from './icons.js';
import { toast } from './toasts.js';

const TOPIC = 'chat';
const MAX_CHARS = 2000;
/** Lines of one person within this time go together. */
const TOGETHER_MS = 3 * 60_000;
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });

/** What was said in writing. */
export class Chat {
  constructor(room, { onUnread }) {
    this._room = room;
    this._onUnread = onUnread;
    this._unread = 0;
    this._open = false;
    this._last = null;
    this._list = h('ol', {});
    // New lines are announced by ourselves, with who said them.
    this._log = h('div', { class: 'chat-list', role: 'log', 'aria-label': 'Messages', 'aria-live': 'off', tabindex: '0' }, this._list);
    this._empty = h('p', { class: 'panel-empty' }, 'Nothing has been said yet. Messages are for those who are here now, and are gone when the room is.');
    this._field = h('textarea', { class: 'input', id: 'chat-text', rows: 1, maxlength: MAX_CHARS, placeholder: 'Write to everybody', 'aria-label': 'Message to everybody', enterkeyhint: 'send', onkeydown: (event) => this._onKey(event), oninput: () => this._grow() });
    this._send = h('button', { class: 'icon-button', type: 'submit', 'aria-label': 'Send' }, icon('send'));
    this.element = h(
      'div',
      { class: 'chat' },
      this._empty,
      this._log,
      (this._form = h('form', { class: 'chat-form', onsubmit: (event) => (event.preventDefault(), this._submit()) }, this._field, this._send)),
    );
    for (const message of room.messages) this._add(message, true);
    this._off = room.on('message', (message) => this._add(message, false));
  }

  close() {
    this._off();
  }

  /** Whether one may write, or only read. */
  setAllowed(allowed) {
    this._form.hidden = !allowed;
  }

  /** The panel is, or is not, in view. */
  setOpen(open) {
    this._open = open;
    if (!open) return;
    this._unread = 0;
    this._onUnread(0);
    this._log.scrollTop = this._log.scrollHeight;
    this._field.focus({ preventScroll: true });
  }

  _add(message, old) {
    if (message.topic !== TOPIC) return;
    const text = textOf(message.body);
    if (!text) return;
    const mine = this._room.participants.get(message.participant)?.isLocal ?? false;
    const name = mine ? 'You' : this._room.nameOf(message.participant) || 'Somebody';
    const atEnd = this._log.scrollHeight - this._log.scrollTop - this._log.clientHeight < 60;
    const together = this._last?.participant === message.participant && message.atMs - this._last.atMs < TOGETHER_MS;
    this._list.append(
      h(
        'li',
        { class: 'chat-message', data: { mine: mine ? '1' : '0', together: together ? '1' : '0' } },
        !together && h('div', { class: 'chat-head' }, h('span', { class: 'chat-name' }, name), h('time', { datetime: new Date(message.atMs).toISOString() }, clock.format(message.atMs))),
        h('p', { class: 'chat-text' }, linkified(text)),
      ),
    );
    this._last = message;
    this._empty.hidden = true;
    if (atEnd || mine) this._log.scrollTop = this._log.scrollHeight;
    if (old || mine) return;
    announce(`${name}: ${text}`);
    if (!this._open) this._onUnread(++this._unread, { name, text });
  }

  _onKey(event) {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this._submit();
  }

  async _submit() {
    const text = this._field.value.trim();
    if (!text) return;
    this._field.value = '';
    this._grow();
    try {
      await this._room.say(TOPIC, text);
    } catch (error) {
      if (!this._field.value) this._field.value = text;
      this._grow();
      toast(`Not sent: ${error.message}`);
    }
  }

  _grow() {
    this._field.style.height = 'auto';
    this._field.style.height = `${Math.min(this._field.scrollHeight + 2, 120)}px`;
  }
}

/** The text of a chat message; other clients may send an object with a `text`. */
function textOf(body) {
  const text = typeof body === 'string' ? body : typeof body?.text === 'string' ? body.text : '';
  return text.slice(0, MAX_CHARS * 2);
}
