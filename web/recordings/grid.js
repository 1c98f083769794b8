import { h, setAttribute, setText } from '../app/dom.js';
import { hue, initials } from '../app/names.js';
import { grid, stage } from '../app/layout.js';
import { Player } from './player.js';

const GAP = 10;
/** Pictures at once. The others are heard: browsers have some 75 players for a page. */
const MOST = 20;

/** The pictures of a session: one place for each participant's camera and for each screen. */
export class Grid {
  constructor({ recording, onChange }) {
    this._recording = recording;
    this._onChange = onChange;
    this._tiles = new Map();
    this._volume = 1;
    this.element = h('div', { class: 'play-grid', role: 'group', 'aria-label': 'Pictures' });
    this._resize = new ResizeObserver(() => this._place());
    this._resize.observe(this.element);
  }

  close() {
    this._resize.disconnect();
    for (const player of this.players()) player.close();
  }

  /** @param {ReturnType<import('./events.js').tiles>} wanted @param {Map<string, string>} names */
  update(wanted, names) {
    for (const { key, participant, content, files } of wanted) {
      if (!this._tiles.has(key)) this._add(key, participant, content);
      const tile = this._tiles.get(key);
      const name = names.get(participant) ?? participant;
      setText(tile.name, content === 'screen' ? `${name}: screen` : name);
      setText(tile.avatar, initials(name));
      setAttribute(tile.avatar, 'data-hue', hue(name));
      for (const file of files) {
        const player = tile.players.get(file.name);
        if (player) player.update(file);
        else tile.players.set(file.name, this._player(tile, file));
      }
    }
    this._place();
  }

  players() {
    return [...this._tiles.values()].flatMap(({ players }) => [...players.values()]);
  }

  setVolume(level) {
    this._volume = level;
    for (const player of this.players()) player.volume = level;
  }

  covers(ms) {
    return this.players().every((player) => player.covers(ms));
  }

  /** Until when there is something of the files that grow: of that which has got furthest. Undefined: that is not known. */
  reached(ms) {
    let furthest;
    for (const player of this.players()) {
      if (!player.growing || !player.isAt(ms)) continue;
      const reached = player.reached;
      if (reached === undefined) return undefined;
      furthest = Math.max(furthest ?? 0, reached);
    }
    return furthest;
  }

  /** @param {Map<string, number[][]>} speech by participant: when they spoke */
  tick(ms, running, rate, speech) {
    this._choose(ms, speech);
    for (const tile of this._tiles.values()) {
      for (const player of tile.players.values()) player.tick(ms, running, rate);
      this._render(tile, ms);
    }
    const shape = [...this._tiles.values()].map(({ content, shown, pictured }) => `${pictured} ${content === 'screen' && Boolean(shown)}`).join();
    if (shape !== this._shape) {
      this._shape = shape;
      this._place();
    }
  }

  /** Who is shown when not all can be: screens, and who has spoken last. */
  _choose(ms, speech) {
    const all = [...this._tiles.values()];
    for (const tile of all) {
      const last = lastBefore(speech.get(tile.participant) ?? [], ms);
      tile.spoke = tile.content === 'screen' ? Infinity : (last?.[0] ?? -1);
      setAttribute(tile.element, 'data-speaking', tile.content === 'camera' && Boolean(last) && ms < last[1]);
    }
    const present = all.filter(({ players }) => [...players.values()].some((player) => player.isAt(ms)));
    const order = present.length > MOST ? present.sort((a, b) => b.spoke - a.spoke || b.pictured - a.pictured).slice(0, MOST) : all;
    for (const tile of all) {
      tile.pictured = order.includes(tile);
      for (const player of tile.players.values()) player.pictured = tile.pictured;
    }
  }

  _add(key, participant, content) {
    const avatar = h('div', { class: 'avatar', 'aria-hidden': 'true' });
    const name = h('span', { class: 'tile-name' });
    const status = h('p', { class: 'tile-status' });
    const element = h('div', { class: 'tile play-tile', role: 'group', data: { key, participant, source: content, video: 'off' } }, avatar, status, h('div', { class: 'tile-label' }, name));
    this._tiles.set(key, { participant, content, element, avatar, name, status, players: new Map(), shown: null, pictured: true, spoke: -1 });
    this.element.append(element);
  }

  _player(tile, file) {
    const video = h('video', { playsinline: true, tabindex: '-1', 'aria-hidden': 'true', hidden: true });
    tile.element.prepend(video);
    const player = new Player(file, { recording: this._recording, video, onChange: this._onChange });
    player.volume = this._volume;
    return player;
  }

  _render(tile, ms) {
    const players = [...tile.players.values()];
    const player = players.find((p) => p.isAt(ms)) ?? null;
    tile.shown = player;
    for (const each of players) each.video.hidden = each !== player;
    const picture = player && !player.problem && hasPicture(player.file, ms) && player.video.videoWidth > 0;
    setAttribute(tile.element, 'data-video', picture ? 'on' : 'off');
    setAttribute(tile.element, 'data-away', !player);
    tile.avatar.hidden = tile.content === 'screen' || Boolean(picture);
    setText(tile.status, player?.problem || (player ? '' : absence(players, ms, tile.content)));
    setAttribute(tile.element, 'aria-label', `${tile.name.textContent}${picture ? '' : player ? ', no picture' : ', not there'}`);
  }

  _place() {
    const { clientWidth: width, clientHeight: height } = this.element;
    const all = [...this._tiles.values()].filter(({ content, shown, pictured }) => pictured && (content !== 'screen' || shown));
    const screens = all.filter(({ content }) => content === 'screen');
    for (const tile of this._tiles.values()) tile.element.hidden = !all.includes(tile);
    const order = screens.length ? [...screens, ...all.filter((tile) => !screens.includes(tile))] : all;
    const places = screens.length ? stage(order.length, width, height, GAP) : grid(order.length, width, height, GAP, 1.5);
    order.forEach(({ element }, n) => {
      const place = places[n];
      element.hidden = !place;
      if (!place) return;
      Object.assign(element.style, { width: `${place.w}px`, height: `${place.h}px`, transform: `translate(${place.x}px, ${place.y}px)` });
      setAttribute(element, 'data-small', place.w < 240);
    });
  }
}

/** A picture that stands still because its camera is off is no picture. */
function hasPicture({ tracks, gaps, growing }, ms) {
  const video = tracks.find(({ kind }) => kind === 'video');
  if (!video) return growing || tracks.length === 0;
  if (ms < video.firstMs - 40 || (!growing && ms > video.lastMs + 1000)) return false;
  return !gaps.some(({ kind, fromMs, toMs, cause }) => kind === 'video' && ms > fromMs + 500 && ms < toMs && ['muted', 'publisherGone'].includes(cause));
}

function absence(players, ms, content) {
  if (content === 'screen') return '';
  return players.every(({ file }) => ms < file.startMs) ? 'Not here yet' : 'Not here';
}

/** The last of these spans that begins before this time. */
function lastBefore(spans, ms) {
  let low = 0;
  for (let high = spans.length; low < high; ) {
    const middle = (low + high) >> 1;
    if (spans[middle][0] <= ms) low = middle + 1;
    else high = middle;
  }
  return spans[low - 1];
}
