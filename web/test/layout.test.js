import assert from 'node:assert/strict';
import { webcrypto } from 'node:crypto';
import { test } from 'node:test';
import { duo, grid, stage } from '../app/layout.js';
import { asRoomName, hue, initials, inventRoomName } from '../app/names.js';

globalThis.crypto ??= webcrypto; // Node.js 18 has it only here

const SCREENS = [[360, 560], [390, 740], [844, 300], [820, 1000], [1400, 760], [3440, 1300], [200, 200]];

test('tiles are on the screen, do not overlap, and are as many as they should be', () => {
  for (const [width, height] of SCREENS) {
    for (let count = 1; count <= 25; count++) {
      const placed = { grid: grid(count, width, height, 10), stage: stage(count, width, height, 10) };
      assert.equal(placed.grid.length, count);
      assert.ok(placed.stage.length >= 1 && placed.stage.length <= count);
      for (const [name, rects] of Object.entries(placed)) check(rects, width, height, `${name} of ${count} at ${width}x${height}`);
    }
  }
});

test('two people: the small tile lies within the screen', () => {
  for (const [width, height] of SCREENS) {
    const [, small] = duo(width, height, 10);
    assert.ok(small.x >= 0 && small.y >= 0 && small.x + small.w <= width && small.y + small.h <= height, `${width}x${height}`);
  }
});

test('room names: what is typed, or pasted, becomes one', () => {
  assert.equal(asRoomName('  Tea House '), 'tea-house');
  assert.equal(asRoomName('https://meet.example/r/caf%C3%A9-1?x=1#token=a'), 'café-1');
  assert.equal(asRoomName('...'), '');
  assert.equal(asRoomName('<b>'), 'b');
  for (let i = 0; i < 200; i++) {
    const invented = inventRoomName();
    assert.equal(asRoomName(invented), invented);
  }
});

test('initials and colours', () => {
  assert.deepEqual(['Ada Lovelace', 'bo', '', '李 小龙', 'a b c'].map(initials), ['AL', 'B', '?', '李小', 'AC']);
  assert.equal(hue('Ada'), hue('Ada'));
});

function check(rects, width, height, what) {
  rects.forEach((a, i) => {
    assert.ok(a.w > 0 && a.h > 0 && a.x >= 0 && a.y >= 0 && a.x + a.w <= width + 1 && a.y + a.h <= height + 1, `${what}: tile ${i} ${JSON.stringify(a)}`);
    for (const b of rects.slice(0, i)) assert.ok(a.x >= b.x + b.w || b.x >= a.x + a.w || a.y >= b.y + b.h || b.y >= a.y + a.h, `${what}: ${JSON.stringify(a)} over ${JSON.stringify(b)}`);
  });
}
