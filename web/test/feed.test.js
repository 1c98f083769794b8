import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Feed } from '../recordings/feed.js';
import { joined, writeCluster, writeFront } from '../recordings/webm.js';

globalThis.sessionStorage = { getItem: () => 'token' };
globalThis.location = { search: '' };

const id = new TextEncoder().encode('V_VP8');
const entry = new Uint8Array([0xae, 0x80 | (5 + id.length), 0xd7, 0x81, 1, 0x86, 0x80 | id.length, ...id]);

/** An hour of a picture: clusters of a second and 8 kB, a keyframe each minute. */
function film(seconds) {
  const front = writeFront({ entry });
  const parts = [front];
  for (let s = 0; s < seconds; s++) {
    const block = { track: 1, time: s * 1000, key: s % 60 === 0, data: new Uint8Array(8000).fill(s) };
    parts.push(writeCluster({ time: s * 1000, blocks: [block] }, 1));
  }
  return joined(parts);
}

/** Serves a file as the server does, and counts. */
function serve(file) {
  const served = { file, requests: 0, bytes: 0 };
  globalThis.fetch = async (path, { headers }) => {
    const [, from, to] = /bytes=(\d+)-(\d*)/.exec(headers.range);
    assert.match(path, /^\/v1\/recordings\/r\/files\/f\.webm$/);
    const part = served.file.subarray(Number(from), to === '' ? undefined : Number(to) + 1);
    served.requests += 1;
    served.bytes += part.length;
    if (part.length === 0) return { ok: false, status: 416, json: async () => ({ detail: 'no such bytes' }) };
    return { ok: true, status: 206, arrayBuffer: async () => part.slice().buffer };
  };
  return served;
}

function play(size, growing) {
  const got = [];
  let changed = () => {};
  const feed = new Feed({ id: 'r', name: 'f.webm', size, growing }, {
    onFront: async () => {},
    onClusters: async (clusters, jumped) => {
      got.push(...clusters.map(({ time, blocks }, n) => ({ time, key: blocks[0].key, jumped: jumped && n === 0 })));
      changed();
    },
    onEnd: () => got.push({ end: true }),
    onError: (error) => assert.fail(error),
  });
  const until = async (test) => {
    for (const start = Date.now(); !test(); ) {
      assert.ok(Date.now() - start < 5000, `it does not come: ${JSON.stringify(got.slice(-3))}`);
      await Promise.race([new Promise((go) => (changed = go)), new Promise((go) => setTimeout(go, 20))]);
    }
  };
  return { feed, got, until };
}

test('a jump in an hour that still grows takes little, and begins at the keyframe before it', async () => {
  const file = film(3600);
  const served = serve(file);
  const { feed, got, until } = play(file.length, true);
  await until(() => feed.covers(0));
  for (const target of [1_834_500, 3_590_000, 130_000]) {
    served.bytes = served.requests = 0;
    got.length = 0;
    feed.want(target);
    await until(() => feed.covers(target));
    const first = got.findLast(({ jumped }) => jumped);
    assert.deepEqual([first.time, first.key], [Math.floor(target / 60_000) * 60_000, true]);
    assert.ok(served.bytes < 6 << 20, `${target}: ${served.bytes} bytes of ${file.length} in ${served.requests} requests`);
  }
  feed.close();
});

test('what is added is handed over once, in order, and only ahead of what is shown', async () => {
  const whole = film(100);
  const cut = whole.length - 8020 * 30 - 5;
  serve(whole);
  const { feed, got, until } = play(cut, true);
  await until(() => feed.covers(0) && feed.until > 15_000);
  assert.ok(feed.until < 70_000, 'not all is fetched at once');
  for (let at = 0; at <= 69_000; at += 3000) {
    feed.want(at);
    await until(() => feed.covers(at));
  }
  assert.equal(feed.atEnd, false, 'a part of a cluster is there, and waited for');
  feed.update({ size: whole.length, growing: false });
  feed.want(99_000);
  await until(() => got.at(-1)?.end);
  const times = got.filter(({ end }) => !end).map(({ time }) => time);
  assert.deepEqual(times, Array.from({ length: 100 }, (_, s) => s * 1000));
  feed.close();
});
