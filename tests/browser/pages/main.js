// What a test calls in the page: `page.evaluate(() => bench.source({…}))`. All state lives here; a test holds names only.
import { audioContext } from './audio.js';
import { makeSource } from './source.js';
import { Probe } from './probe.js';

const sources = new Map();
const probes = new Map();
const peers = new Map();

/** Makes the test picture and tone under a name. */
async function source(name, options) {
  const made = await makeSource(options);
  sources.set(name, made);
  return made.stream.getTracks().map((track) => track.kind);
}

/** Starts to measure a received stream under a name. */
async function watch(name, stream) {
  probes.get(name)?.stop();
  probes.set(name, await Probe.start(stream));
}

const report = (name) => probes.get(name)?.report() ?? null;
const reports = () => Object.fromEntries([...probes].map(([name, probe]) => [name, probe.report()]));

/** Resolves as soon as a probe's report satisfies `wanted` (each a lower bound), with the report. */
async function reached(name, wanted, withinMs = 20_000) {
  const until = performance.now() + withinMs;
  const falls = (r) => Object.entries(wanted).filter(([key, least]) => !(r?.[key] >= least));
  for (;;) {
    const now = report(name);
    if (now && !falls(now).length) return now;
    if (performance.now() > until) throw new Error(`${name} has not reached ${JSON.stringify(wanted)}: ${JSON.stringify(now)}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

globalThis.bench = { sources, probes, peers, source, watch, report, reports, reached };
await audioContext();
document.documentElement.dataset.ready = 'true';
