// The recordings' page in real browsers: finished recordings, and one that grows while it is watched.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';
import { describe, entry, film, grow, keep, unfinished } from './kept.js';
import { scenario } from './stage.js';

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const FILMS = fileURLToPath(new URL('../../artifacts/films/', import.meta.url));
const ADMIN = 'operators only, please';
const TEA = '20261123-101500-7f3a';
const OLD = '20261122-090000-aaaa';
const RUNS = '20261123-121500-0002';

await mkdir(FILMS, { recursive: true });
const root = await mkdtemp(join(tmpdir(), 'exedra-recordings-'));
after(() => rm(root, { recursive: true, force: true }));
const args = ['--admin-token', ADMIN];
const hash = (bytes) => createHash('sha256').update(bytes).digest('hex');
const speak = (tMs, ...who) => ({ tMs, type: 'speakers', data: who.map((participant) => ({ participant, level: 0.6 })) });
const say = (tMs, participant, text) => ({ tMs, type: 'message', data: { participant, topic: 'chat', body: { text }, retain: false, atMs: 0 } });

/** Ada for 20 s, Ben from 4 s on by another codec, somebody without a camera, and Ada's screen from 8 s on. */
async function tea(folder) {
  const [ada, ben, cyd, screen] = await Promise.all([
    film({ participant: 'p1', seconds: 20 }, FILMS),
    film({ participant: 'p2', codec: 'VP9', seconds: 14, color: 'maroon' }, FILMS),
    film({ participant: 'p3', seconds: 14, video: false }, FILMS),
    film({ participant: 'p1', seconds: 8, color: 'navy', width: 480, height: 270, audio: false }, FILMS),
  ]);
  const file = (more, bytes) => entry({ ...more, size: bytes.length, sha256: hash(bytes) });
  const files = [
    file({ name: 'p1-camera-1.webm', durationMs: 20_000, gaps: [{ kind: 'audio', fromMs: 5000, toMs: 7000, cause: 'muted' }] }, ada),
    file({ name: 'p2-camera-1.webm', participant: 'p2', codec: 'VP9', startMs: 4000, durationMs: 14_000 }, ben),
    file({ name: 'p3-camera-1.webm', participant: 'p3', video: false, startMs: 2000, durationMs: 14_000 }, cyd),
    file({ name: 'p1-screen-1.webm', content: 'screen', audio: false, startMs: 8000, durationMs: 8000 }, screen),
  ];
  const participants = [{ id: 'p1', name: 'Ada', joinedMs: 0 }, { id: 'p2', name: 'Ben', joinedMs: 4000 }, { id: 'p3', name: 'Cyd', joinedMs: 2000, leftMs: 16_000 }];
  const startedAtMs = 1795428900000;
  const session = { version: 1, id: TEA, room: 'tea', startedAtMs, endedAtMs: startedAtMs + 20_000, state: 'complete', ended: 'stopped', participants, files };
  const events = [speak(1000, 'p1'), speak(4000), speak(9000, 'p2', 'p1'), speak(12_000), say(6000, 'p2', 'Hello?'), say(13_000, 'p1', 'Slides: https://example.org/')];
  await keep(folder, session, { 'p1-camera-1.webm': ada, 'p2-camera-1.webm': ben, 'p3-camera-1.webm': cyd, 'p1-screen-1.webm': screen }, events);
}

async function open(stage, kind, path = '') {
  const page = await stage.openApp(`/recordings${path}#token=${encodeURIComponent(ADMIN)}`, kind);
  await page.setViewport({ width: 1280, height: 800 });
  return page;
}

/** No serious fault that axe can see: names, roles, contrast. */
async function accessible(page, what) {
  await page.evaluate(await readFile(AXE, 'utf8'));
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  const serious = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
  assert.deepEqual(serious.map(({ id, nodes }) => `${id}: ${nodes.map((n) => n.html.slice(0, 120)).join(' | ')}`), [], what);
}

/** Waits until all pictures and sounds that play are together, and no further than that from the clock; gives the widest distance in ms. */
const inStep = (page, least, within = 120) =>
  page.evaluate(
    async (count, ms) => {
      const until = performance.now() + 15_000;
      for (let best = Infinity; ; await new Promise((go) => setTimeout(go, 50))) {
        const at = exedraRecording.at();
        const places = exedraRecording.players().flatMap((player) => (player.isAt(at) ? player.places : []));
        const apart = Math.max(...places.map((place) => Math.abs(place - exedraRecording.at())));
        if (places.length >= count) best = Math.min(best, apart);
        if (best <= ms) return { apart: best, count: places.length };
        if (performance.now() > until) throw new Error(`${places.length} of ${count} play, ${best} ms apart at best: ${places} at ${at}`);
      }
    },
    least,
    within,
  );

