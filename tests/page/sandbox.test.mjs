// The page over a relay with a sandbox behind it: every action.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { HOSTILE, accessible, assert, bad, browser, enterToken, fits, good, place, relay, send, shot, step } from './lib.mjs';

const dir = place();
let at = await relay(['--sandbox', '--dir', dir, '--admin-token']);
const key = at.keys[0];
const chrome = await browser();
const page = await chrome.open(at.admin);
const toast = (text) => page.locator('.toast', { hasText: text }).first().waitFor();
const number = (label) => page.locator('.tile', { has: page.getByText(label, { exact: true }) }).locator('dd').first();
const waitFor = (locator, text) => locator.filter({ hasText: text }).first().waitFor();
const button = (name) => page.getByRole('button', { name, exact: true });

step('a message is shown');
await page.getByText('Nothing waits to be delivered.').waitFor();
await send(at.base, key, [good('hello')]);
await page.getByText('1 appended').first().waitFor();
await page.getByText('\u2713 adds up').first().waitFor();

step('without the token nothing can be done, and no event is seen');
await send(at.base, key, HOSTILE.map((text, n) => bad({ id: `${n}${text}`, [text]: text })));
await send(at.base, key, [{ timestamp: 'never', content: { texts: [{ text: 'x' }] } }]);
await waitFor(number('Dead letters'), '7');
for (const name of ['Pause', 'Try now', 'Send a sample', 'Retry 7', 'Discard 7', 'Download 7 as JSON lines']) {
  await button(name).waitFor();
  assert.ok(await button(name).isDisabled(), name);
}
await button('Open letter 2').click();
await page.getByRole('dialog').waitFor();
assert.ok(await page.getByRole('button', { name: /^Show the event/ }).isDisabled());
await page.keyboard.press('Escape');
await page.getByText('2 appended').or(page.getByText('8 appended')).first().waitFor();
await accessible(page, 'read-only');
await fits(page, 'read-only');
await shot(page, 'sandbox-read-only-1440-light');

step('the token: a wrong one, then the right one, by keyboard alone');
chrome.allow('401 (Unauthorized)');
await page.reload();
await page.getByText('Enter the token to act.').waitFor();
await page.keyboard.press('Tab');
assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to the content');
await page.keyboard.press('Enter');
assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
await page.keyboard.press('Shift+Tab');
assert.equal(await page.evaluate(() => document.activeElement.id), 'token');
await page.keyboard.press('Enter');
await page.keyboard.type('0000');
await page.keyboard.press('Enter');
await page.getByText('that is not the token of this page').waitFor();
await page.getByLabel('Token', { exact: true }).fill('');
await page.keyboard.type(at.token);
await page.keyboard.press('Enter');
await page.getByText('you may act', { exact: true }).waitFor();
assert.equal(await page.evaluate(() => document.activeElement.id), 'token', 'the focus comes back');
chrome.allow();

step('pause, resume, try now, a sample');
await button('Pause').click();
await page.getByText('Delivery is paused on request.').first().waitFor();
await button('Send a sample').click();
await toast('The sample is safe on disk, as number 9.');
await waitFor(number('Pending'), '1');
await button('Resume').click();
await waitFor(number('Pending'), '0');
await button('Try now').click();
await toast('It is tried now.');
await button('Send one that is refused').click();
await waitFor(number('Dead letters'), '8');

step('what is hostile is text');
await button('Open letter 2').click();
await page.getByRole('button', { name: /^Show the event/ }).click();
const event = page.locator('pre.event');
assert.ok((await event.textContent()).includes('"<img src=x onerror=alert(1)>"'));
assert.equal(await event.locator('img, script, svg').count(), 0);
await accessible(page, 'a letter');
await button('Close').click();
await button('Open letter 6').click();
await page.getByRole('button', { name: /^Show the event/ }).click();
const odd = await event.locator('.odd').allTextContents();
for (const name of ['U+202E', 'U+202C', 'U+200B']) assert.ok(odd.includes(name), name);
await page.keyboard.press('Escape');
assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Open letter 6', 'the focus comes back');

step('groups, a filter in the address, and a search in events');
await page.locator('.groups a', { hasText: 'text is required' }).click();
await button('Discard 7').waitFor();
assert.match(page.url(), /group=[0-9a-f-]{36}/);
await page.goBack();
await button('Discard 8').waitFor();
await page.getByLabel('Search for').fill('never');
await page.getByLabel('in', { exact: true }).selectOption('content');
await page.keyboard.press('Tab');
await button('Filter').click();
await button('Discard 1').waitFor();
assert.equal(await page.locator('.list li').count(), 1);
assert.match(page.url(), /q=never/);
await page.reload();
await button('Discard 1').waitFor();
await page.getByLabel('Search for').fill('onerror');
await page.keyboard.press('Enter');
await page.getByText('1 letter matches.').waitFor();

