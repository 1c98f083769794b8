// What a browser test works with: a fresh server, pages that join its rooms, and a record of everything when it fails.
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { launch, openPage } from './browsers.js';
import { RELAY_IP, relayTcp, relayUdp } from './relay.js';
import { startServer } from './server.js';
import { ShapedPath } from './shaped.js';
import { servePages } from './web.js';

export const LONG = process.env.LONG === '1';
const ARTIFACTS = fileURLToPath(new URL('../../artifacts/browser/', import.meta.url));

/** One of each kind for a test file; each guest has a context of its own in it. */
const browsers = new Map();
after(async () => {
  await Promise.all([...browsers.values()].map(async (starting) => (await starting.catch(() => null))?.close()));
});

export function browser(name) {
  if (!browsers.has(name)) browsers.set(name, launch(name));
  return browsers.get(name);
}

/**
 * A test with a server of its own.
 * @param {string} name
 * @param {{ timeout?: number, args?: string[], env?: Record<string, string>, network?: { seed?: number, up?: object, down?: object },
 *   shaped?: { kbps: number, queueMs?: number }, recordings?: boolean }} options
 *   `network` puts a relay between the browsers and the server; `shaped` makes a browser behind a slow line, which guests of kind `shaped` use;
 *   `recordings` gives the server a folder for them, `stage.recordings`
 * @param {(stage: Stage) => Promise<void>} run
 */
export function scenario(name, { timeout = 60_000, args, env, network, shaped, recordings } = {}, run) {
  test(name, { timeout: timeout + 15_000 }, async () => {
    const stage = new Stage(name);
    try {
      await stage.start({ args, env, network, shaped, recordings });
      await within(timeout, name, run(stage));
    } catch (error) {
      await stage.keepEvidence(error);
      throw error;
    } finally {
      await stage.close();
    }
  });
}

