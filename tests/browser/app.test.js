// The product's own page, as a person uses it: by the keyboard, with fake devices. Screenshots stay in artifacts/browser/app-*.png.
import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { scenario } from './stage.js';

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

const OTHERS = '.tile:not([data-local])[data-source=camera]';
const live = (page) => page.waitForSelector('body[data-state=live]', { timeout: 15_000 });

/** Goes from the lobby into the room with nothing but keys. */
async function join(page, name) {
  await page.waitForSelector('#your-name');
  await page.waitForFunction(() => document.activeElement?.id === 'your-name');
  await page.keyboard.type(name);
  await page.keyboard.press('Enter');
  await live(page);
}

/** The picture in the tile goes on: `count` frames that were shown. */
const pictureRuns = (page, selector, count = 10) =>
  page.evaluate(
    async (css, wanted) => {
      const until = performance.now() + 15_000;
      const tile = () => document.querySelector(`${css}[data-video=on] video`);
      while (!tile()) {
        if (performance.now() > until) throw new Error(`no picture in ${css}: ${document.querySelector('.stage')?.innerText}`);
        await new Promise((done) => setTimeout(done, 50));
      }
      const video = tile();
      await new Promise((done, failed) => {
        let seen = 0;
        const late = setTimeout(() => failed(new Error(`${seen} of ${wanted} frames in ${css}`)), until - performance.now());
        const shown = () => {
          if (++seen < wanted) return video.requestVideoFrameCallback(shown);
          clearTimeout(late);
          done();
        };
        video.requestVideoFrameCallback(shown);
      });
    },
    selector,
    count,
  );

/** Pictures only change their sizes and places: for two seconds, none of them goes away. */
async function nobodyVanishes(page) {
  const gone = await page.evaluate(async () => {
    const off = new Set();
    for (const until = performance.now() + 2000; performance.now() < until; await new Promise(requestAnimationFrame)) {
      for (const tile of document.querySelectorAll('.tile[data-video=off]')) off.add(tile.getAttribute('aria-label'));
    }
    return [...off];
  });
  assert.deepEqual(gone, [], 'pictures that went away');
}

const labelled = (page, text, selector = OTHERS) =>
  page.waitForFunction((css, part) => [...document.querySelectorAll(css)].some((tile) => tile.getAttribute('aria-label').includes(part)), { timeout: 10_000 }, selector, text);
const unlabelled = (page, text, selector = OTHERS) =>
  page.waitForFunction((css, part) => ![...document.querySelectorAll(css)].some((tile) => tile.getAttribute('aria-label').includes(part)), { timeout: 10_000 }, selector, text);

/** No serious fault that axe can see: names, roles, contrast. */
async function accessible(page, what) {
  await page.evaluate(await readFile(AXE, 'utf8'));
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  const serious = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
  assert.deepEqual(serious.map(({ id, nodes }) => `${id}: ${nodes.map((n) => n.html.slice(0, 120)).join(' | ')}`), [], what);
}

