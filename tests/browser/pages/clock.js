// Ties a clock that is read late, and in steps (an AudioContext's), to the wall clock.

/** Wall clock in milliseconds, with fractions. The pages of one machine agree on it. */
export const wall = () => performance.timeOrigin + performance.now();

/**
 * A reading (time, wall) can only be late, never early: the smallest difference seen in the last seconds is the true one.
 */
export class Clock {
  #window;
  #readings = [];

  constructor(windowMs = 4000) {
    this.#window = windowMs;
  }

  /** Says that the other clock showed `ms` no later than at wall time `at`. */
  observe(ms, at) {
    const offset = at - ms;
    while (this.#readings.length && this.#readings.at(-1).offset >= offset) this.#readings.pop();
    this.#readings.push({ offset, at });
    while (this.#readings[0].at < at - this.#window) this.#readings.shift();
  }

  get ready() {
    return this.#readings.length > 0;
  }

  /** The wall time at which the other clock showed `ms`. */
  toWall(ms) {
    return ms + this.#readings[0].offset;
  }

  /** What the other clock showed at the wall time `at`. */
  fromWall(at) {
    return at - this.#readings[0].offset;
  }
}
