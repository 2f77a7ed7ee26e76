// Dead letters of one channel: filtered, grouped, listed, opened, retried, discarded, downloaded.
import { el, put, show, number, many, bytes, span, ago, time, now, answer, visible, laidOut, plain } from './text.js';

const PAGE = 50;
// Counted anew by itself after a change up to here; beyond, when asked.
const SMALL = 5000;
const SHOWN_MAX = 100000;
const CAUSES = { refused: 'refused', too_large: 'too large', expired: 'too old' };
const NAMES = ['q', 'in', 'cause', 'status', 'group'];

export class Letters {
  /** `page` asks, tells and goes; see page.js. */
  constructor(page, channel) {
    this.page = page;
    this.channel = channel;
    this.path = `api/channels/${encodeURIComponent(channel)}`;
    this.filter = {};
    this.after = 0;
    this.held = -1;
    this.build();
  }

  build() {
    const field = (label, input, more = '') => el('div', { class: more }, el('label', { for: input.id }, label), input);
    const select = (id, options) => el('select', { id }, Object.entries(options).map(([value, text]) => el('option', { value }, text)));
    this.inputs = {
      q: el('input', { id: 'filter-q', type: 'search', maxlength: '200', autocomplete: 'off', spellcheck: 'false' }),
      in: select('filter-in', { answers: 'answers and ids', content: 'events', both: 'both' }),
      cause: select('filter-cause', { '': 'any', ...CAUSES }),
      status: el('input', { id: 'filter-status', inputmode: 'numeric', pattern: '[0-9]{1,3}', placeholder: 'any', autocomplete: 'off' }),
    };
    const { inputs } = this;
    this.form = el('form', { class: 'filter', 'aria-label': 'Filter of dead letters' },
      field('Search for', inputs.q, 'wide-field'), field('in', inputs.in), field('Cause', inputs.cause), field('HTTP status', inputs.status),
      el('div', { class: 'row' }, el('button', { type: 'submit' }, 'Filter')));
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.go({ ...this.filter, q: inputs.q.value.trim(), in: inputs.in.value, cause: inputs.cause.value, status: inputs.status.value.trim() });
    });
    this.form.addEventListener('change', (event) => {
      if (event.target.tagName === 'SELECT' && (event.target.id !== 'filter-in' || inputs.q.value)) this.form.requestSubmit();
    });
    this.counted = el('span', {});
    this.progress = el('progress', { max: '1', value: '0', 'aria-label': 'Letters counted' });
    this.again = el('button', { type: 'button', class: 'small', click: () => this.refresh() }, 'Count again');
    this.chip = el('span', { class: 'chip' });
    this.clear = el('button', { type: 'button', class: 'small', click: () => this.go({}) }, 'Show all');
    this.retryAll = el('button', { type: 'button', click: () => this.all('retry') }, 'Retry');
    this.discardAll = el('button', { type: 'button', class: 'danger', click: () => this.all('discard') }, 'Discard');
    this.download = el('button', { type: 'button', click: () => this.save() }, 'Download as JSON lines');
    this.jobText = el('span', { class: 'grow' });
    this.jobBar = el('progress', { max: '1', value: '0', 'aria-label': 'Letters done' });
    this.jobStop = el('button', { type: 'button', class: 'small', click: () => this.stop() }, 'Stop');
    this.job = el('div', { class: 'job row', hidden: true }, this.jobText, this.jobBar, this.jobStop);
    this.groups = el('ul', { class: 'groups', 'aria-label': 'Groups of dead letters that were answered alike' });
    this.more = el('p', { class: 'quiet' });
    this.list = el('ul', { class: 'list', 'aria-label': 'Dead letters' });
    this.listTitle = el('h3', { tabindex: '-1' }, 'One by one');
    this.where = el('span', { class: 'quiet grow' });
    this.first = el('button', { type: 'button', class: 'small', click: () => this.turn(0) }, 'First');
    this.next = el('button', { type: 'button', class: 'small', click: () => this.turn(this.nextAfter) }, 'Next');
    this.none = el('p', { class: 'box quiet' }, 'No event was set aside.');
    this.some = el('div', {}, this.job, this.form,
      el('div', { class: 'chosen' }, this.chip, this.counted, this.progress, this.again, this.clear),
      el('div', { class: 'row actions' }, this.retryAll, this.discardAll, this.download),
      el('div', { class: 'part' }, el('div', { class: 'section-head' }, el('h3', {}, 'Grouped by answer')), this.groups, this.more),
      el('div', { class: 'part' }, el('div', { class: 'section-head' }, this.listTitle, this.where, this.first, this.next), this.list));
    this.root = el('section', { 'aria-labelledby': 'letters-title' },
      el('h2', { id: 'letters-title' }, 'Dead letters'), this.none, this.some);
  }

  /** Takes the filter from the address of the page. */
  read(query) {
    const filter = {};
    for (const name of NAMES) if (query.get(name)) filter[name] = query.get(name);
    const after = Number(query.get('after')) || 0;
    const isOther = JSON.stringify(filter) !== JSON.stringify(this.filter);
    const isFirst = this.held < 0;
    this.filter = filter;
    this.inputs.q.value = filter.q ?? '';
    this.inputs.in.value = filter.in ?? 'answers';
    this.inputs.cause.value = filter.cause ?? '';
    this.inputs.status.value = filter.status ?? '';
    if (isOther || isFirst) {
      this.after = after;
      if (!isFirst) this.refresh();
    } else if (after !== this.after) {
      this.after = after;
      this.fetchList();
    }
  }

  go(filter) {
    const query = { channel: this.channel };
    for (const name of NAMES) if (filter[name] && !(name === 'in' && (filter[name] === 'answers' || !filter.q))) query[name] = filter[name];
    this.page.go(query);
  }

  turn(after) {
    this.page.go({ channel: this.channel, ...this.filter, ...(after > 0 ? { after } : {}) });
    this.listTitle.focus();
  }

  isFiltered() {
    return Object.keys(this.filter).length > 0;
  }

  /** What the server takes: all of it strings, but the status. */
  wire() {
    const { status, ...rest } = this.filter;
    return status === undefined ? rest : { ...rest, status: Number(status) };
  }

  /** Takes the state of the channel. */
  see(view) {
    const job = view.job;
    this.isRunning = Boolean(job?.is_running);
    show(this.job, this.isRunning);
    if (this.isRunning) {
      put(this.jobText, `${job.action === 'retry' ? 'Retrying' : 'Discarding'}: ${number(job.done + job.gone)} of ${number(job.of)}`);
      this.jobBar.value = (job.done + job.gone) / Math.max(1, job.of);
    }
    // One that had ended before this page was there is no news.
    this.toldJob ??= job && !this.isRunning ? job.number : 0;
    if (job && !this.isRunning && job.number !== this.toldJob) {
      this.toldJob = job.number;
      this.ended(job);
    }
    show(this.none, view.dead_letters === 0 && !this.isRunning);
    show(this.some, view.dead_letters > 0 || this.isRunning);
    const before = this.held;
    this.held = view.dead_letters;
    if (before < 0 ? this.held > 0 : before !== this.held) {
      this.isStale = true;
      if (before <= 0 || (this.held <= SMALL && !this.isRunning)) this.soon();
    }
    this.paint();
  }

  ended(job) {
    const what = `${many(job.done, 'dead letter')} ${job.action === 'retry' ? 'appended again' : 'discarded'}`;
    if (job.error) this.page.tell('act', `${what} of ${number(job.of)}; then it ended: ${job.error}`);
    else this.page.tell('well', `${what}.`);
    this.refresh();
  }

  /** Counts and lists anew, when no other change comes for a moment. */
  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), this.counting === undefined && this.survey === undefined ? 0 : 1000);
  }

  refresh() {
    clearTimeout(this.timer);
    this.count();
    this.fetchList();
  }

  /** Counts slice by slice; what was counted so far is shown. */
  async count() {
    this.counting?.abort();
    const mine = new AbortController();
    this.counting = mine;
    this.isStale = false;
    const survey = { scanned: 0, matched: 0, others: 0, groups: new Map(), upTo: undefined, of: this.held, isDone: false };
    this.survey = survey;
    this.paint();
    try {
      for (let after = 0; after !== null;) {
        if (document.hidden) await new Promise((resolve) => { document.addEventListener('visibilitychange', resolve, { once: true }); });
        const query = new URLSearchParams({ ...this.filter, after, ...(survey.upTo === undefined ? {} : { up_to: survey.upTo }) });
        const slice = await this.page.ask(`${this.path}/letters/survey?${query}`, { signal: mine.signal });
        if (this.counting !== mine) return;
        this.add(survey, slice);
        after = slice.next;
        if (after === null) survey.isDone = true;
        this.paint();
        this.paintGroups();
      }
    } catch (error) {
      if (error.name !== 'AbortError') this.page.fail(error);
    } finally {
      if (this.counting === mine) this.counting = undefined;
      this.paint();
    }
  }

  add(survey, slice) {
    survey.scanned += slice.scanned;
    survey.matched += slice.matched;
    survey.others += slice.others;
    survey.upTo ??= slice.up_to;
    for (const group of slice.groups) {
      const known = survey.groups.get(group.group);
      if (known) {
        known.count += group.count;
        known.bytes += group.bytes;
        known.first_ms = Math.min(known.first_ms, group.first_ms);
        known.last_ms = Math.max(known.last_ms, group.last_ms);
      } else if (survey.groups.size < 500) survey.groups.set(group.group, group);
      else survey.others += group.count;
    }
  }

  paint() {
    const { survey } = this;
    if (!survey) return;
    const what = this.isFiltered() ? `${many(survey.matched, 'letter')} match` + (survey.matched === 1 ? 'es' : '') : many(survey.matched, 'letter');
    if (survey.isDone) put(this.counted, `${what}.`);
    else put(this.counted, `${what} so far: ${number(survey.scanned)} of about ${number(Math.max(survey.of, survey.scanned))} looked at`);
    show(this.progress, !survey.isDone);
    this.progress.value = survey.scanned / Math.max(1, survey.of);
    show(this.again, survey.isDone && Boolean(this.isStale));
    show(this.clear, this.isFiltered());
    show(this.chip, Boolean(this.filter.group));
    const mayAct = this.page.mayAct();
    const n = survey.isDone ? ` ${number(survey.matched)}` : '';
    put(this.retryAll, `Retry${n}`);
    put(this.discardAll, `Discard${n}`);
    put(this.download, `Download${n} as JSON lines`);
    for (const button of [this.retryAll, this.discardAll]) button.disabled = !mayAct || !survey.isDone || survey.matched === 0 || this.isRunning;
    this.download.disabled = !mayAct || survey.matched === 0;
    this.jobStop.disabled = !mayAct;
    for (const option of this.inputs.in.options) option.disabled = option.value !== 'answers' && !mayAct;
    for (const button of this.list.querySelectorAll('button[data-acts]')) button.disabled = !mayAct || this.isRunning;
  }

  paintGroups() {
    const groups = [...this.survey.groups.values()].sort((a, b) => b.count - a.count).slice(0, 50);
    const mark = (group) => group.group === this.filter.group;
    const kept = document.activeElement?.closest?.('.groups a')?.dataset.group;
    this.groups.replaceChildren(...groups.map((group) => {
      const link = el('a', { href: this.page.href({ channel: this.channel, ...this.filter, group: group.group }), 'data-go': true, 'data-group': group.group, 'aria-current': mark(group) && 'true' },
        el('span', { class: 'count' }, number(group.count)),
        el('span', { class: 'what' }, this.words(group)),
        el('span', { class: 'when' }, `${ago(group.last_ms)}${group.last_ms - group.first_ms > 60000 ? `, over ${span(group.last_ms - group.first_ms)}` : ''}`));
      return el('li', {}, link);
    }));
    if (kept) this.groups.querySelector(`[data-group="${CSS.escape(kept)}"]`)?.focus();
    const left = this.survey.groups.size - groups.length;
    put(this.more, [left > 0 ? `${many(left, 'smaller group')} not shown.` : '', this.survey.others > 0 ? `${many(this.survey.others, 'letter')} in more groups than are told apart: filter to see them.` : ''].join(' ').trim());
    show(this.groups, groups.length > 0);
    const chosen = this.survey.groups.get(this.filter.group);
    this.chip.replaceChildren(el('span', {}, chosen ? this.words(chosen) : 'one group'),
      el('button', { type: 'button', 'aria-label': 'Show all groups', click: () => this.go({ ...this.filter, group: undefined }) }, '\u00d7'));
  }

  words(group) {
    const parts = [];
    if (group.cause !== 'refused') parts.push(`${CAUSES[group.cause] ?? group.cause}: `);
    if (group.status) parts.push(el('span', { class: 'code' }, `HTTP ${group.status} `));
    parts.push(group.text ? visible(group.text) : group.status || group.cause !== 'refused' ? '' : 'no answer');
    return parts;
  }

  async fetchList() {
    this.listing?.abort();
    const mine = new AbortController();
    this.listing = mine;
    const rows = [];
    let scanned = 0;
    try {
      let after = this.after;
      do {
        const query = new URLSearchParams({ ...this.filter, after, max: PAGE - rows.length });
        const part = await this.page.ask(`${this.path}/letters?${query}`, { signal: mine.signal });
        if (this.listing !== mine) return;
        rows.push(...part.letters);
        scanned += part.scanned;
        after = part.next;
        this.paintList(rows, after, scanned);
      } while (after !== null && rows.length < PAGE);
    } catch (error) {
      if (error.name !== 'AbortError') this.page.fail(error);
    }
  }

  paintList(rows, next, scanned) {
    this.nextAfter = next ?? 0;
    const had = this.list.contains(document.activeElement) ? document.activeElement.getAttribute('aria-label') : null;
    this.list.replaceChildren(...rows.map((row) => this.row(row)));
    show(this.list, rows.length > 0);
    show(this.first, this.after > 0);
    show(this.next, next !== null && rows.length === PAGE);
    const looking = next !== null && rows.length < PAGE ? `looking: ${number(scanned)} so far` : '';
    put(this.where, rows.length === 0 ? looking || 'None here.' : `${this.after > 0 ? 'from' : 'oldest first, from'} number ${number(rows[0].seq)} ${looking}`);
    this.paint();
    // On the same button of the same letter, if it is there still.
    if (had) (this.list.querySelector(`[aria-label="${CSS.escape(had)}"]:enabled`) ?? this.listTitle).focus();
  }

  row(row) {
    const when = el('time', { class: 'when', datetime: new Date(row.last_attempt_ms).toISOString(), title: new Date(row.last_attempt_ms).toLocaleString() }, ago(row.last_attempt_ms));
    const what = el('div', {}, el('div', { class: 'what' }, row.cause === 'refused' ? '' : `${CAUSES[row.cause] ?? row.cause}: `, answer(row.answer)),
      el('div', { class: 'id' }, `number ${number(row.seq)}, ${bytes(row.bytes)}, `, el('span', { class: 'mono' }, row.id)));
    const named = (label, more, click) => el('button', { type: 'button', class: `small ${more}`, 'aria-label': `${label} letter ${row.seq}`, 'data-acts': label !== 'Open', click }, label);
    return el('li', {}, when, what, el('div', { class: 'row' },
      named('Open', '', () => this.open(row)), named('Retry', '', () => this.one(row, 'retry')), named('Discard', 'danger', () => this.one(row, 'discard'))));
  }

  /** Retries or discards one. */
  async one(row, action) {
    if (action === 'discard' && !(await this.page.sure(`Discard dead letter ${number(row.seq)}?`, 'Its event is gone for ever.', 'Discard', true))) return false;
    const base = `${this.path}/control/dead/${row.seq}`;
    try {
      if (action === 'retry') await this.page.ask(`${base}/retry`, { method: 'POST' });
      else await this.page.ask(base, { method: 'DELETE' });
      this.page.tell('well', action === 'retry' ? `Letter ${number(row.seq)} is appended again: it goes out with the next batch.` : `Letter ${number(row.seq)} is discarded.`);
      this.refresh();
      this.listTitle.focus();
      return true;
    } catch (error) {
      this.page.fail(error);
      return false;
    }
  }

  describe() {
    const { filter } = this;
    const parts = [];
    if (filter.q) parts.push(`\u201c${plain(filter.q)}\u201d in ${{ content: 'the event', both: 'answer or event' }[filter.in] ?? 'the answer'}`);
    if (filter.cause) parts.push(CAUSES[filter.cause] ?? filter.cause);
    if (filter.status) parts.push(filter.status === '0' ? 'without an HTTP status' : `answered with HTTP ${filter.status}`);
    if (filter.group) parts.push('of the chosen group');
    return parts.length > 0 ? `The filter: ${parts.join(', ')}.` : 'Without a filter: all that there are.';
  }

  /** Retries or discards exactly the set that was counted. */
  async all(action) {
    const { matched, upTo } = this.survey;
    const letters = many(matched, 'dead letter');
    const isDiscard = action === 'discard';
    const end = isDiscard ? 'What is discarded is gone for ever.' : 'What is retried goes to the end of the queue, and is sent again.';
    const label = `${isDiscard ? 'Discard' : 'Retry'} ${number(matched)}`;
    if (!(await this.page.sure(`${isDiscard ? 'Discard' : 'Retry'} ${letters} of ${plain(this.channel)}?`, `${this.describe()} ${end}`, label, isDiscard))) return;
    try {
      this.retryAll.disabled = true;
      this.discardAll.disabled = true;
      await this.page.ask(`${this.path}/letters/act`, { method: 'POST', body: { action, filter: this.wire(), up_to: upTo, count: matched } });
      this.listTitle.focus();
    } catch (error) {
      this.page.fail(error);
      this.refresh();
    }
  }

  async stop() {
    try {
      await this.page.ask(`${this.path}/letters/stop`, { method: 'POST' });
    } catch (error) {
      this.page.fail(error);
    }
  }

  /** A ticket first: a download can carry no token, and a file is too large to be held here. */
  async save() {
    try {
      const { path } = await this.page.ask(`${this.path}/letters/ticket`, { method: 'POST', body: this.wire() });
      el('a', { href: path.replace(/^\//, ''), download: true }).click();
    } catch (error) {
      this.page.fail(error);
    }
  }

  /** One letter; its event only when asked for. */
  open(row) {
    const dialog = document.getElementById('letter');
    const title = document.getElementById('letter-title');
    put(title, `Dead letter ${number(row.seq)}`);
    const fact = (name, ...value) => [el('dt', {}, name), el('dd', {}, ...value)];
    const at = (ms) => `${time(ms)} (${ago(ms)})`;
    const event = el('div', {});
    const mayAct = this.page.mayAct();
    const reveal = el('button', { type: 'button', disabled: !mayAct, click: () => this.reveal(row, event, reveal) }, `Show the event (${bytes(row.bytes)})`);
    const acts = (action, label, more) => el('button', {
      type: 'button', class: more, disabled: !mayAct || this.isRunning,
      click: async () => { if (await this.one(row, action)) dialog.close(); },
    }, label);
    document.getElementById('letter-body').replaceChildren(
      el('dl', { class: 'facts' },
        fact('Why', CAUSES[row.cause] ?? row.cause), fact('Answer', answer(row.answer)),
        fact('Request', row.answer.request_id ? visible(row.answer.request_id) : 'without a name'),
        fact('Sent', `${row.attempts === 1 ? 'once' : `${number(row.attempts)} times`}, last at ${at(row.last_attempt_ms)}`),
        fact('Happened', at(row.time_ms)), fact('Id', el('span', { class: 'mono' }, row.id))),
      el('div', { class: 'row actions' }, reveal, acts('retry', 'Retry', ''), acts('discard', 'Discard', 'danger')),
      mayAct ? '' : el('p', { class: 'quiet' }, 'Events are shown, retried and discarded with the token.'), event);
    dialog.showModal();
    title.focus();
  }

  async reveal(row, where, button) {
    try {
      const text = await this.page.ask(`${this.path}/control/dead/${row.seq}`, { asText: true });
      // The event as it is, not as it was read into numbers: it is the last field of its line.
      const json = text.slice(text.indexOf('"event":') + 8, text.lastIndexOf('}'));
      const isLong = json.length > SHOWN_MAX;
      const shown = isLong ? json.slice(0, SHOWN_MAX) : laidOut(json);
      where.replaceChildren(el('pre', { class: 'event', tabindex: '0', 'aria-label': 'The event' }, visible(shown)),
        isLong ? el('p', { class: 'quiet' }, `The first ${number(SHOWN_MAX)} letters of ${number(json.length)}: download it to see all.`) : '');
      button.hidden = true;
      where.firstChild.focus();
    } catch (error) {
      this.page.fail(error);
    }
  }
}
