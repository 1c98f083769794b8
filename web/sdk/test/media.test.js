import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { joinRoom } from '../exedra.js';
import { encodingsFor, setFormat } from '../publisher.js';
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
});

const of = (pc) => server.negotiations.filter((n) => n.pc === pc);
const revs = (pc) => of(pc).map(({ rev }) => rev);
const sub = () => room._subscriber.link;
const pub = () => room._publisher.link;

test('sub is offered at once, its slots in pairs, and again only for more', async () => {
  room = await joinRoom(options());
  await settle();
  assert.deepEqual(revs('sub'), [1]);
  assert.match(of('sub')[0].sdp, /audio:recvonly,video:recvonly,audio:recvonly,video:recvonly$/);
  server.event('slots.need', { audio: 2, video: 2 });
  await settle();
  assert.deepEqual(revs('sub'), [1]);
  server.event('slots.need', { audio: 4, video: 3 });
  await settle();
  assert.deepEqual(revs('sub'), [1, 2]);
  assert.deepEqual(room._subscriber.slots.map(({ kind }) => kind), ['audio', 'video', 'audio', 'video', 'audio', 'video', 'audio']);
});

test('a larger room is offered in one round: the offer made before the welcome is not sent', async () => {
  server.need = { audio: 4, video: 4 };
  room = await joinRoom(options());
  await settle();
  assert.deepEqual(revs('sub'), [1]);
  assert.equal(of('sub')[0].sdp.split('video:recvonly').length - 1, 4);
});

test('who may not subscribe offers nothing, until it may', async () => {
  server.grants = { publish: true, subscribe: false, say: true };
  room = await joinRoom(options());
  await settle();
  assert.deepEqual(revs('sub'), []);
  server.event('you.updated', { participant: 'p1', grants: { publish: true, subscribe: true, say: true } });
  await settle();
  assert.deepEqual(revs('sub'), [1]);
});

test('a slot keeps its track when another takes its place', async () => {
  server.participants = [{ participant: 'p7', name: 'Bo', attributes: {}, joinedAtMs: 1, connection: 'live' }];
  server.tracks = ['a', 'b'].map((track) => ({ track, participant: 'p7', source: 'camera', kind: 'video', muted: false, simulcast: false }));
  room = await joinRoom(options());
  await settle();
  const told = [];
  room.on('trackSubscribed', ({ id }) => told.push(`+${id}`));
  room.on('trackUnsubscribed', ({ id }) => told.push(`-${id}`));
  server.event('slot.bind', { mid: '1', track: 'a', why: 'view' });
  const media = room.tracks.get('a').mediaStreamTrack;
  assert.equal(media.kind, 'video');
  server.event('slot.bind', { mid: '1', track: 'b', why: 'view' });
  assert.equal(room.tracks.get('b').mediaStreamTrack, media);
  assert.equal(room.tracks.get('a').mediaStreamTrack, null);
  server.event('slot.bind', { mid: '1', track: null, why: 'view' });
  assert.deepEqual(told, ['+a', '-a', '+b', '-b']);
});

test('a binding may come before its track, and before its m-line', async () => {
  server.participants = [{ participant: 'p7', name: 'Bo', attributes: {}, joinedAtMs: 1, connection: 'live' }];
  room = await joinRoom(options());
  await settle();
  server.event('slot.bind', { mid: '5', track: 't9', why: 'view' });
  server.event('track.published', { track: 't9', participant: 'p7', source: 'camera', kind: 'video', muted: false, simulcast: false });
  assert.equal(room.tracks.get('t9').subscribed, false);
  server.event('slots.need', { audio: 3, video: 3 });
  await settle();
  assert.equal(room.tracks.get('t9').subscribed, true);
});

test('publishing several tracks at once takes one round, and each learns its id', async () => {
  room = await joinRoom(options());
  const [camera, microphone] = await Promise.all([room.publish(fakeTrack('video')), room.publish(fakeTrack('audio'))]);
  assert.deepEqual([camera.source, camera.id, microphone.source, microphone.id], ['camera', 't1-0', 'microphone', 't1-1']);
  assert.ok(revs('pub').length <= 2);
  assert.deepEqual(of('pub').at(-1).tracks, [{ mid: '0', source: 'camera', simulcast: true }, { mid: '1', source: 'microphone' }]);
});

