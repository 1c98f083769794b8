// The picture's machine-readable part: 40 black or white cells, ten to a row, large enough to outlive every codec and layer.

export const COLUMNS = 10;
export const ROWS = 4;
/** A cell's side, as a part of the picture's width. */
export const CELL = 1 / 20;
/** Where the code is repeated: at the opposite corner. @returns {[number, number]} */
export const secondCorner = (width, height) => [width - COLUMNS * width * CELL, height - ROWS * width * CELL];
/** Source times wrap here; a whole number of seconds, so that a beep stays on a multiple of 1000. */
export const WRAP_MS = 64_000;
/** The tone that tells a participant. 100 Hz apart: well over the 50 Hz that a 20 ms window can tell apart. */
export const toneHz = (id) => 400 + 100 * id;
export const BEEP_HZ = 3200;
export const BEEP_SECONDS = 0.06;
export const IDS = 16;

/** @param {{ id: number, frame: number, ms: number }} value 4, 16 and 16 bits */
export function encode({ id, frame, ms }) {
  const nibbles = [id & 15, ...split(frame), ...split(ms)];
  return [...nibbles, check(nibbles)].flatMap((n) => [8, 4, 2, 1].map((bit) => (n & bit ? 1 : 0)));
}

/** The inverse of `encode`; null when the check digit is wrong (another picture, or a broken one). */
export function decode(bits) {
  const nibbles = [];
  for (let n = 0; n < bits.length; n += 4) nibbles.push(bits[n] * 8 + bits[n + 1] * 4 + bits[n + 2] * 2 + bits[n + 3]);
  const sum = nibbles.pop();
  if (sum !== check(nibbles)) return null;
  return { id: nibbles[0], frame: join(nibbles.slice(1, 5)), ms: join(nibbles.slice(5, 9)) };
}

const split = (n) => [(n >> 12) & 15, (n >> 8) & 15, (n >> 4) & 15, n & 15];
const join = (nibbles) => nibbles.reduce((sum, n) => sum * 16 + n, 0);
// 10, so that neither an all-black nor an all-white picture passes.
const check = (nibbles) => nibbles.reduce((sum, n) => sum ^ n, 10);
