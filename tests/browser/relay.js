// A bad network in user space: UDP and TCP relays between the browsers and the server.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/**
 * @typedef {object} Conditions in each direction
 * @property {number} [loss]      0 to 1, independent for each datagram
 * @property {number} [delayMs]
 * @property {number} [jitterMs]  up to this much more, which reorders
 * @property {number} [kbps]      what is over is queued, and dropped past `queueMs`
 * @property {number} [queueMs]   default 200
 * @property {boolean} [blocked]  nothing comes through
 */

/** The address that the server advertises when it is behind a relay: its own port, on another loopback address. */
export const RELAY_IP = '127.0.0.2';

/** Relays `127.0.0.2:port` to `127.0.0.1:port`. @param {{ port: number, seed: number, up?: Conditions, down?: Conditions }} options */
export async function relayUdp({ port, seed, up = {}, down = {} }) {
  const random = mulberry(seed);
  const counts = { passed: 0, lost: 0 };
  const outside = createSocket('udp4').bind(port, RELAY_IP);
  outside.on('error', () => {});
  await once(outside, 'listening');
  const clients = new Map(); // "ip:port" of a client -> the socket that stands for it before the server
  const ways = { up: { ...up, freeAt: 0 }, down: { ...down, freeAt: 0 } };

  const pass = (way, datagram, send) => {
    const { loss = 0, delayMs = 0, jitterMs = 0, kbps, queueMs = 200, blocked } = way;
    const now = performance.now();
    let wait = delayMs + jitterMs * random();
    let dropped = blocked || random() < loss;
    if (kbps) {
      const queued = Math.max(0, way.freeAt - now);
      if (queued > queueMs) dropped = true;
      if (!dropped) way.freeAt = now + queued + (datagram.length * 8) / kbps;
      wait += queued;
    }
    counts[dropped ? 'lost' : 'passed'] += 1;
    if (dropped) return;
    if (wait < 1) send();
    else setTimeout(send, wait);
  };

  outside.on('message', (datagram, { address, port: from }) => {
    const key = `${address}:${from}`;
    let inside = clients.get(key);
    if (!inside) {
      inside = createSocket('udp4').bind(0, RELAY_IP);
      inside.on('error', () => {});
      inside.on('message', (answer) => pass(ways.down, answer, () => outside.send(answer, from, address, () => {})));
      clients.set(key, inside);
    }
    pass(ways.up, datagram, () => inside.send(datagram, port, '127.0.0.1', () => {}));
  });

  return {
    counts,
    /** Changes the conditions from now on. */
    set({ up: newUp, down: newDown }) {
      Object.assign(ways.up, newUp);
      Object.assign(ways.down, newDown);
    },
    close() {
      for (const socket of [outside, ...clients.values()]) {
        try {
          socket.close();
        } catch {
          // closed already
        }
      }
    },
  };
}

/** Relays a TCP port. While it is blocked nothing moves and nothing is refused, as when a cable is pulled. @param {number} to */
export async function relayTcp(to) {
  const pairs = new Set();
  let blocked = false;
  const start = (pair) => {
    pair.far ??= connect(to, '127.0.0.1').on('error', () => pair.near.destroy());
    pair.near.pipe(pair.far);
    pair.far.pipe(pair.near);
  };
  const server = createServer((near) => {
    const pair = { near };
    pairs.add(pair);
    near.on('error', () => pair.far?.destroy());
    near.on('close', () => {
      pair.far?.destroy();
      pairs.delete(pair);
    });
    if (!blocked) start(pair);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    block(on) {
      blocked = on;
      for (const pair of pairs) {
        if (!on) {
          start(pair);
          continue;
        }
        pair.near.unpipe();
        pair.far?.unpipe();
      }
    },
    /** Cuts every connection, as a proxy that restarts. */
    cut: () => pairs.forEach(({ near }) => near.destroy()),
    close() {
      for (const { near } of pairs) near.destroy();
      server.close();
    },
  };
}

/** A small seeded generator (mulberry32). */
function mulberry(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
