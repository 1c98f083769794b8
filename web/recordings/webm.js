/**
 * Reads WebM and Matroska as the recorder writes it, and writes what Media Source Extensions take: one track alone, from any cluster on.
 * Pure. All times are milliseconds from the file's zero, all places bytes from its start.
 */
const ID = {
  EBML: 0x1a45dfa3, SEGMENT: 0x18538067, SEEK_HEAD: 0x114d9b74, SEEK: 0x4dbb, SEEK_ID: 0x53ab, SEEK_POSITION: 0x53ac,
  INFO: 0x1549a966, SCALE: 0x2ad7b1, DURATION: 0x4489, TRACKS: 0x1654ae6b, TRACK: 0xae, NUMBER: 0xd7, CODEC: 0x86, PRIVATE: 0x63a2,
  VIDEO: 0xe0, WIDTH: 0xb0, HEIGHT: 0xba, CLUSTER: 0x1f43b675, TIME: 0xe7, SIMPLE_BLOCK: 0xa3, GROUP: 0xa0, BLOCK: 0xa1, REFERENCE: 0xfb,
  CUES: 0x1c53bb6b, POINT: 0xbb, CUE_TIME: 0xb3, CUE_POSITIONS: 0xb7, CUE_CLUSTER: 0xf1,
};
const CODECS = { V_VP8: 'vp8', V_VP9: 'vp9', V_AV1: 'av1', 'V_MPEG4/ISO/AVC': 'h264', A_OPUS: 'opus' };
/** A cluster is not longer: the recorder's own bound, and one frame. */
export const MAX_CLUSTER = 16 << 20;

/**
 * The element at `at`: its id, where its content begins and ends. An unknown size ends nowhere. Null: the bytes do not hold its head.
 * @param {Uint8Array} bytes
 */
export function element(bytes, at) {
  const first = bytes[at];
  if (first === undefined) return null;
  const idLength = Math.clz32(first) - 23;
  if (idLength > 4 || at + idLength >= bytes.length) return null;
  let id = 0;
  for (let i = 0; i < idLength; i++) id = id * 256 + bytes[at + i];
  const sizeAt = at + idLength;
  const length = Math.clz32(bytes[sizeAt]) - 23;
  if (length > 8 || sizeAt + length > bytes.length) return null;
  let size = bytes[sizeAt] & (0xff >> length);
  let unknown = size === 0xff >> length;
  for (let i = 1; i < length; i++) {
    size = size * 256 + bytes[sizeAt + i];
    unknown &&= bytes[sizeAt + i] === 0xff;
  }
  const start = sizeAt + length;
  return { id, at, start, end: unknown ? Infinity : start + size };
}

function* children(bytes, { start, end }) {
  for (let at = start; at < Math.min(end, bytes.length); ) {
    const child = element(bytes, at);
    if (!child || child.end > bytes.length) return;
    yield child;
    at = child.end;
  }
}

function uint(bytes, { start, end }) {
  let value = 0;
  for (let at = start; at < end; at++) value = value * 256 + bytes[at];
  return value;
}

function float(bytes, { start, end }) {
  const view = new DataView(bytes.buffer, bytes.byteOffset + start, end - start);
  return end - start === 8 ? view.getFloat64(0) : end - start === 4 ? view.getFloat32(0) : NaN;
}

const text = (bytes, { start, end }) => new TextDecoder().decode(bytes.subarray(start, end)).replace(/\0+$/, '');

/**
 * What stands before the clusters.
 * @param {Uint8Array} bytes from the start of the file
 * @returns {{ tracks: Track[], clusters: number, segment: number, cuesAt?: number, duration?: number } | null} null: more bytes are needed
 * @typedef {{ number: number, codec: string, kind: 'audio' | 'video', entry: Uint8Array, configuration?: Uint8Array, width: number, height: number }} Track
 */
