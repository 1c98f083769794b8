// Layer switches between real browsers, driven by how large a viewer looks, and judged by what it decodes: no broken picture, no freeze, never
// backwards in time. LONG=1 does fifty of each.
import assert from 'node:assert/strict';
import { LONG, scenario } from './stage.js';

const SWITCHES = LONG ? 50 : 12;
const TIMEOUT = LONG ? 240_000 : 120_000;
/** Three simulcast layers at the smallest size at which Chromium sends three. */
const SOURCE = { width: 960, height: 540, fps: 20 };
/**
 * Now and then libvpx leaves a block of a VP9 picture as it was in the one that it predicts from, though it changed: it does so in one of four calls of
 * half a minute between two pages without the server, too. More than one picture of so many is no such thing.
 */
const PICTURES_A_BLEMISH = 60;
/** The longest that a switch may take: no keyframe is asked for more than twice. */
const SWITCH_MS = 3_000;
const FREEZE_MS = 300;
/** At a quarter of the rate, pictures are 200 ms apart by themselves. */
const FREEZE_SLOW_MS = 400;

/** Encoders must not shrink pictures by themselves: then a size would not tell a layer. */
const keepSize = (guest) =>
  guest.page.evaluate(async () => {
    const sender = bench.connections.flatMap((pc) => pc.getSenders()).find(({ track }) => track?.kind === 'video');
    const parameters = sender.getParameters();
    parameters.degradationPreference = 'maintain-resolution';
    await sender.setParameters(parameters).catch(() => {}); // Firefox does not know it, and does not shrink either
  });

/** What the viewer sees of its own accord, from now on. @param {{width: number, height: number, fps?: number}} wish */
const look = (viewer, track, { width, height, fps }) =>
  viewer.run((room, { id, size }) => room.request('view', { tracks: { [id]: size } }), { id: track, size: { w: width, h: height, fps } });

/** Watches until the picture has this width; resolves with how long that took. */
const becomes = (viewer, publisher, width, ms = SWITCH_MS) =>
  viewer.page.evaluate(
    async ({ name, wanted, limit }) => {
      const began = performance.now();
      while (bench.report(name).width !== wanted) {
        if (performance.now() - began > limit) throw new Error(`the picture is ${bench.report(name).width} wide, not ${wanted}, after ${limit} ms: ${JSON.stringify(bench.statesOf(name))}`);
        await new Promise((done) => setTimeout(done, 10));
      }
      return performance.now() - began;
    },
    { name: publisher.name, wanted: width, limit: ms },
  );

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** The number of layers that a switch goes up or down: never the same twice, and as often one way as the other. */
function* walk(count, layers) {
  let at = layers - 1;
  for (let n = 0; n < count; n++) {
    const others = [...Array(layers).keys()].filter((layer) => layer !== at);
    at = others[(n * 7 + (n >> 1)) % others.length];
    yield at;
  }
}

/** From now on. */
const begin = ({ viewer, steady, publisher }) => Promise.all([viewer, steady].map((one) => one?.restart(publisher)));

/**
 * What was decoded since `begin`. On a machine that has other work to do, a camera pauses by itself, and a page paints nothing for a while; and after a
 * keyframe of three layers, which takes its time to be encoded and sent, encoders leave pictures out, which is a pause for whoever looks: what
 * the one had to bear who never switches. All these beyond two frames are no fault of the switches.
 * @returns what was seen, and `flaw`: what may be an encoder's fault, see `twice`
 */
async function judge({ viewer, steady, publisher }, freezeMs, codec) {
  const [report, without, camera] = await Promise.all([viewer.report(publisher), steady?.report(publisher), publisher.camera()]);
  const steadyMs = without?.longestGapMs ?? 0;
  const machine = [Math.max(camera.longestPauseMs, steadyMs), report.longestStallMs];
  const allowed = machine.reduce((sum, ms) => sum + Math.max(0, ms - 100), freezeMs);
  const said = `the camera paused ${Math.round(camera.longestPauseMs)} ms, the page ${Math.round(machine[1])} ms, without switches ${Math.round(steadyMs)} ms; gaps ${report.gaps.map(({ ms, width }) => `${ms}@${width}`)}`;
  const unreadable = report.frames - report.coded;
  const mixed = report.coded - report.whole;
  const blemishes = codec === 'VP9' ? Math.ceil(report.frames / PICTURES_A_BLEMISH) : 0;
  const broken = `of ${report.frames} pictures ${unreadable} could not be read, and ${mixed} were made of two`;
  assert.ok(codec === 'VP9' || unreadable + mixed === 0, broken);
  assert.equal(report.backwards, 0, 'pictures went back in time');
  let flaw = null;
  if (unreadable + mixed > blemishes) flaw = broken;
  if (report.longestGapMs > allowed) flaw = `a freeze of ${Math.round(report.longestGapMs)} ms (${said})`;
  return { report, said, flaw };
}

/** Does the switches, and once more if there was a flaw: what the server does wrong, it does again. */
async function twice(switches) {
  const first = await switches();
  if (!first.flaw) return first;
  console.log(`once more, because of ${first.flaw}`);
  const second = await switches();
  assert.equal(second.flaw, null, `${second.flaw}; and before that: ${first.flaw}`);
  return second;
}

