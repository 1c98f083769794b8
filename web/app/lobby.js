import { LevelMeter } from '../sdk/exedra.js';
import { DeviceSelects, HearYourself, testSpeaker } from './devices.js';
import { h, setAttribute, setText } from './dom.js';
import { icon, logo, swapIcon } from './icons.js';
import { hue, initials } from './names.js';
import { preferences, remember } from './preferences.js';

/** Before joining: your name, and what others will see and hear of you. */
export class Lobby {
  constructor(root, { room, media, join, home, error }) {
    this._media = media;
    this._join = join;
    this._joining = false;
    this._video = h('video', { class: 'lobby-video', autoplay: true, playsinline: true, muted: true, 'aria-label': 'Your camera' });
    this._video.muted = true;
    this._avatar = h('div', { class: 'avatar avatar-large', 'aria-hidden': 'true' });
    this._hint = h('p', { class: 'lobby-hint', role: 'status' });
    this._meter = h('div', { class: 'meter', role: 'img', 'aria-label': 'Level of your microphone' }, Array.from({ length: 14 }, () => h('i')));
    this._mic = this._toggle('mic', 'Microphone');
    this._cam = this._toggle('cam', 'Camera');
    this._problem = h('p', { class: 'problem', role: 'alert' }, error ?? '');
    this._name = h('input', { id: 'your-name', class: 'input', autocomplete: 'name', maxlength: 64, required: true, value: preferences.name, placeholder: 'How others see you', oninput: () => this._render() });
    this._button = h('button', { class: 'button button-primary button-large', type: 'submit', id: 'join' }, 'Join');
    this._selects = new DeviceSelects(media);
    this._hear = new HearYourself(media);
    root.replaceChildren(this._page(room, home));
    this._onChange = () => this._render();
    media.addEventListener('change', this._onChange);
    this._render();
    (preferences.name ? this._button : this._name).focus({ preventScroll: true });
    this._start();
  }

  close() {
    this._media.removeEventListener('change', this._onChange);
    this._levels?.close();
    this._selects.close();
    this._hear.close();
  }

  _page(room, home) {
    const submit = (event) => {
      event.preventDefault();
      const name = this._name.value.trim();
      if (!name || this._joining) return this._name.focus();
      this._joining = true;
      this._render();
      const { mic, cam } = this._media;
      remember({ name, ...(!mic.error && { mic: mic.on }), ...(!cam.error && { cam: cam.on }) });
      this._join(name);
    };
    return h(
      'main',
      { class: 'page lobby' },
      h('header', { class: 'lobby-head' }, h('button', { class: 'brand', type: 'button', onclick: home, 'aria-label': 'Exedra: to the start page' }, logo(), h('span', {}, 'Exedra'))),
      h(
        'div',
        { class: 'lobby-body' },
        h(
          'section',
          { class: 'preview', 'aria-label': 'What others will see and hear of you' },
          h('div', { class: 'preview-picture', data: { mirror: preferences.mirror ? '1' : '0' } }, this._video, this._avatar, this._hint, h('div', { class: 'preview-controls' }, this._mic, this._cam)),
          h('div', { class: 'preview-sound' }, icon('mic'), this._meter, this._hear.button),
        ),
        h(
          'form',
          { class: 'lobby-form', onsubmit: submit },
          h('h1', {}, 'Ready to join?'),
          h('p', { class: 'muted room-line' }, 'Room ', h('strong', {}, room)),
          h('label', { for: 'your-name' }, 'Your name'),
          this._name,
          h('details', { class: 'lobby-devices' }, h('summary', {}, icon('settings'), 'Devices'), this._selects.element, h('button', { class: 'button button-quiet', type: 'button', onclick: () => testSpeaker() }, icon('speaker'), 'Play a test sound')),
          this._problem,
          this._button,
        ),
      ),
    );
  }

  _toggle(kind, label) {
    return h('button', { class: 'round', type: 'button', id: `lobby-${kind}`, 'aria-label': label, onclick: () => this._media.toggle(kind) }, icon(kind === 'mic' ? 'mic' : 'camera'));
  }

  async _start() {
    const { mic, cam } = preferences;
    await Promise.all([mic && this._media.set('mic', true), cam && this._media.set('cam', true)]);
    this._selects.refresh(); // the labels are known only now
  }

  _render() {
    const { mic, cam } = this._media;
    this._picture(cam);
    this._listen(mic);
    for (const [button, device, on, off, label] of [[this._mic, mic, 'mic', 'micOff', 'microphone'], [this._cam, cam, 'camera', 'cameraOff', 'camera']]) {
      swapIcon(button, device.on ? on : off);
      setAttribute(button, 'aria-pressed', String(device.on));
      setAttribute(button, 'aria-label', device.on ? `Turn ${label} off` : `Turn ${label} on`);
      setAttribute(button, 'data-off', !device.on);
      setAttribute(button, 'data-problem', Boolean(device.error));
    }
    setText(this._hint, this._says(mic, cam));
    const name = this._name.value.trim();
    setText(this._avatar, name ? initials(name) : '');
    setAttribute(this._avatar, 'data-hue', hue(name));
    setText(this._button, this._joining ? 'Joining…' : 'Join');
    setAttribute(this._button, 'disabled', this._joining);
  }

  _says(mic, cam) {
    if (cam.busy || mic.busy) return 'Starting… the browser may ask you.';
    if (cam.error && cam.error.message === mic.error?.message) return `Camera and microphone: ${cam.error.message} You can join without.`;
    const trouble = [cam.error && `Camera: ${cam.error.message}`, mic.error && `Microphone: ${mic.error.message}`].filter(Boolean);
    if (trouble.length) return `${trouble.join(' ')} You can join without.`;
    return cam.on ? '' : 'Your camera is off.';
  }

  _picture(cam) {
    const track = cam.on ? cam.track : null;
    if ((this._video.srcObject?.getTracks()[0] ?? null) !== track) this._video.srcObject = track ? new MediaStream([track]) : null;
    this._video.hidden = !track;
    this._avatar.hidden = Boolean(track);
  }

  _listen(mic) {
    const track = mic.on ? mic.track : null;
    if (this._heard === track) return;
    this._heard = track;
    this._levels?.close();
    this._levels = null;
    const bars = [...this._meter.children];
    const show = (level) => bars.forEach((bar, i) => bar.classList.toggle('lit', level * bars.length > i + 0.5));
    show(0);
    if (track) this._levels = new LevelMeter(track, show);
  }
}
