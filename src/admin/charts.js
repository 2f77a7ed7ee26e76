// Charts of the last hours, drawn as SVG, with a sentence and a table that say the same.
import { el, put, rate, number, time, plain } from './text.js';

const SVG = 'http://www.w3.org/2000/svg';
const HOURS = 6 * 3600 * 1000;
const GAP = 90 * 1000;
const LEFT = 44;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 20;

function svg(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** A round number at or above the largest value, which can be divided by four. */
function ceiling(max, isWhole) {
  if (max <= 0) return isWhole ? 4 : 1;
  const least = isWhole ? Math.max(max, 4) : max;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 4, 5, 10].find((n) => n * power >= least && (!isWhole || (n * power) % 2 === 0)) ?? 10;
  return step * power;
}

const short = (n) => {
  for (const [size, unit] of [[1e9, 'G'], [1e6, 'M'], [1e3, 'k']]) if (n >= size) return `${+(n / size).toFixed(1)}${unit}`;
  return `${+n.toFixed(2)}`;
};

/** Runs of points without a hole between them. */
function runs(points) {
  const all = [];
  points.forEach((point, at) => {
    if (at === 0 || point.at_ms - points[at - 1].at_ms > GAP) all.push([]);
    all.at(-1).push(point);
  });
  return all;
}

function lines(into, points, series, x, y, floor) {
  for (const { key, look } of series) {
    for (const run of runs(points)) {
      const path = run.map((point, at) => `${at ? 'L' : 'M'}${x(point.at_ms).toFixed(1)} ${y(point[key]).toFixed(1)}`).join('');
      const first = x(run[0].at_ms).toFixed(1);
      const last = x(run.at(-1).at_ms).toFixed(1);
      into.append(svg('path', { class: `area ${look}`, d: `${path}L${last} ${floor}L${first} ${floor}Z` }));
      into.append(svg('path', { class: `series ${look}`, d: run.length > 1 ? path : `${path}h1.5` }));
    }
  }
}

/** A line without words, for an overview. */
export function spark(where, points, key) {
  const [width, height] = [240, 40];
  const drawn = svg('svg', { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  if (points.length > 0) {
    const end = points.at(-1).at_ms;
    const begin = Math.min(points[0].at_ms, end - 60000);
    const top = Math.max(1, ...points.map((point) => point[key]));
    const x = (ms) => ((ms - begin) / (end - begin)) * width;
    lines(drawn, points, [{ key, look: 'a' }], x, (n) => height - 2 - (n / top) * (height - 4), height);
  }
  where.replaceChildren(drawn);
}

/** A chart with a title: `series` are `{ key, look, label }`. */
export class Chart {
  constructor(title, series, isRate) {
    this.series = series;
    this.isRate = isRate;
    this.title = title;
    this.points = [];
    this.now = el('span', { class: 'now' });
    this.plot = el('div', {});
    this.rows = el('tbody', {});
    const keys = series.length < 2 ? [] : series.map(({ look, label }) => {
      const sample = svg('svg', { viewBox: '0 0 24 8', 'aria-hidden': 'true' });
      sample.append(svg('path', { class: `series ${look}`, d: 'M0 4h24' }));
      return el('span', { class: 'key' }, sample, label);
    });
    const columns = ['Time', ...series.map(({ label }) => label)].map((label) => el('th', { scope: 'col' }, label));
    this.table = el('details', {}, el('summary', {}, 'As a table'),
      el('table', {}, el('caption', { class: 'unseen' }, title), el('thead', {}, el('tr', {}, columns)), this.rows));
    this.table.addEventListener('toggle', () => this.fill());
    this.figure = el('figure', { class: 'box chart' },
      el('figcaption', {}, el('h3', {}, title), keys, this.now), this.plot, this.table);
    this.plot.addEventListener('pointermove', (event) => this.point(event));
    this.plot.addEventListener('pointerleave', () => this.draw(this.points));
    this.size = new ResizeObserver(() => this.draw(this.points));
    this.size.observe(this.plot);
  }

  value(n) {
    return this.isRate ? rate(n) : number(n);
  }

  describe(point) {
    return this.series.map(({ key, label }) => (this.series.length > 1 ? `${label} ` : '') + this.value(point[key])).join(', ');
  }

  draw(points) {
    this.points = points;
    const width = this.plot.clientWidth;
    if (width === 0) return;
    const height = 150;
    const end = points.length > 0 ? points.at(-1).at_ms : Date.now();
    const begin = Math.max(end - HOURS, Math.min(points[0]?.at_ms ?? end, end - 5 * 60000));
    const top = ceiling(Math.max(0, ...points.flatMap((point) => this.series.map(({ key }) => point[key]))), !this.isRate);
    this.x = (ms) => LEFT + ((ms - begin) / (end - begin)) * (width - LEFT - RIGHT);
    const y = (n) => TOP + (1 - n / top) * (height - TOP - BOTTOM);
    const drawn = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': this.sentence() });
    for (const part of [0, 0.5, 1]) {
      drawn.append(svg('path', { class: 'grid', d: `M${LEFT} ${y(part * top)}H${width - RIGHT}` }));
      drawn.append(svg('text', { x: LEFT - 6, y: y(part * top) + 4, 'text-anchor': 'end' }, short(part * top)));
    }
    for (const [part, anchor] of [[0, 'start'], [0.5, 'middle'], [1, 'end']]) {
      const at = begin + part * (end - begin);
      drawn.append(svg('text', { x: this.x(at), y: height - 4, 'text-anchor': anchor }, time(at, false)));
    }
    lines(drawn, points, this.series, this.x, y, y(0));
    this.cursor = svg('path', { class: 'cursor', d: '' });
    drawn.append(this.cursor);
    this.plot.replaceChildren(drawn);
    put(this.now, points.length > 0 ? `now ${this.describe(points.at(-1))}` : 'no numbers yet');
    if (this.table.open) this.fill();
  }

  /** What the chart shows, for those who do not see it. */
  sentence() {
    if (this.points.length === 0) return `${this.title}: no numbers yet.`;
    const said = this.series.map(({ key, label }) => {
      const least = Math.min(...this.points.map((point) => point[key]));
      const most = this.points.reduce((a, b) => (b[key] > a[key] ? b : a));
      const now = this.points.at(-1)[key];
      return `${label}: now ${this.value(now)}, at least ${this.value(least)}, at most ${this.value(most[key])} at ${time(most.at_ms, false)}`;
    });
    return plain(`${this.title} since ${time(this.points[0].at_ms, false)}. ${said.join('. ')}.`);
  }

  point(event) {
    if (this.points.length === 0 || !this.x) return;
    const box = this.plot.getBoundingClientRect();
    const at = event.clientX - box.left;
    const near = this.points.reduce((a, b) => (Math.abs(this.x(b.at_ms) - at) < Math.abs(this.x(a.at_ms) - at) ? b : a));
    this.cursor.setAttribute('d', `M${this.x(near.at_ms)} ${TOP}V${150 - BOTTOM}`);
    put(this.now, `${time(near.at_ms)}: ${this.describe(near)}`);
  }

  /** At most two dozen rows, evenly over the time. */
  fill() {
    if (!this.table.open) return;
    const step = Math.max(1, Math.ceil(this.points.length / 24));
    const chosen = this.points.filter((_, at) => (this.points.length - 1 - at) % step === 0).reverse();
    this.rows.replaceChildren(...chosen.map((point) => el('tr', {},
      el('th', { scope: 'row' }, time(point.at_ms)), this.series.map(({ key }) => el('td', {}, this.value(point[key]))))));
  }
}
