/**
 * Fetches a file piece by piece, and hands its clusters over from wherever somebody looks.
 *
 * Why not `<video src>`: of a file that grows, browsers play what was there when they asked. Chromium takes its duration for endless and ends
 * where the first answer ended, Firefox reckons a duration from that answer's length and ends there; and each of many pictures would keep a
 * connection of the six that a browser has for a server. Here a piece is asked for when it is needed, of files that grow and of finished ones alike.
 */
import { bytes as fetchBytes } from './api.js';
import { findCluster, readClusters, readCues, readFront } from './webm.js';

/** Milliseconds that are fetched ahead of what is shown. */
const AHEAD = 15_000;
/** What lies no further ahead than this is read up to, and not jumped to. */
const NEAR = 8_000;
const CHUNK = 384 << 10;
/** What is read to find a cluster. */
const WINDOW = 192 << 10;
const FRONT = 16 << 10;
const MOST_AT_ONCE = 4;

/** Pieces that are being fetched, of all files: others are to have a way to the server too. */
let fetching = 0;
const waiting = [];

async function inTurn(work) {
  if (fetching >= MOST_AT_ONCE) await new Promise((go) => waiting.push(go));
  fetching += 1;
  try {
    return await work();
  } finally {
    fetching -= 1;
    waiting.shift()?.();
  }
}

export class Feed {
  /**
   * @param {{ id: string, name: string, size: number, growing: boolean }} file
   * @param {{ onFront: (front) => Promise<void>, onClusters: (clusters, jumped: boolean) => Promise<void>, onEnd: () => void, onError: (error: Error) => void }} to
   */
  constructor(file, to) {
    this._file = { ...file };
    this._to = to;
    this._target = 0;
    /** What was handed over without a hole, in milliseconds. */
    this._from = 0;
    this._until = -1;
    this._at = 0;
    this._chunk = CHUNK;
    /** Clusters that are known, by their place: `{at, time, key}`. */
    this._index = [];
    this._cues = null;
    this._over = false;
    this._abort = new AbortController();
    this._run();
  }

  close() {
    this._abort.abort();
    this._ask();
  }

  /** There is more of it, or it is finished. */
  update({ size, growing }) {
    if (size === this._file.size && growing === this._file.growing) return;
    this._file.size = size;
    this._file.growing = growing;
    this._ask();
  }

  /** What is shown, in milliseconds. */
  want(ms) {
    this._target = Math.max(0, ms);
    this._ask();
  }

  /** Whether what belongs there was handed over, or there is nothing. */
  covers(ms) {
    if (this.failed) return true;
    return this._front && ms >= this._from - 1 && (ms <= this._until || this.atEnd);
  }

  /** All that there is was handed over. */
  get atEnd() {
    return Boolean(this._front) && (this._over || this._at >= this._file.size);
  }

  /** Until where, in milliseconds. */
  get until() {
    return this._until;
  }

  _ask() {
    this._asked = true;
    this._wake?.();
  }

  async _run() {
    let pause = 500;
    while (!this._abort.signal.aborted) {
      try {
        this._asked = false;
        const busy = this._front ? await this._step() : await this._open();
        pause = 500;
        // Something may have been asked for in the meantime.
        if (!busy && !this._asked) await new Promise((wake) => (this._wake = wake));
      } catch (error) {
        if (this._abort.signal.aborted) return;
        if (error.status === undefined || error.status === 404) {
          this.failed = true;
          this._to.onError(error);
          return;
        }
        await new Promise((go) => setTimeout(go, pause));
        pause = Math.min(pause * 2, 8000);
      }
    }
  }

  _fetch(from, to) {
    return inTurn(() => fetchBytes(this._file.id, this._file.name, from, Math.min(to, this._file.size), this._abort.signal));
  }

  async _open() {
    if (this._file.size === 0) return false;
    const front = readFront(await this._fetch(0, FRONT));
    if (!front) {
      if (this._file.size > FRONT) throw new Error('the file has no front');
      return false;
    }
    await this._to.onFront(front);
    this._front = front;
    this._at = front.clusters;
    this._video = front.tracks.find(({ kind }) => kind === 'video')?.number;
    return true;
  }

