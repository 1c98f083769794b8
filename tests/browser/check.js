// What tests say about a call, in one place.
import assert from 'node:assert/strict';
import { callDirectly, hangUp } from './direct.js';

/** `guest` sees and hears `other`: pictures advance, are theirs, and so is the tone. */
export async function seesAndHears(guest, other, wanted = {}) {
  const report = await guest.sees(other, { fresh: 20, heardMs: 500, id: other.id, toneId: other.id, ...wanted });
  assert.equal(report.id, other.id, `${guest.name} sees somebody else than ${other.name}`);
  assert.equal(report.toneId, other.id, `${guest.name} hears somebody else than ${other.name}`);
  assert.ok(report.coded >= 0.9 * report.frames, `${guest.name}: unreadable pictures of ${other.name}: ${report.coded} of ${report.frames}`);
  return report;
}

/** Everybody sees and hears everybody. */
export const allSeeAll = (...guests) =>
  Promise.all(guests.flatMap((guest) => guests.filter((other) => other !== guest).map((other) => seesAndHears(guest, other))));

/**
 * What `to` gets of `from` through the server is as much in sync as what it gets without it, at the same time. (A page's own WebAudio adds
 * 25 to 70 ms to the sound; the difference is the server's.)
 */
export async function lipsInSync(from, to, boundMs = 60) {
  await callDirectly(from.page, to.page);
  try {
    await to.restart(from);
    const [through, direct] = await Promise.all([to.sees(from, { beeps: 8 }, 30_000), to.sees('direct', { beeps: 8 }, 30_000)]);
    const offset = through.avOffsetMs - direct.avOffsetMs;
    console.log(`lips ${from.name} to ${to.name}: ${Math.round(through.avOffsetMs)} ms, without the server ${Math.round(direct.avOffsetMs)} ms`);
    assert.ok(Math.abs(offset) < boundMs, `the server puts sound and picture ${Math.round(offset)} ms apart: ${through.avOffsets} and ${direct.avOffsets}`);
  } finally {
    await hangUp(from.page, to.page);
  }
}

/**
 * What `guest` got of `other` since `guest.restart(other)`, without freezes and silences. On a machine that has other work to do, a camera pauses by
 * itself and a page paints nothing for a while: beyond a few frames (100 ms), these are no fault of the call.
 */
export async function smooth(guest, other, { freezeMs = 500, gapPercent = 1 } = {}) {
  const [report, camera] = await Promise.all([guest.report(other), other.camera()]);
  const what = `${guest.name} of ${other.name}`;
  const machine = [camera.longestPauseMs, report.longestStallMs];
  const allowed = machine.reduce((sum, ms) => sum + Math.max(0, ms - 100), freezeMs);
  const said = `the camera paused ${Math.round(machine[0])} ms, the page ${Math.round(machine[1])} ms`;
  assert.ok(report.longestGapMs <= allowed, `${what}: a freeze of ${Math.round(report.longestGapMs)} ms (${said})`);
  assert.ok(report.gapPercent < gapPercent, `${what}: ${report.gapPercent.toFixed(2)}% of the sound is missing, ${report.longestSilenceMs} ms at once`);
  return { report, camera };
}
