// The measuring itself, checked without the server: a browser calls a browser.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launch, openPage } from './browsers.js';
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

/** Connects two pages directly, `from` sending its source `camera` to the probe `call` of `to`. */
async function call(from, to) {
  const offer = await from.evaluate(async () => {
    const pc = new RTCPeerConnection();
    bench.peers.set('call', pc);
    const { stream } = bench.sources.get('camera');
    stream.getTracks().forEach((track) => pc.addTrack(track, stream));
    await pc.setLocalDescription();
    await new Promise((done) => pc.addEventListener('icegatheringstatechange', () => pc.iceGatheringState === 'complete' && done()));
    return pc.localDescription.sdp;
  });
  const answer = await to.evaluate(async (sdp) => {
    const pc = new RTCPeerConnection();
    bench.peers.set('call', pc);
    const stream = new MediaStream();
    pc.ontrack = ({ track }) => {
      stream.addTrack(track);
      if (stream.getTracks().length === 2) bench.watch('call', stream);
    };
    await pc.setRemoteDescription({ type: 'offer', sdp });
    await pc.setLocalDescription();
    await new Promise((done) => pc.addEventListener('icegatheringstatechange', () => pc.iceGatheringState === 'complete' && done()));
    return pc.localDescription.sdp;
  }, offer);
  await from.evaluate((sdp) => bench.peers.get('call').setRemoteDescription({ type: 'answer', sdp }), answer);
}

// What a browser's own WebAudio adds: Firefox hands sound to a page about 50 ms later than it plays it.
const OWN_OFFSET_MS = { chromium: 60, firefox: 110 };

describe('what the probe measures', () => {
  for (const [sender, receiver] of [['chromium', 'chromium'], ['chromium', 'firefox'], ['firefox', 'chromium']]) {
    test(`${sender} to ${receiver}: pictures, tone and lip sync`, { timeout: 60_000 }, async () => {
      const [from, to] = [await open(browsers[sender]), await open(browsers[receiver])];
      await from.evaluate(() => bench.source('camera', { id: 5 }));
      await call(from, to);
      const got = await to.evaluate(() => bench.reached('call', { fresh: 60, beeps: 4, heardMs: 2000 }, 30_000));
      assert.equal(got.id, 5);
      assert.equal(got.toneId, 5);
      assert.ok(got.coded > got.frames * 0.95, `unreadable pictures: ${got.coded} of ${got.frames}`);
      assert.ok(Math.abs(got.avOffsetMs) < OWN_OFFSET_MS[receiver], `sound and picture are ${got.avOffsetMs} ms apart`);
      await Promise.all([from, to].map((page) => page.browserContext().close()));
    });
  }

  test('what is wrong shows: late sound, a frozen picture, a silence', { timeout: 60_000 }, async () => {
    const [from, to] = [await open(browsers.chromium), await open(browsers.chromium)];
    await from.evaluate(() => bench.source('camera', { id: 9, lateMs: 200 }));
    await call(from, to);
    const late = await to.evaluate(() => bench.reached('call', { beeps: 4 }));
    assert.ok(late.avOffsetMs > 160 && late.avOffsetMs < 300, `200 ms late shows as ${late.avOffsetMs}`);
    assert.ok(late.longestGapMs < 500 && late.longestSilenceMs < 100, JSON.stringify(late));
    await from.evaluate(() => bench.sources.get('camera').hold(800));
    await from.evaluate(async () => {
      bench.sources.get('camera').setTone(false);
      await new Promise((done) => setTimeout(done, 400));
      bench.sources.get('camera').setTone(true);
    });
    const broken = await to.evaluate((fresh) => bench.reached('call', { fresh, longestSilenceMs: 1 }), late.fresh + 40);
    assert.ok(broken.longestGapMs > 750 && broken.longestGapMs < 1400, `800 ms without pictures shows as ${broken.longestGapMs}`);
    assert.ok(broken.longestSilenceMs > 300 && broken.longestSilenceMs < 600, `400 ms of silence shows as ${broken.longestSilenceMs}`);
    assert.ok(broken.gapPercent > 1);
    await Promise.all([from, to].map((page) => page.browserContext().close()));
  });
});
