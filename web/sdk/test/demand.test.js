import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { joinRoom } from '../exedra.js';
import { encodingsFor } from '../publisher.js';
import { ViewReporter, drawn } from '../view.js';
import { FakeClock, FakePeerConnection, FakeServer, fakeTrack, options, settle } from './fakes.js';

let clock;
let server;
let room;
beforeEach(() => {
  clock = new FakeClock();
  server = new FakeServer();
});
afterEach(() => {
  room?._signal.end('left');
  room = null;
  clock.restore();
  delete globalThis.document;
});

const active = ({ transceiver }) => transceiver.sender.getParameters().encodings.filter((e) => e.active).map(({ rid }) => rid ?? '-');
const wanted = (local, rids, more = {}) => server.event('publish.layers', { track: local.id, wanted: rids, ...more });

test('layers that nobody watches are not sent', async () => {
  room = await joinRoom(options());
  const camera = await room.publish(fakeTrack('video'));
  assert.deepEqual(active(camera), ['q', 'h', 'f']);
  for (const rids of [['h'], [], ['q', 'h', 'f']]) {
    wanted(camera, rids);
    await settle();
    assert.deepEqual(active(camera), rids);
  }
});

test('demand that changes faster than the browser takes it: never two at once, and the latest counts', async () => {
  room = await joinRoom(options());
  const camera = await room.publish(fakeTrack('video'));
  const { sender } = camera.transceiver;
  for (let n = 0; n < 20; n++) wanted(camera, n % 2 ? ['q', 'h', 'f'] : ['q']);
  wanted(camera, ['q', 'h']);
  await settle(200);
  assert.deepEqual(active(camera), ['q', 'h']);
  assert.ok(sender.settings <= 2, `${sender.settings} calls for 21 wishes`);
  wanted(camera, ['q', 'h']);
  await settle(200);
  assert.ok(sender.settings <= 2, 'what is so already is not set again');
});

test('a track without encodings of a name stops and starts as a whole', async () => {
  room = await joinRoom(options());
  const screen = await room.publish(fakeTrack('video'), { source: 'screen' });
  wanted(screen, []);
  await settle();
  assert.deepEqual(active(screen), ['-'], 'a server that does not say `active` says nothing of it');
  wanted(screen, [], { active: false });
  await settle();
  assert.deepEqual([active(screen), screen.watched], [[], false]);
  wanted(screen, [], { active: true });
  await settle();
  assert.deepEqual(active(screen), ['-']);
});

test('a refusal in the middle of a negotiation is tried again', async () => {
  room = await joinRoom(options());
  const camera = await room.publish(fakeTrack('video'));
  const { sender } = camera.transceiver;
  const set = sender.setParameters;
  let refusals = 2;
  sender.setParameters = function (parameters) {
    if (refusals-- > 0) return Promise.reject(new DOMException('modified meanwhile', 'InvalidModificationError'));
    return set.call(this, parameters);
  };
  wanted(camera, ['q']);
  await clock.pass(500);
  assert.deepEqual(active(camera), ['q']);
});

test('a connection made anew begins with what is wanted; another session with everything', async () => {
  room = await joinRoom(options());
  const camera = await room.publish(fakeTrack('video'));
  wanted(camera, ['q']);
  await settle();
  const before = camera.transceiver;
  room._publisher.link.rebuild();
  await settle();
  assert.notEqual(camera.transceiver, before);
  assert.deepEqual(active(camera), ['q']);
  server.session = null;
  server.socket.drop();
  await clock.pass(1000);
  assert.equal(camera.id, 't2-0');
  assert.deepEqual(active(camera), ['q', 'h', 'f']);
});

test('a snapshot says what is wanted too', async () => {
  room = await joinRoom(options());
  const camera = await room.publish(fakeTrack('video'));
  const layers = [{ track: camera.id, wanted: ['h'], active: true }];
  room._applySnapshot({ room: {}, you: { grants: {} }, participants: [], tracks: [], layers }, false);
  await settle();
  assert.deepEqual(active(camera), ['h']);
});

test('a mode that the browser has for no codec is left out', async () => {
  room = await joinRoom(options());
  const add = FakePeerConnection.prototype.addTransceiver;
  FakePeerConnection.prototype.addTransceiver = function (track, init) {
    if (init.sendEncodings?.some((e) => e.scalabilityMode)) throw new DOMException('no such mode', 'OperationError');
    return add.call(this, track, init);
  };
  try {
    const camera = await room.publish(fakeTrack('video'));
    assert.deepEqual(active(camera), ['q', 'h', 'f']);
  } finally {
    FakePeerConnection.prototype.addTransceiver = add;
  }
});

test('sizes in one encoding, or in several, never both', () => {
  const made = (more) => encodingsFor({ kind: 'video', options: { source: 'camera', simulcast: true, ...more }, size: { width: 1280, height: 720 } });
  assert.deepEqual(made({}).map(({ rid, scalabilityMode }) => `${rid} ${scalabilityMode}`), ['q L1T3', 'h L1T3', 'f L1T3']);
  assert.deepEqual(made({ scalabilityMode: 'L3T3_KEY' }).map(({ rid, scalabilityMode }) => `${rid} ${scalabilityMode}`), ['undefined L3T3_KEY']);
});

