// What nobody looks at costs its publisher nothing: judged by what the publisher's encoders do.
import assert from 'node:assert/strict';
import { scenario } from './stage.js';

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Pictures encoded so far, by the width of the encoding: those that a camera of this size is sent in. */
const encoded = async (guest) => {
  const streams = (await guest.page.evaluate(() => bench.stats('outbound-rtp'))).filter(({ kind }) => kind === 'video');
  return Object.fromEntries(streams.map(({ rid, framesEncoded = 0 }) => [rid ?? 'one', framesEncoded]));
};

/** The encodings in which pictures were made within half a second. */
async function working(guest) {
  const before = await encoded(guest);
  await pause(500);
  const after = await encoded(guest);
  return Object.keys(after).filter((rid) => after[rid] > before[rid] + 2).sort().join('');
}

/** Waits until exactly these encodings work; resolves with the milliseconds. */
async function until(guest, rids, limit) {
  const began = Date.now();
  for (;;) {
    const now = await working(guest);
    if (now === rids) return Date.now() - began;
    assert.ok(Date.now() - began < limit, `“${now}” is encoded, not “${rids}”, after ${limit} ms`);
  }
}

/** Shows somebody's camera in an element of this size, as an application does. */
const show = (viewer, publisher, width, height) =>
  viewer.page.evaluate(
    async ({ name, w, h }) => {
      const track = await new Promise((found) => {
        const look = () => [...room.tracks.values()].find((t) => t.kind === 'video' && t.participant.name === name);
        const timer = setInterval(() => look() && (clearInterval(timer), found(look())), 20);
      });
      let element = document.getElementById('tile');
      if (!element) {
        element = Object.assign(document.createElement('video'), { id: 'tile', muted: true, autoplay: true });
        document.body.prepend(element);
      }
      // The style of the page is for probes.
      element.style.cssText = `display: block; width: ${w}px; height: ${h}px`;
      room.attach(element, track);
    },
    { name: publisher.name, w: width, h: height },
  );

for (const kind of ['chromium', 'firefox']) {
  scenario(`a small tile, a hidden tab and nobody at all cost a publisher in ${kind} nothing`, { timeout: 120_000 }, async (stage) => {
    const ada = await stage.guest({ name: 'Ada', id: 1, kind, source: { width: 960, height: 540 } });
    const bob = await stage.guest({ name: 'Bob' });
    await bob.page.setViewport({ width: 1100, height: 700 });
    await show(bob, ada, 960, 540);
    await bob.sees(ada, { width: 960, fresh: 10 }, 45_000);
    await until(ada, 'fhq', 10_000);

    await show(bob, ada, 230, 130);
    const small = await until(ada, 'q', 12_000);
    await bob.sees(ada, { fresh: 1 });
    const grown = Date.now();
    await show(bob, ada, 960, 540);
    await bob.page.waitForFunction(() => bench.report('Ada').width === 960, { timeout: 10_000, polling: 20 });
    const large = Date.now() - grown;

    // A glance at another tab changes nothing; a longer one stops everything.
    const other = await bob.page.browserContext().newPage();
    await other.bringToFront();
    assert.equal(await bob.page.evaluate(() => document.visibilityState), 'hidden', 'the tab is in the background');
    const hidden = await until(ada, '', 15_000);
    const back = Date.now();
    const before = await bob.report(ada);
    await bob.page.bringToFront();
    await bob.sees(ada, { fresh: before.fresh + 5, width: 960 }, 10_000);
    const again = Date.now() - back;

    await bob.leave();
    const alone = await until(ada, '', 15_000);
    console.log(`a small tile stops the larger encodings after ${small} ms, a large one has them back after ${large} ms; a hidden tab stops all after ${hidden} ms, and has its picture back after ${again} ms; nobody: ${alone} ms`);
    assert.ok(large < 3000 && again < 3000, 'what is wanted again comes at once');
  });
}

scenario('a shared screen that nobody looks at is not encoded, and comes at once', { timeout: 60_000 }, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1, source: { width: 320, height: 180 }, publish: { video: { source: 'screen', simulcast: false } } });
  const bob = await stage.guest({ name: 'Bob' });
  await bob.page.setViewport({ width: 800, height: 600 });
  await show(bob, ada, 320, 180);
  await until(ada, 'one', 10_000);
  await bob.page.evaluate(() => (document.getElementById('tile').style.display = 'none'));
  const stopped = await until(ada, '', 12_000);
  const began = Date.now();
  await bob.page.evaluate(() => (document.getElementById('tile').style.display = 'block'));
  const before = (await bob.report('Ada/screen')).fresh;
  await bob.sees('Ada/screen', { fresh: before + 3 }, 10_000);
  console.log(`stopped after ${stopped} ms, back after ${Date.now() - began} ms`);
  assert.ok(Date.now() - began < 3000);
});