step('the filter that is discarded is the one that was counted, or none');
await button('Discard 1').click();
await page.getByText('The filter:').waitFor();
await page.screenshot({ path: join(process.env.PAGE_OUT, 'sandbox-question-1440-light.png') });
// Meanwhile the letter is retried elsewhere.
const gone = await fetch(`${at.admin}api/channels/universal/control/dead/2/retry`, { method: 'POST', headers: { Authorization: `Bearer ${at.token}` } });
assert.equal(gone.status, 200);
chrome.allow('409 (Conflict)');
await page.getByRole('dialog').getByRole('button', { name: 'Discard 1' }).click();
await toast('it is another set by now: 0 letters instead of 1; nothing was done');
chrome.allow();
// What was retried is refused again.
await button('Discard 1').waitFor();
await button('Discard 1').click();
await page.getByRole('dialog').getByRole('button', { name: 'Discard 1' }).click();
await toast('1 dead letter discarded.');
await button('Show all').click();
await button('Retry 7').waitFor();

step('a download, one by one, and all');
const download = page.waitForEvent('download');
await button('Download 7 as JSON lines').click();
const saved = await (await download).path();
const lines = readFileSync(saved, 'utf8').trim().split('\n').map((line) => JSON.parse(line));
assert.equal(lines.length, 7);
assert.ok(lines.some(({ event: { timestamp } }) => timestamp === 'never'));
await button('Discard letter 3').click();
await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
await button('Discard letter 3').click();
await page.getByRole('dialog').getByRole('button', { name: 'Discard' }).click();
await toast('Letter 3 is discarded.');
await button('Retry letter 4').click();
await toast('Letter 4 is appended again');
await waitFor(number('Dead letters'), '6');
await button('Retry 6').click();
await page.getByRole('dialog').getByRole('button', { name: 'Retry 6' }).click();
await toast('6 dead letters appended again.');
await button('Discard 6').waitFor();
await page.getByText('9 retried').or(page.getByText('8 retried')).first().waitFor();
await page.getByText('differ').first().waitFor({ state: 'detached' });
await page.getByRole('button', { name: /^Show all \d/ }).click();
for (const what of ['retried dead letters (6)', 'discarded a dead letter (3)', 'downloaded dead letters', 'paused delivery', 'appended events']) {
  await page.locator('#log li', { hasText: what }).first().waitFor();
}
assert.ok(!(await page.locator('#log').textContent()).includes(at.token));

step('both widths and both colour schemes');
for (const width of [360, 1440]) {
  for (const scheme of ['light', 'dark']) {
    const other = await chrome.open(at.admin, { width, scheme });
    await enterToken(other, at.token);
    await other.locator('.list li').first().waitFor();
    await other.getByText('now 0').first().waitFor();
    await fits(other, `${width} ${scheme}`);
    await accessible(other, `${width} ${scheme}`);
    await shot(other, `sandbox-${width}-${scheme}`);
    await other.getByRole('button', { name: /^Open letter/ }).first().click();
    await other.getByRole('button', { name: /^Show the event/ }).click();
    await other.locator('pre.event').waitFor();
    await fits(other, `a letter at ${width} ${scheme}`);
    await other.screenshot({ path: join(process.env.PAGE_OUT, `sandbox-letter-${width}-${scheme}.png`) });
    await other.context().close();
  }
}

step('a message is shown within a second');
const appended = async () => Number(/^\d+/.exec(await page.getByText(/^\d+ appended$/).textContent())[0]);
const took = [];
for (let n = 0; n < 5; n += 1) {
  const before = await appended();
  const began = Date.now();
  await send(at.base, key, [good('hello')]);
  await page.getByText(`${before + 1} appended`, { exact: true }).waitFor();
  took.push(Date.now() - began);
}
// The quickest: a machine that is busy makes any one of them late.
assert.ok(Math.min(...took) < 1000, `${took} ms`);

step('a tab that is not seen asks for nothing');
const hide = (isHidden) => page.evaluate((is) => {
  Object.defineProperty(document, 'hidden', { value: is, configurable: true });
  document.dispatchEvent(new Event('visibilitychange'));
}, isHidden);
await hide(true);
await page.getByText('at rest').waitFor();
const asked = [];
page.on('request', (request) => asked.push(request.url()));
await send(at.base, key, [good('unseen')]);
await page.waitForTimeout(2500);
assert.deepEqual(asked, []);
await hide(false);
await page.getByText('live', { exact: true }).waitFor();

step('a relay that goes and comes is taken up again');
chrome.allow('ERR_', 'Failed to load resource');
await at.kill();
await page.getByText('no connection').waitFor();
await page.close();
chrome.allow();

step('incidents are shown and acknowledged');
writeFileSync(join(dir, 'universal', 'spool.copy.json'), 'damage');
at = await relay(['--sandbox', '--dir', dir, '--admin-token']);
const damaged = await chrome.open(at.admin);
await enterToken(damaged, at.token);
await damaged.getByText('Damage was found in the spool.').first().waitFor();
await shot(damaged, 'sandbox-incident-1440-light');
await accessible(damaged, 'an incident');
await damaged.getByRole('button', { name: 'Acknowledge 1' }).click();
await damaged.getByText('Damage was found in the spool.').first().waitFor({ state: 'detached' });
await damaged.context().close();

await chrome.close();
await at.stop();
