import { h, setAttribute, setText } from './dom.js';
import { capacity, duo, grid, stage } from './layout.js';
import { Tile } from './tiles.js';

const GAP = 10;
/** The stage changes to who has been the loudest for this long: a cough or a "yes" does not take it. */
const TAKES_STAGE_MS = 1500;

/** All tiles of a room and where they are. */
export class Stage {
  constructor(room, media, { changed }) {
    this._room = room;
    this._media = media;
    this._changed = changed;
    /** @type {Map<string, Tile>} */
    this._tiles = new Map();
    /** `auto`: a shared screen takes the stage. `grid`: nothing does. `stage`: the speaker does when there is no screen. */
    this.mode = 'auto';
    this.pinned = null;
    /** Who spoke last, latest first: they keep a place when there is not enough. */
    this._spoke = [];
    /** Who has the stage by speaking, and who is about to. */
    this._speaker = null;
    this._next = { id: null, since: 0 };
    this._rest = h('button', { class: 'tile tile-rest', type: 'button', hidden: true });
    this.element = h('section', { class: 'stage', 'aria-label': 'Pictures', tabindex: '-1' }, this._rest);
    this._observer = new ResizeObserver(() => this._place());
    this._observer.observe(this.element);
  }

  close() {
    clearTimeout(this._nextTimer);
    this._observer.disconnect();
    for (const tile of this._tiles.values()) tile.close();
  }

  onRest(run) {
    this._rest.addEventListener('click', run);
  }

  togglePin(tile) {
    this.pinned = this.pinned === tile.key ? null : tile.key;
    if (this.pinned && this.mode === 'grid') this.mode = 'auto';
    this.update();
    this._changed();
  }

  toggleMode() {
    this.mode = this._onStage() ? 'grid' : 'stage';
    if (this.mode === 'grid') this.pinned = null;
    this.update();
    this._changed();
  }

  get hasStage() {
    return Boolean(this._onStage());
  }

  spoke(participants) {
    const ids = participants.filter((participant) => !participant.isLocal).map(({ id }) => id);
    this._spoke = [...ids, ...this._spoke.filter((id) => !ids.includes(id))].slice(0, 50);
    for (const tile of this._tiles.values()) tile.render();
    this._takeStage(ids[0] ?? null);
  }

  _takeStage(id) {
    if (this._next.id !== id) {
      this._next = { id, since: Date.now() };
      clearTimeout(this._nextTimer);
      if (id !== null) this._nextTimer = setTimeout(() => this._takeStage(id), TAKES_STAGE_MS + 50);
    }
    const free = !this._tiles.has(`${this._speaker}/camera`);
    if (id === null || id === this._speaker || (!free && Date.now() - this._next.since < TAKES_STAGE_MS)) return;
    this._speaker = id;
    if (this.mode === 'stage') this._place();
  }

  /** Makes the tiles those of the room, and renders them. */
  update() {
    const wanted = new Map();
    for (const participant of this._room.participants.values()) {
      if (this._room.large && !participant.isLocal && participant.tracks.size === 0) continue; // a crowd has no tiles
      const screen = participant.isLocal ? this._media.screen.length > 0 : Boolean(participant.track('screen'));
      if (screen) wanted.set(`${participant.id}/screen`, [participant, 'screen']);
      wanted.set(`${participant.id}/camera`, [participant, 'camera']);
    }
    for (const [key, tile] of this._tiles) {
      if (wanted.has(key) && tile.participant === wanted.get(key)[0]) continue;
      tile.close();
      this._tiles.delete(key);
      if (this.pinned === key) this.pinned = null;
    }
    for (const [key, [participant, source]] of wanted) {
      if (this._tiles.has(key)) continue;
      const tile = new Tile(this._room, participant, source, { media: this._media, onPin: (pinned) => this.togglePin(pinned) });
      this._tiles.set(key, tile);
      this.element.insertBefore(tile.element, this._rest);
    }
    this._place();
  }

