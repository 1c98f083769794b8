// The subscribers' side of congestion control: who receives says when each packet came.
import assert from 'node:assert/strict';
import { scenario } from './stage.js';

for (const kind of ['chromium', 'firefox']) {
  scenario(`${kind} gives transport-wide feedback on what it receives`, {}, async (stage) => {
    const ada = await stage.guest({ name: 'Ada', id: 1 });
    const bob = await stage.guest({ name: 'Bob', kind });
    await bob.sees(ada, { fresh: 20 }, 45_000);
    const feedbacks = async () => Object.entries(await stage.server.metrics()).filter(([name]) => name.startsWith('exedra_feedbacks_in_total')).reduce((sum, [, n]) => sum + n, 0);
    const before = await feedbacks();
    await bob.sees(ada, { fresh: 60 }, 45_000);
    const after = await feedbacks();
    assert.ok(after - before >= 10, `${after - before} feedbacks for 60 frames`);
  });
}