const at = (page) => page.evaluate(() => exedraRecording.at());
const reaches = (page, ms) => page.waitForFunction((wanted) => exedraRecording.at() >= wanted, { timeout: 20_000 }, ms);
const shows = (page, key) => page.waitForSelector(`.tile[data-key="${key}"][data-video=on]:not([hidden])`, { timeout: 10_000 });

for (const kind of ['chromium', 'firefox']) {
  scenario(`a recording is found and played, all files in step, in ${kind}`, { args: [...args, '--recordings', join(root, kind)], timeout: 120_000 }, async (stage) => {
    await tea(join(root, kind));
    const page = await open(stage, kind);
    await page.waitForSelector(`.rec-row[data-id="${TEA}"]`);
    assert.equal(new URL(page.url()).hash, '', 'the token does not stay in the address');
    await stage.screenshot(page, `recordings-list-${kind}`);
    await accessible(page, 'the list');
    await page.focus('.rec-row a');
    await page.keyboard.press('Enter');
    await page.waitForSelector('#play');
    await page.waitForFunction(() => document.activeElement?.id === 'play');
    await page.keyboard.press(' ');
    await reaches(page, 4500);
    await shows(page, 'p1-camera');
    await shows(page, 'p2-camera');
    const first = await inStep(page, 5); // two pictures and three sounds
    await reaches(page, 9000);
    await shows(page, 'p1-screen');
    const second = await inStep(page, 6);
    await stage.screenshot(page, `recordings-play-${kind}`);
    await accessible(page, 'a recording');
    console.log(`${kind}: ${first.apart.toFixed()} ms and ${second.apart.toFixed()} ms from the clock`);

    await page.keyboard.press('Home');
    await page.waitForFunction(() => exedraRecording.at() < 3000);
    await inStep(page, 2);
    for (let n = 0; n < 2; n++) await page.keyboard.press('ArrowRight');
    await page.waitForFunction(() => exedraRecording.at() > 10_000);
    await inStep(page, 6);
    await page.select('#rate', '2');
    await page.waitForFunction(() => exedraRecording.at() >= 20_000 && document.querySelector('#play').getAttribute('aria-label') === 'Play', { timeout: 20_000 });
    // A message leads to its time; a second of speech is drawn.
    await page.evaluate(() => document.querySelector('.chat-at').click());
    assert.equal(await at(page), 6000);
    assert.match(await page.$eval('.lane[data-participant=p1] .lane-speech', (path) => path.getAttribute('d')), /^M1000 7h3000/);
    await page.hover('.lane[data-participant=p1] .lane-track');
    assert.match(await page.$eval('.line-tip', (tip) => tip.innerText), /Ada/);

    await page.click('#button-files');
    const links = await page.$$eval('#files a', (all) => all.map((a) => a.href));
    assert.equal(links.length, 6);
    for (const link of links) assert.equal((await fetch(link.replace(/^https?:\/\/[^/]+/, stage.url))).status, 200);
    await page.keyboard.press('Escape');
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'dark' }]).catch(() => {});
    await page.setViewport({ width: 390, height: 844 });
    await stage.screenshot(page, `recordings-phone-${kind}`);
    assert.deepEqual(page.log.filter((line) => /^(uncaught|error)/.test(line)), []);
    assert.ok(!stage.server.log().includes('ticket='), 'tickets are not logged');
  });

  scenario(`a recording is watched while it grows, in ${kind}`, { args: [...args, '--recordings', join(root, `${kind}-grows`)], timeout: 120_000 }, async (stage) => {
    const ada = unfinished(await film({ participant: 'p1', seconds: 30 }, FILMS));
    const ben = unfinished(await film({ participant: 'p2', codec: 'VP9', seconds: 30, color: 'maroon' }, FILMS));
    const page = await record(stage, join(root, `${kind}-grows`), kind, [{ name: 'p1-camera-1.webm', participant: 'p1', bytes: ada, startMs: 0 }, { name: 'p2-camera-1.webm', participant: 'p2', codec: 'VP9', bytes: ben, startMs: 9000 }]);
    assert.deepEqual(page.log.filter((line) => /^(uncaught|error)/.test(line)), []);
  });
}

