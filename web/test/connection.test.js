import assert from 'node:assert/strict';
import { test } from 'node:test';
import { measure } from '../app/measure.js';
import { ceiling, trace } from '../app/plot.js';
import { reasonOf } from '../app/reasons.js';

const ada = { name: 'Ada', connection: 'live', quality: null };
const track = (more) => ({ source: 'camera', state: 'live', why: 'view', muted: false, needBps: null, haveBps: null, ...more });
const shown = (more, participant = {}, isLocal = false) => reasonOf({ track: track(more), participant: { ...ada, ...participant }, isLocal, width: 320, height: 180 });

test('nothing is said while all is well, or while it is somebody’s own wish', () => {
  assert.equal(shown({}), null);
  assert.equal(shown({ why: 'lastN', state: 'paused' }), null);
  assert.equal(shown({ why: 'bandwidth', muted: true }), null);
  assert.equal(shown({ why: 'bandwidth' }, { connection: 'lost' }), null, 'the tile says that already');
  assert.equal(shown({}, { quality: { up: 4, down: 1, why: 'bandwidth' } }), null, 'what Ada receives is not ours to know');
  assert.equal(reasonOf({ track: null, participant: ada, isLocal: false }), null);
});

test('a small picture says what it needs and what there is', () => {
  const { question, text } = shown({ why: 'bandwidth', needBps: 1_234_567, haveBps: 640_000 });
  assert.equal(question, 'Why is this picture small?');
  assert.match(text, /picture of Ada to you \(320×180\)\. The next better one takes 1,235 kbit\/s, and there are 640 kbit\/s for it\./);
});

test('a paused picture, a screen, and no figures', () => {
  assert.match(shown({ why: 'bandwidth', state: 'paused', needBps: 90_000, haveBps: 0 }).text, /no picture of Ada .* It takes 90 kbit\/s, and there are 0 kbit\/s for it\./);
  assert.match(shown({ why: 'bandwidth', source: 'screen' }).text, /Ada’s screen/);
  assert.doesNotMatch(shown({ why: 'bandwidth' }).text, /null|NaN|takes/);
});

test('enough, but not for long enough', () => {
  assert.match(shown({ why: 'bandwidth', needBps: 307_000, haveBps: 471_000 }).text, /takes 307 kbit\/s, and there are 471 kbit\/s: it comes as soon as that has held for a while\./);
});

test('a weak way to the server is told to both ends, each in its words', () => {
  const quality = { up: 1, down: 5, why: 'loss' };
  assert.match(shown({}, { quality }).text, /connection of Ada to the server is weak/);
  assert.match(shown({}, { quality }, true).text, /^Much of what you send is lost/);
  assert.match(shown({}, { quality: { ...quality, why: 'something new' } }, true).text, /^Your connection to the server is weak/);
});

const stats = (at, received, more = {}) => ({
  at,
  server: { pub: { rttMs: 31.4 }, sub: { bandwidth: { estimateBps: 900_000, wantedBps: 2_500_000, queueDelayMs: 12.6 }, streams: [{ mid: '1', rid: 'h', layer: { rid: 'h', temporal: 2 } }] } },
  sub: { rttMs: 30, remote: 'udp 10.0.0.1:1', bytesReceived: received, tracks: [{ kind: 'video', mid: '1', track: 'a', codec: 'video/VP8', bytesReceived: received, packetsReceived: received / 1000, packetsLost: received / 9000, frameWidth: 640, frameHeight: 360, framesPerSecond: 24.9 }] },
  pub: { rttMs: null, availableBps: 1_000_000, bytesSent: 2 * received, tracks: ['h', 'q'].map((rid, n) => ({ kind: 'video', mid: '0', rid, track: 'b', bytesSent: received, packetsSent: received / 1000, remoteLost: 0, frameHeight: n ? 180 : 360, active: !n })) },
  ...more,
});

test('rates come from two readings, and what is not known is null', () => {
  const first = measure(stats(1000, 9_000_000), null);
  assert.deepEqual([first.down.bps, first.down.lossPercent, first.down.estimateBps, first.down.queueMs], [null, null, 900_000, 13]);
  const { down, up } = measure(stats(3000, 9_900_000), stats(1000, 9_000_000));
  assert.deepEqual([down.bps, down.lossPercent, down.rttMs, up.rttMs], [3_600_000, 10, 30, 31]);
  assert.deepEqual(down.tracks[0].layer, { rid: 'h', spatial: null, temporal: 2 });
  assert.deepEqual([down.tracks[0].bps, down.tracks[0].fps, down.tracks[0].codec], [3_600_000, 25, 'VP8']);
  assert.deepEqual(up.tracks[0].encodings.map(({ rid, bps, active }) => [rid, bps, active]), [['q', 3_600_000, false], ['h', 3_600_000, true]]);
  assert.equal(up.lossPercent, 0);
});

test('a new connection, and a server that says nothing', () => {
  const { down, up } = measure(stats(3000, 10, { server: null }), stats(1000, 9_000_000));
  assert.deepEqual([down.bps, down.lossPercent, down.estimateBps, down.tracks[0].layer, up.bps], [null, null, null, null, null]);
});

test('lines and axes', () => {
  assert.deepEqual([ceiling(1), ceiling(130_000), ceiling(200_000), ceiling(201_000), ceiling(700)], [1, 200_000, 200_000, 500_000, 1000]);
  assert.equal(trace([[0, 0], [150, 100], [300, 50]], 100), 'M0.0 59.0L150.0 1.0L300.0 30.0');
  assert.equal(trace([[0, 0], [150, null], [200, 100], [300, 50]], 100, true), 'M0.0 59.0M200.0 1.0H300.0V30.0');
});
