// The page: what the channels do, live, and what a person may do about it.
import { el, put, show, number, many, rate, bytes, span, ago, time, now, setClock, answer, visible, plain, sentence, tile } from './text.js';
import { Chart, spark } from './charts.js';
import { Letters } from './letters.js';
import { Fleet } from './fleet.js';

const at = (id) => document.getElementById(id);
const KEPT = 'everpost-admin-token';
const HOURS = 6 * 3600 * 1000;

const state = {
  access: { may_act: false, by: 'nothing', has_token: false },
  sample: false,
  channels: new Map(),
  points: new Map(),
  detail: undefined,
  fleet: undefined,
  fleetWords: undefined,
};

// -- Asking ------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, body) {
    super(body.error ?? body.reason ?? `HTTP ${status}`);
    this.status = status;
    this.hint = body.hint ?? '';
    this.kind = body.kind ?? '';
  }
}

async function ask(path, { method = 'GET', body, signal, asText = false, token = sessionStorage.getItem(KEPT) } = {}) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const sent = typeof body === 'string' ? body : JSON.stringify(body);
  const response = await fetch(path, { method, headers, signal, cache: 'no-store', body: body === undefined ? undefined : sent });
  const text = await response.text();
  if (!response.ok) {
    let said = {};
    try { said = JSON.parse(text); } catch { /* Not from the service itself. */ }
    throw new Refused(response.status, said);
  }
  if (asText) return text;
  if ((response.headers.get('Content-Type') ?? '').includes('ndjson')) return text.split('\n').filter(Boolean).map((line) => JSON.parse(line));
  return text ? JSON.parse(text) : undefined;
}

// -- Telling -----------------------------------------------------------------------------------

function tell(tone, text, hint) {
  const close = () => toast.remove();
  const toast = el('div', { class: 'toast', 'data-tone': tone },
    el('div', { class: 'grow' }, el('p', {}, visible(text)), hint ? el('p', {}, visible(hint)) : null),
    el('button', { type: 'button', class: 'small', 'aria-label': 'Close this message', click: close }, '\u00d7'));
  at('toasts').append(toast);
  while (at('toasts').children.length > 4) at('toasts').firstChild.remove();
  setTimeout(close, tone === 'act' ? 20000 : 6000);
}

function fail(error) {
  if (error instanceof Refused) {
    if (error.kind === 'wrong_token') forget();
    tell('act', `${error.message}.`, error.hint);
  } else {
    tell('act', 'The service does not answer.', 'See whether it runs. This page goes on by itself once it does.');
  }
}

/** Asks before what cannot be taken back, or concerns many. */
function sure(title, text, label, isDanger) {
  const dialog = at('ask');
  put(at('ask-title'), title);
  put(at('ask-text'), text);
  put(at('ask-yes'), label);
  at('ask-yes').classList.toggle('danger', Boolean(isDanger));
  return new Promise((resolve) => {
    const done = (is) => () => { dialog.close(); resolve(is); };
    at('ask-yes').onclick = done(true);
    at('ask-no').onclick = done(false);
    dialog.oncancel = () => resolve(false);
    dialog.showModal();
    at('ask-no').focus();
  });
}

// -- Where we are ------------------------------------------------------------------------------

const href = (query) => {
  const wanted = Object.entries(query).filter(([, value]) => value !== undefined && value !== '');
  return wanted.length > 0 ? `?${new URLSearchParams(wanted)}` : '?';
};

function go(query) {
  history.pushState(null, '', typeof query === 'string' ? query : href(query));
  route();
}

