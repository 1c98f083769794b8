import { listDevices } from '../sdk/exedra.js';
import { h, setText } from './dom.js';
import { icon } from './icons.js';
import { preferences, remember } from './preferences.js';
import { toast } from './toasts.js';

const KINDS = [
  { kind: 'videoinput', id: 'camera', label: 'Camera', key: 'camId' },
  { kind: 'audioinput', id: 'microphone', label: 'Microphone', key: 'micId' },
  { kind: 'audiooutput', id: 'speaker', label: 'Speaker', key: 'speakerId' },
];
const SIZES = { 360: '360p, for slow computers', 540: '540p', 720: '720p', 1080: '1080p' };
let copies = 0;

/** The pickers for camera, microphone, speaker and picture size. */
export class DeviceSelects {
  constructor(media, { onSpeaker } = {}) {
    this._media = media;
    this._onSpeaker = onSpeaker;
    const suffix = ++copies;
    this._selects = KINDS.map(({ kind, id, label, key }) => {
      const select = h('select', { id: `${id}-${suffix}`, class: 'input', onchange: () => this._chosen(key, select.value), data: { device: id } });
      return { kind, key, select, row: h('div', { class: 'field' }, h('label', { for: `${id}-${suffix}` }, label), select) };
    });
    const size = h(
      'select',
      { id: `size-${suffix}`, class: 'input', onchange: () => (remember({ size: size.value }), media.refresh('cam')) },
      Object.entries(SIZES).map(([value, label]) => h('option', { value, selected: preferences.size === value }, label)),
    );
    this.element = h('div', { class: 'devices' }, this._selects.map(({ row }) => row), h('div', { class: 'field' }, h('label', { for: `size-${suffix}` }, 'Picture'), size));
    this._onDevices = () => this.refresh();
    navigator.mediaDevices?.addEventListener?.('devicechange', this._onDevices);
    this.refresh();
  }

  close() {
    navigator.mediaDevices?.removeEventListener?.('devicechange', this._onDevices);
  }

  async refresh() {
    const devices = await listDevices();
    for (const { kind, key, select, row } of this._selects) {
      const list = devices.filter((device) => device.kind === kind && device.deviceId !== '');
      if (kind === 'audiooutput') row.hidden = list.length === 0 || !('setSinkId' in HTMLMediaElement.prototype);
      const options = list.map((device, i) => h('option', { value: device.deviceId, selected: device.deviceId === preferences[key] }, device.label || `Device ${i + 1}`));
      const known = list.some((device) => device.deviceId === preferences[key]);
      select.replaceChildren(...(known && options.length ? [] : [h('option', { value: '' }, list.length ? 'Default' : 'None found')]), ...options);
      select.disabled = list.length === 0;
    }
  }

  _chosen(key, deviceId) {
    remember({ [key]: deviceId });
    if (key === 'micId') this._media.choose('mic', deviceId);
    else if (key === 'camId') this._media.choose('cam', deviceId);
    else this._onSpeaker?.(deviceId);
  }
}

/** Records three seconds and plays them back: the surest way to know how one sounds. */
export class HearYourself {
  constructor(media) {
    this._media = media;
    this._label = h('span', {}, 'Hear yourself');
    this.button = h('button', { class: 'button button-quiet', type: 'button', onclick: () => this._run() }, icon('speaker'), this._label);
  }

  close() {
    this._stop?.();
  }

  async _run() {
    const track = this._media.mic.on ? this._media.mic.track : null;
    if (!track) return toast('Turn your microphone on first.');
    if (this._stop) return this._stop();
    const recorder = new MediaRecorder(new MediaStream([track]));
    const chunks = [];
    recorder.ondataavailable = ({ data }) => chunks.push(data);
    recorder.onstop = () => this._play(new Blob(chunks, { type: recorder.mimeType }));
    recorder.start();
    setText(this._label, 'Speak now…');
    const timer = setTimeout(() => recorder.stop(), 3000);
    this._stop = () => (clearTimeout(timer), recorder.state === 'recording' && recorder.stop());
  }

  _play(blob) {
    const url = URL.createObjectURL(blob);
    const player = new Audio(url);
    const done = () => {
      player.pause();
      URL.revokeObjectURL(url);
      setText(this._label, 'Hear yourself');
      this._stop = null;
    };
    this._stop = done;
    player.onended = player.onerror = done;
    setText(this._label, 'Playing… stop');
    if (preferences.speakerId) player.setSinkId?.(preferences.speakerId).catch(() => {});
    player.play().catch(done);
  }
}

/** Two soft notes. */
export async function testSpeaker() {
  const context = new AudioContext();
  if (preferences.speakerId) await context.setSinkId?.(preferences.speakerId).catch(() => {});
  for (const [frequency, at] of [[523.25, 0], [783.99, 0.28]]) {
    const oscillator = new OscillatorNode(context, { frequency });
    const gain = new GainNode(context, { gain: 0 });
    const start = context.currentTime + at;
    gain.gain.linearRampToValueAtTime(0.18, start + 0.03);
    gain.gain.exponentialRampToValueAtTime(0.001, start + 0.9);
    oscillator.connect(gain).connect(context.destination);
    oscillator.start(start);
    oscillator.stop(start + 1);
  }
  setTimeout(() => context.close(), 2000);
}
