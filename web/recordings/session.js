import { h, isTyping, setAttribute, setText } from '../app/dom.js';
import { icon, logo, swapIcon } from '../app/icons.js';
import { bytes, show } from './api.js';
import { Chat } from './chat.js';
import { Clock } from './clock.js';
import { Downloads } from './downloads.js';
import { Events, lanes, tiles } from './events.js';
import { Grid } from './grid.js';
import { Timeline } from './timeline.js';
import { state, time, when } from './words.js';

const TICK_MS = 80;
/** A recording that runs is asked for what is new so often. */
const FOLLOW_MS = 2000;
/** What is shown live is so far behind: packets that were lost are waited for, and written a second at a time. */
const LIVE_MS = 5000;
/** After it had to wait, so much has to be there before it goes on. */
const CUSHION_MS = 700;
const RATES = [0.5, 0.75, 1, 1.25, 1.5, 2, 3];

/** One recording: all its files in step, and the time line. */
export class SessionView {
  constructor(root, id, ways) {
    this._id = id;
    this._ways = ways;
    this._clock = new Clock();
    this._events = new Events();
    this._manifest = null;
    root.replaceChildren(h('main', { class: 'page connecting' }, h('p', { role: 'status' }, h('span', { class: 'spinner' }), 'Loading…')));
    this._root = root;
    this._keys = (event) => this._onKey(event);
    addEventListener('keydown', this._keys);
    this._load();
  }

  close() {
    this._closed = true;
    clearTimeout(this._again);
    clearInterval(this._ticking);
    removeEventListener('keydown', this._keys);
    this._grid?.close();
  }

  async _load() {
    try {
      const manifest = await show(this._id);
      if (this._closed) return;
      this._take(manifest);
      await this._readEvents();
    } catch (error) {
      if (this._closed) return;
      if (error.status === 401 || error.status === 403) return this._ways.refused(error);
      if (!this._manifest || error.status === 404) return this._fail(error.message);
    }
    if (this._closed) return;
    this._draw();
    if (this._follows()) this._again = setTimeout(() => this._load(), FOLLOW_MS);
  }

  /** Also what is just being closed still changes. */
  _follows() {
    return this._manifest.state === 'recording';
  }

  get _running() {
    return this._manifest.state === 'recording' && !this._manifest.ended;
  }

  _take(manifest) {
    for (const file of manifest.files) file.growing = file.durationMs === 0 && manifest.state === 'recording' && !manifest.ended;
    const first = !this._manifest;
    this._manifest = manifest;
    this._taken = performance.now();
    if (first) this._build();
    this._grid.update(tiles(manifest), new Map(manifest.participants.map(({ id, name }) => [id, name])));
    this._downloads.update(manifest);
  }

  async _readEvents() {
    while (this._events.read < this._manifest.eventsBytes) {
      const part = await bytes(this._id, 'events.jsonl', this._events.read, this._manifest.eventsBytes);
      if (part.length === 0) return;
      this._events.add(part);
    }
  }

  /** How long it is by now, in milliseconds. */
  get _end() {
    const { durationMs, files } = this._manifest;
    if (this._running) return durationMs + performance.now() - this._taken;
    return files.reduce((end, { startMs, durationMs: lasts }) => Math.max(end, startMs + lasts), durationMs);
  }

  _build() {
    const { room, startedAtMs } = this._manifest;
    document.title = `${room}, ${when(startedAtMs)} · Exedra`;
    this._grid = new Grid({ recording: this._id, onChange: () => {} });
    this._timeline = new Timeline({ seek: (ms) => this._seek(ms) });
    this._chat = new Chat({ seek: (ms) => this._seek(ms) });
    this._downloads = new Downloads();
    this._play = h('button', { class: 'round play-main', type: 'button', id: 'play', 'aria-label': 'Play', onclick: () => this._toggle() }, icon('play'));
    this._time = h('span', { class: 'play-time' });
    this._live = h('button', { class: 'button play-live', type: 'button', id: 'live', hidden: true, onclick: () => this._goLive() }, h('i', { class: 'live-dot' }), 'Live');
    this._rate = h('select', { class: 'input play-rate', id: 'rate', 'aria-label': 'Speed', onchange: () => this._clock.set(performance.now(), { rate: Number(this._rate.value) }) }, RATES.map((rate) => h('option', { value: String(rate) }, `${rate}×`)));
    this._rate.value = '1';
    this._volume = h('input', { type: 'range', class: 'play-volume', id: 'volume', min: '0', max: '1', step: '0.05', value: '1', 'aria-label': 'Volume', oninput: () => this._grid.setVolume(Number(this._volume.value)) });
    this._state = h('span', { class: 'rec-state' });
    this._wait = h('div', { class: 'play-wait', role: 'status', hidden: true }, h('span', { class: 'spinner' }), h('span', { class: 'visually-hidden' }, 'Loading'));
    const round = (name, label, run, id) => h('button', { class: 'round', type: 'button', id, 'aria-label': label, title: label, onclick: run }, icon(name));
    this._chatButton = round('chat', 'Chat', () => this._toggleChat(), 'button-chat');
    const panel = (this._panel = h('aside', { class: 'play-chat', id: 'play-chat', 'aria-label': 'Chat', hidden: true }, this._chat.element));
    this._root.replaceChildren(
      h(
        'main',
        { class: 'play' },
        h(
          'header',
          { class: 'play-head' },
          h('button', { class: 'icon-button', type: 'button', id: 'back', 'aria-label': 'All recordings', title: 'All recordings', onclick: this._ways.home }, icon('back')),
          logo(),
          h('div', { class: 'play-title' }, h('h1', {}, room), h('p', { class: 'muted' }, when(startedAtMs))),
          this._state,
          this._downloads.element,
        ),
        (this._stage = h('div', { class: 'play-stage' }, this._grid.element, this._wait)),
        panel,
        h(
          'div',
          { class: 'play-controls' },
          h('div', { class: 'play-group' }, round('back10', 'Ten seconds back', () => this._skip(-10_000), 'skip-back'), this._play, round('ahead10', 'Ten seconds ahead', () => this._skip(10_000), 'skip-ahead')),
          this._time,
          this._live,
          h('div', { class: 'play-group play-more' }, h('label', { class: 'play-sound' }, icon('speaker'), this._volume), this._rate, this._chatButton, round('fullscreen', 'Full screen', () => this._fullScreen(), 'button-full')),
        ),
        this._timeline.element,
      ),
    );
    globalThis.exedraRecording = { at: () => this._clock.at(performance.now()), players: () => this._grid.players() }; // for tests and the console
    this._ticking = setInterval(() => this._tick(), TICK_MS);
    this._play.focus({ preventScroll: true });
  }

