import { h, setAttribute, setText } from './dom.js';
import { icon, swapIcon } from './icons.js';
import { hue, initials } from './names.js';
import { toast } from './toasts.js';

/** Who is here. */
export class People {
  constructor(room, { media, copyLink }) {
    this._room = room;
    this._media = media;
    /** @type {Map<string, any>} */
    this._rows = new Map();
    this._list = h('ul', { class: 'people-list', 'aria-label': 'People in the room' });
    /** In a large room: those of whom we are told nothing, as far as somebody wanted to see them. */
    this._others = h('ul', { class: 'people-others', 'aria-label': 'More people in the room' });
    this._more = h('button', { class: 'button button-quiet', type: 'button', onclick: () => this._showMore() });
    this._crowd = h('div', { class: 'people-crowd', hidden: true }, this._others, this._more);
    /** After whom the next page begins; null when there is none. @type {string | undefined | null} */
    this._after = undefined;
    this._scroll = h('div', { class: 'people-scroll' }, this._list, this._crowd);
    this.element = h('div', { class: 'people' }, h('button', { class: 'button people-invite', type: 'button', onclick: copyLink }, icon('link'), 'Copy the link of this room'), this._scroll);
  }

  render() {
    const people = [...this._room.participants.values()].sort((a, b) => Number(b.isLocal) - Number(a.isLocal) || Number(Boolean(b.attributes.hand)) - Number(Boolean(a.attributes.hand)) || a.name.localeCompare(b.name));
    for (const [id, row] of this._rows) {
      if (this._room.participants.has(id)) continue;
      row.element.remove();
      this._rows.delete(id);
    }
    people.forEach((participant, i) => {
      const row = this._rows.get(participant.id) ?? this._row(participant.id);
      this._fill(row, participant);
      if (this._list.children[i] !== row.element) this._list.insertBefore(row.element, this._list.children[i] ?? null);
    });
    this._renderCrowd();
  }

  _renderCrowd() {
    const { large, count, participants } = this._room;
    this._crowd.hidden = !large;
    if (!large && this._after !== undefined) this._forgetCrowd();
    for (const item of this._others.children) item.hidden = participants.has(item.dataset.participant); // it is on the list above
    const rest = Math.max(0, count - participants.size);
    setText(this._more, this._after === null ? 'Show them anew' : this._after ? 'Show more' : `Show ${rest} more who are watching`);
    this._more.hidden = rest === 0;
  }

  _forgetCrowd() {
    this._after = undefined;
    this._others.replaceChildren();
  }

  /** The next page; from the start again after the last one, for people come and go in silence. */
  async _showMore() {
    if (this._after === null) this._forgetCrowd();
    this._more.disabled = true;
    try {
      const { participants, next } = await this._room.listParticipants({ after: this._after, limit: 200 });
      this._others.append(...participants.map(({ id, name }) => h('li', { class: 'people-name', data: { participant: id } }, name || 'Guest')));
      this._after = next;
    } catch (error) {
      toast(error.message);
    }
    this._more.disabled = false;
    this._renderCrowd();
  }

  _row(id) {
    const row = { avatar: h('div', { class: 'avatar avatar-small', 'aria-hidden': 'true' }), name: h('span', { class: 'people-name' }), note: h('span', { class: 'people-note' }), hand: h('span', { class: 'people-hand' }, icon('hand')), mic: h('span', {}, icon('mic')), cam: h('span', {}, icon('camera')) };
    row.element = h('li', { class: 'people-row' }, row.avatar, h('div', { class: 'people-text' }, row.name, row.note), row.hand, row.mic, row.cam);
    this._rows.set(id, row);
    return row;
  }

  _fill(row, participant) {
    const on = (source, device) => (participant.isLocal ? device.on : Boolean(participant.track(source) && !participant.track(source).muted));
    const mic = on('microphone', this._media.mic);
    const cam = on('camera', this._media.cam);
    const lost = participant.connection === 'lost';
    const name = participant.name || 'Guest';
    setText(row.avatar, initials(name));
    setAttribute(row.avatar, 'data-hue', hue(name));
    setText(row.name, participant.isLocal ? `${name} (you)` : name);
    setText(row.note, lost ? 'connection lost' : participant.track('screen') ? 'shares a screen' : '');
    row.hand.hidden = !participant.attributes.hand;
    for (const [slot, isOn, yes, no, label] of [[row.mic, mic, 'mic', 'micOff', 'Microphone'], [row.cam, cam, 'camera', 'cameraOff', 'Camera']]) {
      swapIcon(slot, isOn ? yes : no);
      setAttribute(slot, 'role', 'img');
      setAttribute(slot, 'aria-label', `${label} ${isOn ? 'on' : 'off'}`);
      setAttribute(slot, 'data-off', !isOn);
    }
    setAttribute(row.hand, 'role', 'img');
    setAttribute(row.hand, 'aria-label', 'Hand raised');
    setAttribute(row.element, 'data-speaking', participant.speaking && mic);
  }
}
