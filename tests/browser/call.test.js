// People in a call through the server, in real browsers; what counts is what each receiver decoded.
import assert from 'node:assert/strict';
import { allSeeAll, lipsInSync, seesAndHears, smooth } from './check.js';
import { scenario } from './stage.js';

scenario('two people in Chromium see and hear each other, lips in sync', {}, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1 });
  const bob = await stage.guest({ name: 'Bob', id: 2 });
  await allSeeAll(ada, bob);
  await lipsInSync(ada, bob);
});

scenario('Chromium and Firefox see and hear each other, lips in sync both ways', { timeout: 90_000 }, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 3 });
  const bob = await stage.guest({ name: 'Bob', id: 4, kind: 'firefox' });
  await allSeeAll(ada, bob);
  await lipsInSync(ada, bob);
  await lipsInSync(bob, ada);
});

scenario('three people join and leave, and the others go on undisturbed', { timeout: 90_000 }, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1 });
  const bob = await stage.guest({ name: 'Bob', id: 2 });
  await allSeeAll(ada, bob);
  await ada.restart(bob);
  const cyd = await stage.guest({ name: 'Cyd', id: 3 });
  await allSeeAll(ada, bob, cyd);
  await cyd.leave();
  await Promise.all([ada, bob].map((guest) => guest.until('room.participants.size === 2')));
  const dee = await stage.guest({ name: 'Dee', id: 4 });
  await allSeeAll(ada, bob, dee);
  await dee.page.close(); // a tab that is just closed
  await ada.sees(bob, { fresh: 200 }, 30_000);
  await smooth(ada, bob);
  await ada.until('room.participants.size === 2', 60_000);
  await bob.leave();
  await ada.until('room.participants.size === 1 && room.tracks.size === 2');
});

scenario('mute is told, is silent, and ends', {}, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1 });
  const bob = await stage.guest({ name: 'Bob', id: 2 });
  await seesAndHears(bob, ada);
  const muted = (source) => `[...room.tracks.values()].find((t) => !t.participant.isLocal && t.source === '${source}').muted`;
  for (const source of ['microphone', 'camera']) {
    await ada.run((room, which) => room.localTrack(which).setMuted(true), source);
    await bob.until(muted(source));
  }
  await bob.page.waitForFunction(() => bench.report('Ada').toneId === -1, { timeout: 5000 });
  const before = await bob.report(ada);
  assert.equal((await bob.report(ada)).toneId, -1);
  for (const source of ['microphone', 'camera']) {
    await ada.run((room, which) => room.localTrack(which).setMuted(false), source);
    await bob.until(`!${muted(source)}`);
  }
  const after = await seesAndHears(bob, ada, { fresh: before.fresh + 20, heardMs: before.heardMs + 1000 });
  assert.equal(after.idChanges, 0);
});

scenario('chat, raised hands, names and who is speaking', {}, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1 });
  const bob = await stage.guest({ name: 'Bob', id: 2, source: { tone: false } });
  await ada.run((room) => room.say('chat', 'hello', { retain: true }));
  await ada.run((room) => room.say('chat', 'a whisper', { to: [[...room.participants.values()].find((p) => p.name === 'Bob').id] }));
  await ada.run((room) => room.set({ attributes: { hand: true } }));
  await bob.until(`room.messages.length === 2 && room.messages[0].body === 'hello'`);
  await bob.until(`[...room.participants.values()].find((p) => p.name === 'Ada').attributes.hand === true`);
  await bob.until(`[...room.participants.values()].find((p) => p.name === 'Ada').speaking`);
  await bob.until(`!room.me.speaking`);
  await bob.run((room) => room.set({ name: 'Robert' }));
  await ada.until(`[...room.participants.values()].some((p) => p.name === 'Robert')`);
  const late = await stage.guest({ name: 'Late' });
  await late.until(`room.messages.some((m) => m.body === 'hello')`);
  await late.until(`!room.messages.some((m) => m.body === 'a whisper')`);
});

scenario('a screen is shared beside the camera, with its sound, and taken away', {}, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1 });
  const bob = await stage.guest({ name: 'Bob', id: 2 });
  await allSeeAll(ada, bob);
  await ada.page.evaluate(async () => {
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: true });
    await room.publish(stream.getVideoTracks()[0], { source: 'screen' });
  });
  const real = await bob.sees('Ada/screen', { frames: 3 });
  assert.ok(real.width >= 320, `the screen is ${real.width} wide`);
  await ada.run((room) => room.localTrack('screen').unpublish());
  await bob.until(`![...room.tracks.values()].some((t) => t.source === 'screen')`);
  // A screen that we drew ourselves, so that its picture and sound can be told.
  await ada.page.evaluate(() => bench.publish('screen', { id: 9, width: 1280, height: 720, fps: 10, tone: true }, {}));
  await ada.page.evaluate(() => room.publish(bench.sources.get('screen').stream.getAudioTracks()[0], { source: 'screenAudio' }));
  const screen = await bob.sees('Ada/screen', { fresh: 20 });
  assert.deepEqual([screen.id, screen.width], [9, 1280]);
  const sound = await bob.sees('Ada/screenAudio', { heardMs: 500 });
  assert.equal(sound.toneId, 9);
  await seesAndHears(bob, ada);
});

scenario('a slot shows one person after the other, and its decoder does not notice', { args: ['--max-video-slots', '2'] }, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1, source: { width: 320, height: 180 }, publish: { video: { simulcast: false } } });
  const tracks = {};
  for (const id of [4, 5, 6, 7]) {
    tracks[id] = await ada.page.evaluate((n) => bench.publish(`camera ${n}`, { id: n, width: 320, height: 180, tone: false }, {}), id);
  }
  const bob = await stage.guest({ name: 'Bob', bySlot: true });
  const shown = () => bob.page.evaluate(() => Object.entries(bench.reports()).filter(([, r]) => r.frames).map(([slot, r]) => ({ slot, ...r })));
  for (const pair of [[4, 5], [6, 7], [5, 6], [7, 4]]) {
    const began = Date.now();
    await bob.run((room, ids) => room.request('view', { tracks: Object.fromEntries(ids.map((id) => [id, { w: 320, h: 180 }])), lastN: 0 }), pair.map((id) => tracks[id]));
    await bob.page.waitForFunction((ids) => ids.every((id) => Object.values(bench.reports()).some((r) => r.id === id && r.longestGapMs < 1e9)), { timeout: 10_000, polling: 20 }, pair);
    console.log(`slots show ${pair} after ${Date.now() - began} ms`);
  }
  const slots = await shown();
  assert.equal(slots.length, 2, `two slots carried pictures: ${JSON.stringify(slots)}`);
  for (const report of slots) {
    assert.ok(report.idChanges >= 2, `${report.slot} had ${report.idChanges} changes`);
    assert.ok(report.longestGapMs < 1000, `${report.slot} stood still for ${report.longestGapMs} ms`);
    assert.ok(report.coded >= 0.95 * report.frames, `${report.slot}: ${report.coded} of ${report.frames} could be read`);
  }
});