  _fail(text) {
    this._grid?.close();
    clearInterval(this._ticking);
    this._root.replaceChildren(h('main', { class: 'page connecting' }, h('p', { role: 'alert' }, text), h('button', { class: 'button', type: 'button', onclick: this._ways.home }, 'All recordings')));
  }

  _draw() {
    const end = this._end;
    this._timeline.update(lanes(this._manifest, this._events, end), this._events.messages, end);
    this._chat.update(this._events.messages, new Map(this._manifest.participants.map(({ id, name }) => [id, name])));
    const { text, kind, why } = state(this._manifest);
    setText(this._state, text);
    setAttribute(this._state, 'data-kind', kind);
    setAttribute(this._state, 'title', why);
    this._live.hidden = !this._running;
    if (this._events.messages.length && this._panel.hidden && !this._chatShown && innerWidth > 900) this._toggleChat();
  }

  _tick() {
    const now = performance.now();
    const clock = this._clock;
    const end = this._end;
    let at = clock.at(now);
    if (at >= end && !this._running) {
      clock.set(now, { at: end, playing: false });
      at = end;
    }
    const limit = this._limit(at, end);
    if (at > limit + LIVE_MS) clock.set(now, { at: (at = Math.max(0, limit)) });
    const ahead = clock.held ? CUSHION_MS : 0;
    const held = !(this._grid.covers(at) && (ahead === 0 || this._grid.covers(Math.min(at + ahead, end))) && at + ahead <= limit);
    if (held !== clock.held) clock.set(now, { held });
    this._grid.tick(at, clock.running, clock.rate, this._events.speech);
    this._show(at, end);
    this._waitingSince = held ? (this._waitingSince ?? now) : null;
    this._wait.hidden = !(clock.playing && this._waitingSince !== null && now - this._waitingSince > 400);
  }

  /** Until where there is something to show. */
  _limit(at, end) {
    if (!this._running) return end;
    const reached = this._grid.reached(at);
    return Math.max(0, reached ?? end - LIVE_MS);
  }

  _show(at, end) {
    const { playing } = this._clock;
    swapIcon(this._play, playing ? 'pause' : 'play');
    setAttribute(this._play, 'aria-label', playing ? 'Pause' : 'Play');
    setText(this._time, `${time(at)} / ${time(end)}`);
    const live = this._running && end - at < LIVE_MS + 4000;
    setAttribute(this._live, 'data-on', live);
    setAttribute(this._live, 'aria-pressed', String(live));
    this._timeline.show(at);
    this._chat.show(at);
  }

  _toggle() {
    const now = performance.now();
    const playing = !this._clock.playing;
    const over = !this._running && this._clock.at(now) >= this._end - 50;
    this._clock.set(now, { playing, ...(playing && over && { at: 0 }) });
    this._tick();
  }

  _seek(ms) {
    this._clock.set(performance.now(), { at: Math.min(Math.max(0, ms), this._end) });
    this._tick();
  }

  _skip(ms) {
    this._seek(this._clock.at(performance.now()) + ms);
  }

  _goLive() {
    this._clock.set(performance.now(), { at: Math.max(0, this._end - LIVE_MS), playing: true, rate: 1 });
    this._rate.value = '1';
    this._tick();
  }

  _toggleChat() {
    this._chatShown = true;
    this._panel.hidden = !this._panel.hidden;
    setAttribute(this._chatButton, 'aria-expanded', String(!this._panel.hidden));
    setAttribute(this._root.firstElementChild, 'data-chat', !this._panel.hidden);
  }

  _fullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this._stage.requestFullscreen?.().catch(() => {});
  }

  _onKey(event) {
    if (!this._play || event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
    if (isTyping(event) && event.target.type !== 'range') return;
    const far = event.shiftKey ? 30_000 : 5_000;
    const keys = {
      ' ': () => this._toggle(),
      k: () => this._toggle(),
      ArrowLeft: () => this._skip(-far),
      ArrowRight: () => this._skip(far),
      Home: () => this._seek(0),
      f: () => this._fullScreen(),
      c: () => this._toggleChat(),
      l: () => this._running && this._goLive(),
    };
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const press = key === ' ' && event.target instanceof HTMLButtonElement && event.target !== this._play;
    if (!keys[key] || press || (event.target.type === 'range' && event.target !== this._timeline.slider && key.startsWith('Arrow'))) return;
    event.preventDefault();
    keys[key]();
  }
}

