// @ts-check
import { Emitter } from './emitter.js';
import { Link } from './link.js';

/** What a room asks for at first, near enough: offered before the welcome says it, so that the offer is ready in time. */
const EXPECTED = { audio: 2, video: 2 };

/**
 * A receive m-line. Its MediaStreamTrack stays the same while the connection lives; the server decides whose track it carries.
 */
export class Slot {
  /** @param {RTCRtpTransceiver} transceiver @param {'audio' | 'video'} kind */
  constructor(transceiver, kind) {
    this.transceiver = transceiver;
    this.kind = kind;
    this.stream = new MediaStream([transceiver.receiver.track]);
    /** @type {string | null} the id of the track shown */
    this.trackId = null;
    /** @type {any} */
    this.layer = null;
    this.why = '';
  }

  get mid() {
    return this.transceiver.mid;
  }
}

/**
 * The `sub` connection: as many slots as the room needs, and which track is in which.
 * Emits `bound(slot, trackId, previousTrackId)`, `slots()` when there are new ones, and what Link emits through `link`.
 */
export class Subscriber extends Emitter {
  /** @param {{signal: import('./signal.js').Signal, allowed: () => boolean, RTCPeerConnection?: any}} options */
  constructor({ signal, allowed, RTCPeerConnection }) {
    super();
    /** @type {Slot[]} in the order of their m-lines */
    this.slots = [];
    /** @type {Map<string, any>} mid -> the latest binding, also for m-lines that we do not have yet */
    this._bindings = new Map();
    this._need = { ...EXPECTED };
    /** @type {Array<'audio' | 'video'>} */
    this._expected = [];
    this.link = new Link({ role: 'sub', signal, allowed, RTCPeerConnection, build: (pc) => this._build(pc), answered: () => this._apply() });
  }

  /** Makes the offer, before or after the welcome. */
  prepare() {
    this.link.negotiate().catch(() => {});
  }

  /** The kinds of the slots that an earlier page had, in order, so that bindings by mid go on to fit. @param {Array<'audio' | 'video'>} kinds */
  expect(kinds) {
    this._expected = kinds;
  }

  /** `slots.need`. @param {{audio: number, video: number}} need */
  ensure(need) {
    this._need = { audio: Math.max(this._need.audio, need.audio), video: Math.max(this._need.video, need.video) };
    const pc = this.link.open();
    if (this._fill(pc)) {
      this.emit('slots');
      this.prepare();
    }
  }

  /** `slot.bind`. @param {{mid: string, track: string | null, layer?: any, why?: string}} binding */
  bind(binding) {
    this._bindings.set(binding.mid, binding);
    this._apply();
  }

  /** What a snapshot says: bindings that it does not name are gone. @param {any[]} bindings */
  replaceBindings(bindings) {
    this._bindings = new Map(bindings.map((binding) => [binding.mid, binding]));
    this._apply();
  }

  /** Another session: nothing of the old connection counts. @param {number} rev @param {{audio: number, video: number}} need */
  restart(rev, need) {
    this._need = { audio: Math.max(EXPECTED.audio, need.audio), video: Math.max(EXPECTED.video, need.video) };
    for (const slot of this.slots) this._release(slot);
    this.slots = [];
    this._expected = [];
    this._bindings.clear();
    this.link.rebuild(rev);
  }

  /** The bindings in force. */
  get bindings() {
    return [...this._bindings.values()].filter((binding) => binding.track !== null);
  }

  /** @param {string} trackId */
  slotOf(trackId) {
    return this.slots.find((slot) => slot.trackId === trackId) ?? null;
  }

  close() {
    this.link.close();
  }

  /** On a new connection, the slots come in the order that they had, so that each keeps its mid. @param {RTCPeerConnection} pc */
  _build(pc) {
    const before = this.slots;
    this.slots = [];
    for (const slot of before) this._release(slot);
    for (const kind of before.length > 0 ? before.map((slot) => slot.kind) : this._expected) this._add(pc, kind);
    this._fill(pc);
    this.emit('slots');
  }

  /** Adds what is missing, in pairs of audio and video: the n-th of each play in sync. @param {RTCPeerConnection} pc */
  _fill(pc) {
    const has = { audio: this._count('audio'), video: this._count('video') };
    let added = false;
    for (let n = 0; n < Math.max(this._need.audio, this._need.video); n++) {
      for (const kind of /** @type {const} */ (['audio', 'video'])) {
        if (n < has[kind] || n >= this._need[kind]) continue;
        this._add(pc, kind);
        added = true;
      }
    }
    return added;
  }

  /** @param {RTCPeerConnection} pc @param {'audio' | 'video'} kind */
  _add(pc, kind) {
    const transceiver = pc.addTransceiver(kind, { direction: 'recvonly' });
    if (kind === 'video') offerDependencies(transceiver);
    this.slots.push(new Slot(transceiver, kind));
  }

  /** @param {'audio' | 'video'} kind */
  _count(kind) {
    return this.slots.filter((slot) => slot.kind === kind).length;
  }

  /** Makes the slots show what the bindings say; does nothing the second time. */
  _apply() {
    for (const slot of this.slots) {
      const binding = slot.mid === null ? undefined : this._bindings.get(slot.mid);
      if (!binding) {
        if (slot.mid !== null) this._release(slot);
        continue;
      }
      slot.layer = binding.layer ?? null;
      slot.why = binding.why ?? '';
      const previous = slot.trackId;
      if (previous === binding.track) continue;
      slot.trackId = binding.track;
      this.emit('bound', slot, binding.track, previous);
    }
  }

  /** @param {Slot} slot */
  _release(slot) {
    const previous = slot.trackId;
    slot.trackId = null;
    if (previous !== null) this.emit('bound', slot, null, previous);
  }
}

const DEPENDENCY_DESCRIPTOR = 'https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension';

/**
 * Chromium offers the dependency descriptor only where it sends layers; without it, nobody can decode the spatial layers of AV1.
 * @param {any} transceiver
 */
function offerDependencies(transceiver) {
  const all = transceiver.getHeaderExtensionsToNegotiate?.();
  const ours = all?.find((/** @type {any} */ { uri }) => uri === DEPENDENCY_DESCRIPTOR);
  if (!ours || ours.direction !== 'stopped') return;
  ours.direction = 'sendrecv';
  transceiver.setHeaderExtensionsToNegotiate(all);
}
