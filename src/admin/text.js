// Words and elements. What comes from outside only ever becomes text.

const count = new Intl.NumberFormat('en');

export const number = (n) => count.format(n);

/** `1 letter`, `2 letters`. */
export const many = (n, one, more = one + 's') => `${number(n)} ${n === 1 ? one : more}`;

export function rate(perSecond) {
  if (perSecond === 0) return '0/s';
  if (perSecond < 0.1) return `${(perSecond * 60).toFixed(1)}/min`;
  return `${perSecond < 10 ? perSecond.toFixed(1) : number(Math.round(perSecond))}/s`;
}

export function bytes(n) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) {
    n /= 1024;
    at += 1;
  }
  return `${at === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[at]}`;
}

/** How long: `3 min 5 s`. */
export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  const parts = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  for (let at = 0; at < parts.length; at += 1) {
    const [size, unit] = parts[at];
    if (s < size && at < parts.length - 1) continue;
    const whole = Math.floor(s / size);
    const next = parts[at + 1];
    const rest = next ? Math.floor((s % size) / next[0]) : 0;
    return rest > 0 ? `${whole} ${unit} ${rest} ${next[1]}` : `${whole} ${unit}`;
  }
  return '0 s';
}

// How far the clock of the service is ahead of this one.
let ahead = 0;
export const setClock = (now) => { ahead = now - Date.now(); };
export const now = () => Date.now() + ahead;

export const ago = (ms) => (now() - ms < 1500 ? 'just now' : `${span(now() - ms)} ago`);

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const minutes = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });

/** The time of day, with the day if it is not today. */
export function time(ms, exact = true) {
  const at = new Date(ms);
  const text = (exact ? clock : minutes).format(at);
  return at.toDateString() === new Date(now()).toDateString() ? text : `${day.format(at)}, ${text}`;
}

// Control characters, what turns the direction of text, what takes no room, and halves of pairs.
const ODD = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb]|[\u{e0000}-\u{e0fff}]|[\u{1bca0}-\u{1bca3}]|[\u{1d173}-\u{1d17a}]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/gu;

const name = (odd) => `U+${odd.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}`;

/** A text with a name in place of each character that would not be seen: for attributes. */
export const plain = (text) => String(text).replace(ODD, (odd) => `<${name(odd)}>`);

/** The same as nodes. */
export function visible(text) {
  const whole = document.createElement('span');
  whole.className = 'said';
  whole.dir = 'auto';
  let from = 0;
  text = String(text);
  for (const match of text.matchAll(ODD)) {
    whole.append(text.slice(from, match.index), el('span', { class: 'odd' }, name(match[0])));
    from = match.index + match[0].length;
  }
  whole.append(text.slice(from));
  return whole;
}

/** An element; strings among the children are text. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'click') made.addEventListener('click', value);
    else if (value === true) made.setAttribute(key, '');
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** Puts a text there if it is another one. */
export function put(where, text) {
  if (where.textContent !== text) where.textContent = text;
}

/** Hides or shows. */
export function show(what, isShown) {
  if (what.hidden === isShown) what.hidden = !isShown;
}

/** What the receiver said: its status, and its words as nodes. */
export function answer(said) {
  const words = [...said.errors, ...(said.detail ? [said.detail] : []), ...said.warnings.map((w) => `warning: ${w}`)];
  const parts = [];
  if (said.status) parts.push(el('span', { class: 'code' }, `HTTP ${said.status}`));
  words.forEach((word) => {
    if (parts.length > 0) parts.push(parts.length === 1 && said.status ? ': ' : '; ');
    parts.push(visible(word));
  });
  return parts.length > 0 ? parts : ['no answer'];
}

/** A number with its name above and a word below. */
export const tile = (label) => {
  const value = el('dd', {});
  const note = el('dd', { class: 'note' });
  return { value, note, root: el('div', { class: 'tile' }, el('dt', {}, label), value, note) };
};

const MARKS = { well: '\u2713', wait: '\u25f7', act: '!', off: '\u2013' };
const TONES = { well: 'Well', wait: 'Waits', act: 'Needs you', off: 'Off' };

/** Writes a sentence into its box, and leaves it alone if it says the same. */
export function sentence(box, said) {
  const when = [];
  if (said.since_ms) when.push(`since ${time(said.since_ms, false)} (${span(now() - said.since_ms)})`);
  if (said.until_ms) when.push(said.until_ms > now() + 500 ? `next try in ${span(said.until_ms - now())}` : 'a try is under way');
  const key = JSON.stringify([said.tone, said.text, said.todo]);
  if (box.dataset.key !== key) {
    box.dataset.key = key;
    box.replaceChildren(
      el('p', {}, el('b', {}, el('span', { 'aria-hidden': 'true' }, `${MARKS[said.tone]} `), el('span', { class: 'unseen' }, `${TONES[said.tone]}: `), visible(said.text)), ' '),
      said.todo ? el('p', {}, visible(said.todo)) : '', el('p', { class: 'when' }));
  }
  const last = box.lastChild;
  put(last, when.join('; '));
  show(last, when.length > 0);
}

/** JSON laid out over lines, digit for digit as it is. */
export function laidOut(json) {
  let out = '';
  let depth = 0;
  let isOpen = false;
  const line = () => `\n${'  '.repeat(Math.min(depth, 40))}`;
  for (const [token] of json.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s"{}[\],:]+/gsu)) {
    const closes = token === '}' || token === ']';
    if (closes) depth -= 1;
    if (closes !== isOpen) out += closes || isOpen ? line() : '';
    isOpen = token === '{' || token === '[';
    out += token;
    if (isOpen) depth += 1;
    else if (token === ',') out += line();
    else if (token === ':') out += ' ';
  }
  return out;
}