document.addEventListener('click', (event) => {
  const link = event.target.closest?.('a[data-go]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  go(link.getAttribute('href'));
});
window.addEventListener('popstate', () => route());

const page = { ask, tell, fail, sure, go, href, mayAct: () => state.access.may_act };

/** Builds what the address names. */
function route() {
  const query = new URLSearchParams(location.search);
  const names = [...state.channels.keys()];
  if (names.length === 0) return;
  const wanted = query.get('channel') ?? (names.length === 1 ? names[0] : null);
  if (wanted !== null && state.channels.has(wanted)) {
    if (state.detail?.name !== wanted) {
      state.detail = new Detail(wanted);
      at('main').replaceChildren(state.detail.root);
      loadHistory(wanted);
      if (names.length > 1) state.detail.title.focus({ preventScroll: true });
    }
    document.title = `${plain(wanted)} \u2013 everpost`;
    state.detail.letters.read(query);
    state.detail.see(state.channels.get(wanted));
  } else {
    state.detail = undefined;
    document.title = 'everpost';
    overview();
    names.forEach(loadHistory);
  }
}

// -- All channels ------------------------------------------------------------------------------

const cards = new Map();
let tally;

function overview() {
  cards.clear();
  const title = el('h1', { tabindex: '-1' }, 'Channels');
  const list = el('div', { class: 'cards' });
  for (const name of state.channels.keys()) {
    const card = new Card(name);
    cards.set(name, card);
    list.append(card.root);
  }
  const missing = new URLSearchParams(location.search).get('channel');
  tally = el('p', { class: 'quiet' });
  at('main').replaceChildren(title, tally, missing === null ? '' : el('p', { class: 'quiet' }, 'There is no channel ', visible(missing), ' here.'), list);
  seeCards();
}

/** All of them, and how many are how. */
function seeCards() {
  const counts = { act: 0, wait: 0, off: 0, well: 0 };
  for (const [name, card] of cards) {
    const view = state.channels.get(name);
    card.see(view);
    counts[view.sentences[0].tone] += 1;
  }
  const words = { act: ['needs you', 'need you'], wait: ['waits', 'wait'], off: ['is off', 'are off'], well: ['is well', 'are well'] };
  const parts = Object.entries(counts).filter(([, n]) => n > 0).map(([tone, n]) => `${number(n)} ${words[tone][n === 1 ? 0 : 1]}`);
  put(tally, `Of ${many(cards.size, 'channel')}: ${parts.join(', ')}.`);
}

class Card {
  constructor(name) {
    this.name = name;
    this.says = el('div', { class: 'say' });
    this.pending = tile('Pending');
    this.dead = tile('Dead letters');
    this.out = tile('Out');
    this.spark = el('div', { class: 'spark' });
    this.root = el('article', { class: 'box card' },
      el('h2', {}, el('a', { href: href({ channel: name }), 'data-go': true }, visible(name))), this.says, this.spark,
      el('dl', { class: 'tiles' }, this.pending.root, this.dead.root, this.out.root));
  }

  see(view) {
    const [first] = view.sentences;
    this.root.dataset.tone = first.tone;
    this.says.dataset.tone = first.tone;
    sentence(this.says, first);
    put(this.pending.value, number(view.pending));
    put(this.pending.note, view.oldest_ms ? `oldest ${span(now() - view.oldest_ms)}` : '');
    put(this.dead.value, number(view.dead_letters));
    put(this.out.value, rate(view.rates.out));
    put(this.out.note, `in ${rate(view.rates.in)}`);
    this.draw();
  }

  draw() {
    spark(this.spark, state.points.get(this.name) ?? [], 'pending');
  }
}

// -- One channel -------------------------------------------------------------------------------

class Detail {
  constructor(name) {
    this.name = name;
    this.path = `api/channels/${encodeURIComponent(name)}`;
    this.letters = new Letters(page, name);
    this.build();
  }

  build() {
    const act = (label, path, done, more = '') => el('button', { type: 'button', class: more, click: () => this.act(path, done) }, label);
    this.title = el('h1', { tabindex: '-1' }, visible(this.name));
    this.where = el('p', { class: 'quiet grow' });
    this.says = el('div', { class: 'says' });
    this.pause = act('Pause', 'pause', 'Delivery is paused until it is resumed, also across restarts.');
    this.resume = act('Resume', 'resume', 'Delivery goes on.', 'strong');
    this.wake = act('Try now', 'wake', 'It is tried now.');
    this.sample = el('button', { type: 'button', click: () => this.append(true) }, 'Send a sample');
    this.badSample = el('button', { type: 'button', click: () => this.append(false) }, 'Send one that is refused');
    this.why = el('span', { class: 'quiet' });
    this.tiles = Object.fromEntries([['pending', 'Pending'], ['oldest', 'Oldest'], ['in', 'In, last minute'], ['out', 'Out, last minute'], ['dead', 'Dead letters'], ['disk', 'Disk']]
      .map(([key, label]) => [key, tile(label)]));
    this.meter = el('meter', { min: '0', max: '1', low: '0.7', high: '0.9', optimum: '0', 'aria-label': 'Disk used of what is allowed' });
    this.tiles.disk.note.before(el('dd', {}, this.meter));
    this.charts = [
      new Chart('Pending', [{ key: 'pending', look: 'a', label: 'events' }], false),
      new Chart('Rates', [{ key: 'in', look: 'a', label: 'in' }, { key: 'out', look: 'b', label: 'out' }], true),
      new Chart('Dead letters', [{ key: 'dead', look: 'c', label: 'letters' }], false),
    ];
    this.books = el('div', { class: 'box' });
    this.incidents = el('div', {});
    this.answers = el('ul', { class: 'plain' });
    const section = (id, title, ...content) => el('section', { 'aria-labelledby': id }, el('h2', { id }, title), ...content);
    this.incidentSection = section('incidents-title', 'Incidents', this.incidents);
    const back = state.channels.size > 1 ? el('p', {}, el('a', { href: '?', 'data-go': true }, 'All channels')) : '';
    this.root = el('div', {}, back, el('div', { class: 'head' }, this.title, this.where), this.says,
      el('div', { class: 'row actions', role: 'group', 'aria-label': 'Delivery' }, this.resume, this.pause, this.wake, this.sample, this.badSample, this.why),
      el('section', { 'aria-label': 'Numbers' }, el('dl', { class: 'tiles' }, Object.values(this.tiles).map(({ root }) => root))),
      this.incidentSection,
      section('charts-title', 'The last six hours', el('div', { class: 'charts' }, this.charts.map(({ figure }) => figure))),
      section('books-title', 'The books', this.books), this.letters.root,
      section('answers-title', 'Last answers', this.answers));
  }

  see(view) {
    put(this.where, view.url ? `delivers to ${plain(view.url)}` : '');
    this.say(view);
    this.number(view);
    this.balance(view);
    this.offer(view);
    this.answered(view);
    this.letters.see(view);
    const news = view.incidents.map(({ number: n }) => n).join();
    show(this.incidentSection, view.incident_count > 0);
    if (news !== this.news) {
      this.news = news;
      if (view.incident_count > 0) this.listIncidents(view);
    }
  }

  say(view) {
    while (this.says.children.length > view.sentences.length) this.says.lastChild.remove();
    view.sentences.forEach((said, n) => {
      const box = this.says.children[n] ?? this.says.appendChild(el('div', { class: 'say' }));
      box.dataset.tone = said.tone;
      sentence(box, said);
    });
  }

  number(view) {
    const { pending, oldest, in: came, out, dead, disk } = this.tiles;
    put(pending.value, number(view.pending));
    const left = view.pending > 0 && view.rates.out > 0.1 ? `about ${span((view.pending / view.rates.out) * 1000)} at this rate` : '';
    put(pending.note, left);
    put(oldest.value, view.oldest_ms ? span(now() - view.oldest_ms) : '\u2013');
    put(oldest.note, view.oldest_ms ? `from ${time(view.oldest_ms)}` : 'nothing waits');
    put(came.value, rate(view.rates.in));
    put(came.note, `${many(view.ledger.appended, 'event')} in all`);
    put(out.value, rate(view.rates.out));
    put(out.note, `${many(view.requests, 'request')} since the start`);
    put(dead.value, number(view.dead_letters));
    put(dead.note, view.dead_letters > 0 ? 'see below' : '');
    put(disk.value, bytes(view.disk_bytes));
    put(disk.note, `of ${bytes(view.max_bytes)}`);
    this.meter.value = view.disk_bytes / Math.max(1, view.max_bytes);
  }

  /** The books as equations: that of the events, and that of the dead letters if there were any. */
  balance(view) {
    const { ledger, letters } = view;
    const key = JSON.stringify([ledger, letters, view.adds_up, view.pending]);
    if (this.balanced === key) return;
    this.balanced = key;
    const term = (n, what) => el('span', { class: n === 0 ? 'term zero' : 'term' }, el('b', {}, number(n)), ` ${what}`);
    const line = (left, right, isRight, more) => el('p', { class: 'books' }, left.flatMap((t, n) => (n ? ['+', t] : [t])), '=',
      right.flatMap((t, n) => (n ? ['+', t] : [t])), el('span', { class: isRight ? 'sum' : 'sum wrong' }, isRight ? '\u2713 adds up' : more));
    const sum = ledger.delivered + ledger.dead + ledger.expired + ledger.evicted + ledger.lost + view.pending;
    const lines = [line([term(ledger.appended, 'appended')],
      [term(ledger.delivered, 'delivered'), term(ledger.dead, 'dead'), term(ledger.expired, 'expired'), term(ledger.evicted, 'dropped'), term(ledger.lost, 'lost'), term(view.pending, 'pending')],
      view.adds_up && sum === ledger.appended, `does not add up: ${number(sum)}. Please report it, with the output of everpost doctor.`)];
    const buried = ledger.dead + ledger.expired;
    if (buried > 0) {
      const out = [term(letters.held, 'held'), term(letters.retried, 'retried'), term(letters.discarded, 'discarded')];
      if (letters.lost) out.push(term(letters.lost, 'lost'));
      if (letters.earlier) out.push(term(letters.earlier, 'from before'));
      const back = letters.returned ? [term(buried, 'set aside'), term(letters.returned, 'returned')] : [term(buried, 'set aside')];
      const right = letters.held + letters.retried + letters.discarded + letters.lost + letters.earlier;
      lines.push(line(back, out, buried + letters.returned === right, `differ: ${number(right)}. An incident says why.`));
    }
    this.books.replaceChildren(...lines);
  }

  offer(view) {
    const mayAct = page.mayAct();
    const isPaused = view.state === 'paused';
    const isOff = ['absent', 'closed', 'failed'].includes(view.state);
    show(this.resume, isPaused);
    show(this.pause, !isPaused || view.sentences.every(({ kind }) => kind !== 'paused'));
    show(this.sample, state.sample);
    show(this.badSample, state.sample && this.name === 'universal');
    for (const button of [this.pause, this.resume, this.wake]) button.disabled = !mayAct || isOff;
    for (const button of [this.sample, this.badSample]) button.disabled = !mayAct;
    put(this.why, mayAct ? '' : state.access.has_token ? 'Enter the token to act.' : 'Read-only: the service was started without --admin-token.');
    show(this.why, !mayAct);
  }

  answered(view) {
    const key = JSON.stringify(view.answers);
    const minute = Math.floor(now() / 15000);
    if (this.answeredKey === key && this.answeredAt === minute) return;
    [this.answeredKey, this.answeredAt] = [key, minute];
    const rows = view.answers.toReversed().map((said) => el('li', {},
      el('span', { class: 'when' }, ago(said.at_ms)), el('span', { class: 'what' }, answer(said.answer)),
      said.times > 1 ? el('span', { class: 'quiet' }, `${number(said.times)} times`) : '',
      said.answer.request_id ? el('span', { class: 'quiet mono' }, visible(said.answer.request_id)) : ''));
    this.answers.replaceChildren(...(rows.length > 0 ? rows : [el('li', { class: 'quiet' }, 'Nothing was sent yet.')]));
  }

  listIncidents(view) {
    const acknowledge = (n) => async () => {
      const all = n === undefined;
      try {
        const { acknowledged } = await ask(`${this.path}/control/incidents/${all ? '' : `${n}/`}acknowledge`, { method: 'POST' });
        tell('well', `${many(acknowledged, 'incident')} acknowledged.`);
        this.title.focus();
      } catch (error) { fail(error); }
    };
    const button = (label, n) => el('button', { type: 'button', class: 'small', disabled: !page.mayAct(), click: acknowledge(n) }, label);
    const rows = view.incidents.map((incident) => el('li', {}, el('span', { class: 'when' }, time(incident.time_ms)),
      el('span', { class: 'what' }, visible(incident.what), ' ', el('span', { class: 'mono quiet' }, visible(incident.place))), button(`Acknowledge ${incident.number}`, incident.number)));
    const more = view.incident_count - rows.length;
    this.incidents.replaceChildren(el('ul', { class: 'plain' }, rows),
      more > 0 ? el('p', { class: 'quiet' }, `${number(more)} more are on record.`) : '',
      view.incident_count > 1 ? el('div', { class: 'row actions' }, button(`Acknowledge all ${number(view.incident_count)}`)) : '');
  }

  async act(path, done) {
    try {
      await ask(`${this.path}/control/${path}`, { method: 'POST' });
      tell('well', done);
    } catch (error) { fail(error); }
  }

  async append(isGood) {
    const id = crypto.randomUUID?.() ?? `sample-${Date.now()}`;
    const text = isGood ? { text: 'A sample from the page' } : { tex: 'A sample that the API refuses' };
    const event = { id, timestamp: Math.round(now()), content: { texts: [text] } };
    try {
      const [receipt] = await ask(`${this.path}/control/events?form=event`, { method: 'POST', body: event });
      tell('well', `The sample is safe on disk, as number ${number(receipt.seq)}.`);
    } catch (error) { fail(error); }
  }

  draw() {
    const points = state.points.get(this.name) ?? [];
    for (const chart of this.charts) chart.draw(points);
  }
}

// -- News --------------------------------------------------------------------------------------

async function loadHistory(name) {
  try {
    state.points.set(name, await ask(`api/channels/${encodeURIComponent(name)}/history`));
    redraw(name);
  } catch (error) { if (error instanceof Refused) fail(error); }
}

function redraw(name) {
  if (state.detail?.name === name) state.detail.draw();
  if (!state.detail) cards.get(name)?.draw();
}

/** Takes the state of a channel. */
function take(view) {
  const before = state.channels.get(view.name);
  state.channels.set(view.name, view);
  const { point } = view;
  const points = state.points.get(view.name);
  if (points && point && point.at_ms > (points.at(-1)?.at_ms ?? 0)) {
    points.push(point);
    while (points[0].at_ms < point.at_ms - HOURS) points.shift();
    // Live points come more often than those of the past: thinned out as they get old.
    if (points.length > 2000) state.points.set(view.name, points.filter((_, n) => n % 2 === 0));
    redraw(view.name);
  }
  if (state.detail?.name === view.name) state.detail.see(view);
  if (!state.detail && cards.has(view.name)) seeCards();
  const words = ({ sentences }) => sentences.map(({ text }) => text).join(' ');
  if (before && words(before) !== words(view)) put(at('news'), plain(`${view.name}: ${words(view)}`));
  return before === undefined;
}

/** Takes the state of the fleet. */
function takeFleet(view) {
  const before = state.fleetWords;
  state.fleet ??= new Fleet(at('fleet'));
  state.fleetWords = state.fleet.see(view);
  if (before !== undefined && before !== state.fleetWords) put(at('news'), plain(`Fleet: ${state.fleetWords}`));
}

let source;

function live(how, words) {
  at('live').dataset.live = how;
  put(at('live'), words);
}

function listen() {
  source?.close();
  source = new EventSource('api/live');
  source.addEventListener('open', () => live('on', 'live'));
  source.addEventListener('channel', (event) => { if (take(JSON.parse(event.data))) route(); });
  source.addEventListener('fleet', (event) => takeFleet(JSON.parse(event.data)));
  source.addEventListener('log', () => loadLog());
  source.addEventListener('error', () => {
    if (source.readyState !== EventSource.CLOSED) {
      // It is taken up again by itself; a moment of silence is not worth a word.
      setTimeout(() => { if (source && source.readyState === EventSource.CONNECTING) live('lost', 'no connection'); }, 3000);
      return;
    }
    live('lost', 'no connection');
    setTimeout(() => { if (!document.hidden) start(); }, 3000);
  });
}

// A tab that is not seen asks for nothing.
document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    source?.close();
    source = undefined;
    live('off', 'at rest');
  } else start();
});

