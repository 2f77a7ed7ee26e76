// The page over several channels, each in a state of its own, with receivers that say hostile things.
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { HOSTILE, accessible, assert, browser, enterToken, fits, good, keyOf, place, relay, send, shot, step } from './lib.mjs';

/** A receiver that answers a batch as `judge` says of its messages: a status and a body. */
async function receiver(judge) {
  const server = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    const { messages } = JSON.parse(Buffer.concat(parts).toString() || '{"messages":[]}');
    const [status, body] = judge(messages.map(({ message }) => message));
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  server.unref();
  return { url: `http://127.0.0.1:${server.address().port}/v2`, server };
}

const dir = place();
const hostile = await receiver((messages) => {
  const refused = messages.find(({ refuse }) => refuse !== undefined);
  return refused ? [400, { errors: [refused.refuse] }] : [200, { request_id: HOSTILE[0] }];
});
const wrongKey = await receiver(() => [401, { errors: ['Token is not valid.'] }]);
const gone = await receiver(() => [200, {}]);
gone.server.close();
const ok = await receiver(() => [200, { request_id: 'r-1' }]);
const urls = { 'amazon-alexa': ok.url, 'facebook-messenger': gone.url, 'microsoft-bot-framework': ok.url, rasa: wrongKey.url, universal: hostile.url };
const config = Object.entries(urls).map(([name, url]) => {
  const key = join(dir, `${name}.key`);
  if (name !== 'amazon-alexa') writeFileSync(key, keyOf(name), { mode: 0o600 });
  return `[channels.${name}]\nservice.base_url = "${url}"\nservice.key_file = "${key}"\n`;
});
writeFileSync(join(dir, 'relay.toml'), config.join(''));
const at = await relay(['--dir', join(dir, 'relay'), '--config', join(dir, 'relay.toml'), '--admin-token']);
const chrome = await browser();
const page = await chrome.open(at.admin);
const card = (name) => page.locator('.card', { has: page.getByRole('link', { name, exact: true }) });

step('each channel says what it does, why, and what to do');
for (const name of Object.keys(urls)) await send(at.base, keyOf(name), [good('one'), good('two')]);
await card('amazon-alexa').getByText('There is no key to deliver with yet').waitFor();
await card('amazon-alexa').getByText(`Put a valid key into ${join(dir, 'amazon-alexa.key')}`).waitFor();
await card('rasa').getByText('The key is refused: HTTP 401, Token is not valid.').waitFor();
await card('facebook-messenger').getByText('Waiting for the network').waitFor();
await card('facebook-messenger').getByText('Nothing has to be done').waitFor();
await card('facebook-messenger').getByText(/next try in|a try is under way/).waitFor();
await card('microsoft-bot-framework').getByText('Nothing waits to be delivered.').waitFor();
assert.match(await card('rasa').getAttribute('data-tone'), /act/);
for (const [width, scheme] of [[1440, 'light'], [1440, 'dark'], [360, 'light']]) {
  const other = await chrome.open(at.admin, { width, scheme });
  await other.locator('.card').nth(4).waitFor();
  await other.locator('.spark path').first().waitFor({ state: 'attached' });
  await fits(other, `the channels at ${width}`);
  await accessible(other, `the channels at ${width} ${scheme}`);
  await shot(other, `channels-${width}-${scheme}`);
  await other.context().close();
}

step('an outage lasts while it is tried again');
await page.waitForTimeout(4000);
assert.equal(await card('facebook-messenger').getByText('Delivering.').count(), 0);

step('what a receiver says is text, whatever it says');
for (const [n, refuse] of HOSTILE.entries()) await send(at.base, keyOf('universal'), [{ ...good(n), refuse }, good('between')]);
await page.getByRole('link', { name: 'universal', exact: true }).click();
await page.getByRole('heading', { name: 'universal', exact: true }).waitFor();
await page.locator('.list li').nth(HOSTILE.length - 1).waitFor();
await enterToken(page, at.token);
const text = await page.locator('.list').textContent();
assert.ok(text.includes('<img src=x onerror=alert(1)>') && text.includes('</script><script>alert(2)</script>'), text);
await page.locator('.plain', { hasText: 'onerror=alert(1)' }).first().waitFor();
const made = await page.locator('main img, main script, main iframe, main object').count();
assert.equal(made, 0);
const links = await page.evaluate(() => [...document.querySelectorAll('a')].map((a) => a.protocol));
assert.ok(links.every((protocol) => protocol === 'http:'), links.join());
await page.getByText('\u2713 adds up').first().waitFor();
await accessible(page, 'hostile answers');
await shot(page, 'hostile-1440-light');
const narrow = await chrome.open(at.admin, { width: 360, path: '?channel=universal' });
await narrow.locator('.list li').nth(HOSTILE.length - 1).waitFor();
await fits(narrow, 'hostile answers at 360');
await shot(narrow, 'hostile-360-light');
await narrow.context().close();

step('a key that is put there is used');
writeFileSync(join(dir, 'amazon-alexa.key'), keyOf('amazon-alexa'), { mode: 0o600 });
await page.getByRole('link', { name: 'All channels' }).click();
await page.getByRole('link', { name: 'amazon-alexa', exact: true }).click();
await page.getByRole('button', { name: 'Resume' }).click();
await page.getByText('Nothing waits to be delivered.').waitFor();

step('a channel that there is not');
const lost = await chrome.open(at.admin, { path: '?channel=%3Cb%3Enone' });
await lost.getByText('There is no channel <b>none here.').waitFor();

await chrome.close();
await at.stop();
for (const { server } of [hostile, wrongKey, ok]) server.close();
