// Pages of two origins, and a relay that lets one of them in.
import { createServer } from 'node:http';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { assert, browser, place, relay, step } from './lib.mjs';

async function site() {
  const server = createServer((_, answer) => answer.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>shop</title>'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  server.unref();
  return `http://127.0.0.1:${server.address().port}`;
}

const [here, elsewhere] = [await site(), await site()];
const dir = place();
const published = (origin) => spawnSync(process.env.EVERPOST, ['relay', 'token', '--dir', dir, '--origin', origin], { encoding: 'utf8' }).stdout.trim();
const running = await relay(['--dir', dir, '--sandbox', '--allow-origin', here]);
const chromium = await browser();
// What a browser says of requests that it does not let a page make, or whose answer it does not show.
chromium.elsewhere(`${running.base}/`);
chromium.allow('CORS policy', 'Failed to load resource');

const post = (page, token, message) => page.evaluate(async ([url, key, text]) => {
  try {
    const answer = await fetch(url, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ messages: [{ message: { timestamp: Date.now(), content: { texts: [{ text }] } } }] }),
    });
    return [answer.status, await answer.json()];
  } catch (error) {
    return [0, error.name];
  }
}, [`${running.base}/messages`, token, message]);

const beacon = (page, token) => page.evaluate(([url, key]) => navigator.sendBeacon(`${url}?token=${key}`, JSON.stringify({ messages: [{ message: { timestamp: Date.now(), content: { texts: [{ text: 'bye' }] } } }] })), [`${running.base}/messages`, token]);

const appended = async () => {
  const answer = await fetch(`${running.admin}api/channels`);
  return (await answer.json()).channels[0].ledger.appended;
};

step('a page of the origin that is let in posts without a secret, and sees the answer');
const shop = await chromium.open(here);
const [status, body] = await post(shop, published(here), 'hi');
assert.equal(status, 200);
assert.ok(body.request_id, JSON.stringify(body));
assert.equal(await appended(), 1);

step('it sees why it is refused');
const [refused, why] = await post(shop, published(elsewhere), 'hi');
assert.equal(refused, 401);
assert.match(why.errors[0], /other origins/);

step('a page of another origin cannot, whatever it presents');
const evil = await chromium.open(elsewhere);
for (const key of [published(elsewhere), published(here), running.keys[0]]) {
  assert.deepEqual(await post(evil, key, 'no'), [0, 'TypeError']);
  await beacon(evil, key);
}

step('a page that goes away leaves a message behind');
assert.ok(await beacon(shop, published(here)));
while (await appended() < 2) await new Promise((done) => { setTimeout(done, 20); });
// The beacons of the other page came before it.
assert.equal(await appended(), 2);

await chromium.close();
await running.stop();