/** Appends to the files as the recorder does, and watches the page meanwhile. */
async function record(stage, folder, kind, sources) {
  const began = Date.now() - 6000;
  const session = { version: 1, id: RUNS, room: 'tea', startedAtMs: began, state: 'recording', participants: [], files: [] };
  const kept = await keep(folder, session, {}, [speak(1000, 'p1')]);
  // Who writes a recording holds this lock, or the server would heal it.
  const lock = spawn('flock', [join(kept, 'events.jsonl'), 'cat'], { stdio: ['pipe', 'ignore', 'inherit'] });
  let stopped = false;
  const recorder = (async () => {
    const done = new Map();
    while (!stopped) {
      const now = Date.now() - began;
      for (const { name, participant, codec, bytes, startMs } of sources.filter((source) => now >= source.startMs)) {
        if (!done.has(name)) {
          await writeFile(join(kept, name), '');
          session.files.push(entry({ name, participant, codec, startMs }));
          session.participants.push({ id: participant, name: participant === 'p1' ? 'Ada' : 'Ben', joinedMs: startMs });
          await describe(kept, session);
          done.set(name, 0);
        }
        const end = clustersUntil(bytes, now - startMs - 1000);
        if (end > done.get(name)) await grow(join(kept, name), bytes.subarray(done.get(name), end));
        done.set(name, Math.max(end, done.get(name)));
      }
      await new Promise((go) => setTimeout(go, 200));
    }
    for (const { name, bytes, startMs } of sources) {
      await grow(join(kept, name), bytes.subarray(done.get(name)));
      Object.assign(session.files.find((file) => file.name === name), { size: bytes.length, durationMs: 30_000, sha256: hash(bytes), startMs });
    }
    Object.assign(session, { state: 'complete', ended: 'stopped', endedAtMs: began + 39_000 });
    await describe(kept, session);
  })();
  try {
    const page = await open(stage, kind, `?id=${RUNS}`);
    await page.waitForSelector('#live:not([hidden])');
    assert.match(await page.$eval('.rec-state', (state) => state.innerText), /Recording now/);
    await page.click('#live');
    await shows(page, 'p1-camera');
    // Ben comes while it is watched. Nobody reloads anything.
    await shows(page, 'p2-camera');
    await inStep(page, 4, 200);
    const before = await at(page);
    await new Promise((go) => setTimeout(go, 5000));
    const ran = (await at(page)) - before;
    assert.ok(ran > 4000, `${ran} ms were played in 5 s`);
    const behind = Date.now() - began - (await at(page));
    assert.ok(behind < 9000, `${behind} ms behind`);
    console.log(`${kind}: played ${ran.toFixed()} ms in 5 s, ${behind.toFixed()} ms behind what is recorded`);
    await stage.screenshot(page, `recordings-live-${kind}`);
    await page.keyboard.press('Home');
    await page.waitForFunction(() => exedraRecording.at() < 3000);
    await inStep(page, 2, 200);
    stopped = true;
    await recorder;
    await page.waitForFunction(() => document.querySelector('.rec-state').innerText === 'Complete', { timeout: 10_000 });
    await page.focus('#seek');
    await page.evaluate(() => {
      const slider = document.querySelector('#seek');
      slider.value = '27000';
      slider.dispatchEvent(new Event('input'));
    });
    await inStep(page, 4, 200);
    return page;
  } finally {
    stopped = true;
    await recorder;
    lock.stdin.end();
  }
}

/** Where the last whole cluster ends that begins a second before this time. */
function clustersUntil(bytes, ms) {
  const marker = Buffer.from([0x1f, 0x43, 0xb6, 0x75]);
  let end = 0;
  for (let start = bytes.indexOf(marker); start >= 0; ) {
    const length = Math.clz32(bytes[start + 4]) - 23;
    let size = bytes[start + 4] & (0xff >> length);
    for (let i = 1; i < length; i++) size = size * 256 + bytes[start + 4 + i];
    const body = start + 4 + length;
    let time = 0;
    for (let i = 0; i < (bytes[body + 1] & 0x7f); i++) time = time * 256 + bytes[body + 2 + i];
    if (time + 1000 > ms) break;
    end = body + size;
    start = bytes.subarray(end, end + 4).equals(marker) ? end : -1;
  }
  return end;
}

