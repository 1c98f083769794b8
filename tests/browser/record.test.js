// What the server records of real browsers, judged by what FFmpeg and the browsers themselves decode of the files: every picture carries a number,
// and a beep sounds on each second of the clock that the pictures tell.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { counted, lips, median, readFilm } from './film.js';
import { run } from './server.js';
import { scenario } from './stage.js';
import { serveFolder } from './web.js';

const SECRET = 'a secret of the tests, long enough';
/**
 * How much later than its picture the test source's sound is by itself. In Chromium a picture of a canvas is 0 to 30 ms old when it is stamped,
 * which stays as it is for as long as the page lives, and by its sender reports sound is as new as its sending: 20 ms of a packet, and more,
 * later than it was made. The middle of 33 recordings is 10 ms (from -15 to 37), of 3 Firefox's 17 ms.
 */
const OWN_MS = { chromium: 10, firefox: 17 };
/** How far sound and picture may be apart beyond that; and how exactly it is measured. */
const LIPS_MS = 40 + 5;
/** How long a recording takes until its first picture: a keyframe is asked for at once. */
const START_MS = 2_000;
/** Of VP9, one picture of so many may have a block that libvpx left as it was in the one before, see layers.test.js; of others, none. */
const PICTURES_A_BLEMISH = 60;
const blemishes = (codec, { pictures }) => (codec === 'vp9' ? Math.ceil(pictures / PICTURES_A_BLEMISH) : 0);
/** A file lasts until its last frame ends, its entry in the manifest until that begins. */
const LAST_FRAME_MS = 60;
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** A test whose server records. */
const recording = (name, options, work) => scenario(name, { ...options, recordings: true, env: { EXEDRA_SECRET: SECRET } }, work);

/** Somebody with a token. */
async function guest(stage, options, ...grants) {
  const given = ['publish', 'subscribe', 'say', ...grants].join();
  return stage.guest({ ...options, token: await run('token', '--secret', SECRET, '--room', 'tea', '--name', options.name, '--grants', given) });
}

const start = (guest, data = {}) => guest.run((room, more) => room.request('record', { action: 'start', ...more }), data);
const stop = (guest) => guest.run((room) => room.request('record', { action: 'stop' }));

/** Waits until a recording is closed. @returns its manifest, and where its folder is */
async function closed(stage, id) {
  const folder = join(stage.recordings, id);
  for (const until = Date.now() + 10_000; ; await pause(50)) {
    const manifest = JSON.parse(await readFile(join(folder, 'session.json'), 'utf8'));
    if (manifest.state === 'complete') return { folder, manifest };
    assert.ok(Date.now() < until, `the recording does not end: ${JSON.stringify(manifest)}`);
  }
}

/** What was sent by now of a guest's pictures. */
const sent = async (guest) => {
  const streams = (await guest.page.evaluate(() => bench.stats('outbound-rtp'))).filter(({ kind }) => kind === 'video');
  return Math.max(...streams.map(({ framesSent }) => framesSent ?? 0));
};

/** A guest's only file of this content. */
function fileOf(manifest, guest, content = 'camera') {
  const { id } = manifest.participants.find(({ name }) => name === guest.name);
  const files = manifest.files.filter((file) => file.participant === id && file.content === content);
  assert.equal(files.length, 1, `${guest.name} has ${files.length} files: ${JSON.stringify(manifest.files)}`);
  return files[0];
}

/** How far sound and picture are apart in a film, beyond what the publisher makes of it by itself. */
const offsetsOf = (film, { options }) => lips(film).map(({ offsetMs }) => offsetMs - OWN_MS[options?.kind ?? 'chromium']);

/** One beep in ten may be off: on a machine that has other work to do, a page's sound stumbles. */
function assertInStep(offsets, said) {
  const off = offsets.filter((ms) => Math.abs(ms) > LIPS_MS);
  assert.ok(Math.abs(median(offsets)) <= LIPS_MS && off.length <= Math.ceil(offsets.length / 10), `lips: ${said}`);
}

/**
 * A file plays to its end without a word of complaint, has all pictures that were sent, in order, and sound in step with them.
 * @returns {Promise<import('./film.js').Film>}
 */
