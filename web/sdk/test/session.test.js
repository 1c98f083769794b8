import assert from 'node:assert/strict';
import { beforeEach, afterEach, mock, test } from 'node:test';
import { createRoom, joinRoom } from '../exedra.js';
import { backoff } from '../backoff.js';
import { FakeClock, FakePeerConnection, FakeServer, FakeSocket, options, settle } from './fakes.js';

let clock;
let server;
let room;
beforeEach(() => {
  clock = new FakeClock();
  server = new FakeServer();
});
afterEach(async () => {
  room?._signal.end('left');
  room = null;
  clock.restore();
});

test('hello goes first, with credentials in the message and none in the address', async () => {
  room = await joinRoom(options({ token: 'secret' }));
  const [socket] = FakeSocket.all;
  assert.equal(socket.url, 'ws://server.test/v1/room');
  assert.equal(socket.protocol, 'exedra.v1');
  assert.equal(socket.sent[0].type, 'hello');
  assert.equal(socket.sent[0].data.token, 'secret');
  assert.equal(room.me.name, 'Ada');
  assert.equal(room.state.phase, 'live');
});

test('events are applied in order and once, whatever the socket does', async () => {
  room = await joinRoom(options());
  const seen = [];
  room.on('message', ({ body }) => seen.push(body));
  const say = (body) => server.event('message', { participant: 'p9', topic: 'x', body, retain: false, atMs: body });
  say(1);
  server.socket.tell(server.session.log[0]); // repeated
  say(2);
  server.socket.drop();
  say(3); // nobody is connected
  say(4);
  await clock.pass(2000);
  assert.deepEqual(seen, [1, 2, 3, 4]);
  assert.deepEqual(server.hellos[1].resume, { session: 's1', secret: 'x', seq: 2 });
});

test('a gap in the numbers resumes instead of guessing', async () => {
  room = await joinRoom(options());
  const seen = [];
  room.on('message', ({ body }) => seen.push(body));
  server.event('message', { participant: 'p9', topic: 'x', body: 'a', atMs: 1 });
  server.session.log.push({ seq: ++server.session.last, type: 'message', data: { participant: 'p9', topic: 'x', body: 'lost', atMs: 2 } });
  server.event('message', { participant: 'p9', topic: 'x', body: 'b', atMs: 3 });
  assert.deepEqual(seen, ['a']);
  await clock.pass(2000);
  assert.deepEqual(seen, ['a', 'lost', 'b']);
});

test('a request that was cut off is sent again with its id, and takes effect once', async () => {
  room = await joinRoom(options());
  server.silent.add('say');
  const said = room.say('chat', 'hello');
  await settle();
  assert.equal(server.taken.filter(({ type }) => type === 'say').length, 1);
  const first = server.socket.sent.find(({ type }) => type === 'say');
  server.socket.drop();
  server.silent.clear();
  await clock.pass(1000);
  await said;
  const second = server.socket.sent.find(({ type }) => type === 'say');
  assert.equal(second.id, first.id);
  assert.equal(server.taken.filter(({ type }) => type === 'say').length, 1);
});

test('what is asked while there is no connection is sent when there is', async () => {
  room = await joinRoom(options());
  server.socket.drop();
  const said = room.say('chat', 'later');
  await clock.pass(1000);
  assert.deepEqual(await said, { seq: 1 });
});

test('in another session, what was sent and not answered fails, retryable', async () => {
  room = await joinRoom(options());
  server.silent.add('say');
  const said = room.say('chat', 'hello');
  await settle();
  server.session = null; // its time was over
  server.socket.drop();
  const failed = assert.rejects(said, { code: 'unavailable', retryable: true });
  await clock.pass(1000);
  await failed;
  assert.equal(room.me.id, 'p2');
});

test('a request that nobody answers fails in the end', async () => {
  room = await joinRoom(options());
  server.silent.add('stats');
  const asked = assert.rejects(room.request('stats'), { code: 'unavailable' });
  await settle();
  for (let i = 0; i < 20; i++) {
    server.socket.tell({ type: 'ping', t: i });
    await clock.pass(1000, 500);
  }
  await asked;
});

