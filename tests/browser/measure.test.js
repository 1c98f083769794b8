// The measuring itself, checked without the server: a browser calls a browser.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launch, openPage } from './browsers.js';
import { callDirectly } from './direct.js';
import { servePages } from './web.js';

let web;
const browsers = {};
before(async () => {
  web = await servePages();
  [browsers.chromium, browsers.firefox] = await Promise.all([launch('chromium'), launch('firefox')]);
});
after(async () => {
  await Promise.all(Object.values(browsers).map((browser) => browser?.close()));
  await web?.close();
});

/** A page with `bench` ready. */
async function open(browser) {
  const page = await openPage(browser, web.url);
  await page.waitForSelector('html[data-ready]');
  return page;
}

// What a browser itself adds on a busy machine: its page gets sound 25 (Chromium) to 70 ms (Firefox) later than it is played. Tests of
// the server therefore compare with a call that goes directly.
const OWN_OFFSET_MS = 110;

describe('what the probe measures', () => {
  for (const [sender, receiver] of [['chromium', 'chromium'], ['chromium', 'firefox'], ['firefox', 'chromium']]) {
    test(`${sender} to ${receiver}: pictures, tone and lip sync`, { timeout: 60_000 }, async () => {
      const [from, to] = [await open(browsers[sender]), await open(browsers[receiver])];
      await from.evaluate(() => bench.source('camera', { id: 5 }));
      await callDirectly(from, to);
      const got = await to.evaluate(() => bench.reached('direct', { fresh: 60, beeps: 4, heardMs: 2000 }, 30_000));
      assert.equal(got.id, 5);
      assert.equal(got.toneId, 5);
      assert.ok(got.coded > got.frames * 0.95, `unreadable pictures: ${got.coded} of ${got.frames}`);
      assert.ok(Math.abs(got.avOffsetMs) < OWN_OFFSET_MS, `sound and picture are ${got.avOffsetMs} ms apart`);
      await Promise.all([from, to].map((page) => page.browserContext().close()));
    });
  }

  test('what is wrong shows: late sound, a frozen picture, a silence', { timeout: 60_000 }, async () => {
    const [from, to] = [await open(browsers.chromium), await open(browsers.chromium)];
    await from.evaluate(() => bench.source('camera', { id: 9, lateMs: 200 }));
    await callDirectly(from, to);
    const late = await to.evaluate(() => bench.reached('direct', { beeps: 4 }));
    assert.ok(late.avOffsetMs > 160 && late.avOffsetMs < 300, `200 ms late shows as ${late.avOffsetMs}`);
    assert.ok(late.longestGapMs < 500 && late.longestSilenceMs < 100, JSON.stringify(late));
    await from.evaluate(() => bench.sources.get('camera').hold(800));
    await from.evaluate(async () => {
      bench.sources.get('camera').setTone(false);
      await new Promise((done) => setTimeout(done, 400));
      bench.sources.get('camera').setTone(true);
    });
    const broken = await to.evaluate((fresh) => bench.reached('direct', { fresh, longestSilenceMs: 1 }), late.fresh + 40);
    assert.ok(broken.longestGapMs > 750 && broken.longestGapMs < 1400, `800 ms without pictures shows as ${broken.longestGapMs}`);
    assert.ok(broken.longestSilenceMs > 300 && broken.longestSilenceMs < 600, `400 ms of silence shows as ${broken.longestSilenceMs}`);
    assert.ok(broken.gapPercent > 1);
    await Promise.all([from, to].map((page) => page.browserContext().close()));
  });
});
