import { h, setAttribute } from '../app/dom.js';
import { icon } from '../app/icons.js';
import { CONTENTS, size } from './words.js';

/** The files to take home. */
export class Downloads {
  constructor() {
    this._menu = h('div', { class: 'menu play-files', id: 'files', hidden: true, role: 'group', 'aria-label': 'Files' });
    this._button = h('button', { class: 'button', type: 'button', id: 'button-files', 'aria-expanded': 'false', 'aria-controls': 'files', onclick: () => this._open(this._menu.hidden) }, icon('download'), h('span', {}, 'Files'));
    this.element = h('div', { class: 'menu-anchor', onkeydown: (event) => event.key === 'Escape' && !this._menu.hidden && (this._open(false), this._button.focus()) }, this._button, this._menu);
    this.element.addEventListener('focusout', (event) => event.relatedTarget && !this.element.contains(event.relatedTarget) && this._open(false));
    document.addEventListener('pointerdown', (event) => this.element.isConnected && !this.element.contains(event.target) && this._open(false));
  }

  update({ files, participants, manifestUrl, eventsUrl }) {
    const told = JSON.stringify([files.map(({ name, size: bytes }) => [name, bytes]), manifestUrl]);
    if (told === this._told || (!this._menu.hidden && this._told)) return;
    this._told = told;
    const names = new Map(participants.map(({ id, name }) => [id, name]));
    const link = (url, title, note) => h('a', { class: 'menu-item', href: `${url}&download=1`, download: '' }, icon('download'), h('span', { class: 'file-title' }, title, h('small', {}, note)));
    this._menu.replaceChildren(
      ...files.map((file) => link(file.url, `${names.get(file.participant) ?? file.participant}, ${CONTENTS[file.content]}${file.part > 1 ? `, part ${file.part}` : ''}`, `${file.name} · ${size(file.size)}${file.growing ? ' so far' : ''}`)),
      link(manifestUrl, 'What the recording holds', 'session.json'),
      link(eventsUrl, 'What happened, and the chat', 'events.jsonl'),
    );
  }

  _open(open) {
    this._menu.hidden = !open;
    setAttribute(this._button, 'aria-expanded', String(open));
    if (open) this._menu.querySelector('a')?.focus();
  }
}
