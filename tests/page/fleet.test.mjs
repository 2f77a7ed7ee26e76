// The page over a relay that shows a fleet, on a real server of NATS: what waits, what is wrong, hostile names, and
// a server that goes and comes.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { HOSTILE, accessible, assert, browser, fits, place, relay, shot, step } from './lib.mjs';

const installed = spawnSync(new URL('../nats/install', import.meta.url).pathname, { encoding: 'utf8' });
if (installed.status !== 0) {
  console.log(`skipped: there is no server of NATS: ${installed.stderr}`);
  process.exit(0);
}

/** A port that no connection is given while its server is dead. */
async function freePort() {
  for (;;) {
    const port = 10000 + Math.floor(Math.random() * 20000);
    const server = createServer();
    const isFree = await new Promise((done) => {
      server.on('error', () => done(false));
      server.listen(port, '127.0.0.1', () => done(true));
    });
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}

const dir = place();
const [port, monitor] = [await freePort(), await freePort()];
const url = `nats://127.0.0.1:${port}`;
writeFileSync(join(dir, 'nats.conf'), `listen: "127.0.0.1:${port}"\nhttp: "127.0.0.1:${monitor}"\njetstream { store_dir: "${join(dir, 'nats')}" }\n`);

/** Starts the server, and waits until it says that it is well. */
async function serve() {
  const child = spawn(installed.stdout.trim(), ['-c', join(dir, 'nats.conf')], { stdio: 'ignore' });
  const kill = () => child.kill('SIGKILL');
  process.on('exit', kill);
  const ended = once(child, 'exit');
  for (let tries = 0; tries < 600; tries += 1) {
    const health = await fetch(`http://127.0.0.1:${monitor}/healthz`).catch(() => undefined);
    if (health?.ok) return async () => { kill(); await ended; };
    await new Promise((done) => { setTimeout(done, 100); });
  }
  throw new Error('the server is not ready');
}

/** Publishes these bodies, each under its subject. */
async function publish(messages) {
  const socket = connect(port, '127.0.0.1');
  const heard = new Promise((done, fail) => {
    let text = '';
    socket.on('error', fail);
    socket.on('data', (data) => {
      text += data;
      if (/^-ERR/m.test(text)) fail(new Error(text));
      if (/^PONG/m.test(text)) done();
    });
  });
  const said = messages.map(([subject, body]) => `PUB ${subject} ${Buffer.byteLength(body)}\r\n${body}\r\n`);
  socket.write(`CONNECT {"verbose":false}\r\n${said.join('')}PING\r\n`);
  await heard;
  socket.end();
}

let stop = await serve();
const made = spawnSync(process.env.EVERPOST, ['fleet', 'setup', '--nats', url, '--replicas', '1', '--accept-few-replicas', '--accept-sync-unknown'], { encoding: 'utf8' });
assert.equal(made.status, 0, made.stderr);
const now = Date.now();
const record = { version: 1, owner: HOSTILE[0], epoch: 1, seq: 0, delivered: 0, dead: 0, expired: 0, lost: 0, since_ms: now, at_ms: now };
const events = (partition, count) => Array.from({ length: count }, () => [`events.${partition}.a`, '{}']);
await publish([...events(3, 5), ...events(40, 2), ...events(7, 1), ['events_cursors.40', JSON.stringify(record)], ['events_cursors.9', '{"version":9}']]);

const at = await relay(['--sandbox', '--dir', join(dir, 'relay'), '--fleet', url, '--fleet-every', '1s']);
const chrome = await browser();
const page = await chrome.open(at.admin);
const fleet = page.locator('#fleet');
const rows = () => fleet.locator('tbody tr:not(.why) th:visible').evaluateAll((found) => found.map((th) => th.lastChild.textContent));

step('totals first, then the partitions with trouble, then those where something waits; the rest is folded');
await fleet.getByRole('heading', { name: 'Fleet', exact: true }).waitFor();
await fleet.getByText(`EVENTS at ${url}`).waitFor();
await fleet.getByText('8 pending', { exact: true }).waitFor();
assert.deepEqual(await rows(), ['3', '7', '9', '40']);
await fleet.getByText('does not balance with the stream').waitFor();
await fleet.getByText('The books do not balance: the record of partition 9 has version 9').waitFor();
await fleet.getByText('2 partitions have events that wait, and no worker.').waitFor();
const folded = fleet.locator('summary', { hasText: '60 more partitions, where nothing waits' });
await folded.waitFor();

step('what servers say is text');
await fleet.locator('td', { hasText: HOSTILE[0] }).waitFor();
assert.equal(await fleet.locator('img, script, iframe').count(), 0);

step('both widths and both colour schemes');
for (const [width, scheme] of [[1440, 'light'], [1440, 'dark'], [360, 'light']]) {
  const other = await chrome.open(at.admin, { width, scheme });
  await other.locator('#fleet').getByText('8 pending', { exact: true }).waitFor();
  await accessible(other, `the fleet at ${width} ${scheme}`);
  await shot(other, `fleet-${width}-${scheme}`);
  await other.locator('#fleet summary').click();
  await other.locator('#fleet tbody th').nth(63).waitFor();
  await fits(other, `the fleet at ${width}`);
  await accessible(other, `all partitions at ${width} ${scheme}`);
  await shot(other, `fleet-all-${width}-${scheme}`);
  await other.context().close();
}

step('news come without a word, and what was unfolded stays so');
await folded.click();
await publish([...events(12, 3)]);
await fleet.getByText('11 pending', { exact: true }).waitFor();
assert.deepEqual((await rows()).slice(0, 4), ['3', '12', '7', '9']);
assert.equal((await rows()).length, 64);

step('a server that is gone leaves the last known books, and nothing else is disturbed');
await stop();
await fleet.getByText('The books of the fleet cannot be read').waitFor();
await fleet.getByText('Below are the last known books').waitFor();
await fleet.getByText('since', { exact: false }).first().waitFor();
await fleet.getByText('11 pending', { exact: true }).waitFor();
await page.getByText('Nothing waits to be delivered.').waitFor();
assert.equal((await fetch(`${at.admin}readyz`)).status, 200);
await accessible(page, 'a fleet that does not answer');
await shot(page, 'fleet-unread-1440-light');

step('and comes back by itself');
stop = await serve();
await fleet.getByText('The books of the fleet cannot be read').waitFor({ state: 'detached' });
await fleet.getByText('The books do not balance').first().waitFor();

step('without a fleet there is nothing of one');
const other = await relay(['--sandbox', '--dir', join(dir, 'other')]);
const bare = await chrome.open(other.admin);
await bare.getByText('Nothing waits to be delivered.').waitFor();
assert.ok(await bare.locator('#fleet').isHidden());

await chrome.close();
await other.stop();
await at.stop();
await stop();
