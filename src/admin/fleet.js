// A fleet: its books, and its partitions, those first that a person may want to look at.
import { el, put, show, number, many, span, time, now, visible, plain, sentence, tile } from './text.js';

/** What a row says of a partition, in the order of the columns. */
const COLUMNS = [
  ['Worker', (one, owned) => (owned && one.owner ? visible(one.owner) : '\u2013')],
  ['Pending', (one) => number(one.pending)],
  ['Oldest', (one) => (one.oldest_ms ? span(now() - one.oldest_ms) : '\u2013')],
  ['Stored', (one) => number(one.stored)],
  ['Delivered', (one) => number(one.delivered)],
  ['Dead', (one) => number(one.dead)],
  ['Expired', (one) => number(one.expired), (books) => books.expired > 0],
  ['Lost', (one) => number(one.lost), (books) => books.lost > 0],
];

export class Fleet {
  constructor(root) {
    this.root = root;
    this.where = el('p', { class: 'quiet grow' });
    this.says = el('div', { class: 'says' });
    this.tiles = Object.fromEntries([['pending', 'Pending'], ['oldest', 'Oldest'], ['workers', 'Workers'], ['dead', 'Dead letters']].map(([key, label]) => [key, tile(label)]));
    this.books = el('div', { class: 'box' });
    this.first = el('div', {});
    this.others = el('div', {});
    this.more = el('summary', {});
    this.rest = el('details', { class: 'rest' }, this.more, this.others);
    this.known = el('div', {}, el('dl', { class: 'tiles part' }, Object.values(this.tiles).map((one) => one.root)),
      el('div', { class: 'part' }, this.books), this.first, this.rest);
    root.replaceChildren(el('div', { class: 'head' }, el('h2', { id: 'fleet-title', tabindex: '-1' }, 'Fleet'), this.where), this.says, this.known);
  }

  /** Shows what is known; gives what it says, in words. */
  see(view) {
    this.view = view;
    const { books } = view;
    put(this.where, `${plain(view.stream)} at ${plain(view.servers)}`);
    this.say();
    show(this.known, books !== null);
    show(this.root, true);
    if (books !== null) {
      this.number();
      this.balance();
      this.list();
    }
    return view.sentences.map(({ text }) => text).join(' ');
  }

  /** The sentences, and how old the books are that are shown. */
  say() {
    const { sentences, read_ms: readMs, unread_since_ms: unreadMs, books } = this.view;
    const past = unreadMs !== null && books !== null;
    const lines = past ? [...sentences, { tone: 'off', text: `Below are the last known books, of ${time(readMs)}.`, todo: null }] : sentences;
    while (this.says.children.length > lines.length) this.says.lastChild.remove();
    lines.forEach((said, n) => {
      const box = this.says.children[n] ?? this.says.appendChild(el('div', { class: 'say' }));
      box.dataset.tone = said.tone;
      sentence(box, said);
    });
  }

  /** Ages go on between two looks, but not those of books that were read long ago. */
  tick() {
    if (!this.view) return;
    this.say();
    if (this.view.books !== null && this.view.unread_since_ms === null) this.number();
  }

  number() {
    const { books, workers, unowned, read_ms: readMs, unread_since_ms: unreadMs } = this.view;
    const { pending, oldest, workers: crew, dead } = this.tiles;
    const at = unreadMs === null ? now() : readMs;
    put(pending.value, number(books.pending));
    put(pending.note, `of ${many(books.stored, 'event')} ever stored`);
    put(oldest.value, books.oldest_ms ? span(at - books.oldest_ms) : '\u2013');
    put(oldest.note, books.oldest_ms ? `from ${time(books.oldest_ms)}` : 'nothing waits');
    put(crew.value, number(workers));
    put(crew.note, unowned.length > 0 ? `${many(unowned.length, 'partition')} without one` : `all of ${many(books.partitions.length, 'partition')}`);
    put(dead.value, number(books.letters));
    put(dead.note, books.letters > 0 ? 'see everpost fleet dead' : '');
  }

  /** The books as an equation. */
  balance() {
    const { books } = this.view;
    const term = (n, what) => el('span', { class: n === 0 ? 'term zero' : 'term' }, el('b', {}, number(n)), ` ${what}`);
    const right = [term(books.delivered, 'delivered'), term(books.dead, 'dead')];
    if (books.expired > 0) right.push(term(books.expired, 'expired'));
    if (books.lost > 0) right.push(term(books.lost, 'lost'));
    right.push(term(books.pending, 'pending'));
    this.books.replaceChildren(el('p', { class: 'books' }, term(books.stored, 'stored'), '=', right.flatMap((one, n) => (n ? ['+', one] : [one])),
      el('span', { class: books.balanced ? 'sum' : 'sum wrong' }, books.balanced ? '\u2713 balances with the stream' : 'does not balance with the stream')));
  }

  /** What waits or is in trouble stands first, the most first; what is well is folded. */
  list() {
    const { books, unowned } = this.view;
    const without = new Set(unowned);
    const isOdd = (one) => !one.balanced || one.fault !== null || (one.pending > 0 && without.has(one.partition));
    const isFirst = (one) => isOdd(one) || one.pending > 0;
    const first = books.partitions.filter(isFirst).sort((a, b) => isOdd(b) - isOdd(a) || b.pending - a.pending || a.partition - b.partition);
    const rest = books.partitions.filter((one) => !isFirst(one));
    const rows = (list) => table(books, list, without, isOdd);
    this.first.replaceChildren(first.length > 0 ? rows(first) : '');
    put(this.more, first.length > 0 ? `${many(rest.length, 'more partition')}, where nothing waits` : `${many(rest.length, 'partition')}, where nothing waits`);
    this.others.replaceChildren(rest.length > 0 ? rows(rest) : '');
    show(this.rest, rest.length > 0);
  }
}

function table(books, list, without, isOdd) {
  const columns = COLUMNS.filter(([, , isWanted]) => isWanted === undefined || isWanted(books));
  const head = ['Partition', ...columns.map(([label]) => label)].map((label) => el('th', { scope: 'col' }, label));
  const rows = list.flatMap((one) => {
    const cells = columns.map(([label, content]) => el('td', { 'data-label': label }, content(one, !without.has(one.partition))));
    const row = el('tr', { 'data-tone': isOdd(one) ? 'act' : null }, el('th', { scope: 'row' }, el('span', { class: 'unseen' }, 'Partition '), number(one.partition)), cells);
    const why = one.fault ?? (one.balanced ? null : 'Its books differ from what the stream holds.');
    return why === null ? [row] : [row, el('tr', { 'data-tone': 'act', class: 'why' }, el('td', { colspan: columns.length + 1 }, visible(why)))];
  });
  return el('table', { class: 'partitions part' }, el('thead', {}, el('tr', {}, head)), el('tbody', {}, rows));
}
