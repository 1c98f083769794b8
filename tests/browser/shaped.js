// A slow way to one browser: network namespaces, a router between them, and a token bucket on the router's side towards the browser.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 *     this machine ──── router ──── browser
 *       .1        .2         .5  →   .6           (10.x.y.0/30 and 10.x.y.4/30)
 *
 * The bucket (tbf) sits where the arrow is: what goes to the browser is queued and dropped there, as at the narrow end of an access line. It is
 * not on this machine's own side: there the server's socket would feel the queue, and so would everybody whom it serves.
 */
export class ShapedPath {
  #names;
  #scripts;
  #onExit = () => this.#remove();

  /**
   * @param {{ kbps: number, queueMs?: number }} conditions how much goes to the browser, and how long that may wait before it is dropped
   * @throws without the right to make namespaces (root), or without iproute2
   */
  static async open(conditions) {
    const path = new ShapedPath();
    removeStale();
    process.once('exit', path.#onExit);
    try {
      path.#make();
      path.set(conditions);
      path.#scripts = await mkdtemp(join(tmpdir(), 'exedra-shaped-'));
    } catch (error) {
      await path.close();
      throw error;
    }
    return path;
  }

  constructor() {
    const n = process.pid;
    this.#names = { router: `exedra-${n}-r`, browser: `exedra-${n}-b`, here: `ex${n}h`, there: `ex${n}t`, down: `ex${n}d`, end: `ex${n}e` };
    const net = `10.${128 + ((n >> 8) & 127)}.${n & 255}`;
    /** This machine's address as the browser sees it. */
    this.host = `${net}.1`;
    this.net = net;
  }

  #make() {
    const { net } = this;
    const { router, browser, here, there, down, end } = this.#names;
    for (const name of [router, browser]) {
      ip('netns', 'add', name);
      ip('-n', name, 'link', 'set', 'lo', 'up');
    }
    ip('link', 'add', here, 'type', 'veth', 'peer', 'name', there, 'netns', router);
    // Chromium fails what it is fetching when this machine's addresses change, and an IPv6 address would come a second or two later.
    ip('link', 'set', here, 'addrgenmode', 'none');
    ip('-n', router, 'link', 'add', down, 'type', 'veth', 'peer', 'name', end, 'netns', browser);
    for (const [space, device, address] of [[null, here, `${net}.1/30`], [router, there, `${net}.2/30`], [router, down, `${net}.5/30`], [browser, end, `${net}.6/30`]]) {
      const inside = space ? ['-n', space] : [];
      ip(...inside, 'address', 'add', address, 'dev', device);
      ip(...inside, 'link', 'set', device, 'up');
    }
    ip('netns', 'exec', router, 'sysctl', '-qw', 'net.ipv4.ip_forward=1');
    ip('-n', browser, 'route', 'add', 'default', 'via', `${net}.5`);
    ip('-n', router, 'route', 'add', 'default', 'via', `${net}.1`);
    ip('route', 'add', `${net}.4/30`, 'via', `${net}.2`);
  }

  /** Another capacity, from now on. @param {{ kbps: number, queueMs?: number }} conditions */
  set({ kbps, queueMs = 200 }) {
    const { router, down } = this.#names;
    // Two full packets, or what flows in 5 ms: the rate holds at every time scale that matters to a call.
    const burst = Math.max(3200, Math.round((kbps * 5) / 8));
    tc('-n', router, 'qdisc', 'replace', 'dev', down, 'root', 'tbf', 'rate', `${kbps}kbit`, 'burst', String(burst), 'latency', `${queueMs}ms`);
  }

  /** What went through to the browser since the capacity was set: `{ bytes, packets, dropped, backlog }` (bytes that wait now). */
  counts() {
    const { router, down } = this.#names;
    const [{ bytes, packets, drops, backlog }] = JSON.parse(tc('-n', router, '-s', '-j', 'qdisc', 'show', 'dev', down));
    return { bytes, packets, dropped: drops, backlog };
  }

  /** A program that runs this one at the far end of the path. @param {string} binary */
  async within(binary) {
    const script = join(this.#scripts, 'run');
    await writeFile(script, `#!/bin/sh\nexec ip netns exec ${this.#names.browser} ${binary} "$@"\n`, { mode: 0o755 });
    return script;
  }

  async close() {
    process.off('exit', this.#onExit);
    this.#remove();
    if (this.#scripts) await rm(this.#scripts, { recursive: true, force: true });
  }

  #remove() {
    const { here, router, browser } = this.#names;
    quietly(() => ip('link', 'del', here));
    for (const name of [router, browser]) quietly(() => ip('netns', 'del', name));
  }
}

/** What a test run left that was killed without a chance to clean up. */
function removeStale() {
  for (const [, name, pid] of ip('netns', 'list').matchAll(/^(exedra-(\d+)-[rb])\b/gm)) {
    if (!existsSync(`/proc/${pid}`)) quietly(() => ip('netns', 'del', name));
  }
}

const ip = (...args) => run('ip', args);
const tc = (...args) => run('tc', args);

function run(program, args) {
  // A service's PATH may be without sbin.
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
  return execFileSync(program, args, { encoding: 'utf8', env, stdio: ['ignore', 'pipe', 'pipe'] });
}

function quietly(work) {
  try {
    work();
  } catch {
    // It was not there.
  }
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.once(signal, () => process.exit(1)); // so that `exit` is told
}