const LOG_SHORT = 10;
let isLogLong = false;

async function loadLog() {
  try {
    const entries = await ask('api/log');
    show(at('log-section'), true);
    const about = (entry) => {
      const parts = [entry.what];
      if (entry.number_of !== null) parts.push(`(${number(entry.number_of)})`);
      if (entry.count !== null) parts.push(`(${number(entry.count)})`);
      return parts.join(' ');
    };
    const most = isLogLong ? entries.length : LOG_SHORT;
    const rows = entries.slice(0, most).map((entry) => el('li', {}, el('span', { class: 'when' }, time(entry.at_ms)),
      el('span', { class: 'what' }, `${about(entry)}, `, visible(entry.channel), entry.outcome === 'done' || entry.outcome === 'begun' ? '' : [': ', visible(entry.outcome)]),
      el('span', { class: 'quiet' }, entry.by === 'socket' ? 'on the Unix socket' : `from ${entry.from} by ${entry.by}`)));
    const all = () => { isLogLong = true; loadLog(); at('log-title').focus(); };
    const more = entries.length > most ? el('div', { class: 'row actions' }, el('button', { type: 'button', class: 'small', click: all }, `Show all ${number(entries.length)}`)) : '';
    at('log').replaceChildren(rows.length > 0 ? el('ul', { class: 'plain' }, rows) : el('p', { class: 'box quiet' }, 'Nothing was done on this page since the service was started.'), more);
  } catch (error) { if (error instanceof Refused) fail(error); }
}