scenario('a call by the keyboard: make a room, join, mute, hand, chat, screen, leave', { timeout: 120_000 }, async (stage) => {
  const ada = await stage.openApp('/');
  await ada.setViewport({ width: 1280, height: 800 });
  await ada.waitForSelector('#new-room');
  await stage.screenshot(ada, 'app-home');
  await accessible(ada, 'start page');
  for (let n = 0; (await ada.evaluate(() => document.activeElement?.id)) !== 'new-room'; n++) {
    assert.ok(n < 10, 'Tab does not reach “New room”');
    await ada.keyboard.press('Tab');
  }
  await ada.keyboard.press('Enter');
  await ada.waitForFunction(() => location.pathname.startsWith('/r/'));
  await ada.waitForSelector('.lobby-video:not([hidden])', { timeout: 10_000 });
  await stage.screenshot(ada, 'app-lobby');
  await accessible(ada, 'lobby');
  await join(ada, 'Ada');
  await ada.waitForSelector('.alone:not([hidden])');

  const bob = await stage.openApp(new URL(ada.url()).pathname);
  await bob.setViewport({ width: 390, height: 844, deviceScaleFactor: 2, hasTouch: true, isMobile: true });
  await join(bob, 'Bob');
  await Promise.all([pictureRuns(ada, OTHERS), pictureRuns(bob, OTHERS)]);
  // The fake microphone beeps once a second.
  await bob.waitForSelector(`${OTHERS}[data-speaking]`, { timeout: 10_000 });
  await stage.screenshot(ada, 'app-call-wide');
  await stage.screenshot(bob, 'app-call-phone');
  await accessible(ada, 'call');

  await ada.keyboard.press('m');
  await labelled(bob, 'microphone off');
  await ada.keyboard.press('m');
  await unlabelled(bob, 'microphone off');
  await ada.keyboard.press('v');
  await bob.waitForSelector(`${OTHERS}[data-video=off]`, { timeout: 10_000 });
  await ada.keyboard.press('v');
  await pictureRuns(bob, OTHERS);
  await ada.keyboard.press('h');
  await labelled(bob, 'hand raised');

  await ada.keyboard.press('c');
  await ada.waitForFunction(() => document.activeElement?.id === 'chat-text');
  await ada.keyboard.type('Can you see this? https://example.org');
  await ada.keyboard.press('Enter');
  await bob.waitForFunction(() => document.querySelector('#button-chat').getAttribute('aria-label').includes('1 unread'));
  await bob.keyboard.press('c');
  await bob.waitForFunction(() => document.querySelector('.chat-list')?.innerText.includes('Can you see this?'));
  await bob.keyboard.type('Yes.');
  await bob.keyboard.press('Enter');
  await ada.waitForFunction(() => document.querySelector('.chat-list')?.innerText.includes('Yes.'));
  await stage.screenshot(ada, 'app-chat-wide');
  await stage.screenshot(bob, 'app-chat-phone');
  await ada.evaluate(() => document.activeElement.blur());
  await ada.keyboard.press('Escape');
  await bob.click('.panel header button');

  await ada.keyboard.press('s');
  await pictureRuns(bob, '.tile:not([data-local])[data-source=screen]', 2);
  await stage.screenshot(bob, 'app-screen-phone');
  await ada.keyboard.press('s');
  await bob.waitForFunction(() => !document.querySelector('.tile[data-source=screen]'));

  await bob.reload();
  await live(bob);
  await Promise.all([pictureRuns(ada, OTHERS), pictureRuns(bob, OTHERS)]);

  await bob.focus('#button-leave');
  await bob.keyboard.press('Enter');
  await bob.waitForSelector('#rejoin');
  await stage.screenshot(bob, 'app-left');
  await accessible(bob, 'after leaving');
  await ada.waitForSelector('.alone:not([hidden])');
  for (const page of [ada, bob]) assert.deepEqual(page.log.filter((line) => /^(uncaught|error)/.test(line)), []);
});

const GRANTS = ['--open-grants', 'publish,subscribe,say,record'];
const toasted = (page, text) => page.waitForFunction((part) => document.getElementById('toasts').innerText.includes(part), { timeout: 10_000 }, text);

