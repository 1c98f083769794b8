import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Clock } from '../recordings/clock.js';
import { Events, lanes, tiles } from '../recordings/events.js';
import { element, findCluster, joined, readClusters, readFront, writeCluster, writeFront } from '../recordings/webm.js';
import { length, people, size, state, time } from '../recordings/words.js';

const entry = (number, codec) => {
  const id = new TextEncoder().encode(codec);
  return new Uint8Array([0xae, 0x80 | (3 + 2 + id.length), 0xd7, 0x81, number, 0x86, 0x80 | id.length, ...id]);
};
const track = (number, codec, kind) => ({ number, kind, entry: entry(number, codec) });
const block = (number, at, key, ...data) => ({ track: number, time: at, key, data: new Uint8Array(data) });

test('a front and clusters are read as they were written', () => {
  const front = writeFront(track(1, 'V_VP8', 'video'));
  const one = writeCluster({ time: 70_000, blocks: [block(1, 70_000, true, 1, 2), block(2, 70_010, true, 9), block(1, 70_040, false, 3)] }, 1);
  const two = writeCluster({ time: 71_000, blocks: [block(1, 70_990, false, 4)] }, 1);
  const file = joined([front, one, two]);
  assert.equal(readFront(front), null, 'no cluster yet');
  const read = readFront(file);
  assert.equal(read.clusters, front.length);
  assert.deepEqual(read.tracks.map(({ number, codec, kind }) => [number, codec, kind]), [[1, 'vp8', 'video']]);
  const { clusters, over } = readClusters(file.subarray(read.clusters));
  assert.equal(over, false);
  assert.deepEqual(clusters.map(({ time: at, until, blocks }) => [at, until, blocks.map((b) => [b.time, b.key, ...b.data])]), [
    [70_000, 70_040, [[70_000, true, 1, 2], [70_040, false, 3]]],
    [71_000, 71_000, [[70_990, false, 4]]],
  ]);
});

test('a file that is cut anywhere gives its whole clusters and asks for no others', () => {
  const whole = joined([1, 2, 3].map((n) => writeCluster({ time: n * 1000, blocks: [block(1, n * 1000, true, ...new Array(200).fill(n))] }, 1)));
  for (let cut = 0; cut <= whole.length; cut++) {
    const { clusters, over } = readClusters(whole.subarray(0, cut));
    assert.equal(clusters.length, Math.floor((cut * 3) / whole.length));
    assert.equal(over, false);
  }
  assert.equal(readClusters(joined([whole, [0x1c, 0x53, 0xbb, 0x6b, 0x80]])).over, true, 'cues follow');
});

test('a cluster is found from the middle of a file, and not where only its id is', () => {
  const decoy = [0x1f, 0x43, 0xb6, 0x75];
  const first = writeCluster({ time: 5000, blocks: [block(1, 5000, true, ...decoy, ...decoy, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)] }, 1);
  const second = writeCluster({ time: 6000, blocks: [block(1, 6000, true, 1)] }, 1);
  const file = joined([first, second]);
  assert.deepEqual(findCluster(file), { at: 0, time: 5000 });
  assert.deepEqual(findCluster(file, 1), { at: first.length, time: 6000 });
  assert.equal(findCluster(new Uint8Array(1000)), null);
});

test('garbage is read to an end', () => {
  let random = 7;
  const next = () => (random = (random * 1103515245 + 12345) & 0x7fffffff) >> 16;
  for (let n = 0; n < 2000; n++) {
    const bytes = Uint8Array.from({ length: next() % 60 }, next);
    if (n % 3 === 0) bytes.set([0x1f, 0x43, 0xb6, 0x75].slice(0, bytes.length));
    element(bytes, 0);
    findCluster(bytes);
    readClusters(bytes);
    assert.doesNotThrow(() => {
      try {
        readFront(bytes);
      } catch (error) {
        assert.match(error.message, /not a WebM file/);
      }
    });
  }
});

