// @ts-check
import { Emitter } from './emitter.js';

/**
 * Plays every audio slot. A slot keeps its element whoever is in it, so a change of speaker starts nothing anew and runs
 * into no autoplay rule. Emits `blocked(boolean)`: the browser wants a click before it plays sound.
 */
export class AudioOutput extends Emitter {
  constructor() {
    super();
    /** @type {Map<object, HTMLAudioElement>} by slot */
    this._elements = new Map();
    this.blocked = false;
    this.sinkId = '';
    this.volume = 1;
  }

  /** Makes the elements fit the slots. @param {Array<{kind: string, stream: MediaStream}>} slots */
  update(slots) {
    const audio = slots.filter((slot) => slot.kind === 'audio');
    for (const [slot, element] of this._elements) {
      if (audio.includes(/** @type {any} */ (slot))) continue;
      element.srcObject = null;
      this._elements.delete(slot);
    }
    for (const slot of audio) {
      if (!this._elements.has(slot)) this._elements.set(slot, this._play(slot.stream));
    }
  }

  /** To be called from a click or key, after `blocked`. */
  async resume() {
    await Promise.all([...this._elements.values()].map((element) => element.play().catch(() => {})));
    this._setBlocked([...this._elements.values()].some((element) => element.paused));
  }

  /** @param {string} deviceId */
  async setSinkId(deviceId) {
    this.sinkId = deviceId;
    await Promise.all([...this._elements.values()].map((element) => /** @type {any} */ (element).setSinkId?.(deviceId)));
  }

  /** @param {number} volume 0..1 */
  setVolume(volume) {
    this.volume = volume;
    for (const element of this._elements.values()) element.volume = volume;
  }

  close() {
    this.update([]);
  }

  /** @param {MediaStream} stream */
  _play(stream) {
    const element = new Audio();
    element.autoplay = true;
    element.srcObject = stream;
    element.volume = this.volume;
    if (this.sinkId) /** @type {any} */ (element).setSinkId?.(this.sinkId).catch(() => {});
    element.play()?.catch((/** @type {any} */ error) => {
      if (error?.name === 'NotAllowedError') this._setBlocked(true);
    });
    return element;
  }

  /** @param {boolean} blocked */
  _setBlocked(blocked) {
    if (blocked === this.blocked) return;
    this.blocked = blocked;
    this.emit('blocked', blocked);
  }
}
