// Measures what a receiver really decoded: which pictures were shown and when, which tone was heard, and how far they are apart.
import { CELL, COLUMNS, IDS, ROWS, WRAP_MS, decode, secondCorner, toneHz } from './code.js';
import { Clock, wall } from './clock.js';
import { audioContext } from './audio.js';

/**
 * @typedef {object} Report
 * @property {number} frames        pictures presented
 * @property {number} coded         of those, pictures whose code could be read
 * @property {number} whole         of those, pictures that say the same at both corners
 * @property {number} backwards     pictures older than one that was shown before them
 * @property {Array<{ms: number, at: number, width: number}>} gaps the longest times without a new picture: how long, when it ended (wall time), and how wide the picture was then
 * @property {number} fresh         of those, pictures newer than the one before
 * @property {number} id            the participant seen last, -1 before the first
 * @property {number} lastFrame     the source's number of the picture seen last
 * @property {number | null} firstFrameAt wall time of the first readable picture
 * @property {number | null} firstTimeMs  from the probe's start to that picture
 * @property {number} longestGapMs  the longest time without a new picture, up to now
 * @property {number} fps           pictures presented a second since the first, also those that came while the page was too busy to look at each
 * @property {number} width
 * @property {number} height
 * @property {number} toneId        the participant whose tone is heard now, -1 for none
 * @property {number} heardMs       how long any participant's tone was heard
 * @property {number} gapPercent    time without the tone since it was first heard
 * @property {number} longestSilenceMs
 * @property {number} beeps
 * @property {number | null} avOffsetMs median of the last ones; above 0: the picture is ahead of the sound
 * @property {number} idChanges
 * @property {number} longestStallMs  the longest time in which the page itself painted nothing
 */

/** The longest time in which this page painted nothing at all: then it cannot have shown anything either. */
const stall = { longest: 0, last: null };
(function painted() {
  const now = wall();
  if (stall.last !== null) stall.longest = Math.max(stall.longest, now - stall.last);
  stall.last = now;
  requestAnimationFrame(painted);
})();

export class Probe {
  #stops = { audio: () => {}, video: () => {} };
  #tracks = { audio: null, video: null };
  #started;
  #video = { frames: 0, coded: 0, whole: 0, backwards: 0, gaps: [], fresh: 0, id: -1, lastFrame: -1, firstAt: null, lastAt: null, longestGap: 0, shown: [], idChanges: 0, unreadable: [], presented: 0 };
  #audio = { windows: 0, heard: 0, toneId: -1, silence: 0, longestSilence: 0, beeps: [], clock: new Clock() };
  #element;

  /** @param {number} [started] wall time from which `firstTimeMs` counts */
  constructor(started = wall()) {
    this.#started = started;
  }