test('negotiations of one connection never overlap', async () => {
  room = await joinRoom(options());
  server.silent.add('negotiate');
  const first = room.publish(fakeTrack('audio'));
  await settle();
  const second = room.publish(fakeTrack('video'), { source: 'screen' });
  await settle();
  assert.deepEqual(revs('pub'), [1], 'the second waits for the answer');
  server.silent.clear();
  server.socket.tell([...server.session.answers.values()].at(-1));
  await Promise.all([first, second]);
  assert.deepEqual(revs('pub'), [1, 2]);
});

test('a stale rev is read from the conflict and passed', async () => {
  room = await joinRoom(options());
  server.refuse = ({ type, data }) => (type === 'negotiate' && data.pc === 'pub' && data.rev <= 7 ? { code: 'conflict', message: `rev: the current one is 7, and ${data.rev} is not greater`, retryable: false, retryAfterMs: 0 } : undefined);
  const local = await room.publish(fakeTrack('audio'));
  assert.equal(local.id, 't1-0');
  assert.deepEqual(revs('pub'), [8]);
});

test('a refused offer is rolled back, told, and does not block the next', async () => {
  room = await joinRoom(options());
  server.refuse = ({ type, data }) => (type === 'negotiate' && data.pc === 'pub' ? { code: 'bad_request', message: 'sdp: no', retryable: false, retryAfterMs: 0 } : undefined);
  await assert.rejects(room.publish(fakeTrack('video')), { code: 'bad_request' });
  assert.equal(pub().pc.signalingState, 'stable');
  assert.deepEqual(room.localTracks, []);
  server.refuse = null;
  assert.ok((await room.publish(fakeTrack('audio'))).id);
});

test('a negotiation cut off by the network is asked again with the same id and rev', async () => {
  room = await joinRoom(options());
  await settle();
  server.silent.add('negotiate');
  const published = room.publish(fakeTrack('audio'));
  await settle();
  server.socket.drop();
  server.silent.clear();
  await clock.pass(1000);
  assert.equal((await published).id, 't1-0');
  assert.equal(revs('pub')[0], 1);
});

test('in another session everything is published again on new connections', async () => {
  room = await joinRoom(options());
  const camera = await room.publish(fakeTrack('video'));
  await camera.setMuted(true);
  const before = FakePeerConnection.all.length;
  server.session = null;
  server.socket.drop();
  await clock.pass(1000);
  assert.equal(FakePeerConnection.all.length, before + 2);
  assert.equal(camera.id, 't2-0');
  assert.deepEqual(server.taken.at(-1), { type: 'track', data: { track: 't2-0', muted: true } });
  assert.deepEqual(revs('pub').at(-1), 1);
  assert.equal(room.state.phase, 'live');
});

test('a path that is broken for two seconds gets an ICE restart, and a new connection when these do not help', async () => {
  room = await joinRoom(options());
  await settle();
  const pc = sub().pc;
  pc.become('connected');
  const states = [];
  room.on('state', ({ phase, why }) => states.push(`${phase} ${why}`.trim()));
  pc.become('disconnected');
  await alive(1900);
  assert.equal(pc.restarts, 0);
  await alive(200);
  assert.equal(pc.restarts, 1);
  pc.become('connected');
  assert.deepEqual(states, ['reconnecting media', 'live']);
  pc.become('failed');
  await alive(30_000);
  assert.ok(pc.closed, 'restarts did not help: another connection');
  assert.ok(pc.restarts >= 3);
  assert.ok(sub().pc !== pc);
  assert.equal(sub().pc.transceivers.length, 4);
  sub().pc.become('connected');
  assert.equal(room.state.phase, 'live');
});

test('a restart that succeeds without a change of state is not mistaken for a failure', async () => {
  room = await joinRoom(options());
  await settle();
  const pc = sub().pc;
  pc.become('connected');
  sub().restartIce();
  await alive(20_000);
  assert.equal(pc.restarts, 1);
  assert.equal(sub().pc, pc);
});

