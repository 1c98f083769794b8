import { announce, h, setText } from '../app/dom.js';
import { icon, logo } from '../app/icons.js';
import { toast } from '../app/toasts.js';
import { guestRoom, list, pageOf, remove } from './api.js';
import { length, people, size, state, when } from './words.js';

const RENEW_MS = 4000;

/** All recordings that the token may see, the newest first. */
export class List {
  constructor(root, ways) {
    this._ways = ways;
    this._rooms = guestRoom();
    this._pages = 1;
    this._rows = new Map();
    this._list = h('ul', { class: 'rec-list' });
    this._note = h('p', { class: 'rec-empty', role: 'status' }, 'Loading…');
    this._more = h('button', { class: 'button', type: 'button', hidden: true, onclick: () => (this._pages++, this._load()) }, 'Older ones');
    this._filter = h('input', { class: 'input rec-filter', type: 'search', placeholder: 'Room', 'aria-label': 'Only of this room', autocapitalize: 'none', spellcheck: 'false', onchange: () => ((this._rooms = this._filter.value.trim()), this._load()) });
    this._filter.value = this._rooms;
    this._filter.hidden = Boolean(guestRoom());
    root.replaceChildren(
      h(
        'main',
        { class: 'page recs' },
        h(
          'header',
          { class: 'rec-head' },
          h('a', { class: 'brand', href: '/', 'aria-label': 'Exedra: to the start page' }, logo(), h('span', {}, 'Exedra')),
          h('button', { class: 'button button-quiet', type: 'button', onclick: ways.signOut }, 'Another token'),
        ),
        h('div', { class: 'rec-title' }, h('h1', {}, 'Recordings'), this._filter),
        this._note,
        this._list,
        h('div', { class: 'rec-more' }, this._more),
      ),
    );
    this._load();
    this._timer = setInterval(() => document.hidden || this._load(), RENEW_MS);
  }

  close() {
    clearInterval(this._timer);
    this._closed = true;
  }

  async _load() {
    const turn = (this._turn = {});
    const found = [];
    let after;
    try {
      for (let page = 0; page < this._pages && (page === 0 || after); page++) {
        const part = await list({ room: this._rooms, after });
        found.push(...part.recordings);
        after = part.next;
      }
    } catch (error) {
      if (this._closed || turn !== this._turn) return;
      if (error.status === 401 || error.status === 403) return this._ways.refused(error);
      setText(this._note, error.message);
      this._note.hidden = false;
      return;
    }
    if (this._closed || turn !== this._turn) return;
    this._more.hidden = !after;
    this._show(found);
  }

  _show(found) {
    setText(this._note, this._rooms ? 'Nothing was recorded in this room.' : 'Nothing was recorded yet.');
    this._note.hidden = found.length > 0;
    const gone = new Set(this._rows.keys());
    found.forEach((recording, n) => {
      gone.delete(recording.id);
      let row = this._rows.get(recording.id);
      const told = JSON.stringify(recording);
      if (!row) this._rows.set(recording.id, (row = { element: h('li', { class: 'rec-row', data: { id: recording.id } }), told: '' }));
      if (row.told !== told && !row.element.contains(document.activeElement)) row.element.replaceChildren(...this._row(recording));
      else if (row.told !== told) this._refresh(row.element, recording);
      row.told = told;
      if (this._list.children[n] !== row.element) this._list.insertBefore(row.element, this._list.children[n] ?? null);
    });
    for (const id of gone) {
      this._rows.get(id).element.remove();
      this._rows.delete(id);
    }
  }

  _row(recording) {
    const open = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      this._ways.open(recording.id);
    };
    const { text, kind, why } = state(recording);
    const facts = h('span', { class: 'rec-facts' }, factsOf(recording));
    return [
      h('a', { class: 'rec-link', href: pageOf(recording.id), onclick: open }, h('span', { class: 'rec-room' }, recording.room), h('span', { class: 'rec-when' }, when(recording.startedAtMs))),
      h('span', { class: 'rec-people' }, icon('people'), people(recording)),
      facts,
      h('span', { class: 'rec-state', data: { kind }, title: why }, text),
      kind !== 'live' && h('button', { class: 'icon-button rec-delete', type: 'button', 'aria-label': `Delete the recording of ${recording.room}, ${when(recording.startedAtMs)}`, onclick: () => this._delete(recording) }, icon('bin')),
    ].filter(Boolean);
  }

  /** Somebody is at it with the keyboard: what has the focus stays. */
  _refresh(element, recording) {
    setText(element.querySelector('.rec-facts'), factsOf(recording));
    setText(element.querySelector('.rec-people').lastChild, people(recording));
  }

  _delete(recording) {
    const dialog = h('dialog', { class: 'dialog', 'aria-labelledby': 'delete-title' });
    const really = async () => {
      dialog.close();
      try {
        await remove(recording.id);
        toast('The recording was deleted.');
      } catch (error) {
        toast(error.message, { icon: 'warning' });
      }
      this._load();
    };
    dialog.append(
      h('header', {}, h('h2', { id: 'delete-title' }, 'Delete this recording?'), h('button', { class: 'icon-button', type: 'button', 'aria-label': 'Close', onclick: () => dialog.close() }, icon('close'))),
      h('p', {}, `${recording.room}, ${when(recording.startedAtMs)}: ${factsOf(recording)}. Its files are taken off the server’s disk, for everybody. This cannot be undone.`),
      h('div', { class: 'dialog-actions' }, h('button', { class: 'button rec-danger', type: 'button', id: 'really-delete', onclick: really }, 'Delete'), h('button', { class: 'button', type: 'button', autofocus: true, onclick: () => dialog.close() }, 'Keep it')),
    );
    dialog.addEventListener('close', () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    announce('Delete this recording?');
  }
}

function factsOf({ durationMs, bytes, files }) {
  return `${length(durationMs)} · ${size(bytes)} · ${files} ${files === 1 ? 'file' : 'files'}`;
}
