// Pages of another origin: WHIP and WHEP beside people who use the room API, and the README's ten lines.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { seesAndHears } from './check.js';
import { scenario } from './stage.js';

for (const kind of ['chromium', 'firefox']) {
  scenario(`WHIP from a page in ${kind} is seen in the room, and WHEP shows it`, {}, async (stage) => {
    const bob = await stage.guest({ name: 'Bob', id: 2 });
    const page = await stage.openBench(kind);
    await page.evaluate(() => bench.source('camera', { id: 6 }));
    const published = await page.evaluate((url) => bench.whip(url, 'camera'), `${stage.server.url}/v1/whip/tea/stage-camera`);
    assert.ok(published.location && published.etag, JSON.stringify(published));
    await seesAndHears(bob, { name: 'stage-camera', id: 6 });
    const viewer = await stage.openBench();
    const playing = await viewer.evaluate((url) => bench.whep(url, 'stage'), `${stage.server.url}/v1/whep/tea/stage-camera`);
    const seen = await viewer.evaluate(() => bench.reached('stage', { fresh: 40, heardMs: 1000 }));
    assert.deepEqual([seen.id, seen.toneId], [6, 6]);
    // DELETE from a page needs CORS too.
    assert.ok(await viewer.evaluate((url) => fetch(url, { method: 'DELETE' }).then((r) => r.ok), playing.location));
    assert.ok(await page.evaluate((url) => fetch(url, { method: 'DELETE' }).then((r) => r.ok), published.location));
    await bob.until(`![...room.participants.values()].some((p) => p.name === 'stage-camera')`);
  });
}

scenario('the ten lines of the README join a room and show everybody', {}, async (stage) => {
  const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8');
  const [, html] = /```html\n([^]*?)```/.exec(readme);
  const bob = await stage.guest({ name: 'Bob', id: 2 });
  const page = await stage.openBench();
  await page.setContent(html.replaceAll('http://localhost:8080', stage.url));
  await page.waitForFunction(() => [...document.querySelectorAll('video')].some((v) => v.videoWidth && v.getVideoPlaybackQuality().totalVideoFrames > 10), { timeout: 15_000 });
  const ada = await bob.sees('Ada', { frames: 10 });
  assert.ok(ada.width > 0);
});
