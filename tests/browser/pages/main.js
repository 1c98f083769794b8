// What a test calls in the page: `page.evaluate(() => bench.source({…}))`. All state lives here; a test holds names only.
import { audioContext } from './audio.js';
import { makeSource } from './source.js';
import { Probe } from './probe.js';
import { joinAndWatch } from './room.js';

const sources = new Map();
const probes = new Map();
const peers = new Map();

/** Makes the test picture and tone under a name. */
async function source(name, options) {
  const made = await makeSource(options);
  sources.set(name, made);
  return made.stream.getTracks().map((track) => track.kind);
}

/** Measures a received track under a name; the next one of its kind takes its place. */
async function watch(name, track) {
  if (!probes.has(name)) probes.set(name, new Probe());
  await probes.get(name).receive(track);
}

let joined = null;

/** Joins a room, see room.js. */
async function join(options) {
  joined = await joinAndWatch(options, probes, sources);
  globalThis.room = joined.room; // for a look from the developer tools
  return joined.result;
}

/** Runs a function given as text, with the room. */
const run = (text, argument) => new Function(`return (${text})`)()(joined.room, argument);

/** Resolves when the expression in `room` holds. */
async function until(expression, withinMs) {
  const holds = new Function('room', `return (${expression})`);
  const end = performance.now() + withinMs;
  for (;;) {
    const value = holds(joined.room);
    if (value) return true;
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${expression}`);
    await new Promise((done) => setTimeout(done, 25));
  }
}

/** Everything there is to say when a test fails. */
function dump() {
  const room = joined?.room;
  return {
    state: room?.state,
    participants: room && [...room.participants.values()].map((p) => p.toWire()),
    tracks: room && [...room.tracks.values()].map((t) => ({ ...t.toWire(), state: t.state, why: t.why, subscribed: t.subscribed })),
    probes: reports(),
    log: joined?.log.slice(-200),
  };
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

globalThis.bench = { sources, probes, peers, source, watch, join, run, until, report, reports, reached, dump, log: () => joined?.log };
await audioContext();
document.documentElement.dataset.ready = 'true';