  /** The tile of a participant's camera, or screen. */
  tileOf(participant, source = 'camera') {
    return this._tiles.get(`${participant.id}/${source}`);
  }

  /** Which tile is large, if any. */
  _onStage() {
    const tiles = [...this._tiles.values()];
    const pinned = this._tiles.get(this.pinned ?? '');
    if (pinned) return pinned;
    if (this.mode === 'grid') return null;
    const screens = tiles.filter((tile) => tile.source === 'screen');
    const screen = screens.findLast((tile) => !tile.isLocal) ?? (this.mode === 'stage' ? screens[0] : undefined);
    if (screen) return screen;
    if (this.mode !== 'stage' || tiles.length < 2) return null;
    return this._tiles.get(`${this._speaker}/camera`) ?? tiles.find((tile) => !tile.isLocal) ?? null;
  }

  _place() {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (width === 0 || height === 0) return;
    const large = this._onStage();
    const tiles = this._ordered(large);
    const { rects, kind } = this._rects(tiles, large, width, height);
    const over = tiles.length > rects.length;
    const shown = over ? this._mostWanted(tiles, rects.length - 1, large) : tiles;
    setAttribute(this.element, 'data-layout', kind);
    for (const tile of this._tiles.values()) {
      const at = shown.indexOf(tile);
      const rect = at === -1 ? null : rects[at];
      tile.element.hidden = !rect;
      if (rect) put(tile.element, rect);
      setAttribute(tile.element, 'data-large', tile === large);
      setAttribute(tile.element, 'data-corner', kind === 'duo' && at === 1);
      setAttribute(tile.element, 'data-small', Boolean(rect && rect.w < 190));
      tile.render({ pinned: tile.key === this.pinned, priority: tile === large ? 10 : tile.source === 'screen' ? 5 : 0 });
    }
    this._rest.hidden = !over;
    if (!over) return;
    put(this._rest, rects[rects.length - 1]);
    setText(this._rest, `+${tiles.length - shown.length}`);
    setAttribute(this._rest, 'aria-label', `${tiles.length - shown.length} more people: show all`);
  }

  /** In the order of joining, oneself at the end; the large one first. */
  _ordered(large) {
    const tiles = [...this._tiles.values()].sort((a, b) => Number(a.isLocal) - Number(b.isLocal) || Number(b.source === 'screen') - Number(a.source === 'screen') || a.participant.joinedAt - b.participant.joinedAt);
    return large ? [large, ...tiles.filter((tile) => tile !== large)] : tiles;
  }

  _rects(tiles, large, width, height) {
    if (large && tiles.length > 1) return { rects: stage(tiles.length, width, height, GAP), kind: 'stage' };
    if (tiles.length === 2 && tiles.every((tile) => tile.source === 'camera')) return { rects: duo(width, height, GAP), kind: 'duo' };
    const count = Math.min(tiles.length, capacity(width, height, GAP));
    return { rects: grid(count, width, height, GAP, width < 600 ? 0.62 : 1), kind: 'grid' };
  }

  /** Those who have a place when there are too few: screens, then who spoke last, then who came first; in the usual order. */
  _mostWanted(tiles, count, large) {
    const rank = (tile) => {
      if (tile === large) return -3;
      if (tile.source === 'screen') return -2;
      if (tile.isLocal) return -1;
      const at = this._spoke.indexOf(tile.participant.id);
      return at === -1 ? 1000 + tiles.indexOf(tile) : at;
    };
    const kept = new Set([...tiles].sort((a, b) => rank(a) - rank(b)).slice(0, Math.max(1, count)));
    return tiles.filter((tile) => kept.has(tile));
  }
}

/** Through the CSSOM: the page's content security policy has no place for style attributes. */
function put(element, { x, y, w, h: height }) {
  const { style } = element;
  style.transform = `translate(${x}px, ${y}px)`;
  style.width = `${w}px`;
  style.height = `${height}px`;
}
