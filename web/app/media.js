import { openCamera, openMicrophone, openScreen } from '../sdk/exedra.js';
import { preferences, remember } from './preferences.js';

const SIZES = { 360: [640, 360], 540: [960, 540], 720: [1280, 720], 1080: [1920, 1080] };

/**
 * Our own camera, microphone and screen: what is wanted, what there is, and what went wrong. Tells a `change` for each.
 * With a room, it keeps what is published equal to what is wanted.
 */
export class LocalMedia extends EventTarget {
  constructor({ capture } = {}) {
    super();
    this.mic = { on: false, track: null, error: null, busy: false };
    this.cam = { on: false, track: null, error: null, busy: false };
    /** @type {MediaStreamTrack[]} */
    this.screen = [];
    this._capture = capture;
    this._room = null;
    this._queue = { mic: Promise.resolve(), cam: Promise.resolve() };
    navigator.mediaDevices?.addEventListener?.('devicechange', () => this._changed());
  }

  /** Turns `mic` or `cam` on or off. Resolves when it is done; never rejects: what went wrong is in `.error`. */
  set(kind, on) {
    this[kind].on = on;
    this[kind].error = null;
    this._changed();
    return this._enqueue(kind);
  }

  toggle(kind) {
    return this.set(kind, !this[kind].on);
  }

  /** Uses another device from now on. */
  choose(kind, deviceId) {
    remember(kind === 'mic' ? { micId: deviceId } : { camId: deviceId });
    return this.refresh(kind);
  }

  /** Opens the device again, as the preferences have it now. */
  refresh(kind) {
    this[kind].stale = true;
    return this[kind].on ? this._enqueue(kind) : Promise.resolve();
  }

  async enter(room) {
    this._room = room;
    await Promise.all([this._enqueue('mic'), this._enqueue('cam')]);
  }

  leave() {
    this._room = null;
    this.stopScreen();
  }

  async startScreen() {
    const tracks = await openScreen();
    if (tracks.length === 0 || !this._room) return false;
    this.screen = tracks;
    tracks[0].addEventListener('ended', () => this.stopScreen());
    this._changed();
    try {
      await Promise.all(tracks.map((track) => this._room.publish(track, { source: track.kind === 'video' ? 'screen' : 'screenAudio', stereo: track.kind === 'audio' })));
    } catch (error) {
      this.stopScreen();
      throw error;
    }
    return true;
  }

  stopScreen() {
    for (const track of this.screen) track.stop();
    this.screen = [];
    for (const source of ['screen', 'screenAudio']) this._room?.localTrack(source)?.unpublish().catch(() => {});
    this._changed();
  }

  stop() {
    this.stopScreen();
    for (const kind of ['mic', 'cam']) {
      this[kind].track?.stop();
      this[kind] = { on: false, track: null, error: null, busy: false };
    }
    this._changed();
  }

  // One change after the other for each device: a quick on-off-on ends as it should.
  _enqueue(kind) {
    this._queue[kind] = this._queue[kind].then(() => this._settle(kind)).catch((error) => console.warn('exedra:', error));
    return this._queue[kind];
  }

  async _settle(kind) {
    const device = this[kind];
    if (device.on && (!device.track || device.stale || device.track.readyState === 'ended')) await this._open(kind);
    try {
      await this._publish(kind);
    } catch (error) {
      if (error.code !== 'forbidden') throw error;
      device.on = false; // here to watch and listen
      device.track?.stop();
      device.track = null;
    }
    if (!device.on && device.track && kind === 'cam') this._close(device); // the light goes out
    this._changed();
  }

  async _open(kind) {
    const device = this[kind];
    device.busy = true;
    this._changed();
    try {
      const old = device.track;
      if (kind === 'cam') old?.stop(); // some cameras serve one size at a time
      const track = await (kind === 'mic' ? openMicrophone({ deviceId: preferences.micId }) : openCamera(this._wish()));
      old?.stop();
      device.track = track;
      device.stale = false;
      device.error = null;
      track.addEventListener('ended', () => device.track === track && this._onEnded(kind));
    } catch (error) {
      device.on = false;
      device.error = error;
    } finally {
      device.busy = false;
      this._changed();
    }
  }

  _wish() {
    if (this._capture) return { deviceId: preferences.camId, ...this._capture };
    const [width, height] = SIZES[preferences.size] ?? SIZES[720];
    return { deviceId: preferences.camId, width, height };
  }

  /** The device was unplugged, or its permission withdrawn. */
  _onEnded(kind) {
    this[kind].track = null;
    if (this[kind].on) this._enqueue(kind);
  }

  async _publish(kind) {
    const room = this._room;
    if (!room || room.state.phase === 'ended' || room.grants.publish === false) return;
    const device = this[kind];
    const local = room.localTrack(kind === 'mic' ? 'microphone' : 'camera');
    if (!local) {
      if (device.on && device.track) await room.publish(device.track, kind === 'mic' ? { source: 'microphone' } : { source: 'camera', simulcast: true });
      return;
    }
    const sent = device.on || kind === 'mic' ? device.track : null;
    if (local.mediaStreamTrack !== sent) await local.replace(sent);
    if (local.muted === device.on) await local.setMuted(!device.on);
  }

  _close(device) {
    device.track.stop();
    device.track = null;
  }

  _changed() {
    this.dispatchEvent(new Event('change'));
  }
}
