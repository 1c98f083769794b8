// A viewer whose line becomes narrow, and wide again: a real Chromium behind a token bucket.
import assert from 'node:assert/strict';
import { scenario } from './stage.js';

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** A row for each second: what is seen, what the server believes, what came through. */
async function record(stage, viewer, publisher, seconds, rows, done = () => false) {
  for (let n = 0; n < seconds; n++) {
    const before = stage.path.counts();
    await pause(1000);
    const now = stage.path.counts();
    const [report, { sub }, [state], sent] = await Promise.all([
      viewer.report(publisher),
      viewer.run(async (room) => (await room.stats()).server ?? {}),
      viewer.page.evaluate((name) => bench.statesOf(name), publisher.name),
      publisher.page.evaluate(() => bench.stats('outbound-rtp')),
    ]);
    const layer = state.layer ? `${state.layer.rid}T${state.layer.temporal ?? ''}` : '-';
    const encoded = sent.filter(({ kind }) => kind === 'video').map(({ rid, framesPerSecond }) => `${rid}${framesPerSecond ?? 0}`);
    const row = {
      width: report.width,
      fresh: report.fresh,
      gapMs: Math.round(report.longestGapMs),
      layer: `${layer} ${state.state} ${state.why}`,
      estimateKbps: Math.round((sub?.bandwidth?.estimateBps ?? 0) / 1000),
      kbps: Math.round(((now.bytes - before.bytes) * 8) / 1000),
      dropped: now.dropped - before.dropped,
      queued: now.backlog,
      encoded: encoded.sort().join(' '),
    };
    rows.push(row);
    if (done(row)) return n + 1;
  }
  return null;
}

const table = (rows) => rows.map((row) => Object.entries(row).map(([key, value]) => `${key} ${value}`).join(', ')).join('\n');

/** What was seen since `viewer.restart(publisher)`, beyond what the machine itself was busy with. @returns {Promise<string[]>} what is wrong */
async function faults(viewer, publisher, what, freezeMs) {
  const [report, camera] = await Promise.all([viewer.report(publisher), publisher.camera()]);
  const machine = [camera.longestPauseMs, report.longestStallMs];
  const allowed = machine.reduce((sum, ms) => sum + Math.max(0, ms - 100), freezeMs);
  return [
    report.longestGapMs > allowed && `${what}: a freeze of ${Math.round(report.longestGapMs)} ms (the camera paused ${Math.round(machine[0])} ms, the page ${Math.round(machine[1])} ms)`,
    report.coded < 0.99 * report.frames && `${what}: ${report.frames - report.coded} of ${report.frames} pictures could not be read`,
    report.backwards > 0 && `${what}: ${report.backwards} pictures went back in time`,
  ].filter(Boolean);
}

/** The line becomes narrow, and wide again. @returns {Promise<string[]>} what is wrong */
async function narrowAndWiden(stage, bob, ada) {
  const rows = [];
  const wrong = [];
  const isBack = (row) => row.width === 1280;
  let back = null;
  for (const { what, kbps, seconds, done } of [
    { what: '3000 kbit/s', seconds: 10 },
    { what: '600 kbit/s', kbps: 600, seconds: 20 },
    { what: '3000 kbit/s again', kbps: 3000, seconds: 30, done: isBack },
    { what: 'settled again', seconds: 10 },
  ]) {
    if (kbps) stage.path.set({ kbps });
    await bob.restart(ada);
    rows.push({ phase: what });
    const reached = await record(stage, bob, ada, seconds, rows, done);
    if (done) back = reached;
    wrong.push(...(await faults(bob, ada, what, 1000)));
    const { width } = await bob.report(ada);
    if (what === '600 kbit/s' ? width >= 1280 : width < 1280) wrong.push(`${what}: the picture is ${width} wide`);
  }
  if (back === null || back > 15) wrong.push(`the best picture was back after ${back ?? 'more than 30'} s`);
  console.log(`${table(rows)}\nthe best picture was back after ${back} s`);
  return wrong;
}

scenario('3 Mbit/s, 600 kbit/s and back: no freeze, and the best picture soon', { shaped: { kbps: 3000 }, timeout: 240_000 }, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1, source: { width: 1280, height: 720, fps: 20, texture: 0.1 } });
  const bob = await stage.guest({ name: 'Bob', kind: 'shaped' });
  await bob.sees(ada, { width: 1280, fresh: 40 }, 60_000);
  await pause(10_000); // settled
  const first = await narrowAndWiden(stage, bob, ada);
  if (first.length === 0) return;
  // The queue may drop the very keyframe that the smaller picture begins with, which costs half a second more: the rule is 400 to 620 ms, of ten times
  // one was 1,250 ms. Twice in a row is no bad luck.
  console.log(`once more, because of ${first}`);
  assert.deepEqual(await narrowAndWiden(stage, bob, ada), [], `the second time; the first: ${first}`);
});