test('too soon: the same id is tried again after the pause', async () => {
  room = await joinRoom(options());
  let refusals = 2;
  server.refuse = ({ type }) => (type === 'say' && refusals-- > 0 ? { code: 'rate_limited', message: 'slow', retryable: true, retryAfterMs: 200 } : undefined);
  const said = room.say('chat', 'hello');
  await settle();
  await clock.pass(500);
  await said;
  assert.equal(new Set(server.socket.sent.filter(({ type }) => type === 'say').map(({ id }) => id)).size, 1);
});

test('a ping is answered; silence is noticed and the session resumed', async () => {
  server.pongs = [];
  room = await joinRoom(options());
  server.socket.tell({ type: 'ping', t: 42 });
  await settle();
  assert.deepEqual(server.pongs, [42]);
  const states = [];
  room.on('state', ({ phase, why }) => states.push(`${phase} ${why}`.trim()));
  await clock.pass(5000);
  assert.deepEqual(states.slice(0, 2), ['reconnecting heartbeat', 'live']);
  assert.equal(server.hellos[1].resume.session, 's1');
});

test('when the log does not reach back, the snapshot becomes the state, told as differences', async () => {
  server.participants = [person('p7', 'Bo'), person('p8', 'Cy')];
  server.tracks = [track('t1', 'p7'), track('t2', 'p8')];
  room = await joinRoom(options());
  const bo = room.participants.get('p7');
  const told = [];
  for (const name of ['participantJoined', 'participantLeft', 'participantUpdated', 'trackPublished', 'trackUnpublished', 'trackUpdated']) room.on(name, (thing) => told.push(`${name} ${thing.id}`));
  server.socket.drop();
  server.session.oldest = 100;
  server.session.last = 120;
  server.participants = [{ ...person('p7', 'Bo'), name: 'Bob' }, person('p9', 'Di')];
  server.tracks = [{ ...track('t1', 'p7'), muted: true }, track('t3', 'p9')];
  await clock.pass(1000);
  assert.deepEqual(told, ['trackUnpublished t2', 'participantLeft p8', 'participantUpdated p7', 'participantJoined p9', 'trackUpdated t1', 'trackPublished t3']);
  assert.equal(room.participants.get('p7'), bo, 'the same person is the same object');
  assert.equal(room._signal.seq, 120);
});

test('after a restart of the server, old ids may be those of others', async () => {
  server.participants = [person('p7', 'Bo')];
  server.tracks = [track('t1', 'p7')];
  room = await joinRoom(options());
  const bo = room.participants.get('p7');
  server.session = null;
  server.sessions = 6; // the next one is p7
  server.participants = [{ ...person('p1', 'Bo'), joinedAtMs: 9 }];
  server.tracks = [track('t1', 'p1')];
  server.socket.drop();
  await clock.pass(1000);
  assert.equal(room.me.id, 'p7');
  assert.ok(room.me.isLocal && room.me !== bo);
  assert.equal(room.participants.get('p1').isLocal, false);
  assert.equal(room.tracks.get('t1').participant, room.participants.get('p1'));
});

test('fatal close codes end it with a reason; the others come back', async () => {
  for (const [code, why] of [[4401, 'unauthorized'], [4403, 'forbidden'], [4404, 'not_found'], [4409, 'replaced']]) {
    server = new FakeServer();
    const one = await joinRoom(options());
    server.socket.drop(code);
    assert.equal(one.state.phase, 'ended');
    assert.equal(one.state.why, why);
    assert.ok(one.state.text.length > 10);
    await clock.pass(10_000, 1000);
    assert.equal(FakeSocket.all.length, 1, 'it stays away');
  }
  for (const code of [1001, 1006, 4408, 4429, 4500]) {
    server = new FakeServer();
    room = await joinRoom(options());
    for (const pc of FakePeerConnection.all) pc.become('connected');
    server.socket.drop(code);
    for (let waited = 0; waited < 6000; waited += 500) {
      server.socket.tell({ type: 'ping', t: waited });
      await clock.pass(500);
    }
    assert.equal(room.state.phase, 'live', `after ${code}`);
    assert.ok(server.hellos[1].resume, `${code} resumes`);
    room._signal.end('left');
  }
});

