// A million dead letters, or as many as `--million N` says: no request takes long, and the page stays quick.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assert, browser, enterToken, fits, keyOf, place, relay, shot, step } from './lib.mjs';

const at_ = process.argv.indexOf('--million');
if (at_ < 0) {
  console.log('skipped: a million dead letters; ask for them with --million');
  process.exit(0);
}
const wanted = Number(process.argv[at_ + 1] ?? 1_000_000);

// Each letter is synced by itself: a disk takes minutes for what memory takes seconds for.
let dir = place();
if (existsSync('/dev/shm')) {
  dir = mkdtempSync('/dev/shm/everpost-page-');
  process.on('exit', () => rmSync(dir, { recursive: true, force: true }));
}
writeFileSync(join(dir, 'universal.key'), keyOf('universal'), { mode: 0o600 });
writeFileSync(join(dir, 'relay.toml'), `[channels.universal]\nmax_bytes = "16 GiB"\nmax_age = "1h"\nservice.key_file = "${dir}/universal.key"\nservice.base_url = "http://127.0.0.1:1/v2"\n`);
const at = await relay(['--dir', join(dir, 'relay'), '--config', join(dir, 'relay.toml'), '--admin-token']);
const headers = { Authorization: `Bearer ${at.token}`, 'Content-Type': 'application/x-ndjson' };
const channel = `${at.admin}api/channels/universal`;
const timed = async (what, work) => {
  const began = performance.now();
  const result = await work();
  console.log(`  ${what}: ${Math.round(performance.now() - began)} ms`);
  return result;
};
const memory = () => Number(/VmRSS:\s+(\d+)/.exec(process.platform === 'linux' ? readStatus() : '')?.[1] ?? 0) / 1024;
const { readFileSync } = await import('node:fs');
const readStatus = () => readFileSync(`/proc/${at.pid}/status`, 'utf8');

step(`${wanted} events that are older than they may be`);
await timed('made', async () => {
  const time_ms = Date.now() - 48 * 3600 * 1000;
  for (let n = 0; n < wanted; n += 10_000) {
    const lines = Array.from({ length: Math.min(10_000, wanted - n) }, (_, i) => JSON.stringify({ time_ms, event: { n: n + i, text: `message ${n + i}` } }));
    const answer = await fetch(`${channel}/control/events?form=entries`, { method: 'POST', headers, body: lines.join('\n') });
    assert.equal(answer.status, 200, await answer.text());
  }
  for (;;) {
    const { channels: [view] } = await (await fetch(`${at.admin}api/channels`)).json();
    if (view.dead_letters >= wanted) break;
    console.log(`  ${view.dead_letters}`);
    await new Promise((done) => { setTimeout(done, 5000); });
  }
});
console.log(`  memory of the relay: ${Math.round(memory())} MiB`);

step('the page');
const chrome = await browser();
const page = await timed('a page with its first letters', async () => {
  const opened = await chrome.open(at.admin);
  await opened.locator('.list li').nth(49).waitFor();
  return opened;
});
await timed('counted and grouped', async () => {
  await page.getByRole('button', { name: `Discard ${new Intl.NumberFormat('en').format(wanted)}`, exact: true }).waitFor({ timeout: 600000 });
});
await enterToken(page, at.token);
await page.getByLabel('Search for').fill('message 77777');
await page.getByLabel('in', { exact: true }).selectOption('content');
await timed('the first letters of a search in events', async () => {
  await page.keyboard.press('Tab');
  await page.locator('.list li').first().waitFor({ timeout: 600000 });
});
await timed('all of that search', async () => {
  await page.getByText(/^[\d,]+ letters? match(es)?\.$/).waitFor({ timeout: 600000 });
});
await fits(page, 'a million');
await shot(page, 'million-1440-light');
let longest = 0;
for (let after = 0; after !== null;) {
  const began = performance.now();
  ({ next: after } = await (await fetch(`${channel}/letters/survey?after=${after}`)).json());
  longest = Math.max(longest, performance.now() - began);
}
console.log(`  the longest slice: ${Math.round(longest)} ms`);
assert.ok(longest < 5000, `${longest} ms`);
const download = await timed('downloaded', async () => {
  let lines = 0;
  const answer = await fetch(`${channel}/letters/export`, { headers });
  for await (const part of answer.body) for (const byte of part) lines += byte === 10 ? 1 : 0;
  return lines;
});
assert.equal(download, wanted);
console.log(`  memory of the relay: ${Math.round(memory())} MiB`);

step('a thousand of them are discarded');
await page.getByLabel('Search for').fill('message 777');
await page.keyboard.press('Enter');
const found = page.getByRole('button', { name: /^Discard [\d,]+$/ });
await page.getByText(/^[\d,]+ letters? match(es)?\.$/).waitFor({ timeout: 600000 });
const label = await found.textContent();
await found.click();
await timed('discarded', async () => {
  await page.getByRole('dialog').getByRole('button', { name: label }).click();
  await page.locator('.toast', { hasText: `${label.replace('Discard ', '')} dead letter` }).waitFor({ timeout: 600000 });
});
await chrome.close();
await at.stop();