// -- Rights ------------------------------------------------------------------------------------

function forget() {
  sessionStorage.removeItem(KEPT);
  state.access = { ...state.access, may_act: false, by: 'nothing' };
  paintAccess();
}

function paintAccess() {
  const { access } = state;
  put(at('right'), access.may_act ? (access.by === 'socket' ? 'you may act (socket)' : 'you may act') : 'read-only');
  const button = at('token');
  show(button, access.by !== 'socket' && (access.has_token || access.may_act));
  put(button, access.may_act ? 'Forget the token' : 'Enter the token');
  if (state.detail) {
    const view = state.channels.get(state.detail.name);
    state.detail.see(view);
    state.detail.listIncidents(view);
  }
}

at('token').addEventListener('click', () => {
  if (state.access.may_act) {
    forget();
    tell('well', 'The token is forgotten in this tab.');
    return;
  }
  put(at('token-error'), '');
  at('token-dialog').showModal();
  at('token-input').focus();
});
at('token-no').addEventListener('click', () => at('token-dialog').close());
at('token-dialog').addEventListener('close', () => { at('token-input').value = ''; });
at('token-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const token = at('token-input').value.trim();
  try {
    const { access } = await ask('api/channels', { token });
    sessionStorage.setItem(KEPT, token);
    state.access = access;
    at('token-dialog').close();
    paintAccess();
    at('token').focus();
  } catch (error) {
    put(at('token-error'), error instanceof Refused ? `${plain(error.message)}: ${plain(error.hint)}.` : 'The service does not answer.');
  }
});
at('letter-close').addEventListener('click', () => at('letter').close());
at('letter').addEventListener('close', () => at('letter-body').replaceChildren());

