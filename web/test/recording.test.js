import assert from 'node:assert/strict';
import { test } from 'node:test';
import { goesOn, notRecorded, recordingEnded, startedByOthers, whoKeeps, whoRecords } from '../app/reasons.js';

const NAMES = { p1: 'Ada', p2: 'Ben' };
const room = { me: { id: 'p1' }, nameOf: (id) => NAMES[id] ?? '', participants: new Set(['p1', 'p2']), grants: { record: true } };

test('who wants a recording is said by name, also of those who are no participants', () => {
  assert.equal(whoRecords({ owners: ['p2'] }, room), 'This call is being recorded, wanted by Ben.');
  assert.equal(whoRecords({ owners: ['server', 'p1', 'p9'], tracks: ['t1'] }, room), 'Some of this call is being recorded, wanted by the server, as always in this room, you and somebody who has left.');
  assert.equal(goesOn({ owners: ['p2', 'admin'] }, room), 'The recording goes on: it is also wanted by Ben and an operator of the server.');
});

test('who may not stop it hears why, before anything is asked', () => {
  const keeps = (owners, grants = {}) => whoKeeps({ owners }, { ...room, grants });
  assert.equal(keeps(['p1', 'p2']), '', 'ours');
  assert.equal(keeps(['p9']), '', 'whoever wanted it has left');
  assert.match(keeps(['server', 'p2']), /always recorded/);
  assert.match(keeps(['admin']), /operator/);
  assert.equal(keeps(['p2']), 'Ben started this recording, and can stop it.');
  assert.equal(keeps(['p2'], { moderate: true }), '');
  assert.deepEqual([['p2'], ['p1', 'p2'], ['p9']].map((owners) => startedByOthers({ owners }, room)), ['Ben', '', '']);
});

test('how a recording ended says who did it, or what happened to what was recorded', () => {
  assert.equal(recordingEnded({ state: 'stopped', by: 'p2' }, room), 'The recording was stopped by Ben.');
  assert.equal(recordingEnded({ state: 'stopped', by: 'p1' }, room), 'The recording has ended.');
  assert.equal(recordingEnded({ state: 'stopped' }, room), 'The recording has ended.');
  for (const why of ['diskFull', 'diskError']) assert.match(recordingEnded({ state: 'failed', why }, room), /until now is kept/);
  assert.match(recordingEnded({ state: 'failed', why: 'refused' }, room), /tries again/);
  assert.match(recordingEnded({ state: 'failed', why: 'anything' }, room), /went wrong/);
});

test('why there is none says what can be done', () => {
  assert.match(notRecorded('start', { code: 'unsupported', message: 'x' }), /--recordings/);
  assert.equal(notRecorded('start', { code: 'unavailable', message: 'the disk is full' }), 'The recording did not start: the disk is full.');
  assert.equal(notRecorded('stop', { code: 'conflict', message: 'Ben wants it' }), 'The recording was not stopped: Ben wants it.');
});