test('what is received of a track, and what is missing', async () => {
  server.participants = [{ participant: 'p7', name: 'Bo', attributes: {}, joinedAtMs: 1, connection: 'live' }];
  server.tracks = [{ track: 'a', participant: 'p7', source: 'camera', kind: 'video', muted: false, simulcast: true }];
  room = await joinRoom(options());
  const track = room.tracks.get('a');
  server.event('track.state', { track: 'a', state: 'live', layer: { rid: 'q', temporal: 2 }, why: 'bandwidth', needBps: 500_000, haveBps: 300_000 });
  assert.deepEqual([track.state, track.why, track.layer, track.needBps, track.haveBps], ['live', 'bandwidth', { rid: 'q', temporal: 2 }, 500_000, 300_000]);
  server.event('track.state', { track: 'a', state: 'live', layer: { rid: 'f' }, why: 'view' });
  assert.deepEqual([track.why, track.layer, track.needBps, track.haveBps], ['view', { rid: 'f' }, null, null]);
  server.event('track.state', { track: 'a', state: 'paused', why: 'bandwidth', needBps: 90_000, haveBps: 0 });
  assert.deepEqual([track.state, track.layer, track.haveBps], ['paused', null, 0]);
  const told = [];
  room.on('quality', ({ name, quality }) => told.push([name, quality]));
  server.event('quality', [{ participant: 'p7', up: 2, down: 5, why: 'loss' }, { participant: 'gone', up: 1, down: 1, why: 'loss' }]);
  assert.deepEqual(told, [['Bo', { up: 2, down: 5, why: 'loss' }]]);
});

// ---------------------------------------------------------------------------------------------------- what is looked at

/** As much of a video element as the reporter looks at. */
function element(clientWidth, clientHeight, more = {}) {
  return Object.assign(new EventTarget(), { clientWidth, clientHeight, videoWidth: 1280, videoHeight: 720, ...more });
}

/** A document, and a reporter that keeps what it sent. */
function watch() {
  const page = Object.assign(new EventTarget(), { visibilityState: 'visible', pictureInPictureElement: null });
  globalThis.document = page;
  const sent = [];
  const reporter = new ViewReporter(async (view) => sent.push(view));
  return { page, sent, reporter, latest: (id = 'a') => sent.at(-1)?.tracks[id] };
}

test('a hidden tab and an element without a size cost nothing; who comes back soon keeps its pictures', async () => {
  const { page, sent, reporter, latest } = watch();
  const video = element(640, 360);
  reporter.add(video, { id: 'a' });
  await clock.pass(200);
  assert.deepEqual(latest(), { w: 640, h: 368 });
  const hide = (state) => {
    page.visibilityState = state;
    page.dispatchEvent(new Event('visibilitychange'));
  };
  hide('hidden');
  await clock.pass(1000);
  hide('visible');
  await clock.pass(5000);
  assert.equal(sent.length, 1, 'a glance elsewhere');
  hide('hidden');
  await clock.pass(3500);
  assert.equal(latest().paused, true);
  hide('visible');
  await clock.pass(200);
  assert.equal(latest().paused, undefined);
  Object.assign(video, { clientWidth: 0, clientHeight: 0 });
  reporter.schedule();
  await clock.pass(200);
  assert.equal(latest().paused, true);
  reporter.close();
});

test('a picture in a window of its own is seen in a hidden tab too, at the size of that window', async () => {
  const { page, reporter, latest } = watch();
  const [video, other] = [element(960, 540), element(320, 180)];
  reporter.add(video, { id: 'a' });
  reporter.add(other, { id: 'b' });
  const floating = Object.assign(new EventTarget(), { width: 400, height: 400 });
  page.pictureInPictureElement = video;
  video.dispatchEvent(Object.assign(new Event('enterpictureinpicture'), { pictureInPictureWindow: floating }));
  page.visibilityState = 'hidden';
  page.dispatchEvent(new Event('visibilitychange'));
  await clock.pass(4000);
  assert.deepEqual(latest(), { w: 400, h: 240 }, 'its picture fills the width');
  assert.equal(latest('b').paused, true);
  Object.assign(floating, { width: 800, height: 450 });
  floating.dispatchEvent(new Event('resize'));
  await clock.pass(200);
  assert.deepEqual(latest(), { w: 800, h: 464 });
  page.pictureInPictureElement = null;
  video.dispatchEvent(new Event('leavepictureinpicture'));
  await clock.pass(200);
  assert.equal(latest().paused, true);
  reporter.close();
});

test('what counts is the picture as it is drawn, not the box', () => {
  const wide = { videoWidth: 1280, videoHeight: 720 };
  assert.deepEqual(drawn(wide, 320, 640, 'contain'), { width: 320, height: 180 });
  assert.deepEqual(drawn(wide, 90, 90, 'cover'), { width: 160, height: 90 });
  assert.deepEqual(drawn(wide, 90, 90, 'fill'), { width: 90, height: 90 });
  assert.deepEqual(drawn({ videoWidth: 0, videoHeight: 0 }, 90, 90, 'cover'), { width: 90, height: 90 }, 'no picture yet');
});