test('bye says where to go and how', async () => {
  room = await joinRoom(options());
  server.event('bye', { action: 'rejoin', reason: 'draining', url: 'https://other.test' });
  await clock.pass(1000);
  assert.equal(FakeSocket.all[1].url, 'wss://other.test/v1/room');
  assert.equal(server.hellos[1].resume, undefined);
  server.event('bye', { action: 'stop', reason: 'The host ended the meeting.' });
  assert.equal(room.state.why, 'stopped');
  assert.equal(room.state.error.message, 'The host ended the meeting.');
});

test('a refused hello rejects the join with its code', async () => {
  server.refuse = () => ({ code: 'forbidden', message: 'the room is locked', retryable: false, retryAfterMs: 0 });
  await assert.rejects(joinRoom(options()), { name: 'ExedraError', code: 'forbidden', message: 'the room is locked' });
  assert.equal(FakeSocket.all.length, 1);
});

test('a server that is not there yet is tried until the time is over', async () => {
  FakeSocket.onOpen = (socket) => socket.drop();
  const failed = assert.rejects(createRoom(options({ joinTimeoutMs: 5000 })).join(), { code: 'unavailable', retryable: true });
  await clock.pass(6000, 100);
  await failed;
  assert.ok(FakeSocket.all.length > 3);
});

test('attempts back off, with jitter, and a session that breaks at once does not start them over', async () => {
  assert.deepEqual([0, 1, 2, 3, 10].map((n) => backoff(n, { random: () => 1 })), [300, 600, 1200, 2400, 8000]);
  assert.equal(backoff(3, { random: () => 0 }), 1200);
  room = await joinRoom(options());
  const welcome = FakeSocket.onOpen;
  FakeSocket.onOpen = (socket) => (welcome(socket), queueMicrotask(() => queueMicrotask(() => queueMicrotask(() => socket.drop()))));
  server.socket.drop();
  await clock.pass(10_000, 100);
  assert.ok(FakeSocket.all.length < 12, `${FakeSocket.all.length} sockets in 10 s`);
});

test('leaving says so, and a closed socket is not mourned', async () => {
  room = await joinRoom(options());
  const left = room.leave();
  await settle();
  server.socket.drop(1000);
  await left;
  assert.equal(server.taken.at(-1).type, 'leave');
  assert.equal(room.state.why, 'left');
});

test('a reloaded page goes on as the same participant, from where it was', async () => {
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value), removeItem: (key) => kept.delete(key) };
  server.participants = [person('p7', 'Bo')];
  room = await joinRoom(options({ persist: true, storage }));
  server.event('message', { participant: 'p7', topic: 'chat', body: 'before', atMs: 1 });
  await clock.pass(1000);
  server.socket.closed = { code: 1001 }; // the page is gone
  server.event('message', { participant: 'p7', topic: 'chat', body: 'meanwhile', atMs: 2 });
  const reloaded = await joinRoom(options({ persist: true, storage }));
  assert.deepEqual(server.hellos[1].resume, { session: 's1', secret: 'x', seq: 1 });
  assert.equal(reloaded.me.id, 'p1');
  assert.equal(reloaded.participants.get('p7').name, 'Bo');
  await settle();
  assert.deepEqual(reloaded.messages.map(({ body }) => body), ['before', 'meanwhile']);
  assert.ok(server.socket.sent[0].id > FakeSocket.all[0].sent.at(-1).id, 'ids go on ascending');
  reloaded._signal.end('left');
  assert.equal(kept.size, 0, 'nothing is kept of a session that ended');
});

test('a kept session that is not ours (another token) is no obstacle', async () => {
  const kept = new Map([['exedra:ws://server.test/v1/room:tea', JSON.stringify({ session: 's0', secret: 'old', seq: 3, participant: 'p9', savedAt: Date.now(), snapshot: { room: {}, you: { participant: 'p9' }, participants: [person('p9', 'Old')], tracks: [], messages: [] } })]]);
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value), removeItem: (key) => kept.delete(key) };
  server.refuse = ({ type, data }) => (type === 'hello' && data.resume ? { code: 'unauthorized', message: 'not the secret', retryable: false, retryAfterMs: 0 } : undefined);
  const joining = joinRoom(options({ persist: true, storage }));
  await clock.pass(1000);
  room = await joining;
  assert.equal(room.me.id, 'p1');
  assert.deepEqual([...room.participants.keys()], ['p1']);
});