export function readFront(bytes) {
  const head = element(bytes, 0);
  if (!head) return null;
  if (head.id !== ID.EBML) throw new Error('this is not a WebM file');
  const segment = element(bytes, head.end);
  if (!segment) return null;
  const front = { tracks: [], segment: segment.start };
  for (let at = segment.start; ; ) {
    const child = element(bytes, at);
    if (!child) return null;
    if (child.id === ID.CLUSTER) return { ...front, clusters: at };
    if (child.end > bytes.length) return null;
    if (child.id === ID.SEEK_HEAD) front.cuesAt = readSeekHead(bytes, child, segment.start);
    if (child.id === ID.INFO) front.duration = readDuration(bytes, child);
    if (child.id === ID.TRACKS) front.tracks = [...children(bytes, child)].filter(({ id }) => id === ID.TRACK).map((entry) => readTrack(bytes, entry)).filter(Boolean);
    at = child.end;
  }
}

function readSeekHead(bytes, head, base) {
  for (const seek of children(bytes, head)) {
    let id = 0;
    let position;
    for (const part of children(bytes, seek)) {
      if (part.id === ID.SEEK_ID) id = uint(bytes, part);
      if (part.id === ID.SEEK_POSITION) position = uint(bytes, part);
    }
    if (id === ID.CUES) return base + position;
  }
  return undefined;
}

function readDuration(bytes, info) {
  for (const part of children(bytes, info)) if (part.id === ID.DURATION) return float(bytes, part);
  return undefined;
}

function readTrack(bytes, entry) {
  const track = { number: 0, codec: '', width: 0, height: 0, entry: bytes.slice(entry.at, entry.end) };
  for (const part of children(bytes, entry)) {
    if (part.id === ID.NUMBER) track.number = uint(bytes, part);
    if (part.id === ID.CODEC) track.codec = CODECS[text(bytes, part)] ?? text(bytes, part);
    if (part.id === ID.PRIVATE) track.configuration = bytes.slice(part.start, part.end);
    if (part.id !== ID.VIDEO) continue;
    for (const size of children(bytes, part)) {
      if (size.id === ID.WIDTH) track.width = uint(bytes, size);
      if (size.id === ID.HEIGHT) track.height = uint(bytes, size);
    }
  }
  track.kind = track.codec === 'opus' ? 'audio' : 'video';
  return track;
}

/**
 * The cluster at `at`. Null: not all of it is there. Undefined: something else is there, and no cluster follows.
 * @returns {Cluster | null | undefined}
 * @typedef {{ at: number, end: number, time: number, until: number, blocks: Block[] }} Cluster
 * @typedef {{ track: number, time: number, key: boolean, data: Uint8Array }} Block
 */
export function readCluster(bytes, at) {
  const head = element(bytes, at);
  if (!head) return null;
  if (head.id !== ID.CLUSTER || head.end - head.start > MAX_CLUSTER) return undefined;
  if (head.end > bytes.length) return null;
  const cluster = { at, end: head.end, time: 0, until: 0, blocks: [] };
  for (const child of children(bytes, head)) {
    if (child.id === ID.TIME) cluster.time = uint(bytes, child);
    if (child.id === ID.SIMPLE_BLOCK) addBlock(cluster, bytes, child, Boolean(bytes[child.start + 3] & 0x80));
    if (child.id === ID.GROUP) {
      const parts = [...children(bytes, child)];
      const block = parts.find(({ id }) => id === ID.BLOCK);
      if (block) addBlock(cluster, bytes, block, !parts.some(({ id }) => id === ID.REFERENCE));
    }
  }
  cluster.until = cluster.blocks.reduce((last, { time }) => Math.max(last, time), cluster.time);
  return cluster;
}

/** The recorder's tracks have numbers of one byte, and its blocks no lacing. */
function addBlock(cluster, bytes, { start, end }, key) {
  const relative = ((bytes[start + 1] << 24) >> 16) | bytes[start + 2];
  cluster.blocks.push({ track: bytes[start] & 0x7f, time: cluster.time + relative, key, data: bytes.subarray(start + 4, end) });
}

