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
    const [report, { subscribe }, [state], sent] = await Promise.all([
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
      estimateKbps: Math.round((subscribe?.estimateBps ?? 0) / 1000),
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

scenario('3 Mbit/s, 600 kbit/s and back: no freeze, and the best picture soon', { shaped: { kbps: 3000 }, timeout: 180_000 }, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1, source: { width: 1280, height: 720, fps: 20, texture: 0.1 } });
  const bob = await stage.guest({ name: 'Bob', kind: 'shaped' });
  const rows = [];
  try {
    await bob.sees(ada, { width: 1280, fresh: 40 }, 60_000);
    await pause(5000); // settled
    const phases = [['3000 kbit/s', 3000, 10], ['600 kbit/s', 600, 20], ['3000 kbit/s again', 3000, 20]];
    let back = null;
    for (const [what, kbps, seconds] of phases) {
      if (kbps !== 3000 || rows.length) stage.path.set({ kbps });
      await bob.restart(ada);
      rows.push({ phase: what });
      const reached = await record(stage, bob, ada, seconds, rows, (row) => what.endsWith('again') && row.width === 1280);
      const report = await bob.report(ada);
      const camera = await ada.camera();
      const allowed = 1000 + [camera.longestPauseMs, report.longestStallMs].reduce((sum, ms) => sum + Math.max(0, ms - 100), 0);
      assert.ok(report.longestGapMs < allowed, `${what}: a freeze of ${Math.round(report.longestGapMs)} ms (camera ${Math.round(camera.longestPauseMs)}, page ${Math.round(report.longestStallMs)})`);
      assert.ok(report.coded >= 0.99 * report.frames, `${what}: ${report.frames - report.coded} of ${report.frames} pictures could not be read`);
      assert.equal(report.backwards, 0, `${what}: pictures went back in time`);
      if (kbps === 600) assert.ok(report.width < 1280, 'the large picture does not fit');
      if (what.endsWith('again')) back = reached;
    }
    assert.ok(back !== null && back <= 15, `the best picture was back after ${back ?? 'more than 20'} s`);
    // It stays, and nothing freezes on the way.
    await bob.restart(ada);
    await record(stage, bob, ada, 10, rows);
    const report = await bob.report(ada);
    assert.equal(report.width, 1280);
    assert.ok(report.longestGapMs < 1000, `a freeze of ${Math.round(report.longestGapMs)} ms after it was back`);
    console.log(`the best picture was back after ${back} s`);
  } finally {
    console.log(table(rows));
  }
});
