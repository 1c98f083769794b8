import { h, setAttribute, setText } from '../app/dom.js';
import { CAUSES, time } from './words.js';

const SVG = 'http://www.w3.org/2000/svg';
/** A tooltip finds what is so near, in CSS pixels. */
const NEAR = 4;

/** Who was there and who spoke when: a lane for each participant. It is a slider as well. */
export class Timeline {
  constructor({ seek }) {
    this._seek = seek;
    this._end = 1;
    this._lanes = [];
    this._messages = [];
    this._rows = new Map();
    this.slider = h('input', { type: 'range', class: 'line-slider', id: 'seek', min: '0', max: '1', step: '100', value: '0', 'aria-label': 'Time', oninput: () => this._seek(Number(this.slider.value)) });
    this._head = h('div', { class: 'line-head', 'aria-hidden': 'true' });
    this._marks = h('div', { class: 'line-marks', 'aria-hidden': 'true' });
    this._tip = h('div', { class: 'line-tip', hidden: true, role: 'tooltip' });
    this._list = h('div', { class: 'line-lanes' });
    this._area = h('div', { class: 'line-area' }, this._head);
    this.element = h('section', { class: 'line', 'aria-label': 'Time line' }, h('div', { class: 'line-top' }, h('div', { class: 'line-rail' }, this._marks, this.slider)), h('div', { class: 'line-scroll' }, this._list, this._area), this._tip);
    this._list.addEventListener('pointermove', (event) => this._hover(event));
    this._list.addEventListener('pointerleave', () => (this._tip.hidden = true));
    this._list.addEventListener('pointerdown', (event) => this._press(event));
    this._legend = h('p', { class: 'line-legend', 'aria-hidden': 'true' }, ...[['speech', 'speaks'], ['present', 'recorded'], ['screen', 'shares a screen'], ['muted', 'muted'], ['loss', 'missing']].map(([kind, text]) => h('span', {}, h('i', { data: { kind } }), text)));
    this.element.append(this._legend);
  }

  /** @param {ReturnType<import('./events.js').lanes>} all */
  update(all, messages, end) {
    this._end = Math.max(1, end);
    this._lanes = all;
    this._messages = messages;
    this.slider.max = String(Math.ceil(this._end));
    for (const lane of all) {
      if (!this._rows.has(lane.id)) this._addRow(lane);
      this._draw(lane);
    }
    const told = `${messages.length} ${this._end}`;
    if (told === this._told) return;
    this._told = told;
    this._marks.replaceChildren(
      ...messages.map(({ tMs }) => {
        const mark = h('i', {});
        mark.style.left = `${(100 * tMs) / this._end}%`;
        return mark;
      }),
    );
  }

  /** What is shown. All is drawn to the scale of the last update, also of a recording that has become longer since. */
  show(at) {
    if (document.activeElement !== this.slider || !this.slider.matches(':active')) this.slider.value = String(Math.round(at));
    setAttribute(this.slider, 'aria-valuetext', `${time(at)} of ${time(this._end)}`);
    this._head.style.left = `${Math.min(100, (100 * at) / this._end)}%`;
  }

  _addRow({ id, name }) {
    const svg = document.createElementNS(SVG, 'svg');
    svg.setAttribute('class', 'lane-svg');
    svg.setAttribute('preserveAspectRatio', 'none');
    const paths = {};
    for (const kind of ['here', 'present', 'screen', 'muted', 'loss', 'speech']) {
      paths[kind] = document.createElementNS(SVG, 'path');
      paths[kind].setAttribute('class', `lane-${kind}`);
      svg.append(paths[kind]);
    }
    const label = h('span', { class: 'lane-name', title: name }, name);
    const spoken = h('span', { class: 'visually-hidden' });
    const track = h('div', { class: 'lane-track', data: { participant: id } }, svg);
    const row = h('div', { class: 'lane', data: { participant: id } }, label, track, spoken);
    this._rows.set(id, { svg, paths, row, track, spoken });
    this._list.append(row);
  }

  _draw({ id, name, present, files, screens, gaps, speech }) {
    const { svg, paths, spoken } = this._rows.get(id);
    setAttribute(svg, 'viewBox', `0 0 ${this._end} 24`);
    const spans = (list, y, height) => list.map(([from, to]) => `M${Math.round(from)} ${y}h${Math.max(Math.round(to - from), Math.ceil(this._end / 1500))}v${height}H${Math.round(from)}z`).join('');
    const of = (test) => gaps.filter(test).map(({ fromMs, toMs }) => [fromMs, toMs]);
    setAttribute(paths.here, 'd', spans(present, 11, 2));
    setAttribute(paths.present, 'd', spans(files, 5, 14));
    setAttribute(paths.screen, 'd', spans(screens, 20, 3));
    setAttribute(paths.muted, 'd', spans(of(({ cause, kind, content }) => cause === 'muted' && kind === 'audio' && content === 'camera'), 5, 14));
    setAttribute(paths.loss, 'd', spans(of(({ cause }) => cause !== 'muted'), 2, 3));
    setAttribute(paths.speech, 'd', spans(speech, 7, 10));
    const total = speech.reduce((sum, [from, to]) => sum + to - from, 0);
    setText(spoken, `${name} spoke for ${time(total)}`);
  }

  _timeAt(event, track) {
    const { left, width } = track.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - left) / width)) * this._end;
  }

  _trackAt(event) {
    return event.target.closest?.('.lane')?.querySelector('.lane-track') ?? null;
  }

  _press(event) {
    const track = this._trackAt(event);
    if (!track || event.button !== 0 || event.clientX < track.getBoundingClientRect().left - 6) return;
    this._seek(this._timeAt(event, track));
    const move = (more) => this._seek(this._timeAt(more, track));
    const up = () => removeEventListener('pointermove', move);
    addEventListener('pointermove', move);
    addEventListener('pointerup', up, { once: true });
    addEventListener('pointercancel', up, { once: true });
  }

  _hover(event) {
    const track = this._trackAt(event);
    const lane = track && this._lanes.find(({ id }) => id === track.dataset.participant);
    if (!lane || event.clientX < track.getBoundingClientRect().left - 6) {
      this._tip.hidden = true;
      return;
    }
    const at = this._timeAt(event, track);
    const near = (NEAR * this._end) / track.clientWidth;
    const inside = ([from, to]) => at >= from - near && at <= to + near;
    const told = [];
    if (lane.speech.some(inside)) told.push('speaks');
    if (lane.screens.some(inside)) told.push('shares a screen');
    for (const gap of lane.gaps.filter(({ fromMs, toMs }) => inside([fromMs, toMs]))) told.push(`${gap.kind === 'audio' ? 'sound' : gap.content === 'screen' ? 'screen' : 'picture'}: ${CAUSES[gap.cause]}, ${time(gap.fromMs)} to ${time(gap.toMs)}`);
    if (!lane.present.some(inside)) told.push('not here');
    for (const { text } of this._messages.filter(({ tMs, participant }) => participant === lane.id && Math.abs(tMs - at) <= near * 2)) told.push(`writes “${text.length > 60 ? `${text.slice(0, 60)}…` : text}”`);
    setText(this._tip, `${time(at)} · ${lane.name}${told.length ? ` · ${told.join(' · ')}` : ''}`);
    this._tip.hidden = false;
    const { left, top, width } = this.element.getBoundingClientRect();
    const box = track.getBoundingClientRect();
    Object.assign(this._tip.style, { left: `${Math.min(Math.max(event.clientX - left, 90), width - 90)}px`, top: `${box.top - top - 8}px` });
  }
}