function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`${what}: not done within ${ms} ms`)), ms)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export class Stage {
  /** @type {Guest[]} */
  guests = [];
  #name;
  #pages = [];
  #options;
  /** @type {Promise<import('puppeteer-core').Browser> | undefined} */
  #shaped;

  constructor(name) {
    this.#name = name.replace(/[^\w]+/g, '-').slice(0, 80);
  }

  async start({ args = [], env, network, shaped, recordings }) {
    if (recordings) {
      this.recordings = await mkdtemp(join(tmpdir(), 'exedra-recordings-'));
      args = [...args, '--recordings', this.recordings];
    }
    /** The slow line: `set({ kbps })` changes it. */
    this.path = shaped && (await ShapedPath.open(shaped));
    const open = Boolean(shaped);
    this.#options = { args, env, open, advertise: network && RELAY_IP };
    this.server = await startServer(this.#options);
    this.udp = network && (await relayUdp({ port: this.server.udpPort, seed: 1, ...network }));
    this.tcp = network && (await relayTcp(this.server.httpPort));
    /** Where the browsers find the server. */
    this.url = this.tcp?.url ?? this.server.url;
    this.web = await servePages(this.server.url, open);
    if (!shaped) return;
    // Browsers give pages of another machine no AudioWorklet without TLS.
    const trusted = [this.web.url, this.server.url].map((url) => new URL(this.#seen('shaped', url)).origin);
    this.#shaped = launch('chromium', { path: this.path, args: [`--unsafely-treat-insecure-origin-as-secure=${trusted}`] });
    this.#shaped.catch(() => {}); // told to who wants it
  }

  /** An address of this machine as browsers of a kind see it. */
  #seen(kind, url) {
    return kind === 'shaped' ? url.replace('127.0.0.1', this.path.host) : url;
  }

  /** The browser of a kind: shared by the tests of a file, but for the one behind a slow line. */
  browser(kind) {
    return kind === 'shaped' ? this.#shaped : browser(kind);
  }

  /** Kills the server and starts another one in its place. */
  async replaceServer() {
    const { httpPort, udpPort } = this.server;
    await this.server.stop('SIGKILL');
    this.server = await startServer({ ...this.#options, ports: [httpPort, udpPort] });
  }

  /** A page with `bench` ready, that has not joined anything. */
  async openBench(kind = 'chromium') {
    const page = await openPage(await this.browser(kind), this.#seen(kind, this.web.url));
    this.#pages.push(page);
    await page.setViewport({ width: 340, height: 280 }); // painted in software: no larger than it must be
    await page.waitForSelector('html[data-ready]', { timeout: 20_000 });
    return page;
  }

  /** A page of the product itself, from the server. */
  async openApp(path = '/', kind = 'chromium') {
    const page = await openPage(await this.browser(kind), this.#seen(kind, this.url) + path);
    this.#pages.push(page);
    return page;
  }

  /**
   * Opens a page and joins a room with it.
   * @param {{ name: string, id?: number, room?: string, kind?: 'chromium' | 'firefox' | 'shaped', source?: object, publish?: object, join?: object }} options
   *   `id` tells its picture and tone apart; without one it only watches
   */
  async guest({ kind = 'chromium', ...options }) {
    const guest = new Guest(await this.openBench(kind), { url: this.#seen(kind, this.url), room: 'tea', ...options });
    this.guests.push(guest);
    await guest.join();
    return guest;
  }

  async keepEvidence(error) {
    await mkdir(ARTIFACTS, { recursive: true });
    const path = ARTIFACTS + this.#name;
    const pages = await Promise.all(
      this.#pages.map(async (page, n) => {
        const dump = await within(3000, 'dump', page.evaluate(() => globalThis.bench?.dump?.())).catch((e) => String(e));
        await within(5000, 'screenshot', page.screenshot({ path: `${path}-${n}.png` })).catch(() => {});
        return `--- page ${n}\n${page.log.join('\n')}\n${JSON.stringify(dump, null, 1)}`;
      }),
    );
    const metrics = await this.server?.metrics().catch(() => null);
    const text = [`${error?.stack}`, ...pages, '--- server', this.server?.log() ?? 'not started', '--- metrics', JSON.stringify(metrics, null, 1)];
    await writeFile(`${path}.log`, text.join('\n'));
    if (this.recordings) await cp(this.recordings, `${path}-recordings`, { recursive: true, force: true });
    console.log(`see artifacts/browser/${this.#name}.log`);
  }

  async screenshot(page, name) {
    await mkdir(ARTIFACTS, { recursive: true });
    await page.screenshot({ path: `${ARTIFACTS}${name}.png` });
  }

  async close() {
    await Promise.all(this.#pages.map((page) => within(5000, 'close', page.browserContext().close()).catch(() => {})));
    await (await this.#shaped?.catch(() => null))?.close();
    await this.web?.close();
    await this.server?.stop();
    this.udp?.close();
    this.tcp?.close();
    await this.path?.close();
    if (this.recordings) await rm(this.recordings, { recursive: true, force: true });
  }
}

/** Somebody in a room, in a page of the test's own that uses the SDK. */
export class Guest {
  constructor(page, options) {
    this.page = page;
    this.options = options;
    this.name = options.name;
    this.id = options.id;
  }

  /** @returns what the page measured: `{ joinedMs }` */
  async join() {
    this.joined = await this.page.evaluate((options) => bench.join(options), this.options);
    return this.joined;
  }

  /** What this guest sees and hears of another: see `Report` in pages/probe.js. */
  report(of) {
    return this.page.evaluate((name) => bench.report(name), of.name ?? of);
  }

  /** Waits until what it sees of another is as wanted (each a lower bound). */
  sees(of, wanted, withinMs = 20_000) {
    return this.page.evaluate((name, least, ms) => bench.reached(name, least, ms), of.name ?? of, wanted, withinMs);
  }

  /** Judges what follows on its own. */
  async restart(of) {
    await of.page?.evaluate(() => bench.sources.get('camera').restart());
    await this.page.evaluate((name) => bench.probes.get(name).restart(), of.name ?? of);
  }

  /** What its camera drew since the last restart. */
  camera() {
    return this.page.evaluate(() => bench.sources.get('camera').report());
  }

  /** Waits until the expression, given `room`, is true in the page. */
  until(expression, withinMs = 20_000) {
    return this.page.evaluate((text, ms) => bench.until(text, ms), expression, withinMs);
  }

  /** Runs `work(room, argument)` in the page. */
  run(work, argument) {
    return this.page.evaluate((text, arg) => bench.run(text, arg), String(work), argument);
  }

  leave() {
    return this.run((room) => room.leave());
  }

  async reload() {
    await this.page.reload({ waitUntil: 'load' });
    await this.page.waitForSelector('html[data-ready]', { timeout: 20_000 });
  }
}
