// @ts-check
import { Emitter } from './emitter.js';
import { ExedraError } from './errors.js';
import { Link } from './link.js';
import { adjust } from './senders.js';

/**
 * Where Chromium begins, in kbit/s. By itself it begins at 300 and probes at once, while there is sound but no picture yet to probe with; then
 * it takes 20 s to the large picture. Other browsers ignore it.
 */
const START_KBPS = 1_000;
const VIDEO_CODECS = /^(VP8|VP9|AV1|H264|H265)$/i;

/**
 * @typedef {object} PublishOptions
 * @property {string} source `camera`, `microphone`, `screen`, `screenAudio` or a name of your own
 * @property {string} [name]
 * @property {boolean} [simulcast] several encodings, so that each viewer gets what fits; default: for cameras
 * @property {number} [maxBitrate] bit/s of the best encoding
 * @property {number} [maxFramerate]
 * @property {string} [contentHint] default: `detail` for screens, `motion` for cameras, `speech` for microphones
 * @property {string} [codec] preferred codec, such as `VP9`
 * @property {string} [scalabilityMode] layers within an encoding (W3C WebRTC-SVC), such as `L3T3_KEY`; default: `L1T3`, three frame rates
 * @property {boolean} [dtx] Opus sends next to nothing in silence
 * @property {boolean} [stereo] for music and shared sound
 * @property {boolean} [red] audio with redundancy (RFC 2198), against loss; default: for microphones
 * @property {boolean} [muted]
 */

/** A track that we send. It outlives connections: after a fresh join it is published again. */
export class LocalTrack extends Emitter {
  /** @param {Publisher} publisher @param {MediaStreamTrack} track @param {PublishOptions} options */
  constructor(publisher, track, options) {
    super();
    this._publisher = publisher;
    this.source = options.source;
    this.kind = /** @type {'audio' | 'video'} */ (track.kind);
    /** @type {MediaStreamTrack | null} */
    this.mediaStreamTrack = track;
    this.options = options;
    this.muted = options.muted ?? false;
    /** The room's id for it; null until the server has answered. @type {string | null} */
    this.id = null;
    /** The encodings that somebody watches; null: all. @type {string[] | null} */
    this.wanted = null;
    /** Whether anybody watches at all. */
    this.watched = true;
    /** @type {RTCRtpTransceiver | null} */
    this.transceiver = null;
    this.ended = false;
    /** The size of the latest picture. */
    this.size = { width: 1280, height: 720 };
    this.measure();
  }

  /** Keeps the size of the picture, for when there is none. */
  measure() {
    const { width, height } = this.mediaStreamTrack?.getSettings?.() ?? {};
    if (width && height) this.size = { width, height };
  }

  /** @param {boolean} muted */
  async setMuted(muted) {
    this.muted = muted;
    if (this.mediaStreamTrack) this.mediaStreamTrack.enabled = !muted;
    await this._publisher.announceMuted(this);
  }

  /**
   * Sends another source in its place (another camera), or nothing (null). That takes no negotiation, unless the new picture is so much
   * larger or smaller that other encodings are due: then it becomes another track of the room, and `id` changes.
   * @param {MediaStreamTrack | null} track
   */
  async replace(track) {
    this.mediaStreamTrack = track;
    if (track) {
      track.enabled = !this.muted;
      hint(track, this.options);
    }
    await this._publisher.replaced(this);
  }

  /** Takes it out of the room. The MediaStreamTrack is left to you. */
  async unpublish() {
    await this._publisher.unpublish(this);
  }
}

/** The `pub` connection: what we send. Opened with the first track. */
export class Publisher extends Emitter {
  /** @param {{signal: import('./signal.js').Signal, RTCPeerConnection?: any}} options */
  constructor({ signal, RTCPeerConnection }) {
    super();
    this._signal = signal;
    /** @type {LocalTrack[]} */
    this.tracks = [];
    /** Transceivers whose track was unpublished, by what they were made for: used again instead of growing the SDP. @type {Map<string, RTCRtpTransceiver[]>} */
    this._spare = new Map();
    this.link = new Link({
      role: 'pub',
      signal,
      RTCPeerConnection,
      build: (pc) => this._build(pc),
      tracks: () => this._described(),
      answered: (answer) => this._answered(answer),
      mapAnswer: (sdp) => this._mapAnswer(sdp),
    });
  }