scenario('a call is recorded: everybody sees it, and only who started it stops it', { timeout: 120_000, recordings: true, args: GRANTS }, async (stage) => {
  const ada = await stage.openApp('/r/tea');
  await ada.setViewport({ width: 1280, height: 800 });
  await join(ada, 'Ada');
  await ada.waitForSelector('#button-record:not([hidden])');
  await ada.keyboard.press('r');
  await ada.waitForSelector('.rec:not([hidden])');
  await toasted(ada, 'This call is being recorded');

  const bob = await stage.openApp('/r/tea');
  await bob.setViewport({ width: 390, height: 844, deviceScaleFactor: 2, hasTouch: true, isMobile: true });
  await join(bob, 'Bob');
  await bob.waitForSelector('.rec:not([hidden])');
  await toasted(bob, 'This call is being recorded');
  await Promise.all([pictureRuns(ada, OTHERS), pictureRuns(bob, OTHERS)]);
  await ada.waitForFunction(() => document.querySelector('.rec-time').innerText >= '0:03');
  await stage.screenshot(ada, 'app-recorded-wide');
  await stage.screenshot(bob, 'app-recorded-phone');
  await accessible(ada, 'a call that is recorded');

  await bob.keyboard.press('r');
  await toasted(bob, 'Ada started this recording, and can stop it.');
  await ada.reload();
  await live(ada);
  await ada.waitForSelector('.rec:not([hidden])');
  await ada.keyboard.press('r');
  await ada.waitForSelector('dialog.confirm[open]');
  await stage.screenshot(ada, 'app-record-stop');
  await accessible(ada, 'before a recording is stopped');
  await ada.click('dialog.confirm .button-danger');
  for (const page of [ada, bob]) await page.waitForSelector('.rec', { hidden: true });
  await toasted(bob, 'The recording was stopped by Ada.');
  const [folder] = await readdir(stage.recordings);
  const manifest = JSON.parse(await readFile(`${stage.recordings}/${folder}/session.json`, 'utf8'));
  assert.deepEqual(manifest.participants.map(({ name }) => name), ['Ada', 'Bob']);

  // Bob begins one of his own, from the menu of a narrow page.
  await bob.click('#button-more');
  await bob.evaluate(() => [...document.querySelectorAll('.menu-item')].find((item) => item.innerText === 'Record this call').click());
  await ada.waitForSelector('.rec:not([hidden])');
  for (const page of [ada, bob]) assert.deepEqual(page.log.filter((line) => /^(uncaught|error)/.test(line)), []);
});

const ALWAYS = { recordings: true, args: [...GRANTS, '--record-rooms', 'te*'], env: { EXEDRA_ADMIN_TOKEN: 'operators only, please' } };

scenario('a room that is always recorded is, until an operator stops it', { timeout: 60_000, ...ALWAYS }, async (stage) => {
  const operator = async (method) => (await fetch(`${stage.url}/v1/admin/rooms/tea/recording`, { method, headers: { authorization: `Bearer ${ALWAYS.env.EXEDRA_ADMIN_TOKEN}` } })).json();
  const ada = await stage.openApp('/r/tea');
  await join(ada, 'Ada');
  await ada.waitForSelector('.rec:not([hidden])');
  assert.deepEqual((await operator('GET')).owners, ['server']);
  await ada.keyboard.press('r');
  await toasted(ada, 'This room is always recorded.');
  assert.equal((await operator('DELETE')).state, 'stopped');
  await ada.waitForSelector('.rec', { hidden: true });
  await toasted(ada, 'The recording was stopped by an operator of the server.');
  assert.deepEqual((await operator('POST')).owners, ['server', 'admin']);
  await ada.waitForSelector('.rec:not([hidden])');
});

scenario('a server that keeps no recordings says so', { args: GRANTS }, async (stage) => {
  const ada = await stage.openApp('/r/tea');
  await join(ada, 'Ada');
  await ada.keyboard.press('r');
  await toasted(ada, 'This server keeps no recordings.');
});

scenario('six people, one of them in Firefox: the page shows them all', { timeout: 120_000 }, async (stage) => {
  const guests = [];
  // Small pictures, drawn by ourselves: two cores encode them all.
  for (const [n, name] of ['Bob', 'Cyd', 'Dee', 'Eve'].entries()) {
    guests.push(await stage.guest({ name, id: n + 2, source: { width: 320, height: 180, fps: 10 }, publish: { video: { simulcast: false } } }));
  }
  guests.push(await stage.guest({ name: 'Flo', id: 7, kind: 'firefox', source: { width: 320, height: 180, fps: 10 }, publish: { video: { simulcast: false } } }));
  const ada = await stage.openApp('/r/tea');
  await ada.setViewport({ width: 1280, height: 800 });
  await join(ada, 'Ada');
  for (const guest of guests) await pictureRuns(ada, `.tile[data-participant="${guest.joined.participant}"]`, 5);
  await stage.screenshot(ada, 'app-six');
  await ada.keyboard.press('l');
  await ada.waitForSelector('.stage[data-layout=stage]');
  await nobodyVanishes(ada);
  await stage.screenshot(ada, 'app-six-stage');
  await ada.keyboard.press('p');
  await ada.waitForFunction(() => /Flo/.test(document.querySelector('.panel')?.innerText));
  await nobodyVanishes(ada);
  await stage.screenshot(ada, 'app-six-people');
});