async function plays({ folder, file, guest, codec, pictures, extraMs = 0 }) {
  const what = `${guest.name} (${file.name})`;
  const film = await readFilm(join(folder, file.name));
  const count = counted(film);
  const offsets = offsetsOf(film, guest);
  const gaps = film.pictures.slice(1).map(({ atMs }, n) => atMs - film.pictures[n].atMs);
  const said = `${what}: ${Math.round(film.durationMs)} ms; ${JSON.stringify(count)}, of ${pictures} sent; longest pause ${Math.round(Math.max(...gaps))} ms; sound after picture by ${offsets.map(Math.round)} ms; manifest ${JSON.stringify(file.avOffset)}`;
  console.log(said);
  assert.equal(film.complaints, '', what);
  assert.deepEqual(film.codecs, { video: codec, audio: 'opus' }, what);
  assert.ok(Math.abs(film.durationMs - file.durationMs) <= LAST_FRAME_MS, `${what}: lasts ${film.durationMs} ms, the manifest says ${file.durationMs}`);
  assert.ok(film.pictures[0].key, `${what}: does not begin with a keyframe`);
  assert.ok(film.pictures.every(({ code, whole }) => !whole || code.id === guest.id), `${what}: shows somebody else`);
  assert.ok(count.unreadable + count.mixed <= blemishes(codec, count) && count.backwards === 0, said);
  assert.ok(count.pictures >= pictures - 20 * (START_MS / 1_000) && count.pictures <= pictures + 20, `pictures are missing: ${said}`);
  assert.ok(offsets.length >= Math.floor((film.durationMs - START_MS - extraMs) / 1_000) - 1, `beeps are missing: ${said}`);
  assertInStep(offsets, said);
  assert.ok(!file.avOffset || file.avOffset.maxMs <= LIPS_MS, said);
  return film;
}

/** A browser plays a file from its start and from its middle: pictures of `guest`, each newer than the one before. */
async function playsIn(kind, stage, { folder, file, guest: publisher }) {
  const web = await serveFolder(folder);
  try {
    const page = await stage.openBench(kind);
    const middle = file.durationMs / 2_000;
    const played = await page.evaluate((url, options) => bench.play(url, options), web.url + file.name, { seekTo: middle });
    const said = `${file.name} in ${kind}: ${JSON.stringify(played)}`;
    console.log(said);
    assert.ok(Math.abs(played.duration * 1_000 - file.durationMs) <= LAST_FRAME_MS, said);
    for (const part of played.parts) {
      assert.ok(part.shown >= 10 && part.whole >= part.shown - 1 && part.backwards === 0 && part.id === publisher.id, said);
    }
    assert.ok(played.parts[1].at >= middle + 1 && played.parts[1].first > played.parts[0].last, `it was not sought: ${said}`);
  } finally {
    await web.close();
  }
}

recording('Chromium and Firefox are recorded: pictures in order, lips in step, and both play the files', { timeout: 120_000 }, async (stage) => {
  const ada = await guest(stage, { name: 'Ada', id: 1, publish: { video: { simulcast: false } } }, 'record');
  const fox = await guest(stage, { name: 'Fox', id: 2, kind: 'firefox', publish: { video: { simulcast: false } } });
  await Promise.all([ada.sees(fox, { fresh: 5 }), fox.sees(ada, { fresh: 5 })]);
  await assert.rejects(start(fox), /forbidden|grant/i);
  const before = await Promise.all([sent(ada), sent(fox)]);
  const { recording: id } = await start(ada);
  await fox.until('room.info.recording');
  await pause(8_000);
  const mutedAt = Date.now();
  await ada.run((room) => room.localTrack('microphone').setMuted(true));
  await pause(3_000);
  await ada.run((room) => room.localTrack('microphone').setMuted(false));
  const mutedMs = Date.now() - mutedAt;
  await pause(6_000);
  await stop(ada);
  const pictures = await Promise.all([sent(ada), sent(fox)]);
  await fox.until('!room.info.recording');
  const { folder, manifest } = await closed(stage, id);
  assert.equal(manifest.ended, 'stopped');
  await Promise.all([ada, fox].map((one) => one.page.close()));

  const [of, foxes] = [fileOf(manifest, ada), fileOf(manifest, fox)];
  await plays({ folder, file: of, guest: ada, codec: 'vp8', pictures: pictures[0] - before[0], extraMs: mutedMs });
  await plays({ folder, file: foxes, guest: fox, codec: 'vp8', pictures: pictures[1] - before[1] });
  const muted = of.gaps.filter(({ cause }) => cause === 'muted');
  assert.equal(muted.length, 1, JSON.stringify(of.gaps));
  assert.ok(muted[0].kind === 'audio' && Math.abs(muted[0].toMs - muted[0].fromMs - mutedMs) < 500, `${JSON.stringify(muted)}, muted for ${mutedMs} ms`);
  assert.deepEqual(foxes.gaps.filter(({ cause }) => cause !== 'loss'), []);
  for (const kind of ['chromium', 'firefox']) await playsIn(kind, stage, { folder, file: of, guest: ada });
  await playsIn('chromium', stage, { folder, file: foxes, guest: fox });
});