  /** Measures this track, in place of the one of its kind before. @param {MediaStreamTrack} track */
  async receive(track) {
    const { kind } = track;
    if (this.#tracks[kind] === track) return;
    this.#stops[kind]();
    this.#tracks[kind] = track;
    this.#stops[kind] = kind === 'video' ? this.#watchVideo(track) : await this.#listen(track);
  }

  stop() {
    Object.values(this.#stops).forEach((stop) => stop());
  }

  /** Forgets the gaps so far: what follows is judged on its own. */
  restart() {
    Object.assign(this.#video, { longestGap: 0, lastAt: wall(), firstAt: wall(), fresh: 0, frames: 0, coded: 0, whole: 0, backwards: 0, gaps: [], idChanges: 0, presented: 0 });
    Object.assign(this.#audio, { windows: 0, heard: 0, silence: 0, longestSilence: 0, beeps: [] });
    this.#started = wall();
    stall.longest = 0;
  }

  /** @returns {Report} */
  report() {
    const { frames, coded, whole, backwards, gaps, fresh, id, lastFrame, firstAt, lastAt, longestGap, idChanges, presented } = this.#video;
    const { windows, heard, toneId, longestSilence, beeps } = this.#audio;
    const now = wall();
    const offsets = beeps.map((beep) => beep.offset).sort((a, b) => a - b);
    return {
      frames, coded, whole, backwards, gaps, fresh, id, lastFrame, idChanges,
      firstFrameAt: firstAt,
      firstTimeMs: firstAt && firstAt - this.#started,
      longestGapMs: Math.max(longestGap, firstAt ? now - lastAt : 0),
      fps: firstAt ? (presented * 1000) / Math.max(1, now - firstAt) : 0,
      width: this.#element?.videoWidth ?? 0,
      height: this.#element?.videoHeight ?? 0,
      toneId,
      heardMs: heard * WINDOW_MS,
      gapPercent: windows ? (100 * (windows - heard)) / windows : 100,
      longestSilenceMs: longestSilence * WINDOW_MS,
      longestStallMs: stall.longest,
      beeps: beeps.length,
      avOffsetMs: offsets.length ? offsets[offsets.length >> 1] : null,
      avOffsets: offsets.map(Math.round),
    };
  }

  /** @returns {() => void} ends it */
  #watchVideo(track) {
    const element = Object.assign(document.createElement('video'), { muted: true, playsInline: true, autoplay: true });
    element.srcObject = new MediaStream([track]);
    document.body.append(element);
    this.#element = element;
    const reader = makeReader();
    let handle;
    let presented = 0;
    this.#video.mediaTime = undefined; // another element counts from its own start
    const shown = (_, metadata) => {
      handle = element.requestVideoFrameCallback(shown);
      this.#video.presented += metadata.presentedFrames - presented;
      presented = metadata.presentedFrames;
      // While the size changes, a browser may draw nothing for a moment; a broken picture is broken the second time, too.
      const first = reader(element);
      const { code, whole } = first.whole ? first : reader(element);
      this.#onPicture(code, { at: performance.timeOrigin + metadata.presentationTime, whole, width: metadata.width, mediaTime: metadata.mediaTime });
      if (!whole) this.#keepUnreadable(element);
    };
    handle = element.requestVideoFrameCallback(shown);
    return () => {
      element.cancelVideoFrameCallback(handle);
      element.srcObject = null;
      element.remove();
    };
  }

  /** The first ones, as small pictures, to be looked at when a test fails. */
  #keepUnreadable(element) {
    const { unreadable, frames } = this.#video;
    if (unreadable.length >= 5 || !element.videoWidth) return;
    const canvas = Object.assign(document.createElement('canvas'), { width: 320, height: 180 });
    canvas.getContext('2d').drawImage(element, 0, 0, 320, 180);
    unreadable.push({ frame: frames, size: `${element.videoWidth}x${element.videoHeight}`, picture: canvas.toDataURL('image/png') });
  }

  /** @returns {Array<{frame: number, size: string, picture: string}>} */
  get unreadable() {
    return this.#video.unreadable;
  }

  #onPicture(code, { at, whole, width, mediaTime }) {
    const seen = this.#video;
    seen.frames += 1;
    if (mediaTime < seen.mediaTime) seen.backwards += 1;
    seen.mediaTime = mediaTime;
    if (!code) return;
    seen.coded += 1;
    seen.whole += whole;
    if (code.frame === seen.lastFrame && code.id === seen.id) return;
    if (code.id === seen.id && ((code.frame - seen.lastFrame) & 0xffff) > 0x8000) seen.backwards += 1;
    seen.firstAt ??= at;
    if (seen.lastAt !== null) {
      seen.longestGap = Math.max(seen.longestGap, at - seen.lastAt);
      keepLongest(seen.gaps, { ms: Math.round(at - seen.lastAt), at, width });
    }
    if (code.id !== seen.id && seen.id >= 0) seen.idChanges += 1;
    Object.assign(seen, { lastAt: at, id: code.id, lastFrame: code.frame });
    seen.fresh += 1;
    seen.shown.push({ at, ms: code.ms });
    if (seen.shown.length > 200) seen.shown.shift();
  }

  /** @returns {Promise<() => void>} ends it */
  async #listen(track) {
    const audio = new MediaStream([track]);
    // Chromium decodes a remote track only when an element plays it.
    const element = Object.assign(document.createElement('audio'), { muted: true, autoplay: true, srcObject: audio });
    document.body.append(element);
    const context = await audioContext();
    const tones = Array.from({ length: IDS }, (_, id) => toneHz(id));
    const listener = new AudioWorkletNode(context, 'listener', { numberOfOutputs: 1, processorOptions: { tones } });
    listener.port.onmessage = ({ data }) => this.#onSound(data);
    const received = context.createMediaStreamSource(audio);
    received.connect(listener).connect(new GainNode(context, { gain: 0 })).connect(context.destination);
    return () => {
      received.disconnect();
      listener.disconnect();
      element.srcObject = null;
      element.remove();
    };
  }

