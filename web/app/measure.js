/** What the panel draws, from two calls of `room.stats()`. Pure. */

/**
 * @param {any} now @param {any} before the call before; null the first time, when there are no rates yet
 * @returns {{at: number, down: any, up: any}}
 */
export function measure(now, before) {
  const seconds = before ? (now.at - before.at) / 1000 : 0;
  const server = now.server ?? {};
  return {
    at: now.at,
    down: {
      bps: rate(now.sub.bytesReceived, before?.sub.bytesReceived, seconds),
      ...budget(server.sub),
      lossPercent: loss(now.sub.tracks, before?.sub.tracks, 'packetsReceived', 'packetsLost'),
      rttMs: now.sub.rttMs ?? rounded(server.sub?.rttMs),
      remote: now.sub.remote,
      tracks: now.sub.tracks.filter(({ kind }) => kind === 'video').map((entry) => received(entry, find(before?.sub, entry), seconds, server.sub)),
    },
    up: {
      bps: rate(now.pub.bytesSent, before?.pub.bytesSent, seconds),
      estimateBps: now.pub.availableBps,
      lossPercent: loss(now.pub.tracks, before?.pub.tracks, 'packetsSent', 'remoteLost'),
      rttMs: now.pub.rttMs ?? rounded(server.pub?.rttMs),
      remote: now.pub.remote,
      tracks: sent(now.pub.tracks, before?.pub, seconds),
    },
  };
}

/** What the server says of the way to us. @param {any} peer */
function budget(peer) {
  const { estimateBps = null, wantedBps = null, queueDelayMs } = peer?.bandwidth ?? {};
  return { estimateBps, wantedBps, queueMs: rounded(queueDelayMs) };
}

/** @param {any} entry @param {any} old @param {number} seconds @param {any} peer */
function received(entry, old, seconds, peer) {
  const slot = peer?.streams?.find((/** @type {any} */ stream) => stream.mid === entry.mid);
  return {
    track: entry.track,
    codec: codecOf(entry),
    bps: rate(entry.bytesReceived, old?.bytesReceived, seconds),
    width: entry.frameWidth ?? null,
    height: entry.frameHeight ?? null,
    fps: rounded(entry.framesPerSecond),
    lossPercent: loss([entry], old && [old], 'packetsReceived', 'packetsLost'),
    freezes: entry.freezeCount ?? null,
    layer: layerOf(slot),
  };
}

/** The encodings of each track that we send. @param {any[]} entries @param {any} before @param {number} seconds */
function sent(entries, before, seconds) {
  /** @type {Map<string, any>} */
  const tracks = new Map();
  for (const entry of entries.filter(({ kind }) => kind === 'video')) {
    const track = tracks.get(entry.track) ?? { track: entry.track, codec: codecOf(entry), encodings: [] };
    tracks.set(entry.track, track);
    const bps = rate(entry.bytesSent, find(before, entry)?.bytesSent, seconds);
    track.encodings.push({ rid: entry.rid ?? '', bps, height: entry.frameHeight ?? null, fps: rounded(entry.framesPerSecond), active: entry.active ?? true, limitedBy: entry.qualityLimitationReason });
  }
  for (const track of tracks.values()) track.encodings.sort((/** @type {any} */ a, /** @type {any} */ b) => (a.height ?? 1e4) - (b.height ?? 1e4));
  return [...tracks.values()];
}

/** @param {any} slot what the server sends in it */
function layerOf(slot) {
  if (!slot) return null;
  const { rid = null, spatial = null, temporal = null } = slot.layer ?? {};
  return rid === null && spatial === null && temporal === null ? null : { rid, spatial, temporal };
}

/** @param {any} side @param {any} entry */
function find(side, { mid, rid }) {
  return side?.tracks.find((/** @type {any} */ old) => old.mid === mid && old.rid === rid);
}

/** Bit/s. A counter that went back belongs to a new connection. @param {number | undefined} now @param {number | undefined} before @param {number} seconds */
function rate(now, before, seconds) {
  if (now === undefined || before === undefined || seconds <= 0 || now < before) return null;
  return ((now - before) * 8) / seconds;
}

/** @param {any[]} now @param {any[] | undefined} before @param {string} good @param {string} bad */
function loss(now, before, good, bad) {
  if (!before) return null;
  const sum = (/** @type {any[]} */ entries, /** @type {string} */ key) => entries.reduce((all, entry) => all + (entry[key] ?? 0), 0);
  const passed = sum(now, good) - sum(before, good);
  const lost = sum(now, bad) - sum(before, bad);
  const all = bad === 'remoteLost' ? passed : passed + lost;
  return passed < 0 || all <= 0 ? null : Math.max(0, Math.min(100, (100 * lost) / all));
}

const rounded = (/** @type {number | null | undefined} */ value) => (typeof value === 'number' ? Math.round(value) : null);

/** @param {any} entry */
const codecOf = ({ codec }) => (codec ?? '').replace(/^.*\//, '');
