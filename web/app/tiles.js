import { h, setAttribute, setText } from './dom.js';
import { icon, swapIcon } from './icons.js';
import { hue, initials } from './names.js';
import { preferences } from './preferences.js';
import { reasonOf } from './reasons.js';

/** What lasts no longer than this is not worth a mark: a picture that starts, a moment of crowding. */
const MARK_AFTER_MS = 2_000;

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
    this._why = h('div', { class: 'tile-why', popover: 'auto' }, (this._question = h('strong')), (this._answer = h('p')));
    this._mark = h('button', { class: 'icon-button tile-mark', type: 'button', hidden: true }, icon('weak'));
    this._mark.popoverTargetElement = this._why;
    this._why.addEventListener('beforetoggle', ({ newState }) => newState === 'open' && putBeside(this._why, this._mark));
    this._pin = h('button', { class: 'icon-button tile-pin', type: 'button', onclick: () => onPin(this) }, icon('pin'));
    this.element = h(
      'article',
      { class: 'tile', data: { participant: participant.id, source } },
      this._video,
      this._avatar,
      this._status,
      h('div', { class: 'tile-label' }, this._hand, this._muted, this._name),
      this._mark,
      this._why,
      this._pin,
    );
    this.element.addEventListener('dblclick', (event) => ![this._pin, this._mark, this._why].some((part) => part.contains(event.target)) && onPin(this));
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
    clearTimeout(this._markTimer);
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
    this._renderMark();
  }

  /** A quiet mark while the picture is not what it could be. */
  _renderMark() {
    const { track, participant, isLocal } = this;
    const { videoWidth: width, videoHeight: height } = this._video;
    const reason = this.source === 'screen' && isLocal ? null : reasonOf({ track, participant, isLocal, width, height });
    this._reasonSince = reason ? (this._reasonSince ?? Date.now()) : null;
    const left = reason ? this._reasonSince + MARK_AFTER_MS - Date.now() : 0;
    clearTimeout(this._markTimer);
    if (left > 0) this._markTimer = setTimeout(() => this._renderMark(), left);
    const shown = reason !== null && left <= 0;
    if (!shown && this._why.matches(':popover-open')) this._why.hidePopover();
    this._mark.hidden = !shown;
    setAttribute(this.element, 'data-mark', shown);
    if (!shown) return;
    setText(this._question, reason.question);
    setText(this._answer, reason.text);
    setAttribute(this._mark, 'aria-label', `${reason.question} ${this._name.textContent}`);
    setAttribute(this._mark, 'title', reason.text);
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

/** Below the button, or above it where there is no place; never over the window's edge. */
function putBeside(popover, button) {
  const { left, top, bottom } = button.getBoundingClientRect();
  const width = Math.min(300, innerWidth - 16);
  const below = bottom + 180 < innerHeight;
  Object.assign(popover.style, {
    width: `${width}px`,
    left: `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`,
    top: below ? `${bottom + 6}px` : 'auto',
    bottom: below ? 'auto' : `${innerHeight - top + 6}px`,
  });
}