  #onSound({ time, at, toneId, beepAt }) {
    const heard = this.#audio;
    heard.clock.observe(time, at);
    heard.toneId = toneId;
    if (toneId >= 0 || heard.heard) {
      heard.windows += 1;
      heard.heard += toneId >= 0;
      heard.silence = toneId >= 0 ? 0 : heard.silence + 1;
      heard.longestSilence = Math.max(heard.longestSilence, heard.silence);
    }
    // The pictures around a beep are known only a little later.
    if (beepAt !== null) setTimeout(() => this.#onBeep(heard.clock.toWall(beepAt)), 250);
  }

  #onBeep(at) {
    const nearest = this.#video.shown.reduce((best, shown) => (Math.abs(shown.at - at) < Math.abs(best.at - at) ? shown : best), { at: -1e15 });
    if (Math.abs(nearest.at - at) > 500) return; // no picture then: nothing to compare with
    const source = (nearest.ms + (at - nearest.at) + WRAP_MS) % 1000;
    this.#audio.beeps.push({ at, offset: source > 500 ? source - 1000 : source });
    if (this.#audio.beeps.length > 30) this.#audio.beeps.shift();
  }
}

/** The listener's window, milliseconds. */
const WINDOW_MS = 20;

/** Keeps the five longest, longest first. */
function keepLongest(gaps, gap) {
  if (gaps.length === 5 && gap.ms <= gaps[4].ms) return;
  gaps.push(gap);
  gaps.sort((a, b) => b.ms - a.ms);
  gaps.length = Math.min(gaps.length, 5);
}

/** Reads the code of the picture that an element shows: `{ code, whole }`. */
export function makeReader() {
  const SIDE = 8; // pixels a cell
  const canvas = Object.assign(document.createElement('canvas'), { width: Math.round(SIDE / CELL), height: 1 });
  const context = canvas.getContext('2d', { willReadFrequently: true, alpha: false });
  return (element) => {
    if (!element.videoWidth) return { code: null, whole: false };
    const height = Math.round((canvas.width * element.videoHeight) / element.videoWidth);
    if (canvas.height !== height) canvas.height = height;
    context.drawImage(element, 0, 0, canvas.width, height); // once: the next time it may be another picture
    const { data } = context.getImageData(0, 0, canvas.width, height);
    const bitsAt = ([left, top]) =>
      Array.from({ length: COLUMNS * ROWS }, (_, n) => {
        const x = Math.round(left + (n % COLUMNS) * SIDE + SIDE / 2);
        const y = Math.round(top + Math.floor(n / COLUMNS) * SIDE + SIDE / 2);
        return data[(y * canvas.width + x) * 4 + 1] > 127 ? 1 : 0;
      });
    const bits = bitsAt([0, 0]);
    const code = decode(bits);
    return { code, whole: code !== null && String(bits) === String(bitsAt(secondCorner(canvas.width, height))) };
  };
}