  /** @param {MediaStreamTrack} track @param {PublishOptions} options */
  async publish(track, options) {
    const { source, simulcast = source === 'camera', red = source === 'microphone' } = options;
    const local = new LocalTrack(this, track, { ...options, simulcast, red });
    track.enabled = !local.muted;
    hint(track, local.options);
    this.tracks.push(local);
    if (this.link.pc) this._attach(this.link.pc, local);
    else this.link.open();
    try {
      await this.link.negotiate();
    } catch (error) {
      this._forget(local);
      throw error;
    }
    if (local.id === null && !local.ended) {
      this._forget(local);
      throw new ExedraError('limit_reached', 'The server does not take another track.', { retryable: false });
    }
    return local;
  }

  /** A local track has another source. @param {LocalTrack} local */
  async replaced(local) {
    const before = shapeOf(local);
    local.measure();
    if (!local.transceiver || !this.link.pc || shapeOf(local) === before) return local.transceiver?.sender.replaceTrack(local.mediaStreamTrack);
    this._keepSpare(local.transceiver, before);
    forgetDemand(local);
    this._attach(this.link.pc, local);
    await this.link.negotiate();
  }

  /** @param {LocalTrack} local */
  async unpublish(local) {
    if (local.ended) return;
    this._forget(local);
    await this.link.negotiate();
  }

  /** Another session: everything again, on a new connection. @param {number} rev */
  restart(rev) {
    for (const local of this.tracks) forgetDemand(local);
    this.link.rev = rev;
    if (this.link.pc) this.link.rebuild(rev);
  }

  /** @param {LocalTrack} local */
  async announceMuted(local) {
    if (local.id === null) return; // said when the id is known
    await this._signal.request('track', { track: local.id, muted: local.muted }, { bound: true });
  }

  /**
   * `publish.layers`: what nobody watches is not encoded.
   * @param {{track: string, wanted: string[], active?: boolean}} layers `active` is about the track as a whole, and all there is for one without rids
   */
  async setLayers({ track, wanted, active = true }) {
    const local = this.tracks.find(({ id }) => id === track);
    if (!local) return;
    local.wanted = wanted;
    local.watched = active;
    await this._applyLayers(local);
  }

  close() {
    for (const local of [...this.tracks]) local.ended = true;
    this.link.close();
  }

  // ------------------------------------------------------------------------------------------------ the connection

  /** @param {RTCPeerConnection} pc */
  _build(pc) {
    this._spare.clear();
    for (const local of this.tracks) {
      local.transceiver = null;
      this._attach(pc, local);
    }
  }

  /** @param {RTCPeerConnection} pc @param {LocalTrack} local */
  _attach(pc, local) {
    const spare = this._spare.get(shapeOf(local))?.pop();
    if (spare) {
      local.transceiver = spare;
      spare.direction = 'sendonly';
      if (local.mediaStreamTrack) spare.sender.replaceTrack(local.mediaStreamTrack).catch(report);
      this._applyLayers(local).catch(report);
      return;
    }
    const transceiver = addSender(pc, local);
    local.transceiver = transceiver;
    preferCodecs(transceiver, local);
    // Shared text must stay sharp: frames may be dropped, lines not.
    if (local.source === 'screen') adjust(transceiver.sender, { degradationPreference: 'maintain-resolution' }).catch(report);
  }

  /** @param {LocalTrack} local */
  _forget(local) {
    local.ended = true;
    this.tracks = this.tracks.filter((track) => track !== local);
    if (local.transceiver) this._keepSpare(local.transceiver, shapeOf(local));
  }