  /** @returns whether there was something to do */
  async _step() {
    const target = this._target;
    const behind = this._until >= 0 && target < this._from - 1;
    const far = target > Math.max(this._until, 0) + NEAR && !this.atEnd;
    // A keyframe may be far back: then it is read up to from there, and not looked for again.
    if (behind || (far && !(Math.abs(target - this._sought) < NEAR))) {
      this._sought = target;
      const at = await this._placeOf(target);
      // Where it goes on anyway is no jump.
      if (behind || at > this._at) {
        this._at = at;
        this._until = -1;
        this._over = false;
      }
    }
    if (this.atEnd || this._until > target + AHEAD) return false;
    const bytes = await this._fetch(this._at, this._at + this._chunk);
    const { clusters, over } = readClusters(bytes);
    this._over = over;
    if (clusters.length === 0) {
      // A cluster is longer than a piece, or not all there yet.
      const short = this._at + bytes.length >= this._file.size;
      this._chunk = Math.min(this._chunk * 2, 24 << 20);
      if (over && !this._file.growing) this._to.onEnd();
      return !over && !short;
    }
    this._chunk = CHUNK;
    this._note(clusters, this._at);
    const jumped = this._until < 0;
    if (jumped) this._from = this._at === this._front.clusters ? 0 : clusters[0].time;
    await this._to.onClusters(clusters, jumped);
    this._at += clusters.at(-1).end;
    this._until = clusters.reduce((last, { until }) => Math.max(last, until), this._until);
    if (this.atEnd && !this._file.growing) this._to.onEnd();
    return true;
  }

  _note(clusters, base) {
    for (const { at, time, blocks } of clusters) this._add({ at: base + at, time, key: this._begins(blocks) });
  }

  /** A decoder can begin with it. */
  _begins(blocks) {
    return this._video === undefined || blocks.some(({ track, key }) => key && track === this._video);
  }

  _add(entry) {
    let low = 0;
    for (let high = this._index.length; low < high; ) {
      const middle = (low + high) >> 1;
      if (this._index[middle].at < entry.at) low = middle + 1;
      else high = middle;
    }
    if (this._index[low]?.at === entry.at) this._index[low].key ??= entry.key;
    else this._index.splice(low, 0, entry);
  }

  /** Where to read from, to show what is at `ms`. */
  async _placeOf(ms) {
    if (!this._file.growing && this._front.cuesAt && !this._cues) {
      this._cues = readCues(await this._fetch(this._front.cuesAt, this._file.size), this._front);
    }
    if (this._cues?.length) return this._cues.filter(({ time }) => time <= ms).at(-1)?.at ?? this._front.clusters;
    return this._begin(await this._near(ms), ms);
  }

  /** A cluster not far before `ms`, by halving. */
  async _near(ms) {
    let low = { at: this._front.clusters, time: 0 };
    let high = { at: this._file.size, time: Infinity };
    for (const entry of this._index) {
      if (entry.time <= ms) low = entry;
      else if (entry.at < high.at) high = entry;
    }
    while (high.at - low.at > WINDOW) {
      const middle = Math.floor((low.at + high.at) / 2);
      const found = findCluster(await this._fetch(middle, Math.min(middle + WINDOW, high.at)));
      if (!found) {
        high = { at: middle, time: high.time };
        continue;
      }
      const entry = { at: middle + found.at, time: found.time };
      this._add(entry);
      if (entry.time <= ms) low = entry;
      else high = { at: middle, time: entry.time };
    }
    return low;
  }

  /** The last cluster before `ms` that a decoder can begin with: from `low` on, else further and further back. */
  async _begin(low, ms) {
    let end = Math.min(low.at + 2 * WINDOW, this._file.size);
    for (let start = low.at; ; ) {
      const { clusters } = readClusters(await this._fetch(start, end));
      this._note(clusters, start);
      const begin = clusters.filter(({ time, blocks }) => time <= ms && this._begins(blocks)).at(-1);
      if (begin) return start + begin.at;
      if (start <= this._front.clusters) return this._front.clusters;
      const back = Math.max(this._front.clusters, start - 4 * WINDOW);
      const found = back === this._front.clusters ? { at: 0 } : findCluster(await this._fetch(back, start));
      end = start;
      start = found ? back + found.at : this._front.clusters;
    }
  }
}
