// A room too large for everybody to be told of everybody: the page counts, and shows who does something.
import assert from 'node:assert/strict';
import { scenario } from './stage.js';

scenario('a large room shows a count, pages of people, and who raises a hand', { args: ['--full-presence', '2'] }, async (stage) => {
  const page = await stage.openApp('/r/tea?name=Ada&auto=1');
  await page.waitForSelector('body[data-state=live]', { timeout: 15_000 });
  const [ben, carl, dora] = [await stage.guest({ name: 'Ben' }), await stage.guest({ name: 'Carl' }), await stage.guest({ name: 'Dora' })];
  const text = (selector) => page.$$eval(selector, (found) => found.map((element) => element.textContent));
  const until = (what, selector, wanted) => page.waitForFunction((s, w) => JSON.stringify([...document.querySelectorAll(s)].map((e) => e.textContent)) === w, { timeout: 10_000 }, selector, JSON.stringify(wanted)).catch(async () => assert.deepEqual(await text(selector), wanted, what));
  await until('the count', '.count', ['4 people']);
  await page.click('#button-people');
  await until('the list', '.people-list .people-name', ['Ada (you)', 'Ben']);
  await until('the rest', '.people-crowd button', ['Show 2 more who are watching']);
  await page.click('.people-crowd button');
  await until('a page of the rest', '.people-others li:not([hidden])', ['Carl', 'Dora']);
  assert.equal(await ben.run((room) => room.count), 4);
  assert.deepEqual(await carl.run((room) => [...room.participants.values()].map(({ name }) => name).sort()), ['Ada', 'Ben', 'Carl']);
  await dora.run((room) => room.set({ attributes: { hand: Date.now() } }));
  await until('who raised a hand', '.people-list .people-name', ['Ada (you)', 'Dora', 'Ben']);
  await until('each of them once', '.people-others li:not([hidden])', ['Carl']);
  await stage.screenshot(page, 'crowd');
  await Promise.all([carl.leave(), dora.leave()]);
  await until('a small room again', '.people-list .people-name', ['Ada (you)', 'Ben']);
  await until('the count', '.count', ['2 people']);
  assert.equal(await page.$eval('.people-crowd', (element) => element.hidden), true);
});
