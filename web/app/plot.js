import { h, setText } from './dom.js';

/** How far back a plot goes. */
export const WINDOW_MS = 90_000;
const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 300;
const HEIGHT = 60;

/**
 * Lines over the last minute and a half, the newest at the right, in the page's own colours. What is drawn is told in figures beside it, so a
 * screen reader misses nothing but the past.
 */
export class Plot {
  /**
   * @param {{title: string, series: Array<{key: string, name: string, step?: boolean}>, format: (value: number) => string, least: number}} options
   *   `format` writes a value, `least` is how far the axis goes at least, `step` draws a value as holding until the next
   */
  constructor({ title, series, format, least }) {
    this._format = format;
    this._least = least;
    /** @type {Array<{at: number, values: Record<string, number | null>}>} */
    this._points = [];
    this._lines = series.map((one, n) => {
      const path = document.createElementNS(SVG, 'path');
      path.setAttribute('class', `plot-line plot-tone-${n + 1}`);
      const value = h('span', { class: 'plot-value' });
      const legend = h('span', { class: 'plot-legend' }, h('i', { class: `plot-swatch plot-tone-${n + 1}` }), series.length > 1 ? `${one.name} ` : '', value);
      return { ...one, path, value, legend };
    });
    const svg = document.createElementNS(SVG, 'svg');
    for (const [name, text] of Object.entries({ viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', class: 'plot-area', 'aria-hidden': 'true', focusable: 'false' })) svg.setAttribute(name, text);
    svg.append(...this._lines.map(({ path }) => path));
    this._top = h('span', { class: 'plot-top', 'aria-hidden': 'true' });
    this.element = h('figure', { class: 'plot' }, h('figcaption', {}, h('span', { class: 'plot-title' }, title), this._lines.map(({ legend }) => legend)), h('div', { class: 'plot-frame' }, svg, this._top));
  }

  /** @param {number} at Unix milliseconds @param {Record<string, number | null | undefined>} values null where nothing is known: a gap in the line */
  push(at, values) {
    this._points.push({ at, values });
    while (this._points[0].at < at - WINDOW_MS) this._points.shift();
    const top = ceiling(Math.max(this._least, ...this._points.flatMap((point) => this._lines.map(({ key }) => point.values[key] ?? 0))));
    setText(this._top, this._format(top));
    for (const { key, step, path, value, legend } of this._lines) {
      legend.hidden = this._points.every((point) => (point.values[key] ?? null) === null); // never known: not every browser tells everything
      path.setAttribute('d', trace(this._points.map((point) => [WIDTH * (1 - (at - point.at) / WINDOW_MS), point.values[key] ?? null]), top, step));
      const now = values[key] ?? null;
      setText(value, now === null ? '–' : this._format(now));
    }
  }
}

/**
 * The commands of an SVG path.
 * @param {Array<[number, number | null]>} points x, and the value
 * @param {number} top the value at the upper edge
 * @param {boolean} [step]
 */
export function trace(points, top, step = false) {
  let text = '';
  let drawing = false;
  for (const [x, value] of points) {
    if (value === null) {
      drawing = false;
      continue;
    }
    const y = (HEIGHT - 1 - (HEIGHT - 2) * Math.min(1, value / top)).toFixed(1);
    text += !drawing ? `M${x.toFixed(1)} ${y}` : step ? `H${x.toFixed(1)}V${y}` : `L${x.toFixed(1)} ${y}`;
    drawing = true;
  }
  return text;
}

/** The next round figure: 1, 2 or 5 times a power of ten. @param {number} value */
export function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 5].find((digit) => digit * power >= value * 0.999) ?? 10) * power;
}