/** Two people, recorded by the server, and somebody who watches the recording in the meantime. */
for (const kind of ['chromium', 'firefox']) {
  const flags = ['--open', '--open-grants', 'publish,subscribe,say,record'];
  scenario(`what the server records is watched meanwhile, and afterwards, in ${kind}`, { args: flags, recordings: true, timeout: 120_000 }, async (stage) => {
    const source = { width: 320, height: 180, fps: 15 };
    const ada = await stage.guest({ name: 'Ada', id: 2, source, publish: { video: { simulcast: false } } });
    await ada.run((room) => room.request('record', { action: 'start' }));
    const page = await stage.openApp('/recordings?room=tea', kind);
    await page.setViewport({ width: 1280, height: 800 });
    await page.waitForSelector('.rec-state[data-kind=live]');
    await page.click('.rec-link');
    await page.waitForSelector('#live:not([hidden])');
    await page.click('#live');
    await page.waitForSelector('.tile[data-source=camera][data-video=on]', { timeout: 15_000 });
    const bob = await stage.guest({ name: 'Bob', id: 3, source, publish: { video: { simulcast: false } } });
    await page.waitForFunction(() => document.querySelectorAll('.tile[data-source=camera][data-video=on]').length === 2, { timeout: 20_000 });
    await bob.run((room) => room.request('say', { topic: 'chat', body: { text: 'Is this recorded?' } }));
    const live = await inStep(page, 4, 200);
    const before = await at(page);
    await new Promise((go) => setTimeout(go, 5000));
    const ran = (await at(page)) - before;
    assert.ok(ran > 4000, `${ran} ms were played in 5 s`);
    await page.waitForFunction(() => /Is this recorded/.test(document.querySelector('.play-chat').innerText), { timeout: 10_000 });
    await stage.screenshot(page, `recordings-real-${kind}`);
    await ada.run((room) => room.request('record', { action: 'stop' }));
    await page.waitForFunction(() => document.querySelector('.rec-state').innerText === 'Complete', { timeout: 15_000 });
    await page.keyboard.press('Home');
    await page.waitForFunction(() => exedraRecording.at() < 3000);
    const again = await inStep(page, 2, 200);
    console.log(`${kind}: live ${live.apart.toFixed()} ms and afterwards ${again.apart.toFixed()} ms from the clock; ${ran.toFixed()} ms in 5 s`);
    assert.ok((await page.$$eval('.lane-speech', (all) => all.map((path) => path.getAttribute('d')))).some(Boolean), 'somebody spoke');
    assert.deepEqual(page.log.filter((line) => /^(uncaught|error)/.test(line)), []);
  });
}

scenario('H.264 in Matroska plays or says why not; a recording is deleted', { args: [...args, '--recordings', join(root, 'old')], timeout: 90_000 }, async (stage) => {
  const bytes = await film({ participant: 'p2', codec: 'H264', seconds: 10, color: 'olive' }, FILMS);
  const session = { version: 1, id: OLD, room: 'Class-4b', startedAtMs: 1795342958600, endedAtMs: 1795342968600, state: 'healed', ended: 'crash', participants: [{ id: 'p2', name: 'Ben', joinedMs: 0 }], files: [entry({ name: 'p2-camera-1.mkv', participant: 'p2', codec: 'H264', durationMs: 10_000, size: bytes.length, sha256: hash(bytes) })] };
  await keep(join(root, 'old'), session, { 'p2-camera-1.mkv': bytes });
  for (const kind of ['chromium', 'firefox']) {
    const page = await open(stage, kind, `?id=${OLD}`);
    await page.waitForSelector('#play');
    await page.click('#play');
    await page.waitForFunction(() => exedraRecording.players()[0].video.currentTime > 1 || /Downloaded, it plays/.test(document.querySelector('.tile-status').innerText), { timeout: 15_000 });
    console.log(`${kind}: ${(await page.$eval('.tile-status', (status) => status.innerText)) || 'plays H.264 in Matroska'}`);
  }
  const page = await open(stage, 'chromium');
  await page.waitForSelector('.rec-delete');
  await page.click('.rec-delete');
  await page.waitForSelector('dialog[open]');
  await stage.screenshot(page, 'recordings-delete');
  await page.click('#really-delete');
  await page.waitForFunction(() => !document.querySelector('.rec-row'));
  const list = await (await fetch(`${stage.url}/v1/recordings`, { headers: { authorization: `Bearer ${ADMIN}` } })).json();
  assert.deepEqual(list.recordings, []);
});

scenario('who has no token is asked for one, and told what is wrong with it', { args, timeout: 60_000 }, async (stage) => {
  const page = await stage.openApp('/recordings');
  await page.waitForFunction(() => document.activeElement?.id === 'token');
  await accessible(page, 'the question for a token');
  await stage.screenshot(page, 'recordings-token');
  await page.keyboard.type('nonsense of some length');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => /keeps no recordings/.test(document.body.innerText));
});
