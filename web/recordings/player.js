/** Plays one file of a recording, at whatever time of the session it is told to. */
import { Feed } from './feed.js';
import { writeCluster, writeFront } from './webm.js';

const Source = globalThis.ManagedMediaSource ?? globalThis.MediaSource;
/** Further apart than this, in seconds, it jumps; less than this is left alone; between it runs a little faster or slower. */
const JUMP = 0.3;
const CLOSE = 0.03;
const NUDGE = 0.06;
/** Seconds of what was shown that are kept. */
const KEPT = 40;
/** A file is opened so long before it begins, in milliseconds. */
const EARLY = 5_000;
/** And closed when it is so far away. */
const LATE = 30_000;

const TYPES = { vp8: ['video/webm; codecs="vp8"'], vp9: ['video/webm; codecs="vp9"'], av1: ['video/webm; codecs="av01.0.08M.08"'], opus: ['audio/webm; codecs="opus"'] };

/** One track in a media element of its own: a hole in one does not keep the other waiting. */
class Sink {
  constructor(element, track) {
    this._element = element;
    this._track = track;
    this._jobs = Promise.resolve();
  }

  static type(track) {
    return TYPES[track.codec]?.find((type) => Source?.isTypeSupported(type));
  }

  async open() {
    this._media = new Source();
    this._element.disableRemotePlayback = true; // as ManagedMediaSource wants it
    this._element.src = URL.createObjectURL(this._media);
    await once(this._media, 'sourceopen');
    URL.revokeObjectURL(this._element.src);
    this._buffer = this._media.addSourceBuffer(Sink.type(this._track));
    this._media.duration = Infinity;
    await this._append(writeFront(this._track));
  }

  write(clusters) {
    const parts = clusters.filter(({ blocks }) => blocks.some(({ track }) => track === this._track.number));
    this._jobs = this._jobs.then(async () => {
      for (const cluster of parts) await this._append(writeCluster(cluster, this._track.number));
      await this._forget(KEPT);
    });
    return this._jobs;
  }

  /** There is no more: what is there can be played to its last frame. */
  end() {
    const end = () => this._media.readyState === 'open' && !this._buffer.updating && this._media.endOfStream();
    this._jobs = this._jobs.then(end).catch(() => {}); // closed before that
  }

  close() {
    this._closed = true;
    this._element.pause();
    this._element.removeAttribute('src');
    this._element.load();
  }

  async _append(bytes) {
    for (const keep of [null, 10, 2]) {
      if (this._closed) throw new DOMException('closed', 'AbortError');
      if (this._element.error) throw this._element.error;
      if (keep !== null) await this._forget(keep);
      try {
        this._buffer.appendBuffer(bytes);
        return await once(this._buffer, 'updateend');
      } catch (error) {
        if (error.name !== 'QuotaExceededError') throw error;
      }
    }
    return undefined;
  }

  async _forget(seconds) {
    const { buffered } = this._buffer;
    const upTo = this._element.currentTime - seconds;
    if (this._closed || buffered.length === 0 || buffered.start(0) >= upTo - 10) return;
    this._buffer.remove(0, upTo);
    await once(this._buffer, 'updateend');
  }
}

export class Player {
  /**
   * @param {object} file of the manifest
   * @param {{ recording: string, video: HTMLVideoElement, onChange: () => void }} how
   */
  constructor(file, { recording, video, onChange }) {
    this.file = file;
    this.video = video;
    this.problem = '';
    this._recording = recording;
    this._onChange = onChange;
    this._audio = null;
    this._sinks = [];
    this._opened = false;
    this._pictured = true;
    video.muted = true;
    video.playsInline = true;
    video.preload = 'auto';
  }

  /** Where its picture and its sound are, in milliseconds of the session: those that play. */
  get places() {
    const playing = [this.video, this._audio].filter((element) => element?.currentSrc && !element.paused);
    return playing.map(({ currentTime }) => this.file.startMs + currentTime * 1000);
  }

  /** Whether its picture is shown, or it is only heard. */
  set pictured(on) {
    if (on === this._pictured) return;
    this._pictured = on;
    this.close();
  }

  get growing() {
    return this.file.growing;
  }

  /** In milliseconds of the session. Of a file that grows it is not known. */
  get endMs() {
    return this.growing ? Infinity : this.file.startMs + this.file.durationMs;
  }

  update(file) {
    this.file = file;
    this._feed?.update(file);
  }

  /** Lets go of everything; it is opened again when its time comes. */
  close() {
    if (!this._opened) return;
    this._feed.close();
    for (const sink of this._sinks) sink.close();
    if (this._plain) {
      this.video.removeAttribute('src');
      this.video.load();
    }
    Object.assign(this, { _opened: false, _plain: false, _audio: null, _sinks: [] });
  }