scenario('why a picture is small: a mark, words, and plots', { shaped: { kbps: 450 }, timeout: 120_000 }, async (stage) => {
  const bob = await stage.guest({ name: 'Bob', id: 2, source: { width: 1280, height: 720, texture: 0.1 } });
  const ada = await stage.openApp('/r/tea', 'shaped');
  await ada.setViewport({ width: 1280, height: 800 });
  await join(ada, 'Ada');
  await ada.keyboard.press('i');
  await pictureRuns(ada, OTHERS);
  await ada.waitForSelector(`${OTHERS}[data-mark] .tile-mark`, { timeout: 40_000 });
  await ada.focus('.tile[data-mark] .tile-mark');
  await ada.keyboard.press('Enter');
  await ada.waitForSelector('.tile-why:popover-open');
  const words = await ada.$eval('.tile-why:popover-open', (element) => element.innerText);
  assert.match(words, /^Why is this picture small\?\s+The network .* picture of Bob .* takes [\d,]+ kbit\/s, and there are [\d,]+ kbit\/s( for it\.|: it comes)/s);
  const plotted = () => ada.$$eval('.connection .plot', (plots) => plots.map((plot) => `${plot.innerText.replace(/\s+/g, ' ')} ${plot.querySelector('path').getAttribute('d').length > 40}`));
  await ada.waitForFunction(() => /possible [\d,]+ kbit/.test(document.querySelector('.connection').innerText), { timeout: 10_000 });
  await ada.waitForFunction(() => document.querySelector('.connection-track .plot path')?.getAttribute('d').length > 40, { timeout: 15_000 });
  await stage.screenshot(ada, 'app-connection-light');
  await accessible(ada, 'the mark and the plots');
  await ada.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'dark' }]);
  await stage.screenshot(ada, 'app-connection-dark');
  await accessible(ada, 'the mark and the plots in the dark');
  console.log((await plotted()).join('\n'));
  await ada.keyboard.press('Escape');
  assert.equal(await ada.$('.tile-why:popover-open'), null, 'Escape closes the words first');
  assert.ok(await ada.$('.panel:not([hidden])'));
  await ada.setViewport({ width: 390, height: 844 });
  await stage.screenshot(ada, 'app-connection-phone');
  await accessible(ada, 'the plots on a phone');
  await ada.keyboard.press('Escape');
  await ada.waitForSelector('.panel[hidden]');
  await ada.setViewport({ width: 1280, height: 800 });
  stage.path.set({ kbps: 8000 });
  await ada.waitForSelector(`${OTHERS}:not([data-mark])`, { timeout: 30_000 });
  await bob.until(`room.state.phase === 'live'`);
});

scenario('the page says what it is doing when the network is gone', { network: { seed: 3 }, timeout: 90_000 }, async (stage) => {
  const ada = await stage.openApp('/r/tea');
  await join(ada, 'Ada');
  const bob = await stage.guest({ name: 'Bob', id: 2, source: { width: 320, height: 180 } });
  await pictureRuns(ada, OTHERS);
  stage.udp.set({ up: { blocked: true }, down: { blocked: true } });
  stage.tcp.block(true);
  await ada.waitForSelector('.banner:not([hidden])', { timeout: 30_000 });
  await stage.screenshot(ada, 'app-reconnecting');
  await accessible(ada, 'reconnecting');
  stage.udp.set({ up: { blocked: false }, down: { blocked: false } });
  stage.tcp.block(false);
  await live(ada);
  await ada.waitForSelector('.banner[hidden]', { timeout: 20_000 });
  await pictureRuns(ada, OTHERS);
  await bob.until(`room.state.phase === 'live'`);
});