/** Switches sizes; tells how long each took to be seen. */
async function switchSizes(call, widths, count, codec) {
  const { viewer, publisher, track } = call;
  const took = { up: [], down: [] };
  const { report, said } = await twice(async () => {
    await look(viewer, track, { width: SOURCE.width, height: SOURCE.height });
    await becomes(viewer, publisher, widths.at(-1));
    await begin(call);
    let before = widths.length - 1;
    for (const layer of walk(count, widths.length)) {
      const width = widths[layer];
      await look(viewer, track, { width, height: Math.round((width * 9) / 16) });
      took[layer > before ? 'up' : 'down'].push(await becomes(viewer, publisher, width));
      before = layer;
      await pause(150 + ((layer * 137) % 200)); // not in step with the publisher's own rhythm
    }
    return judge(call, FREEZE_MS, codec);
  });
  const middle = (list) => Math.round(list.sort((a, b) => a - b)[list.length >> 1] ?? 0);
  console.log(`${count} switches of size: ${took.up.length} up in ${middle(took.up)} ms (at most ${Math.round(Math.max(0, ...took.up))}), ${took.down.length} down in ${middle(took.down)} ms (at most ${Math.round(Math.max(0, ...took.down))}); ${report.frames} pictures; ${said}`);
}

/** Switches frame rates: a quarter, a half and all of what the camera sends. */
async function switchRates(call, width, count, codec) {
  const { viewer, publisher, track } = call;
  const size = { width, height: Math.round((width * 9) / 16) };
  const rates = [5, 10, 30];
  const seen = [[], [], []];
  const { report, said } = await twice(async () => {
    await look(viewer, track, size);
    await becomes(viewer, publisher, width);
    await begin(call);
    for (const layer of walk(count, 3)) {
      await look(viewer, track, { ...size, fps: rates[layer] });
      await pause(250);
      const before = await viewer.report(publisher);
      await pause(450);
      const after = await viewer.report(publisher);
      seen[layer].push((after.fresh - before.fresh) / 0.45);
    }
    return judge(call, FREEZE_SLOW_MS, codec);
  });
  const mean = seen.map((list) => list.reduce((sum, fps) => sum + fps, 0) / Math.max(1, list.length));
  console.log(`${count} switches of frame rate: ${mean.map((fps) => fps.toFixed(1)).join(', ')} a second; ${report.frames} pictures; ${said}`);
  assert.ok(mean[0] < 0.45 * mean[2] && mean[1] < 0.75 * mean[2], `frame rates ${mean.map((fps) => fps.toFixed(1))} for wishes of ${rates}`);
}

/** A publisher, a viewer who sees its best, and where all layers come from one encoder, one who looks at the smallest all the time. */
async function open(stage, { from = 'chromium', to = 'chromium', video }) {
  const publisher = await stage.guest({ name: 'Ada', id: 1, kind: from, source: SOURCE, publish: { video } });
  await keepSize(publisher);
  const viewer = await stage.guest({ name: 'Bob', kind: to });
  await viewer.sees(publisher, { fresh: 5 });
  const track = await publisher.run((room) => room.localTrack('camera').id);
  await look(viewer, track, { width: SOURCE.width, height: SOURCE.height });
  await viewer.sees(publisher, { width: SOURCE.width, fresh: 20 }, 45_000);
  if (!video.scalabilityMode) return { publisher, viewer, track };
  const steady = await stage.guest({ name: 'Eve' });
  await look(steady, track, { width: WIDTHS[0], height: Math.round((WIDTHS[0] * 9) / 16) });
  await becomes(steady, publisher, WIDTHS[0], 10_000);
  return { publisher, viewer, steady, track };
}

const WIDTHS = [240, 480, 960];
const CALLS = [
  ...['VP8', 'VP9', 'AV1', 'H264'].map((codec) => ({ what: `${codec} simulcast`, video: { codec } })),
  ...['VP9', 'AV1'].map((codec) => ({ what: `${codec} L3T3_KEY`, video: { codec, scalabilityMode: 'L3T3_KEY' } })),
];

for (const { what, video } of CALLS) {
  scenario(`${what}: sizes and frame rates are switched, and nobody notices`, { timeout: TIMEOUT }, async (stage) => {
    const call = await open(stage, { video });
    await switchSizes(call, WIDTHS, SWITCHES, video.codec);
    await switchRates(call, 480, SWITCHES, video.codec);
    const inbound = (await call.viewer.page.evaluate(() => bench.stats('inbound-rtp'))).find(({ kind, framesDecoded }) => kind === 'video' && framesDecoded);
    assert.equal(inbound.codec, `video/${video.codec}`);
  });
}

for (const codec of ['VP8', 'VP9']) {
  scenario(`${codec} simulcast from Chromium to Firefox: sizes are switched, and nobody notices`, { timeout: TIMEOUT }, async (stage) => {
    const call = await open(stage, { to: 'firefox', video: { codec } });
    await switchSizes(call, WIDTHS, SWITCHES, codec);
  });
}

scenario('VP8 simulcast from Firefox to Chromium: sizes are switched, and nobody notices', { timeout: TIMEOUT }, async (stage) => {
  const call = await open(stage, { from: 'firefox', video: { codec: 'VP8' } });
  await switchSizes(call, WIDTHS, SWITCHES);
});