test('a listener that throws keeps nobody else from hearing', async () => {
  const logged = mock.method(console, 'error', () => {});
  room = await joinRoom(options());
  const heard = [];
  room.on('message', () => {
    throw new Error('mine');
  });
  room.on('message', ({ body }) => heard.push(body));
  server.event('message', { participant: 'p7', topic: 'chat', body: 'a', atMs: 1 });
  assert.deepEqual(heard, ['a']);
  assert.equal(logged.mock.callCount(), 1);
  logged.mock.restore();
});

test('a large room has a list, a count, and pages', async () => {
  server.participants = [person('p7', 'Bo')];
  room = await joinRoom(options());
  assert.deepEqual([room.large, room.count], [false, 2]);
  const info = { name: 'tea', locked: false, recording: false, startedAtMs: 1 };
  server.event('room.updated', { ...info, participants: { total: 3000, viewers: 2999 } });
  assert.deepEqual([room.large, room.count, room.participants.size], [true, 3000, 2]);
  const left = [];
  room.on('participantLeft', ({ name }, why) => left.push([name, why]));
  server.event('participant.left', { participant: 'p7', why: 'unlisted' });
  assert.deepEqual(left, [['Bo', 'unlisted']]);
  const heard = [];
  room.on('message', ({ body }, from) => heard.push([body, from?.name]));
  server.event('message', { participant: 'p99', from: person('p99', 'Otto'), to: ['p1'], topic: 'chat', body: 'psst', retain: false, atMs: 2 });
  assert.deepEqual(heard, [['psst', 'Otto']]);
  assert.equal(room.nameOf('p99'), 'Otto');
  server.page = ({ after }) => (after ? { participants: [person('p99', 'Otto')], total: 2 } : { participants: [person(room.me.id, 'Ada')], next: room.me.id, total: 2 });
  const first = await room.listParticipants({ limit: 1 });
  assert.equal(first.participants[0], room.me, 'whom we know is the one that we know');
  const last = await room.listParticipants({ after: first.next, limit: 1 });
  assert.deepEqual([last.participants[0].name, last.next, last.total], ['Otto', null, 2]);
  server.event('room.updated', info);
  assert.deepEqual([room.large, room.count], [false, 1]);
});

function person(participant, name) {
  return { participant, name, attributes: {}, joinedAtMs: 1, connection: 'live' };
}

function track(id, participant) {
  return { track: id, participant, source: 'camera', kind: 'video', muted: false, simulcast: false };
}

test('a recording is there from its start to its end, and each change is told', async () => {
  room = await joinRoom(options());
  const told = [];
  room.on('recording', ({ state, why }, before) => told.push([state, why, before?.recording]));
  assert.equal(room.recording, null);
  const started = await room.record('start', { tracks: ['t1'] });
  await settle();
  assert.deepEqual(room.recording, started);
  assert.deepEqual(server.taken.at(-1).data, { action: 'start', tracks: ['t1'] });
  assert.equal((await room.record('stop')).state, 'stopped');
  await settle();
  assert.equal(room.recording, null);
  server.event('recording', { state: 'failed', why: 'refused', owners: [] });
  assert.deepEqual(told, [['started', undefined, undefined], ['stopped', undefined, 'r-1'], ['failed', 'refused', undefined]]);
});

test('who joins late, or was away, knows whether the room is recorded', async () => {
  server.recording = { state: 'started', recording: 'r-7', startedAtMs: clock.now, owners: ['p9'] };
  room = createRoom(options());
  const told = [];
  room.on('recording', ({ state }) => told.push(state));
  await room.join();
  assert.equal(room.recording.recording, 'r-7');
  server.recording = null;
  server.session = null; // it has forgotten us
  server.socket.drop();
  await clock.pass(2000);
  assert.equal(room.recording, null);
  assert.deepEqual(told, ['started', 'stopped']);
});

test('the clock is the server’s, however wrong our own is', async () => {
  room = await joinRoom(options());
  server.socket.tell({ type: 'ping', t: clock.now + 3_600_000 });
  assert.equal(room.serverTime, clock.now + 3_600_000);
  await clock.pass(500);
  assert.equal(room.serverTime, clock.now + 3_600_000);
});