/** All whole clusters from the start of `bytes` on, and whether something else stands behind them. */
export function readClusters(bytes) {
  const clusters = [];
  for (let at = 0; ; at = clusters.at(-1).end) {
    const cluster = readCluster(bytes, at);
    if (!cluster) return { clusters, over: cluster === undefined };
    clusters.push(cluster);
  }
}

/** Where a cluster begins in bytes from the middle of a file: its time too. Null if none does. */
export function findCluster(bytes, from = 0) {
  for (let at = from; (at = bytes.indexOf(0x1f, at)) >= 0 && at < bytes.length - 16; at++) {
    if (bytes[at + 1] !== 0x43 || bytes[at + 2] !== 0xb6 || bytes[at + 3] !== 0x75) continue;
    const head = element(bytes, at);
    const time = head && head.end - head.start <= MAX_CLUSTER && element(bytes, head.start);
    // Media may hold these four bytes by chance, but hardly also what follows them.
    if (time && time.id === ID.TIME && time.end - time.start <= 8 && time.end <= bytes.length) return { at, time: uint(bytes, time) };
  }
  return null;
}

/** @returns {Array<{ time: number, at: number }>} where a player may begin; `bytes` begin with the cues */
export function readCues(bytes, front) {
  const cues = element(bytes, 0);
  if (!cues || cues.id !== ID.CUES) return [];
  return [...children(bytes, cues)].flatMap((point) => {
    const parts = [...children(bytes, point)];
    const time = parts.find(({ id }) => id === ID.CUE_TIME);
    const positions = parts.find(({ id }) => id === ID.CUE_POSITIONS);
    const place = positions && [...children(bytes, positions)].find(({ id }) => id === ID.CUE_CLUSTER);
    return time && place ? [{ time: uint(bytes, time), at: front.segment + uint(bytes, place) }] : [];
  });
}

/** The front of a stream of one track. */
export function writeFront(track) {
  const doc = [0x42, 0x86, 0x81, 1, 0x42, 0xf7, 0x81, 1, 0x42, 0xf2, 0x81, 4, 0x42, 0xf3, 0x81, 8, 0x42, 0x82, 0x84, 0x77, 0x65, 0x62, 0x6d, 0x42, 0x87, 0x81, 4, 0x42, 0x85, 0x81, 2];
  const scale = [0x2a, 0xd7, 0xb1, 0x83, 0x0f, 0x42, 0x40]; // a millisecond
  return joined([
    head(ID.EBML, doc.length), doc,
    [0x18, 0x53, 0x80, 0x67, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    head(ID.INFO, scale.length), scale,
    head(ID.TRACKS, track.entry.length), track.entry,
  ]);
}

/** The same cluster with the blocks of one track alone. */
export function writeCluster(cluster, number) {
  const blocks = cluster.blocks.filter(({ track }) => track === number);
  const body = blocks.flatMap(({ time, key, data }) => {
    const relative = time - cluster.time;
    return [head(ID.SIMPLE_BLOCK, data.length + 4), [0x80 | number, (relative >> 8) & 0xff, relative & 0xff, key ? 0x80 : 0], data];
  });
  const time = [ID.TIME, 0x88, 0, 0, ...[40, 32, 24, 16, 8, 0].map((shift) => Math.floor(cluster.time / 2 ** shift) & 0xff)];
  const length = body.reduce((sum, part) => sum + part.length, time.length);
  return joined([head(ID.CLUSTER, length), time, ...body]);
}

/** An id, and a size of four bytes. */
function head(id, size) {
  const bytes = id > 0xffffff ? [id >>> 24, id >>> 16, id >>> 8, id] : id > 0xffff ? [id >>> 16, id >>> 8, id] : id > 0xff ? [id >>> 8, id] : [id];
  return [...bytes.map((byte) => byte & 0xff), 0x10 | (size >>> 24), (size >>> 16) & 0xff, (size >>> 8) & 0xff, size & 0xff];
}

export function joined(parts) {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
