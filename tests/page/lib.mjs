// What the tests of the page share: a relay under way, and a browser that reports what must not be.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

export const OUT = resolve(process.env.PAGE_OUT);
const require = createRequire(`${OUT}/`);
const { chromium } = require('playwright-core');
const AXE = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

/** A directory that goes with the test. */
export function place() {
  const dir = mkdtempSync(join(tmpdir(), 'everpost-page-'));
  process.on('exit', () => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** A relay, and where it is. */
export async function relay(args, env = {}) {
  const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(BA_|EVERPOST_)/.test(name)));
  const child = spawn(process.env.EVERPOST, ['relay', '--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0', ...args], {
    env: { ...clean, EVERPOST_ETC: '/nonexistent', ...env }, stdio: ['ignore', 'pipe', 'pipe'],
  });
  process.on('exit', () => child.kill('SIGKILL'));
  let errors = '';
  child.stderr.on('data', (data) => { errors += data; });
  const found = { keys: [] };
  const lines = createInterface({ input: child.stdout });
  const ready = new Promise((done, fail) => {
    child.on('exit', (code) => fail(new Error(`the relay ended with ${code}: ${errors}`)));
    const wantsKeys = args.includes('--sandbox');
    lines.on('line', (line) => {
      const [, name, value] = /^(listening on |admin on |its token is in |export BA_API_KEY=)(\S+)/.exec(line) ?? [];
      if (name === 'listening on ') found.base = value;
      if (name === 'admin on ') found.admin = value;
      if (name === 'its token is in ') found.token = readFileSync(value, 'utf8').trim();
      if (name === 'export BA_API_KEY=') found.keys.push(value);
      if (found.base && found.admin && (!args.includes('--admin-token') || found.token) && (!wantsKeys || found.keys.length > 0)) done();
    });
  });
  await ready;
  child.removeAllListeners('exit');
  return {
    ...found,
    pid: child.pid,
    log: () => errors,
    async stop() {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    },
    async kill() {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
  };
}

export const keyOf = (channel) => `e30.${Buffer.from(JSON.stringify({ channel })).toString('base64url')}.c2ln`;

/** Sends messages as any client of the API does. */
export async function send(base, key, messages) {
  const answer = await fetch(`${base}/messages`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ messages: messages.map((message) => ({ message })) }),
  });
  assert.equal(answer.status, 200, await answer.text());
}

export const good = (text) => ({ timestamp: Date.now(), content: { texts: [{ text }] } });
export const bad = (more = {}) => ({ timestamp: Date.now(), content: { texts: [{ tex: 'without its text' }] }, ...more });

/** Texts that would do harm if they became markup, or were shown as they are. */
export const HOSTILE = [
  '<img src=x onerror=alert(1)>',
  '</script><script>alert(2)</script>',
  '"\' onmouseover=alert(3) x="',
  'javascript:alert(4)',
  'right\u202eto\u202cleft \u200bnothing\u0007 bell',
  '{{7*7}} ${alert(5)} <svg/onload=alert(6)>',
];

/** A browser; everything that must not happen in it is a failure at the end. */
export async function browser() {
  const started = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: process.getuid() === 0 ? ['--no-sandbox'] : [],
  });
  const wrong = [];
  let allowed = [];
  const known = ['data:'];
  const open = async (url, { width = 1440, height = 1000, scheme = 'light', path = '' } = {}) => {
    const context = await started.newContext({ viewport: { width, height }, colorScheme: scheme, acceptDownloads: true, reducedMotion: 'reduce' });
    const page = await context.newPage();
    const origin = new URL(url).origin;
    page.on('request', (request) => {
      if (!request.url().startsWith(`${origin}/`) && !known.some((url) => request.url().startsWith(url))) wrong.push(`asked ${request.url()}`);
    });
    page.on('pageerror', (error) => wrong.push(`threw ${error.stack}`));
    page.on('dialog', (dialog) => { wrong.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
    page.on('console', (message) => {
      const text = message.text();
      if (['error', 'warning'].includes(message.type()) && !allowed.some((part) => text.includes(part))) wrong.push(`said ${text} ${message.location().url}`);
    });
    page.setDefaultTimeout(20000);
    await page.goto(url + path);
    return page;
  };
  return {
    open,
    /** What the console may say from here on: refusals that are meant. */
    allow: (...parts) => { allowed = parts; },
    /** Pages may ask this place too. */
    elsewhere: (url) => { known.push(url); },
    async close() {
      await started.close();
      assert.deepEqual(wrong, []);
    },
  };
}

/** Nothing serious is found by axe-core. */
export async function accessible(page, what) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  const found = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact))
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('; ')}`);
  assert.deepEqual(found, [], what);
  const others = violations.filter(({ impact }) => !['serious', 'critical'].includes(impact)).map(({ id }) => id);
  if (others.length > 0) console.log(`  axe, less than serious, ${what}: ${others.join(', ')}`);
}

/** Nothing is wider than the window. */
export async function fits(page, what) {
  const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(wide <= window, `${what}: ${wide} is wider than ${window}`);
}

export const shot = (page, name) => page.screenshot({ path: join(OUT, `${name}.png`), fullPage: true });

export const step = (what) => console.log(`- ${what}`);

export async function enterToken(page, token) {
  await page.getByRole('button', { name: 'Enter the token' }).click();
  await page.getByLabel('Token', { exact: true }).fill(token);
  await page.getByRole('button', { name: 'Use it' }).click();
  await page.getByText('you may act', { exact: true }).waitFor();
}

export { assert };
