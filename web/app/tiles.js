import { h, setAttribute, setText } from './dom.js';
import { icon, swapIcon } from './icons.js';
import { hue, initials } from './names.js';
import { preferences } from './preferences.js';

/**
 * The picture of one source of one participant: its camera (a tile that is always there) or a shared screen.
 * `data-participant`, `data-source` and `data-track` say which.
 */
export class Tile {
  /** `source`: `camera` or `screen`. */
  constructor(room, participant, source, { media, onPin }) {
    this.room = room;
    this.participant = participant;
    this.source = source;
    this.key = `${participant.id}/${source}`;
    this._media = media;
    this._video = h('video', { autoplay: true, playsinline: true, muted: true, tabindex: '-1', 'aria-hidden': 'true' });
    this._video.muted = true; // sound has its own elements; a muted picture may always play
    this._avatar = h('div', { class: 'avatar', 'aria-hidden': 'true' });
    this._muted = h('span', { class: 'tile-muted', hidden: true }, icon('micOff'));
    this._name = h('span', { class: 'tile-name' });
    this._hand = h('span', { class: 'tile-hand', hidden: true }, icon('hand'));
    this._status = h('span', { class: 'tile-status' });
    this._pin = h('button', { class: 'icon-button tile-pin', type: 'button', onclick: () => onPin(this) }, icon('pin'));
    this.element = h(
      'article',
      { class: 'tile', data: { participant: participant.id, source } },
      this._video,
      this._avatar,
      this._status,
      h('div', { class: 'tile-label' }, this._hand, this._muted, this._name),
      this._pin,
    );
    this.element.addEventListener('dblclick', (event) => event.target !== this._pin && onPin(this));
    for (const event of ['resize', 'loadeddata', 'emptied']) this._video.addEventListener(event, () => this.render());
  }

  get isLocal() {
    return this.participant.isLocal;
  }

  /** The room's track that this tile shows, if it is published. */
  get track() {
    return this.participant.track(this.source);
  }

  close() {
    this.room.detach(this._video);
    this._video.srcObject = null;
    this.element.remove();
  }

  /** Makes the tile show what is the case. May be called at any time, any number of times. */
  render({ pinned = this._pinned, priority = this._priority } = {}) {
    this._pinned = pinned;
    this._priority = priority;
    const { participant } = this;
    const showing = this.isLocal ? this._renderLocal() : this._renderRemote();
    const name = participant.name || 'Guest';
    const microphone = participant.track('microphone');
    const muted = this.isLocal ? !this._media.mic.on : !microphone || microphone.muted;
    const lost = participant.connection === 'lost';
    const screen = this.source === 'screen';
    this._avatar.hidden = showing || screen;
    setText(this._avatar, initials(name));
    setAttribute(this._avatar, 'data-hue', hue(name));
    setText(this._name, screen ? (this.isLocal ? 'Your screen' : `${name}’s screen`) : this.isLocal ? `${name} (you)` : name);
    this._muted.hidden = screen || !muted;
    this._hand.hidden = screen || !participant.attributes.hand;
    setText(this._status, this._says(lost, showing));
    setAttribute(this.element, 'data-track', this.track?.id);
    setAttribute(this.element, 'data-lost', lost);
    setAttribute(this.element, 'data-local', this.isLocal);
    setAttribute(this.element, 'data-mirror', this.isLocal && !screen && preferences.mirror);
    setAttribute(this.element, 'data-video', showing ? 'on' : 'off');
    setAttribute(this.element, 'data-speaking', !screen && participant.speaking && !muted);
    setAttribute(this.element, 'data-pinned', pinned);
    setAttribute(this.element, 'aria-label', this._label(name, muted, lost));
    setAttribute(this._pin, 'aria-label', pinned ? `Unpin ${this._name.textContent}` : `Pin ${this._name.textContent}`);
    setAttribute(this._pin, 'aria-pressed', String(Boolean(pinned)));
  }

  /** @returns {boolean} whether there is a picture */
  _renderLocal() {
    const track = this.source === 'screen' ? this._media.screen.find(({ kind }) => kind === 'video') : this._media.cam.on && this._media.cam.track;
    if ((this._video.srcObject?.getTracks()[0] ?? null) !== (track || null)) this._video.srcObject = track ? new MediaStream([track]) : null;
    return Boolean(track);
  }

  _renderRemote() {
    const { track } = this;
    if (!track || track.muted) {
      this.room.detach(this._video);
      return false;
    }
    this.room.attach(this._video, track, { priority: this._priority });
    return track.subscribed && this._video.videoWidth > 0;
  }

  _says(lost, showing) {
    if (lost) return 'Connection lost. Waiting…';
    const { track } = this;
    if (this.isLocal || !track || track.muted || showing) return '';
    if (track.why === 'bandwidth') return 'No picture: the network is too slow';
    if (track.why === 'codec') return 'This browser cannot show this picture';
    return this.source === 'screen' ? 'Waiting for the picture…' : '';
  }

  _label(name, muted, lost) {
    if (this.source === 'screen') return `Screen of ${name}`;
    const facts = [muted && 'microphone off', this.participant.attributes.hand && 'hand raised', lost && 'connection lost'].filter(Boolean);
    return [this.isLocal ? `${name}, you` : name, ...facts].join(', ');
  }
}
