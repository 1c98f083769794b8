// Every codec and how it is sent: simulcast, SVC, RED, DTX.
import assert from 'node:assert/strict';
import { seesAndHears } from './check.js';
import { scenario } from './stage.js';

/** The codecs of the pictures that `guest` receives. (A slot that shows nothing may get padding, when the server tries what the path carries.) */
const receives = async (guest) => {
  const inbound = await guest.page.evaluate(() => bench.stats('inbound-rtp'));
  return inbound.filter((s) => s.kind === 'video' && s.framesDecoded > 0).map((s) => s.codec);
};

for (const codec of ['VP8', 'VP9', 'AV1', 'H264']) {
  scenario(`${codec} from Chromium to Chromium`, {}, async (stage) => {
    const ada = await stage.guest({ name: 'Ada', id: 1, publish: { video: { codec, simulcast: false } } });
    const bob = await stage.guest({ name: 'Bob', id: 2, publish: { video: { codec, simulcast: false } }, source: { width: 320, height: 180 } });
    await seesAndHears(bob, ada, { fresh: 40, width: 640 });
    assert.deepEqual([...new Set(await receives(bob))], [`video/${codec}`]);
    // Somebody who comes later needs a keyframe.
    const late = await stage.guest({ name: 'Late' });
    await seesAndHears(late, ada);
  });
}

for (const codec of ['VP8', 'VP9', 'AV1']) {
  scenario(`${codec} between Chromium and Firefox`, {}, async (stage) => {
    const ada = await stage.guest({ name: 'Ada', id: 1, publish: { video: { codec, simulcast: false } } });
    const bob = await stage.guest({ name: 'Bob', id: 2, kind: 'firefox', publish: { video: { codec, simulcast: false } }, source: { width: 320, height: 180 } });
    await Promise.all([seesAndHears(bob, ada), seesAndHears(ada, bob)]);
    assert.deepEqual([...new Set(await receives(ada))], [`video/${codec}`]);
    assert.deepEqual([...new Set(await receives(bob))], [`video/${codec}`]);
  });
}

scenario('simulcast from Chromium: the best layer that lives is forwarded', { timeout: 90_000 }, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1, source: { width: 1280, height: 720 }, publish: { video: { simulcast: true } } });
  const bob = await stage.guest({ name: 'Bob' });
  const report = await bob.sees(ada, { width: 1280, fresh: 40 }, 60_000);
  assert.equal(report.id, 1);
  const rids = (await ada.page.evaluate(() => bench.stats('outbound-rtp'))).filter((s) => s.kind === 'video' && s.packetsSent).map((s) => s.rid);
  assert.deepEqual(rids.sort(), ['f', 'h', 'q']);
});

scenario('simulcast at 360p, from Firefox and from Chromium', { timeout: 90_000 }, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1, kind: 'firefox', publish: { video: { simulcast: true } } });
  const bob = await stage.guest({ name: 'Bob', id: 2, publish: { video: { simulcast: true } } });
  await Promise.all([bob.sees(ada, { width: 640, fresh: 40 }, 45_000), ada.sees(bob, { width: 640, fresh: 40 }, 45_000)]);
  await Promise.all([seesAndHears(ada, bob), seesAndHears(bob, ada)]);
});

scenario('SVC: VP9 with three spatial and temporal layers', { timeout: 90_000 }, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1, source: { width: 1280, height: 720, tone: true }, publish: { video: { codec: 'VP9', simulcast: false } } });
  await ada.page.evaluate(async () => {
    const sender = bench.connections.flatMap((pc) => pc.getSenders()).find(({ track }) => track?.kind === 'video');
    const parameters = sender.getParameters();
    parameters.encodings[0].scalabilityMode = 'L3T3_KEY';
    await sender.setParameters(parameters);
  });
  const bob = await stage.guest({ name: 'Bob' });
  await bob.sees(ada, { width: 1280, fresh: 40 }, 60_000);
  await seesAndHears(bob, ada);
  const sent = (await ada.page.evaluate(() => bench.stats('outbound-rtp'))).find((s) => s.kind === 'video');
  assert.equal(sent.scalabilityMode, 'L3T3_KEY');
});

scenario('audio with RED, also for who does not know it, and with DTX', {}, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1, publish: { audio: { red: true } } });
  const bob = await stage.guest({ name: 'Bob', id: 2, publish: { audio: { red: false, dtx: true } } });
  const fox = await stage.guest({ name: 'Fox', kind: 'firefox' }); // knows no RED
  await Promise.all([seesAndHears(bob, ada), seesAndHears(ada, bob), seesAndHears(fox, ada), seesAndHears(fox, bob)]);
  // Chromium's statistics name the codec inside; that it came as RED shows in its size: every frame travels twice.
  const bytes = async (guest) => {
    const inbound = (await guest.page.evaluate(() => bench.stats('inbound-rtp'))).find((s) => s.kind === 'audio' && s.packetsReceived > 20);
    return inbound.bytesReceived / inbound.packetsReceived;
  };
  const [withRed, without] = [await bytes(bob), await bytes(ada)];
  assert.ok(withRed > 1.6 * without, `a packet has ${withRed.toFixed(0)} bytes with RED, ${without.toFixed(0)} without`);
  // Silence: DTX sends a packet now and then, and the tone comes back whole.
  const packets = async () => (await bob.page.evaluate(() => bench.stats('outbound-rtp'))).find((s) => s.kind === 'audio').packetsSent;
  await bob.page.evaluate(() => bench.sources.get('camera').silence(true));
  await ada.page.waitForFunction(() => bench.report('Bob').toneId === -1, { timeout: 5000 });
  const [before, began] = [await packets(), Date.now()];
  await new Promise((done) => setTimeout(done, 3000)); // a rate is measured
  const rate = ((await packets()) - before) / ((Date.now() - began) / 1000);
  assert.ok(rate < 35, `${rate.toFixed(1)} packets a second in silence: DTX is off`);
  await bob.page.evaluate(() => bench.sources.get('camera').silence(false));
  await seesAndHears(ada, bob, { heardMs: (await ada.report(bob)).heardMs + 1000 });
});