  set volume(level) {
    this._volume = level;
    if (this._audio) this._audio.volume = level;
    if (this._plain) this.video.volume = level;
  }

  /** Whether it is there at this time of the session. */
  isAt(ms) {
    return ms >= this.file.startMs && ms < this.endMs + 40;
  }

  /** Whether what belongs to this time was fetched. What will never come is not waited for. */
  covers(ms) {
    if (!this.isAt(ms) || this.problem) return true;
    if (!this._opened) return false;
    if (this._plain) return this.video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA;
    return this._feed.covers(ms - this.file.startMs);
  }

  /** Until when there is something of a file that grows, once all of that was fetched. */
  get reached() {
    return this._feed?.atEnd ? this.file.startMs + this._feed.until : undefined;
  }

  /** Brings it to where the session is. */
  tick(ms, running, rate) {
    const at = (ms - this.file.startMs) / 1000;
    const away = Math.max(this.file.startMs - ms, ms - this.endMs);
    if (!this._opened && away < EARLY && !this.problem) this._open();
    // Browsers have some 75 players for a page.
    if (this._opened && away > LATE) this.close();
    const inside = this.isAt(ms);
    if (inside || at < 0) this._feed?.want(at * 1000);
    const how = { running: inside && running, rate, inside, plain: this._plain };
    if (this._audio) follow(this._audio, at, how);
    // Lips go with the voice where there is one.
    const heard = this._audio && inside && running && !this._audio.paused && this._audio.readyState > 2;
    const near = heard && Math.abs(this._audio.currentTime - at) < JUMP;
    follow(this.video, near ? this._audio.currentTime : at, how);
  }

  _open() {
    this._opened = true;
    const { name, size, growing } = this.file;
    this._feed = new Feed(
      { id: this._recording, name, size, growing },
      {
        onFront: (front) => this._front(front),
        onClusters: (clusters) => Promise.all(this._sinks.map((sink) => sink.write(clusters))),
        onEnd: () => this._sinks.forEach((sink) => sink.end()),
        onError: (error) => this._fail(error.status === 404 ? 'This file is not there any more.' : 'This file cannot be played here.'),
      },
    );
  }

  async _front(front) {
    const hopeless = front.tracks.filter((track) => !Sink.type(track));
    // What this browser takes as a file, it may do by itself.
    if (hopeless.length && !this.growing) return this._playPlain();
    const wanted = front.tracks.filter(({ kind }) => kind === 'audio' || this._pictured);
    for (const track of wanted) {
      if (hopeless.includes(track)) {
        this._fail(track.codec === 'h264' ? 'H.264: this browser shows it once the recording has ended, if at all. Downloaded, it plays in VLC and mpv.' : 'This browser cannot show this video. Downloaded, it plays in VLC and mpv.');
        continue;
      }
      if (track.kind === 'audio') {
        this._audio = new Audio();
        this._audio.volume = this._volume ?? 1;
      }
      const element = track.kind === 'audio' ? this._audio : this.video;
      const sink = new Sink(element, track);
      this._sinks.push(sink);
      await sink.open();
    }
  }

  _playPlain() {
    this._plain = true;
    this._feed.close();
    this.video.muted = false;
    this.video.volume = this._volume ?? 1;
    this.video.addEventListener('error', () => this._fail('This browser cannot play this file. Downloaded, it plays in VLC and mpv.'), { once: true });
    this.video.src = this.file.url;
  }

  _fail(text) {
    this.problem = text;
    this._onChange();
  }
}

/** Keeps an element where it is to be. `plain`: it fetches for itself, so that it can go anywhere. */
function follow(element, at, { running, rate, inside, plain }) {
  if (!element.currentSrc) return;
  if (!inside) {
    if (!element.paused) element.pause();
    return;
  }
  const there = plain || isBuffered(element, at);
  const off = element.currentTime - at;
  if (there && !element.seeking && Math.abs(off) > (running ? JUMP : 0.02)) element.currentTime = at;
  const nudge = running && Math.abs(off) > CLOSE && Math.abs(off) < JUMP ? -Math.sign(off) * NUDGE : 0;
  const wanted = rate * (1 + nudge);
  if (Math.abs(element.playbackRate - wanted) > 0.001) element.playbackRate = wanted;
  // At its end, play() would begin anew.
  if (running && there && element.paused && !element.ended) element.play().catch(() => {});
  if (!running && !element.paused) element.pause();
}

function isBuffered({ buffered }, at) {
  for (let i = 0; i < buffered.length; i++) if (at >= buffered.start(i) - 0.05 && at < buffered.end(i) + 0.05) return true;
  return false;
}

function once(target, type) {
  return new Promise((done) => target.addEventListener(type, done, { once: true }));
}
