// Networks that fail: what heals, how fast, and without anybody being told that somebody left.
import assert from 'node:assert/strict';
import { allSeeAll, seesAndHears, smooth } from './check.js';
import { scenario } from './stage.js';

const RELAYED = { network: { seed: 7 } };
const logOf = (guest) => guest.page.evaluate(() => bench.log());
const left = async (guest) => (await logOf(guest)).filter((line) => line.type === 'participant.left');

scenario('a tab that is reloaded is the same person, and is seen again', {}, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1 });
  const bob = await stage.guest({ name: 'Bob', id: 2 });
  await allSeeAll(ada, bob);
  const { participant } = bob.joined;
  await bob.reload();
  await bob.join();
  assert.equal(bob.joined.participant, participant);
  const before = await ada.report(bob);
  await seesAndHears(ada, bob, { fresh: before.fresh + 20, heardMs: before.heardMs + 500 });
  await seesAndHears(bob, ada);
  assert.deepEqual(await left(ada), []);
});

scenario('a socket that is cut is resumed: nothing lost, nothing twice, media goes on', RELAYED, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1 });
  const bob = await stage.guest({ name: 'Bob', id: 2 });
  await allSeeAll(ada, bob);
  await bob.restart(ada);
  for (let n = 0; n < 3; n++) {
    stage.tcp.cut();
    await ada.until(`room.state.phase === 'live'`);
    await ada.run((room, text) => room.say('chat', text), `message ${n}`);
  }
  await bob.until(`room.state.phase === 'live' && room.messages.length >= 3`);
  const bodies = await bob.run((room) => room.messages.map((m) => m.body));
  assert.deepEqual(bodies, ['message 0', 'message 1', 'message 2']);
  await bob.sees(ada, { fresh: 40 });
  await smooth(bob, ada);
  assert.deepEqual([await left(ada), await left(bob)], [[], []]);
});

scenario('the network is gone for 20 seconds: it says so, and heals', { ...RELAYED, timeout: 120_000 }, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1 });
  const bob = await stage.guest({ name: 'Bob', id: 2 });
  await allSeeAll(ada, bob);
  const blocked = { blocked: true };
  stage.udp.set({ up: blocked, down: blocked });
  stage.tcp.block(true);
  const until = Date.now() + 20_000;
  await bob.until(`room.state.phase === 'reconnecting'`, 20_000);
  await new Promise((done) => setTimeout(done, until - Date.now())); // the outage itself
  stage.udp.set({ up: { blocked: false }, down: { blocked: false } });
  stage.tcp.block(false);
  const [seen, healedAt] = [await bob.report(ada), Date.now()];
  await Promise.all([ada, bob].map((guest) => guest.until(`room.state.phase === 'live'`, 20_000)));
  await bob.sees(ada, { fresh: seen.fresh + 10, heardMs: seen.heardMs + 200 }, 20_000);
  console.log(`healed ${Date.now() - healedAt} ms after the network was back`);
  await allSeeAll(ada, bob);
});

scenario('UDP alone is gone for a while: media heals', { ...RELAYED, timeout: 90_000 }, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1 });
  const bob = await stage.guest({ name: 'Bob', id: 2 });
  await allSeeAll(ada, bob);
  stage.udp.set({ up: { blocked: true }, down: { blocked: true } });
  await bob.until(`room.state.phase === 'reconnecting' && room.state.why === 'media'`, 30_000);
  stage.udp.set({ up: { blocked: false }, down: { blocked: false } });
  const seen = await bob.report(ada);
  await Promise.all([ada, bob].map((guest) => guest.until(`room.state.phase === 'live'`, 20_000)));
  await bob.sees(ada, { fresh: seen.fresh + 10 });
  await allSeeAll(ada, bob);
  assert.deepEqual([await left(ada), await left(bob)], [[], []]);
});

scenario('a server that dies and comes back: everybody is in the room again', { timeout: 90_000 }, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1 });
  const bob = await stage.guest({ name: 'Bob', id: 2 });
  await allSeeAll(ada, bob);
  const seen = await bob.report(ada);
  await stage.replaceServer();
  await Promise.all([ada, bob].map((guest) => guest.until(`room.state.phase === 'live' && room.participants.size === 2`, 30_000)));
  await bob.sees(ada, { fresh: seen.fresh + 20, heardMs: seen.heardMs + 500 }, 30_000);
  await allSeeAll(ada, bob);
});

scenario('an ICE restart does not disturb', {}, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1 });
  const bob = await stage.guest({ name: 'Bob', id: 2 });
  await allSeeAll(ada, bob);
  const ufrags = () => bob.page.evaluate(() => bench.connections.map((pc) => /a=ice-ufrag:(\S+)/.exec(pc.localDescription?.sdp ?? '')?.[1]));
  const before = await ufrags();
  await Promise.all([ada.restart(bob), bob.restart(ada)]);
  await bob.page.evaluate(() => window.dispatchEvent(new Event('online'))); // another network: the SDK restarts ICE
  await bob.page.waitForFunction((old) => bench.connections.every((pc, n) => !pc.localDescription?.sdp.includes(`ice-ufrag:${old[n]}`) && pc.iceConnectionState !== 'checking'), { timeout: 10_000 }, before);
  for (const [guest, other] of [[ada, bob], [bob, ada]]) {
    await guest.sees(other, { fresh: 80 });
    await smooth(guest, other);
  }
  const after = await ufrags();
  assert.ok(after.every((ufrag, n) => ufrag !== before[n]), `${before} and then ${after}`);
});

scenario('5% of all datagrams are lost each way: sound and pictures go on', { network: { seed: 42, up: { loss: 0.05 }, down: { loss: 0.05 } }, timeout: 120_000 }, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1 });
  const bob = await stage.guest({ name: 'Bob', id: 2 });
  await allSeeAll(ada, bob);
  await Promise.all([ada.restart(bob), bob.restart(ada)]);
  await Promise.all([ada.sees(bob, { fresh: 400 }, 60_000), bob.sees(ada, { fresh: 400 }, 60_000)]);
  const reports = [await smooth(ada, bob, { freezeMs: 1000 }), await smooth(bob, ada, { freezeMs: 1000 })].map(({ report }) => report);
  const { passed, lost } = stage.udp.counts;
  assert.ok(lost > 0.03 * (passed + lost), `${lost} of ${passed + lost} lost`);
  const inbound = (await bob.page.evaluate(() => bench.stats('inbound-rtp'))).find((s) => s.kind === 'audio' && s.totalSamplesReceived);
  const concealed = (100 * inbound.concealedSamples) / inbound.totalSamplesReceived;
  console.log(`5% loss: ${reports.map((r) => `longest freeze ${Math.round(r.longestGapMs)} ms, sound missing ${r.gapPercent.toFixed(2)}%`).join('; ')}; made up ${concealed.toFixed(2)}%`);
  // One packet in ten is lost on the way from one to the other: RED brings nearly all of it back, and what is left is made up.
  assert.ok(concealed < 2, `${concealed.toFixed(1)}% of the sound was made up`);
});