// -- The beginning -----------------------------------------------------------------------------

async function start() {
  try {
    const all = await ask('api/channels').catch((error) => {
      if (!(error instanceof Refused) || error.kind !== 'wrong_token') throw error;
      sessionStorage.removeItem(KEPT);
      return ask('api/channels');
    });
    setClock(all.now_ms);
    state.access = all.access;
    state.sample = all.sample;
    for (const view of all.channels) take(view);
    if (all.fleet) takeFleet(all.fleet);
    put(at('foot'), `everpost ${all.version}`);
    route();
    if (state.detail) loadHistory(state.detail.name);
    paintAccess();
    loadLog();
    if (!document.hidden) listen();
    if (all.channels.length === 0) put(at('waiting'), 'There is no channel yet.');
  } catch (error) {
    live('lost', 'no connection');
    if (error instanceof Refused) fail(error);
    setTimeout(() => { if (!document.hidden) start(); }, 3000);
  }
}

// Ages and waits go on between two pieces of news.
setInterval(() => {
  if (document.hidden || state.channels.size === 0) return;
  state.fleet?.tick();
  if (state.detail) {
    const view = state.channels.get(state.detail.name);
    state.detail.say(view);
    state.detail.number(view);
    state.detail.answered(view);
  } else if (cards.size > 0) seeCards();
}, 1000);

start();
