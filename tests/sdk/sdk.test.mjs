// The official clients against a relay with a channel for each of them.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const { EVERPOST, PYTHON } = process.env;
const place = mkdtempSync(join(tmpdir(), 'everpost-sdk-'));
const children = new Set();
process.on('exit', () => {
  children.forEach((child) => child.kill('SIGKILL'));
  rmSync(place, { recursive: true, force: true });
});
const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(BA_|EVERPOST)/.test(name)));
const keyOf = (channel) => `e30.${Buffer.from(JSON.stringify({ channel })).toString('base64url')}.c2ln`;
const step = (what) => console.log(`- ${what}`);

const NODE = ['universal', 'facebook-messenger', 'amazon-alexa', 'microsoft-bot-framework'];
const BY_PYTHON = PYTHON ? ['universal', 'rasa'] : [];
const CHANNELS = [...new Set([...NODE, ...BY_PYTHON])];

/** Starts everpost; gives the child and its first line that is wanted. */
async function start(args, wanted) {
  const child = spawn(EVERPOST, args, { env: { ...clean, EVERPOST_ETC: '/nonexistent' }, stdio: ['ignore', 'pipe', 'pipe'] });
  children.add(child);
  let errors = '';
  child.stderr.on('data', (data) => { errors += data; });
  const found = await new Promise((done, fail) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const match = wanted.exec(line);
      if (match) done(match[1]);
    });
    child.on('exit', (code) => fail(new Error(`${args.join(' ')} ended with ${code}: ${errors}`)));
  });
  child.removeAllListeners('exit');
  return { child, found };
}

async function end(child, signal) {
  const ended = once(child, 'exit');
  child.kill(signal);
  await ended;
}

/** The API of each channel; what it accepted is in a file. */
const apis = new Map();
async function openApi(channel) {
  const before = apis.get(channel);
  const record = join(place, `${channel}.jsonl`);
  const { child, found } = await start(['sandbox', '--channel', channel, '--port', `${before?.port ?? 0}`, '--record', record], /BA_BASE_URL='?([^'\s]+)/);
  apis.set(channel, { child, url: found, port: new URL(found).port, record });
}
const closeApis = () => Promise.all(CHANNELS.map((channel) => end(apis.get(channel).child, 'SIGTERM')));
const openApis = () => Promise.all(CHANNELS.map(openApi));

/** The numbers that were accepted of the messages of a bot, in order of their first arrival. */
function accepted(channel, language) {
  const { record } = apis.get(channel);
  const text = existsSync(record) ? readFileSync(record, 'utf8') : '';
  const numbers = [...text.matchAll(new RegExp(`${channel}-${language}-(\\d+)`, 'g'))].map(([, n]) => Number(n));
  return [...new Set(numbers)];
}

async function wait(what, is) {
  const end = Date.now() + 120000;
  while (!is()) {
    assert.ok(Date.now() < end, `waited in vain: ${what}`);
    await new Promise((done) => { setTimeout(done, 50); });
  }
}

const numbers = (count) => Array.from({ length: count }, (_, n) => n);
const delivered = (channel, language, count) => wait(`${count} of ${language} for ${channel}`, () => accepted(channel, language).length >= count)
  .then(() => assert.deepEqual(accepted(channel, language), numbers(count)));

let relay;
let listen = '127.0.0.1:0';
const dir = join(place, 'relay');
const config = join(place, 'relay.toml');
async function openRelay() {
  relay = await start(['relay', '--dir', dir, '--config', config, '--listen', listen], /listening on http:\/\/(\S+)\/v2/);
  listen = relay.found;
}

/** Runs a bot, told two variables; `line` sees each number once the client is done with it. */
function bot(language, channel, first, count, bytes = 0, line = () => {}) {
  const token = spawnSync(EVERPOST, ['relay', 'token', '--dir', dir, '--channel', channel], { env: clean, encoding: 'utf8' });
  assert.equal(token.status, 0, token.stderr);
  const env = { ...clean, BA_API_KEY: token.stdout.trim(), BA_BASE_URL: `http://${listen}/v2` };
  const [program, file] = language === 'node' ? [process.execPath, 'bot.cjs'] : [PYTHON, 'bot.py'];
  const child = spawn(program, [file, channel, `${first}`, `${count}`, `${bytes}`], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  children.add(child);
  let errors = '';
  child.stderr.on('data', (data) => { errors += data; });
  createInterface({ input: child.stdout }).on('line', (text) => { if (/^\d+$/.test(text)) line(Number(text)); });
  return once(child, 'exit').then(([code]) => assert.equal(code, 0, errors));
}

const all = (first, count) => Promise.all([
  ...NODE.map((channel) => bot('node', channel, first, count)),
  ...BY_PYTHON.map((channel) => bot('python', channel, first, count)),
]);
const allDelivered = (count) => Promise.all([
  ...NODE.map((channel) => delivered(channel, 'node', count)),
  ...BY_PYTHON.map((channel) => delivered(channel, 'python', count)),
]);

mkdirSync(dir, { mode: 0o700 });
await openApis();
writeFileSync(config, CHANNELS.map((channel) => {
  writeFileSync(join(dir, `${channel}.key`), keyOf(channel), { mode: 0o600 });
  const small = channel === 'universal' ? 'max_bytes = "1 MiB"\n' : '';
  return `[channels.${channel}]\n${small}service.base_url = "${apis.get(channel).url}"\ndelivery.backoff_min = "10ms"\ndelivery.backoff_max = "100ms"\n`;
}).join('\n'));
await openRelay();

step(`everything is well: ${NODE.join(', ')} by Node.js; ${BY_PYTHON.join(', ') || 'none'} by Python`);
await all(0, 5);
await allDelivered(5);

step('an outage: the clients are answered, and a kill -9 of the relay after that costs nothing');
await closeApis();
await all(5, 5);
await end(relay.child, 'SIGKILL');
await openRelay();
await openApis();
await allDelivered(10);

step('the relay is restarted in the midst of what a bot sends');
let restarting;
await bot('node', 'universal', 10, 10, 0, (n) => {
  if (n === 13) restarting = end(relay.child, 'SIGTERM').then(openRelay);
});
await restarting;
await delivered('universal', 'node', 20);

step('a full queue: what finds no room is held, and delivered once there is some');
await closeApis();
let last = 0;
const sending = bot('node', 'universal', 20, 200, 8000, (n) => { last = n; });
// The client waits for an answer as long as the relay holds its request.
let seen = 0;
let still = 0;
await wait('a full queue', () => {
  still = last === seen ? still + 1 : 0;
  seen = last;
  return last > 20 && still > 40;
});
assert.ok(last < 219, 'the queue was never full');
await openApis();
await sending;
await delivered('universal', 'node', 220);

await end(relay.child, 'SIGTERM');
await closeApis();
console.log('the official clients: well');
