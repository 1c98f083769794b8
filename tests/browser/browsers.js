// Starts the real browsers: Debian's Chromium (DevTools protocol) and Firefox ESR (WebDriver BiDi), with fake devices.
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
 * @param {{ args?: string[], prefs?: Record<string, unknown> }} [more]
 * @returns {Promise<import('puppeteer-core').Browser>}
 * @throws when the browser is not installed: a test that needs it then fails, and is never skipped
 */
export async function launch(name, { args = [], prefs = {} } = {}) {
  const executablePath = PATHS[name].find((path) => path && existsSync(path));
  if (!executablePath) throw new Error(`${name} is not installed (looked at ${PATHS[name].filter(Boolean).join(', ')})`);
  const userDataDir = await mkdtemp(join(tmpdir(), `exedra-${name}-`));
  const browser = await puppeteer.launch(
    name === 'firefox'
      ? { browser: 'firefox', executablePath, headless: true, userDataDir, extraPrefsFirefox: { ...FIREFOX_PREFS, ...prefs }, args }
      : { executablePath, headless: true, userDataDir, args: [...CHROMIUM_FLAGS, ...args] },
  );
  const close = browser.close.bind(browser);
  browser.close = async () => {
    await close().catch(() => browser.process()?.kill('SIGKILL'));
    await rm(userDataDir, { recursive: true, force: true, maxRetries: 3 }).catch(() => {});
  };
  return browser;
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
