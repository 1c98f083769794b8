// How long and how fast: minutes in CI, the full ten with LONG=1.
import assert from 'node:assert/strict';
import { allSeeAll, smooth } from './check.js';
import { LONG, scenario } from './stage.js';

const SECONDS = LONG ? 600 : 60;

scenario(`four people at 360p and 20 fps for ${SECONDS} s without a freeze over 500 ms`, { timeout: (SECONDS + 90) * 1000 }, async (stage) => {
  // One encoding each: two cores encode four pictures and decode twelve.
  const publish = { video: { simulcast: false, maxBitrate: 400_000 } };
  const guests = [];
  for (const [n, name] of ['Ada', 'Bob', 'Cyd', 'Dee'].entries()) guests.push(await stage.guest({ name, id: n + 1, publish }));
  await goOn(guests);
});

scenario(`two people at 720p for ${SECONDS} s without a freeze over 500 ms`, { timeout: (SECONDS + 90) * 1000 }, async (stage) => {
  const source = { width: 1280, height: 720 };
  const publish = { video: { simulcast: false, maxBitrate: 1_500_000 } };
  const guests = [await stage.guest({ name: 'Ada', id: 1, source, publish }), await stage.guest({ name: 'Bob', id: 2, source, publish })];
  await goOn(guests);
  for (const [n, guest] of guests.entries()) assert.equal((await guest.report(guests[1 - n])).width, 1280);
});

async function goOn(guests) {
  await allSeeAll(...guests);
  await new Promise((done) => setTimeout(done, 5000)); // the encoders find their rates
  const pairs = guests.flatMap((guest) => guests.filter((other) => other !== guest).map((other) => [guest, other]));
  await Promise.all(pairs.map(([guest, other]) => guest.restart(other)));
  await new Promise((done) => setTimeout(done, SECONDS * 1000));
  const cameras = await Promise.all(guests.map((guest) => guest.camera()));
  const reports = await Promise.all(pairs.map(([guest, other]) => guest.report(other)));
  console.log(`longest freezes ${reports.map((r) => Math.round(r.longestGapMs))} ms (the cameras themselves paused ${cameras.map((c) => Math.round(c.longestPauseMs))} ms, the pages ${reports.map((r) => Math.round(r.longestStallMs))} ms); ` +
    `fps ${reports.map((r) => r.fps.toFixed(1))} of ${cameras.map((c) => c.fps.toFixed(1))}; ` +
    `sound missing ${reports.map((r) => r.gapPercent.toFixed(2))}%; lips ${reports.map((r) => r.avOffsetMs?.toFixed(0))} ms`);
  for (const [n, [guest, other]] of pairs.entries()) {
    const camera = cameras[guests.indexOf(other)];
    await smooth(guest, other);
    assert.ok(reports[n].fps > 0.85 * camera.fps, `${guest.name} sees ${other.name} at ${reports[n].fps.toFixed(1)} of ${camera.fps.toFixed(1)} fps`);
    assert.ok(Math.abs(reports[n].avOffsetMs) < 120, `${guest.name}: ${other.name}'s lips are off by ${reports[n].avOffsetMs} ms`);
  }
}

const JOINS = LONG ? 50 : 12;

scenario(`the first picture comes within 500 ms of joining (median of ${JOINS})`, { timeout: 30_000 + JOINS * 5000 }, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1 });
  const times = [];
  const joins = [];
  for (let n = 0; n < JOINS; n++) {
    const page = await stage.openBench();
    const report = await page.evaluate(async (url) => {
      const { joinedMs } = await bench.join({ url, room: 'tea', name: 'Late' });
      const got = await bench.reached('Ada', { fresh: 1 }, 10_000);
      await room.leave();
      return { joinedMs, firstTimeMs: got.firstTimeMs };
    }, stage.url);
    times.push(report.firstTimeMs);
    joins.push(report.joinedMs);
    await page.browserContext().close();
  }
  const sorted = times.map(Math.round).sort((a, b) => a - b);
  console.log(`first picture after ${sorted.join(' ')} ms; joined after ${joins.map(Math.round).sort((a, b) => a - b)[JOINS >> 1]} ms`);
  assert.ok(sorted[JOINS >> 1] < 500, `the median is ${sorted[JOINS >> 1]} ms`);
  await ada.leave();
});
