import { h, setText } from './dom.js';
import { measure } from './measure.js';
import { Plot } from './plot.js';
import { kbits } from './reasons.js';

const EVERY_MS = 1_000;
const percent = (/** @type {number} */ value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} %`;
const milliseconds = (/** @type {number} */ value) => `${Math.round(value)} ms`;
const lines = (/** @type {number} */ value) => `${Math.round(value)} lines`;

/** The connection in plots and figures: measured here, and by the server. Measures only while it is looked at. */
export class Connection {
  constructor(room) {
    this._room = room;
    this._timer = null;
    this._before = null;
    /** @type {Map<string, TrackPlots>} */
    this._tracks = new Map();
    this._down = new Direction('From the server', [
      { title: 'Bit rate', least: 100_000, format: kbits, series: [{ key: 'bps', name: 'received' }, { key: 'estimateBps', name: 'possible' }, { key: 'wantedBps', name: 'wanted' }] },
      { title: 'Loss', least: 1, format: percent, series: [{ key: 'lossPercent', name: 'lost' }] },
      { title: 'Delay', least: 50, format: milliseconds, series: [{ key: 'rttMs', name: 'there and back' }, { key: 'queueMs', name: 'queue' }] },
    ]);
    this._up = new Direction('To the server', [
      { title: 'Bit rate', least: 100_000, format: kbits, series: [{ key: 'bps', name: 'sent' }, { key: 'estimateBps', name: 'possible' }] },
      { title: 'Loss', least: 1, format: percent, series: [{ key: 'lossPercent', name: 'lost' }] },
      { title: 'Delay', least: 50, format: milliseconds, series: [{ key: 'rttMs', name: 'there and back' }] },
    ]);
    this._quality = h('p', { class: 'connection-quality' });
    this.element = h('div', { class: 'connection', tabindex: '0', role: 'group', 'aria-label': 'Connection in figures' }, this._quality, this._down.element, this._up.element);
  }

  /** @param {boolean} open */
  setOpen(open) {
    clearInterval(this._timer);
    this._timer = null;
    if (!open) return;
    this._before = null;
    this._timer = setInterval(() => this._measure(), EVERY_MS);
    this._measure();
  }

  close() {
    this.setOpen(false);
  }

  async _measure() {
    const now = await this._room.stats().catch(() => null);
    if (!now || this._timer === null) return;
    const sample = measure(now, this._before);
    this._before = now;
    setText(this._quality, this._verdict());
    this._down.push(sample.at, sample.down);
    this._up.push(sample.at, sample.up);
    this._pushTracks(sample);
  }

  _pushTracks({ at, down, up }) {
    const seen = new Set();
    for (const [direction, tracks] of [[this._down, down.tracks], [this._up, up.tracks]]) {
      for (const measured of tracks) {
        const key = `${direction.title} ${measured.track}`;
        seen.add(key);
        const rids = measured.encodings?.map((/** @type {any} */ encoding) => encoding.rid) ?? null;
        const known = this._tracks.get(key);
        const plots = known?.draws(rids) ? known : new TrackPlots(rids);
        if (plots !== known) known?.element.remove();
        this._tracks.set(key, plots);
        if (plots.element.parentNode !== direction.list) direction.list.append(plots.element);
        plots.push(at, this._room.tracks.get(measured.track), measured);
      }
    }
    for (const [key, plots] of this._tracks) {
      if (seen.has(key)) continue;
      plots.element.remove();
      this._tracks.delete(key);
    }
  }

  /** In one line, what the server thinks of the connection. */
  _verdict() {
    const quality = this._room.me?.quality;
    if (this._room.state.phase !== 'live') return this._room.state.text;
    if (!quality) return 'Nothing unusual is known of this connection.';
    const words = ['nothing arrives', 'bad', 'weak', 'fair', 'good', 'very good'];
    const why = { loss: 'packets are lost', delay: 'it takes long', bandwidth: 'it carries less than is wanted', lost: 'nothing arrives' }[quality.why];
    return `Receiving: ${words[quality.down]}. Sending: ${words[quality.up]}.${why && Math.min(quality.up, quality.down) < 5 ? ` What is worst: ${why}.` : ''}`;
  }
}

/** One of the two connections. */
class Direction {
  constructor(title, plots) {
    this.title = title;
    this._plots = plots.map((plot) => new Plot(plot));
    this._path = h('p', { class: 'connection-path' });
    this.list = h('div', { class: 'connection-tracks' });
    this.element = h('section', { class: 'connection-side' }, h('h3', {}, title), this._path, this._plots.map(({ element }) => element), this.list);
  }

  push(at, measured) {
    setText(this._path, measured.remote ? `over ${measured.remote}` : 'no path yet');
    for (const plot of this._plots) plot.push(at, measured);
  }
}

/** A picture: its bit rate, and how large it is over time. Of one's own, each encoding. */
class TrackPlots {
  /** @param {string[] | null} rids of the encodings, when it is one's own */
  constructor(rids) {
    this._rids = rids;
    const series = rids?.map((rid) => ({ key: rid, name: rid || 'sent', step: true })) ?? [{ key: 'value', name: '', step: true }];
    this._rate = new Plot({ title: 'Bit rate', least: 100_000, format: kbits, series: series.map((one) => ({ ...one, step: false })) });
    this._layer = new Plot({ title: 'Layer', least: 180, format: lines, series });
    this._title = h('h4');
    this._note = h('p', { class: 'connection-note' });
    this.element = h('article', { class: 'connection-track' }, this._title, this._note, this._rate.element, this._layer.element);
  }

  /** @param {string[] | null} rids */
  draws(rids) {
    return String(rids) === String(this._rids);
  }

  /** @param {number} at @param {any} track of the room @param {any} measured */
  push(at, track, measured) {
    const whose = track?.participant.isLocal ? 'Your' : `${track?.participant.name || 'Guest'}:`;
    setText(this._title, `${whose} ${track?.source ?? 'picture'}${measured.codec ? `, ${measured.codec}` : ''}`);
    setText(this._note, this._rids ? sentNote(measured) : receivedNote(track, measured));
    const rates = this._rids ? Object.fromEntries(measured.encodings.map((/** @type {any} */ e) => [e.rid, e.active ? e.bps : 0])) : { value: measured.bps };
    const heights = this._rids ? Object.fromEntries(measured.encodings.map((/** @type {any} */ e) => [e.rid, e.active && e.bps ? e.height : 0])) : { value: track?.state === 'paused' ? 0 : measured.height };
    this._rate.push(at, rates);
    this._layer.push(at, heights);
  }
}

/** @param {any} measured */
function sentNote({ encodings }) {
  const idle = encodings.filter((/** @type {any} */ encoding) => !encoding.active).length;
  if (idle === encodings.length) return 'Nobody watches it: nothing is sent.';
  const limits = { bandwidth: 'made smaller by this browser: the way to the server carries no more', cpu: 'made smaller by this browser: this device has too much to do' };
  const limit = encodings.map((/** @type {any} */ encoding) => limits[encoding.limitedBy]).find(Boolean);
  return [idle ? `${encodings.length - idle} of ${encodings.length} sizes are watched` : '', limit].filter(Boolean).join('; ');
}

const WHY = { bandwidth: 'limited by the network', view: 'as large as it is shown', publisher: 'all that is sent', codec: 'no decoder for it', muted: 'switched off' };

/** @param {any} track @param {any} measured */
function receivedNote(track, measured) {
  const layer = measured.layer ?? track?.layer;
  const parts = [
    measured.width ? `${measured.width}×${measured.height}, ${measured.fps ?? 0} a second` : '',
    layer ? `layer ${[layer.rid, layer.spatial === null || layer.spatial === undefined ? '' : `S${layer.spatial}`, layer.temporal === null || layer.temporal === undefined ? '' : `T${layer.temporal}`].filter(Boolean).join(' ')}` : '',
    track?.state === 'paused' ? 'paused' : '',
    WHY[track?.why] ?? '',
    track?.needBps ? `needs ${kbits(track.needBps)}, has ${kbits(track.haveBps ?? 0)}` : '',
    measured.lossPercent ? `${percent(measured.lossPercent)} lost` : '',
    measured.freezes ? `stood still ${measured.freezes} times` : '',
  ];
  return parts.filter(Boolean).join('; ');
}