  /** @param {RTCRtpTransceiver} transceiver @param {string} shape */
  _keepSpare(transceiver, shape) {
    transceiver.sender.replaceTrack(null).catch(report);
    transceiver.direction = 'inactive';
    this._spare.set(shape, [...(this._spare.get(shape) ?? []), transceiver]);
  }

  /** The `tracks` of a negotiate. */
  _described() {
    return this.tracks
      .filter((local) => local.transceiver?.mid)
      .map(({ transceiver, source, options }) => ({
        mid: /** @type {RTCRtpTransceiver} */ (transceiver).mid,
        source,
        ...(options.name && { name: options.name }),
        ...(options.simulcast && { simulcast: true }),
      }));
  }

  /** @param {any} answer */
  _answered(answer) {
    for (const { mid, track } of answer.tracks ?? []) {
      const local = this.tracks.find((candidate) => candidate.transceiver?.mid === mid);
      if (!local) continue;
      this._applyLayers(local).catch(report); // a negotiation must not have changed them
      if (local.id === track) continue;
      local.id = track;
      this.emit('published', local);
    }
  }

  /** What an encoder is to do is said by the receiver's fmtp, which is the answer. @param {string} sdp */
  _mapAnswer(sdp) {
    for (const { transceiver, options, kind } of this.tracks) {
      if (!transceiver?.mid) continue;
      if (kind === 'video') {
        sdp = setFormat(sdp, transceiver.mid, VIDEO_CODECS, { 'x-google-start-bitrate': String(START_KBPS) });
      } else if (options.dtx || options.stereo || options.maxBitrate) {
        sdp = setFormat(sdp, transceiver.mid, /^opus$/i, {
          ...(options.dtx && { usedtx: '1' }),
          ...(options.stereo && { stereo: '1' }),
          ...(options.maxBitrate && { maxaveragebitrate: String(options.maxBitrate) }),
        });
      }
    }
    return sdp;
  }

  /** @param {LocalTrack} local */
  async _applyLayers(local) {
    if (local.transceiver) await adjust(local.transceiver.sender, { isActive: (rid) => isWanted(local, rid) });
  }
}

/** @param {LocalTrack} local @param {string | undefined} rid */
function isWanted({ wanted, watched }, rid) {
  return watched && (rid === undefined || wanted === null || wanted.includes(rid));
}

/** What the room said of a track counts for that track only. @param {LocalTrack} local */
function forgetDemand(local) {
  local.id = local.wanted = null;
  local.watched = true;
}

/**
 * A transceiver that sends what is wanted now: on a connection made anew, nothing is encoded that nobody watches.
 * @param {RTCPeerConnection} pc @param {LocalTrack} local
 */
function addSender(pc, local) {
  const add = (/** @type {any[]} */ sendEncodings) => pc.addTransceiver(local.mediaStreamTrack ?? local.kind, { direction: 'sendonly', sendEncodings });
  const encodings = encodingsFor(local).map((encoding) => ({ ...encoding, active: isWanted(local, encoding.rid) }));
  try {
    return add(encodings);
  } catch {
    return add(encodings.map(({ scalabilityMode, ...plain }) => plain)); // a mode that this browser has for no codec
  }
}

/**
 * The encodings of a track. Browsers leave out layers of a small picture (Chromium sends two of three at 640x360, and not the
 * last one), so we ask for no more than they give.
 * @param {{options: PublishOptions, kind: string, size: {width: number, height: number}}} local
 * @returns {Array<RTCRtpEncodingParameters & {scalabilityMode?: string}>}
 */
