// @ts-check
/**
 * How long to wait before attempt `n` (0 is the first retry): exponential with jitter, so that the clients of a server
 * that restarts do not all come back in the same instant.
 * @param {number} n
 * @param {{baseMs?: number, capMs?: number, random?: () => number}} [options]
 */
export function backoff(n, { baseMs = 300, capMs = 8000, random = Math.random } = {}) {
  const full = Math.min(capMs, baseMs * 2 ** Math.min(n, 20));
  return Math.round(full * (0.5 + 0.5 * random()));
}
