// Starts the real browsers: Debian's Chromium (DevTools protocol) and Firefox ESR (WebDriver BiDi), with fake devices.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import puppeteer from 'puppeteer-core';

const PATHS = {
  chromium: [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'],
  firefox: [process.env.FIREFOX, '/usr/bin/firefox-esr', '/usr/bin/firefox'],
};

const CHROMIUM_FLAGS = [
  '--no-sandbox', // CI runs as root
  '--disable-gpu',
  '--disable-quic',
  '--disable-sync',
  '--disable-component-update',
  '--disable-background-networking',
  '--disable-background-timer-throttling',
  '--disable-backgrounding-occluded-windows',
  '--disable-renderer-backgrounding',
  '--no-first-run',
  '--autoplay-policy=no-user-gesture-required',
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
  '--auto-select-desktop-capture-source=Entire screen',
  // A browser-to-browser call on one machine needs the browsers' own loopback candidates; the server's are reached without this.
  '--allow-loopback-in-peer-connection',
];

const FIREFOX_PREFS = {
  'media.navigator.streams.fake': true,
  'media.navigator.permission.disabled': true,
  'media.autoplay.default': 0,
  'media.autoplay.blocking_policy': 0,
  'media.peerconnection.ice.loopback': true,
  'media.peerconnection.ice.obfuscate_host_addresses': false,
  // Otherwise Firefox fetches codecs and lists from outside, which a test machine does not reach.
  'media.gmp-manager.updateEnabled': false,
  'media.gmp-manager.url': '',
  'app.update.enabled': false,
  'browser.safebrowsing.provider.mozilla.updateURL': '',
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
};

/**
 * Starts a browser.
 * @param {'chromium' | 'firefox'} name
 * @param {{ args?: string[], prefs?: Record<string, unknown>, path?: import('./shaped.js').ShapedPath }} [more] `path`: at whose far end it runs
 * @returns {Promise<import('puppeteer-core').Browser>}
 * @throws when the browser is not installed: a test that needs it then fails, and is never skipped
 */
export async function launch(name, { args = [], prefs = {}, path } = {}) {
  const binary = PATHS[name].find((candidate) => candidate && existsSync(candidate));
  if (!binary) throw new Error(`${name} is not installed (looked at ${PATHS[name].filter(Boolean).join(', ')})`);
  const userDataDir = await mkdtemp(join(tmpdir(), `exedra-${name}-`));
  const sound = name === 'firefox' ? await startSound(userDataDir) : null;
  const executablePath = path ? await path.within(binary) : binary;
  // A pipe reaches into a namespace, a loopback socket does not.
  const common = { executablePath, pipe: Boolean(path), headless: true, userDataDir, protocolTimeout: 1_000_000, env: { ...process.env, ...sound?.env } };
  const browser = await puppeteer.launch(
    name === 'firefox'
      ? { ...common, browser: 'firefox', extraPrefsFirefox: { ...FIREFOX_PREFS, ...prefs }, args }
      : { ...common, args: [...CHROMIUM_FLAGS, ...args] },
  );
  const close = browser.close.bind(browser);
  browser.close = async () => {
    await close().catch(() => browser.process()?.kill('SIGKILL'));
    sound?.stop();
    await rm(userDataDir, { recursive: true, force: true, maxRetries: 3 }).catch(() => {});
  };
  return browser;
}

/**
 * A PulseAudio of our own with a sink that goes nowhere. Chromium brings a clock of its own, but in a Firefox without any sound
 * device an AudioContext never starts, and with its mock device sound runs 150 ms late.
 */
async function startSound(folder) {
  const socket = join(folder, 'sound');
  const modules = [`module-native-protocol-unix socket=${socket} auth-anonymous=1`, 'module-null-sink rate=48000'];
  const args = ['-n', '--daemonize=no', '--exit-idle-time=-1', '--log-level=error', ...modules.flatMap((module) => ['-L', module])];
  const env = { HOME: folder, XDG_RUNTIME_DIR: folder, PULSE_RUNTIME_PATH: join(folder, 'pulse') };
  const daemon = spawn('pulseaudio', args, { env: { ...process.env, ...env }, stdio: 'ignore' });
  const failed = once(daemon, 'exit').then(([code]) => Promise.reject(new Error(`pulseaudio ended with ${code}`)));
  failed.catch(() => {});
  const listening = async () => {
    while (!existsSync(socket)) await new Promise((done) => setTimeout(done, 20));
  };
  await Promise.race([listening(), failed]);
  return { env: { PULSE_SERVER: `unix:${socket}` }, stop: () => daemon.kill() };
}

/** Opens a page in a context (cookies, storage) of its own, and keeps what it says on its console in `page.log`. */
export async function openPage(browser, url) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.log = [];
  page.on('console', (message) => page.log.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => page.log.push(`uncaught: ${error?.stack ?? error}`));
  if (url) await page.goto(url, { waitUntil: 'load' });
  return page;
}