recording('VP9, AV1 and H.264 from Chromium are recorded as they are', { timeout: 120_000 }, async (stage) => {
  const small = { width: 480, height: 270 };
  const publishers = [];
  for (const [n, codec] of ['VP9', 'AV1', 'H264'].entries()) {
    publishers.push(await guest(stage, { name: codec, id: 4 + n, source: small, publish: { video: { codec, simulcast: false } }, join: { subscribe: false } }, 'record'));
  }
  await pause(1_500);
  const before = await Promise.all(publishers.map(sent));
  const { recording: id } = await start(publishers[0]);
  await pause(8_000);
  await stop(publishers[0]);
  const after = await Promise.all(publishers.map(sent));
  const { folder, manifest } = await closed(stage, id);
  await Promise.all(publishers.map(({ page }) => page.close()));
  for (const [n, publisher] of publishers.entries()) {
    const file = fileOf(manifest, publisher);
    assert.equal(file.name.split('.')[1], publisher.name === 'H264' ? 'mkv' : 'webm');
    await plays({ folder, file, guest: publisher, codec: publisher.name.toLowerCase(), pictures: after[n] - before[n] });
  }
});

const LAYERED = [
  { what: 'simulcast', codec: 'vp8', video: { codec: 'VP8' } },
  { what: 'VP9 with spatial layers', codec: 'vp9', video: { codec: 'VP9', scalabilityMode: 'L3T3_KEY' } },
];
for (const { what, codec, video } of LAYERED) {
  recording(`${what}: the top layer is recorded, whatever the viewers look at`, { timeout: 120_000 }, async (stage) => {
    const ada = await guest(stage, { name: 'Ada', id: 1, source: { width: 960, height: 540 }, publish: { video } }, 'record');
    const bob = await guest(stage, { name: 'Bob' });
    await bob.sees(ada, { width: 960 }, 45_000);
    const track = await ada.run((room) => room.localTrack('camera').id);
    await bob.run((room, of) => room.request('view', { tracks: { [of]: { w: 240, h: 135 } } }), track);
    await bob.page.waitForFunction(() => bench.report('Ada').width === 240, { timeout: 10_000 });
    const { recording: id } = await start(ada);
    await pause(4_000);
    assert.equal((await bob.report(ada)).width, 240, 'the recording is nothing to the viewer');
    await pause(4_000);
    await stop(ada);
    const { folder, manifest } = await closed(stage, id);
    const file = fileOf(manifest, ada);
    const film = await readFilm(join(folder, file.name));
    const last = film.pictures.slice(-80);
    const count = counted(film);
    const said = `${what}: ${JSON.stringify(file.tracks)}, ${JSON.stringify(count)}, lips ${offsetsOf(film, ada).map(Math.round)}`;
    console.log(said);
    assert.equal(film.complaints, '');
    assert.equal(film.codecs.video, codec);
    assert.ok(last.every(({ width }) => width === 960), `sizes: ${last.map(({ width }) => width)}`);
    assert.ok(count.pictures <= file.tracks[0].frames && count.backwards === 0 && count.unreadable + count.mixed <= blemishes(codec, count), said);
    assertInStep(offsetsOf(film, ada), what);
    await ada.page.close();
    // Players that decode by libvpx and by FFmpeg.
    for (const kind of codec === 'vp9' ? ['chromium', 'firefox'] : []) await playsIn(kind, stage, { folder, file, guest: ada });
  });
}

recording('a WHIP publisher is recorded', {}, async (stage) => {
  const mod = await guest(stage, { name: 'Mod' }, 'record');
  const camera = await stage.openBench();
  await camera.evaluate(() => bench.source('camera', { id: 9 }));
  const token = await run('token', '--secret', SECRET, '--room', 'tea', '--name', 'Camera');
  await camera.evaluate((url, bearer) => bench.whip(url, 'camera', bearer), `${stage.url}/v1/whip/tea`, token);
  await mod.sees('Camera', { fresh: 5 });
  const whip = { page: camera, name: 'Camera', id: 9 };
  const before = await sent(whip);
  const { recording: id } = await start(mod);
  await pause(6_000);
  const pictures = (await sent(whip)) - before;
  await stop(mod);
  const { folder, manifest } = await closed(stage, id);
  await plays({ folder, file: fileOf(manifest, whip), guest: whip, codec: 'vp8', pictures });
});