test('a server that has given the connection up gets a new one', async () => {
  room = await joinRoom(options());
  await settle();
  const pc = sub().pc;
  pc.become('connected');
  sub().restartIce();
  await settle();
  assert.equal(sub().pc, pc);
  server.sdpSession += 1;
  sub().restartIce();
  await settle();
  assert.ok(pc.closed, 'its DTLS means nothing to the server any more');
  assert.ok(sub().pc && sub().pc !== pc);
  assert.deepEqual(revs('sub'), [1, 2, 3, 4]);
  assert.equal(sub().pc.transceivers.length, 4);
});

test('an unpublished track leaves its m-line for the next of its kind', async () => {
  room = await joinRoom(options());
  const first = await room.publish(fakeTrack('video'), { source: 'screen' });
  await first.unpublish();
  assert.deepEqual(of('pub').at(-1).tracks, []);
  const second = await room.publish(fakeTrack('video'), { source: 'screen' });
  assert.equal(pub().pc.transceivers.length, 1);
  assert.equal(second.transceiver.direction, 'sendonly');
});

test('another camera takes the place of the old one; another size may need other encodings', async () => {
  room = await joinRoom(options());
  const camera = await room.publish(fakeTrack('video'));
  const other = fakeTrack('video');
  await camera.replace(other);
  assert.equal(camera.transceiver.sender.track, other);
  assert.equal(pub().pc.transceivers.length, 1);
  await camera.replace(null);
  assert.equal(pub().pc.transceivers.length, 1, 'nothing for a while changes nothing');
  await camera.replace(fakeTrack('video', { width: 640, height: 360 }));
  assert.equal(camera.id, 't1-1');
  assert.equal(pub().pc.transceivers[0].direction, 'inactive');
  await camera.replace(fakeTrack('video'));
  assert.equal(camera.id, 't1-0');
  assert.equal(pub().pc.transceivers.length, 2, 'the m-line of that shape is used again');
});

test('encodings follow the size of the picture', () => {
  const rids = (width, height, more = {}) => encodingsFor({ kind: 'video', options: { source: 'camera', simulcast: true, ...more }, size: { width, height } }).map((e) => [e.rid, e.scaleResolutionDownBy]);
  assert.deepEqual(rids(1280, 720), [['q', 4], ['h', 2], ['f', 1]]);
  assert.deepEqual(rids(720, 1280), [['q', 4], ['h', 2], ['f', 1]], 'a phone held upright');
  assert.deepEqual(rids(640, 360), [['h', 2], ['f', 1]]);
  assert.deepEqual(rids(800, 600), [['h', 2], ['f', 1]], 'it is the area that counts');
  assert.deepEqual(rids(320, 180), [[undefined, undefined]]);
  assert.deepEqual(rids(1280, 720, { simulcast: false }), [[undefined, undefined]]);
});

test('what an encoder is to do is written into the right section of the answer', () => {
  const opus = /^opus$/i;
  const sdp = 'v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\na=rtpmap:111 opus/48000/2\r\n';
  const dtx = setFormat(sdp, '0', opus, { usedtx: '1' });
  assert.match(dtx, /a=mid:0\r\na=rtpmap:111 opus\/48000\/2\r\na=fmtp:111 minptime=10;useinbandfec=1;usedtx=1\r\nm=audio/);
  assert.match(setFormat(sdp, '1', opus, { stereo: '1' }), /a=mid:1\r\na=rtpmap:111 opus\/48000\/2\r\na=fmtp:111 stereo=1\r\n$/);
  assert.equal(setFormat(sdp, '10', opus, { stereo: '1' }), sdp);
  const video = 'm=video 9 UDP/TLS/RTP/SAVPF 96 97 98\r\na=mid:2\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:98 VP9/90000\r\na=fmtp:98 profile-id=0\r\n';
  assert.equal(
    setFormat(sdp + video, '2', /^VP[89]$/, { x: '1' }).slice(sdp.length),
    'm=video 9 UDP/TLS/RTP/SAVPF 96 97 98\r\na=mid:2\r\na=rtpmap:96 VP8/90000\r\na=fmtp:96 x=1\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:98 VP9/90000\r\na=fmtp:98 profile-id=0;x=1\r\n',
  );
});

/** Time passes while the server keeps pinging. */
async function alive(ms) {
  for (let passed = 0; passed < ms; passed += 100) {
    server.socket.tell({ type: 'ping', t: passed });
    await clock.pass(Math.min(100, ms - passed));
  }
}
