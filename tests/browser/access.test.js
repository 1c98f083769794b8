// Who may come in, and do what, when the server has a secret.
import assert from 'node:assert/strict';
import { seesAndHears } from './check.js';
import { run } from './server.js';
import { scenario } from './stage.js';

const SECRET = 'a secret of the tests, long enough';
const token = (name, ...more) => run('token', '--secret', SECRET, '--room', 'tea', '--name', name, ...more);

scenario('tokens let people in, and say what they may do', { env: { EXEDRA_SECRET: SECRET } }, async (stage) => {
  const ada = await stage.guest({ name: 'Ada', id: 1, token: await token('Ada') });
  await assert.rejects(stage.guest({ name: 'Eve' }), /unauthorized|token/i);
  await assert.rejects(stage.guest({ name: 'Eve', token: `${await token('Eve')}x` }), /unauthorized|token/i);
  const watcher = await stage.guest({ name: 'Watcher', token: await token('Watcher', '--grants', 'subscribe') });
  await seesAndHears(watcher, ada);
  await assert.rejects(watcher.page.evaluate(() => bench.publish('camera', { id: 5 }, {})), /forbidden|grant/i);
  assert.equal(await ada.run((room) => [...room.tracks.values()].length), 2);
  // The page takes its token from the fragment, which no server and no log sees.
  const page = await stage.openApp(`/r/tea?name=Cyd&auto=1#token=${await token('Cyd')}`);
  await page.waitForSelector('body[data-state=live]', { timeout: 15_000 });
  await ada.until(`[...room.participants.values()].some((p) => p.name === 'Cyd')`);
});
