// @ts-check
/** The sources that belong together when a person is shown. */
const VIDEO_SOURCES = ['camera', 'screen'];

/** Somebody in the room; you too. The object stays the same for as long as this participant is there. */
export class Participant {
  /** @param {any} wire @param {boolean} isLocal */
  constructor(wire, isLocal) {
    this.name = '';
    this.joinedAt = 0;
    /** @type {Record<string, any>} */
    this.attributes = {};
    /** @type {'live' | 'lost'} */
    this.connection = 'live';
    this.id = /** @type {string} */ (wire.participant);
    this.isLocal = isLocal;
    /** What it publishes, by track id. @type {Map<string, Track>} */
    this.tracks = new Map();
    /** 0..1, from the latest `speakers`; 0 while silent. */
    this.level = 0;
    /** @type {{up: number, down: number, why: string} | null} */
    this.quality = null;
    this.apply(wire);
  }

  /** @param {any} wire */
  apply(wire) {
    this.name = String(wire.name ?? '');
    this.attributes = wire.attributes ?? {};
    this.joinedAt = Number(wire.joinedAtMs ?? 0);
    this.connection = wire.connection ?? 'live';
  }

  get speaking() {
    return this.level > 0;
  }

  /** The first track of that source. @param {string} source */
  track(source) {
    for (const track of this.tracks.values()) if (track.source === source) return track;
    return null;
  }

  toWire() {
    return { participant: this.id, name: this.name, attributes: this.attributes, joinedAtMs: this.joinedAt, connection: this.connection };
  }
}

/** Something published in the room; yours too. */
export class Track {
  /** @param {any} wire @param {Participant} participant */
  constructor(wire, participant) {
    this.id = /** @type {string} */ (wire.track);
    this.participant = participant;
    this.source = String(wire.source);
    this.kind = /** @type {'audio' | 'video'} */ (wire.kind);
    /** The stable MediaStream of the slot that carries it; null while it is not received. @type {MediaStream | null} */
    this.stream = null;
    /** @type {'live' | 'paused' | 'unavailable'} */
    this.state = 'paused';
    this.why = '';
    /** What of it is received, where that is known. @type {{rid?: string, spatial?: number, temporal?: number} | null} */
    this.layer = null;
    /** Bits a second that the next better state takes, and that there are; null when bandwidth is not what is missing. @type {number | null} */
    this.needBps = null;
    /** @type {number | null} */
    this.haveBps = null;
    this.muted = false;
    this.simulcast = false;
    this.apply(wire);
  }

  /** @param {any} wire */
  apply(wire) {
    /** @type {string | undefined} */
    this.name = wire.name ?? undefined;
    this.muted = Boolean(wire.muted);
    this.simulcast = Boolean(wire.simulcast);
  }

  get mediaStreamTrack() {
    return this.stream?.getTracks()[0] ?? null;
  }

  get subscribed() {
    return this.stream !== null;
  }

  toWire() {
    return { track: this.id, participant: this.participant.id, source: this.source, kind: this.kind, name: this.name, muted: this.muted, simulcast: this.simulcast };
  }
}

/** Order in which tracks of one person are shown: the screen is what one wants to see. @param {Track} a @param {Track} b */
export function byImportance(a, b) {
  return VIDEO_SOURCES.indexOf(b.source) - VIDEO_SOURCES.indexOf(a.source);
}

/** Two messages are one if everything that was said is the same. @param {any} message */
export function messageKey(message) {
  return [message.participant, message.atMs, message.topic, JSON.stringify(message.body)].join('\n');
}