test('events add up however they are cut', () => {
  const lines = [
    { tMs: 1000, type: 'speakers', data: [{ participant: 'p1', level: 0.7 }] },
    { tMs: 3000, type: 'speakers', data: [{ participant: 'p1', level: 0.7 }, { participant: 'p2', level: 0.5 }] },
    { tMs: 4000, type: 'message', data: { participant: 'p2', topic: 'chat', body: { text: 'grüezi' } } },
    { tMs: 4500, type: 'message', data: { participant: 'p2', topic: 'chat', to: ['p1'], body: 'for one' } },
    { tMs: 5000, type: 'participant.left', data: { participant: 'p1' } },
    { tMs: 9000, type: 'speakers', data: [] },
    { tMs: 9500, type: 'speakers', data: [{ participant: 'p2', level: 0.5 }] },
  ];
  const bytes = new TextEncoder().encode(`${lines.map((line) => JSON.stringify(line)).join('\n')}\ntorn`);
  for (const step of [1, 7, 100, bytes.length]) {
    const events = new Events();
    for (let at = 0; at < bytes.length; at += step) events.add(bytes.subarray(at, at + step));
    assert.equal(events.read, bytes.length);
    assert.deepEqual([...events.speech], [['p1', [[1000, 5000]]], ['p2', [[3000, 9000], [9500, Infinity]]]]);
    assert.deepEqual(events.messages, [{ tMs: 4000, participant: 'p2', text: 'grüezi' }]);
  }
});

test('lanes and places of pictures', () => {
  const file = (name, participant, content, startMs, durationMs, gaps = []) => ({ name, participant, content, startMs, durationMs, gaps, growing: durationMs === 0 });
  const manifest = {
    participants: [{ id: 'p1', name: 'Ada', joinedMs: 0, leftMs: 100 }, { id: 'p2', name: 'Ben', joinedMs: 50 }, { id: 'p1', name: 'Ada', joinedMs: 200 }],
    files: [
      file('p1-camera-1.webm', 'p1', 'camera', 0, 100, [{ kind: 'audio', fromMs: 1, toMs: 2, cause: 'muted' }]),
      file('p1-camera-2.webm', 'p1', 'camera', 200, 0),
      file('p2-screen-1.webm', 'p2', 'screen', 60, 20),
      file('p2-screen2-1.webm', 'p2', 'screen', 65, 20),
      file('all-composite-1.mp4', 'p1', 'composite', 0, 100),
    ],
  };
  const drawn = lanes(manifest, new Events(), 300);
  assert.deepEqual(drawn.map(({ id, present, files, screens }) => [id, present, files, screens]), [
    ['p1', [[0, 100], [200, 300]], [[0, 100], [200, 300]], []],
    ['p2', [[50, 300]], [], [[60, 80], [65, 85]]],
  ]);
  assert.deepEqual(tiles(manifest).map(({ key, files }) => [key, files.length]), [['p1-camera', 2], ['p2-screen', 1], ['p2-screen2', 1]]);
});

test('the clock stands while it is held, and keeps its place when its rate changes', () => {
  const clock = new Clock();
  clock.set(0, { playing: true });
  assert.equal(clock.at(1000), 1000);
  clock.set(1000, { rate: 2 });
  assert.equal(clock.at(1500), 2000);
  clock.set(1500, { held: true });
  assert.equal(clock.at(9000), 2000);
  clock.set(9000, { held: false, rate: 1 });
  assert.equal(clock.at(9100), 2100);
});

test('words', () => {
  assert.deepEqual([time(0), time(61_999), time(3_723_000)], ['0:00', '1:01', '1:02:03']);
  assert.deepEqual([length(45_000), length(720_000), length(3_900_000), length(7_200_000)], ['45 s', '12 min', '1 h 5 min', '2 h']);
  assert.deepEqual([size(999), size(1500), size(11_240_033), size(2e12)], ['999 bytes', '1.5 kB', '11 MB', '2.0 TB']);
  assert.equal(people({ participants: ['Ada', 'Ben'], people: 2 }), 'Ada and Ben');
  assert.equal(people({ participants: ['A', 'B', 'C', 'D', 'E'], people: 9 }), 'A, B, C and 6 more');
  assert.equal(state({ state: 'recording' }).kind, 'live');
  assert.equal(state({ state: 'healed', ended: 'crash' }).kind, 'trouble');
});
