// What a test calls in the page: `page.evaluate(() => bench.source({…}))`. All state lives here; a test holds names only.
import { audioContext } from './audio.js';
import { makeSource } from './source.js';
import { Probe, makeReader } from './probe.js';
import { joinAndWatch } from './room.js';

// Every connection of the page, the SDK's too, for a look at its statistics.
const connections = [];
globalThis.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...options) {
    super(...options);
    connections.push(this);
  }
};

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

/** Publishes one more test picture, or sound, under a source name. */
async function publish(name, options, publishing) {
  await source(name, options);
  const [track] = sources.get(name).stream.getTracks().filter(({ kind }) => kind === (publishing.kind ?? 'video'));
  const local = await joined.room.publish(track, { source: name, simulcast: false, ...publishing });
  return local.id;
}

/** The statistics of one type, of all connections. */
async function stats(type) {
  const reports = await Promise.all(connections.filter((pc) => pc.connectionState !== 'closed').map((pc) => pc.getStats()));
  const codecs = new Map(reports.flatMap((all) => [...all.values()].filter((s) => s.type === 'codec').map((s) => [s.id, s.mimeType])));
  return reports.flatMap((all) => [...all.values()].filter((s) => s.type === type).map((s) => ({ ...s, codec: codecs.get(s.codecId) })));
}

const gathered = (pc) =>
  new Promise((done) => {
    const look = () => pc.iceGatheringState === 'complete' && done();
    pc.addEventListener('icegatheringstatechange', look);
    look();
  });

async function post(url, pc, bearer) {
  await pc.setLocalDescription();
  await gathered(pc);
  const answer = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/sdp', ...(bearer && { authorization: `Bearer ${bearer}` }) }, body: pc.localDescription.sdp });
  if (answer.status !== 201) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
  const location = answer.headers.get('location');
  await pc.setRemoteDescription({ type: 'answer', sdp: await answer.text() });
  return { location: location && new URL(location, url).href, etag: answer.headers.get('etag') };
}

/** Publishes a source by WHIP. @param {string} [bearer] a token */
async function whip(url, sourceName, bearer) {
  const pc = new RTCPeerConnection();
  const { stream } = sources.get(sourceName);
  for (const track of stream.getTracks()) pc.addTransceiver(track, { direction: 'sendonly', streams: [stream] });
  return post(url, pc, bearer);
}

/** Plays by WHEP, measured as `name`. */
async function whep(url, name) {
  const pc = new RTCPeerConnection();
  for (const kind of ['audio', 'video']) pc.addTransceiver(kind, { direction: 'recvonly' });
  pc.ontrack = ({ track }) => watch(name, track);
  return post(url, pc);
}

/**
 * Plays a file, from its start and then from `seekTo` (seconds), each for `ms`.
 * @returns {Promise<{duration: number, width: number, parts: Array<{shown: number, whole: number, backwards: number, id: number, first: number, last: number, at: number}>}>}
 */
async function play(url, { ms = 2000, seekTo }) {
  const element = Object.assign(document.createElement('video'), { muted: true, playsInline: true, crossOrigin: 'anonymous', src: url });
  document.body.append(element);
  const happens = (event) =>
    new Promise((done, fail) => {
      element.addEventListener(event, done, { once: true });
      element.addEventListener('error', () => fail(new Error(`${url}: ${element.error?.message || element.error?.code}`)), { once: true });
    });
  await happens('loadeddata');
  const read = makeReader();
  const parts = [];
  for (const from of [0, seekTo]) {
    if (from) {
      element.pause();
      element.currentTime = from;
      await happens('seeked');
    }
    const seen = { shown: 0, whole: 0, backwards: 0, id: -1, first: -1, last: -1, at: 0 };
    let watching = true;
    const shown = () => {
      if (!watching) return;
      element.requestVideoFrameCallback(shown);
      const { code, whole } = read(element);
      seen.shown += 1;
      if (!code) return;
      seen.whole += whole;
      if (seen.last >= 0 && ((code.frame - seen.last) & 0xffff) > 0x8000) seen.backwards += 1;
      if (seen.first < 0) seen.first = code.frame;
      [seen.id, seen.last] = [code.id, code.frame];
    };
    element.requestVideoFrameCallback(shown);
    await element.play();
    await new Promise((done) => setTimeout(done, ms));
    [watching, seen.at] = [false, element.currentTime];
    parts.push(seen);
  }
  const { duration, videoWidth: width } = element;
  element.remove();
  return { duration, width, parts };
}

/** Everything there is to say when a test fails. */
function dump() {
  const room = joined?.room;
  return {
    state: room?.state,
    participants: room && [...room.participants.values()].map((p) => p.toWire()),
    tracks: room && [...room.tracks.values()].map((t) => ({ ...t.toWire(), state: t.state, why: t.why, subscribed: t.subscribed })),
    probes: reports(),
    unreadable: Object.fromEntries([...probes].map(([name, probe]) => [name, probe.unreadable])),
    log: joined?.log.slice(-200),
  };
}

/** What the room says of the pictures of somebody. */
const statesOf = (name) => [...(joined?.room.tracks.values() ?? [])].filter((t) => t.kind === 'video' && t.participant.name === name).map(({ state, why, layer, needBps, haveBps }) => ({ state, why, layer, needBps, haveBps }));

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

globalThis.bench = { sources, probes, peers, source, watch, join, run, publish, stats, whip, whep, play, connections, until, report, reports, statesOf, reached, dump, log: () => joined?.log };
await audioContext();
document.documentElement.dataset.ready = 'true';