export function encodingsFor(local) {
  const { options, kind, size } = local;
  if (kind === 'audio') return [options.maxBitrate ? { maxBitrate: options.maxBitrate } : {}];
  const pixels = size.width * size.height;
  const best = options.maxBitrate ?? bitrateFor(Math.min(size.height, size.width), options.source);
  // Temporal layers let the server halve a frame rate where the network carries no more. With several encodings, Chromium sends VP9 and AV1 as
  // streams of their own only if it is told a mode.
  const { scalabilityMode = 'L1T3' } = options;
  const rate = { ...(options.maxFramerate && { maxFramerate: options.maxFramerate }), scalabilityMode };
  const full = { maxBitrate: best, ...rate };
  const inLayers = !scalabilityMode.startsWith('L1'); // the sizes are in the one encoding
  if (!options.simulcast || inLayers || pixels < 480 * 270) return [full];
  const half = { rid: 'h', scaleResolutionDownBy: 2, maxBitrate: Math.round(best / 4), ...rate };
  const top = { rid: 'f', scaleResolutionDownBy: 1, ...full };
  if (pixels < 960 * 540) return [half, top];
  return [{ rid: 'q', scaleResolutionDownBy: 4, maxBitrate: Math.max(100_000, Math.round(best / 16)), ...rate }, half, top];
}

/** @param {number} lines @param {string} source */
function bitrateFor(lines, source) {
  if (source === 'screen') return 2_500_000;
  if (lines >= 1080) return 4_000_000;
  if (lines >= 720) return 2_500_000;
  if (lines >= 540) return 1_500_000;
  return lines >= 360 ? 800_000 : 400_000;
}

/** Transceivers of equal shape stand in for each other. @param {LocalTrack} local */
function shapeOf(local) {
  const encodings = encodingsFor(local).map((encoding) => `${encoding.rid ?? '-'}${encoding.scalabilityMode ?? ''}`);
  return [local.source, local.kind, local.options.codec ?? '', ...encodings].join('/');
}

/** @param {MediaStreamTrack} track @param {PublishOptions} options */
function hint(track, options) {
  const wish = options.contentHint ?? { screen: 'detail', camera: 'motion', microphone: 'speech', screenAudio: 'music' }[options.source];
  if (wish !== undefined && 'contentHint' in track) track.contentHint = wish;
}

/** @param {RTCRtpTransceiver} transceiver @param {LocalTrack} local */
function preferCodecs(transceiver, { kind, options }) {
  const first = options.codec ?? (options.red ? 'red' : undefined);
  const all = globalThis.RTCRtpSender?.getCapabilities?.(kind)?.codecs;
  if (!first || !all || !transceiver.setCodecPreferences) return;
  const isFirst = (/** @type {any} */ codec) => codec.mimeType.toLowerCase() === `${kind}/${first.toLowerCase()}`;
  if (all.some(isFirst)) transceiver.setCodecPreferences([...all.filter(isFirst), ...all.filter((codec) => !isFirst(codec))]);
}

/**
 * Sets parameters in the `a=fmtp` of codecs in the media section with this mid.
 * @param {string} sdp
 * @param {string} mid
 * @param {RegExp} codec which ones, by name
 * @param {Record<string, string>} wanted
 */
export function setFormat(sdp, mid, codec, wanted) {
  return sdp
    .split(/(?=^m=)/m)
    .map((section) => (new RegExp(`^a=mid:${mid}\\r?$`, 'm').test(section) ? withFormat(section, codec, wanted) : section))
    .join('');
}

/** @param {string} section @param {RegExp} codec @param {Record<string, string>} wanted */
function withFormat(section, codec, wanted) {
  for (const [, pt, name] of section.matchAll(/^a=rtpmap:(\d+) ([^/\r\n]+)\//gm)) {
    if (!codec.test(name)) continue;
    const line = new RegExp(`^a=fmtp:${pt} ([^\\r\\n]*)`, 'm');
    const given = line.exec(section)?.[1] ?? '';
    const parameters = new Map(given.split(';').filter(Boolean).map((p) => /** @type {[string, string]} */ (p.trim().split('='))));
    for (const [key, value] of Object.entries(wanted)) parameters.set(key, value);
    const text = `a=fmtp:${pt} ${[...parameters].map(([key, value]) => `${key}=${value}`).join(';')}`;
    section = line.test(section) ? section.replace(line, text) : section.replace(new RegExp(`^(a=rtpmap:${pt} [^\\r\\n]*)`, 'm'), `$1\r\n${text}`);
  }
  return section;
}

/** @param {unknown} error */
function report(error) {
  console.warn('exedra:', error);
}
