/** Types of the client library of Exedra. The library itself is exedra.js; the guide is README.md. */

/** Joins a room. Rejects with an ExedraError when you are not let in, or the server cannot be reached. */
export function joinRoom(options: JoinOptions): Promise<Room>;
/** The same in two steps, to have listeners in place before anything happens: `createRoom(…)`, `on(…)`, `await join()`. */
export function createRoom(options: JoinOptions): Room;

export interface JoinOptions {
  /** The server: `https://…` or `wss://…`. Default: where the page comes from. */
  url?: string;
  /** The room's name. Needed where the server is open; otherwise the token says it. */
  room?: string;
  /** The name that others see. Needed where the server is open. */
  name?: string;
  /** A JWT, or a function that gets one: it is called before each connection, so a fresh one can be had. */
  token?: string | (() => string | Promise<string>);
  /** Published while joining, so that others see you at once. */
  tracks?: Array<{ track: MediaStreamTrack } & Partial<PublishOptions>>;
  /** Play the sound of the others by itself. Default: true. */
  playAudio?: boolean;
  /** Keep the session in sessionStorage, so that a reloaded page comes back as the same participant. Default: true. */
  persist?: boolean;
  /** How long the first connection is tried, in milliseconds; 0 for ever. Default: 20000. */
  joinTimeoutMs?: number;
  /** What this client is, for the server's log: `my-app/1.0`. */
  client?: string;
  /** For tests and other environments. */
  WebSocket?: any;
  RTCPeerConnection?: any;
  storage?: Storage;
}

export interface PublishOptions {
  /** Default: `microphone` or `camera`, by the track's kind. */
  source: Source;
  name?: string;
  /** Several encodings, so that each viewer gets what fits. Default: true for `camera`. */
  simulcast?: boolean;
  /** Bit/s of the best encoding. */
  maxBitrate?: number;
  maxFramerate?: number;
  /** Default: `detail` for screens, `motion` for cameras, `speech` for microphones, `music` for a screen's sound. */
  contentHint?: string;
  /** Preferred codec, such as `VP9`. */
  codec?: string;
  /** Layers within an encoding (W3C WebRTC-SVC), such as `L3T3_KEY` for VP9 and AV1. Default: `L1T3`, three frame rates. */
  scalabilityMode?: string;
  /** Opus: next to nothing is sent in silence. */
  dtx?: boolean;
  /** Opus in stereo. */
  stereo?: boolean;
  /** Audio with redundancy (RFC 2198), against loss: twice the bytes, a tenth of the gaps. Default: for microphones. */
  red?: boolean;
  muted?: boolean;
}

export type Source = 'camera' | 'microphone' | 'screen' | 'screenAudio' | (string & {});

/** What a listener of each event is called with. */
export interface RoomEvents {
  /** The connection's state, in words too. */
  state: (state: ConnectionState) => void;
  /** You are in (once). */
  joined: () => void;
  /** It is over (once). */
  ended: (ended: { why: EndReason; error?: ExedraError }) => void;
  participantJoined: (participant: Participant) => void;
  participantUpdated: (participant: Participant) => void;
  participantLeft: (participant: Participant, why: 'left' | 'timeout' | 'replaced' | 'kicked' | 'expired' | 'failed' | 'unlisted') => void;
  trackPublished: (track: Track) => void;
  trackUpdated: (track: Track) => void;
  trackUnpublished: (track: Track) => void;
  /** The track is received from now on: `track.stream` is set. */
  trackSubscribed: (track: Track) => void;
  trackUnsubscribed: (track: Track) => void;
  /** What you get of a track changed, and why. */
  trackState: (track: Track, wire: any) => void;
  localTrackPublished: (track: LocalTrack) => void;
  /** Who speaks now, loudest first. */
  speakers: (participants: Participant[]) => void;
  quality: (participant: Participant) => void;
  message: (message: Message, from: Participant | null) => void;
  /** The room is recorded (`started`, also when its owners or its tracks change), or no longer (`stopped`, `failed`). `before` is what ran until then. */
  recording: (recording: Recording, before: Recording | null) => void;
  roomUpdated: (info: RoomInfo) => void;
  youUpdated: (grants: Grants) => void;
  /** The state was replaced by a snapshot; each difference was told before. */
  snapshot: () => void;
  /** The browser wants a click before it plays sound (true), or not any more. */
  audioBlocked: (blocked: boolean) => void;
  /** The server says goodbye; the library does what it asks. */
  bye: (bye: { action: 'resume' | 'rejoin' | 'stop'; reason: string; url?: string }) => void;
  /** Something in the background failed, and nobody else was told. */
  error: (error: ExedraError) => void;
  /** Every event of the room API as it came, after it was applied. */
  event: (type: string, data: any) => void;
}

export type EndReason = 'left' | 'replaced' | 'unauthorized' | 'forbidden' | 'not_found' | 'limit_reached' | 'stopped' | 'failed' | (string & {});

export interface ConnectionState {
  phase: 'connecting' | 'live' | 'reconnecting' | 'ended';
  /** For programs: `offline`, `socket`, `heartbeat`, `timeout`, `server`, `slow`, `media`, … or an EndReason. */
  why: string;
  /** Unix milliseconds. */
  since: number;
  attempt: number;
  /** For people. */
  text: string;
  error?: ExedraError;
}

export class Room {
  readonly options: JoinOptions;
  readonly state: ConnectionState;
  /** Everybody; in a large room those who publish, moderate, or did something lately, and you. */
  readonly participants: Map<string, Participant>;
  /** How many there are. In a large room that is more than `participants` has. */
  readonly count: number;
  /** Whether the room is so large that those who only watch are counted, and are not in `participants`. */
  readonly large: boolean;
  /** Everything published, by id; yours too. */
  readonly tracks: Map<string, Track>;
  /** What was said, oldest first, as far as we know; at most 500. */
  readonly messages: Message[];
  readonly info: RoomInfo;
  /** The recording that runs; null when there is none. */
  readonly recording: Recording | null;
  /** The server's clock in Unix milliseconds, as far as is known. */
  readonly serverTime: number;
  readonly grants: Grants;
  readonly limits: Record<string, number>;
  /** You. Null until you have joined. */
  readonly me: Participant | null;
  readonly localTracks: LocalTrack[];
  readonly audioBlocked: boolean;

  /** @returns takes the listener away */
  on<E extends keyof RoomEvents>(event: E, listener: RoomEvents[E]): () => void;
  once<E extends keyof RoomEvents>(event: E, listener: RoomEvents[E]): () => void;
  off<E extends keyof RoomEvents>(event: E, listener: RoomEvents[E]): void;

  join(): Promise<this>;
  leave(): Promise<void>;
  /** Publishes a track. Resolves when the room knows it. */
  publish(track: MediaStreamTrack, options?: Partial<PublishOptions>): Promise<LocalTrack>;
  localTrack(source: Source): LocalTrack | null;
  /** Calls you for every track of the others, now and later. What you return is called when the track goes. */
  onTrack(listener: (track: Track) => (() => void) | void): () => void;
  /** Shows a track in an element whenever it is received, and tells the server how large it is shown. */
  attach(element: HTMLMediaElement, track: Track, options?: { priority?: number; fps?: number }): void;
  detach(element: HTMLMediaElement): void;
  /** The part of the wish that no element tells. */
  view(wish: { lastN?: number; audioN?: number; follow?: 'speaker' | string }): void;
  /** Says something to everybody, or to some. `retain` keeps the latest of a topic for those who join later. */
  say(topic: string, body: any, options?: { to?: string[]; retain?: boolean }): Promise<{ seq: number }>;
  /** Changes what others see of you. Attributes are merged; null takes one away. */
  set(own: { name?: string; attributes?: Record<string, any> }): Promise<void>;
  /**
   * Has the room recorded, or no longer; takes the grant `record`. Resolves when it has begun, or with how things stand after you wanted it stopped:
   * while others want it still, `state` is `started`. `tracks` limits it to these; `layout` is how a composite is arranged later on; `force` stops it for all participants and takes the grant `moderate`.
   */
  record(action: 'start' | 'stop', options?: { tracks?: string[]; layout?: 'grid' | 'speaker'; force?: boolean }): Promise<Recording>;
  startAudio(): Promise<void>;
  setSpeaker(deviceId: string): Promise<void>;
  setVolume(volume: number): void;
  stats(): Promise<Stats>;
  /** A page of everybody, in the order of joining; in a large room also those who are not in `participants`. */
  listParticipants(page?: { after?: string; limit?: number }): Promise<{ participants: Participant[]; next: string | null; total: number }>;
  /** The name of somebody who is, or was, here. */
  nameOf(participantId: string): string;
  /** While reconnecting: try now. */
  retryNow(): void;
  /** A request that this library does not wrap. */
  request(type: string, data?: any): Promise<any>;
}

export class Participant {
  readonly id: string;
  readonly isLocal: boolean;
  readonly name: string;
  readonly attributes: Record<string, any>;
  /** Unix milliseconds. */
  readonly joinedAt: number;
  /** `lost`: its connection is gone; it leaves unless it comes back in time. */
  readonly connection: 'live' | 'lost';
  readonly tracks: Map<string, Track>;
  /** 0..1; 0 while silent. */
  readonly level: number;
  readonly speaking: boolean;
  /** How well its connections do, from 0 (nothing arrives) to 5 (nothing to wish for), and what is worst. Null until it is told. */
  readonly quality: { up: number; down: number; why: '' | 'good' | 'loss' | 'delay' | 'bandwidth' | 'lost' | (string & {}) } | null;
  track(source: Source): Track | null;
}

export class Track {
  readonly id: string;
  readonly participant: Participant;
  readonly source: Source;
  readonly kind: 'audio' | 'video';
  readonly name?: string;
  readonly muted: boolean;
  readonly simulcast: boolean;
  /** What you get of it. */
  readonly state: 'live' | 'paused' | 'unavailable';
  /** Why: `bandwidth`, `view`, `muted`, `publisher`, `codec`, `lastN`, … */
  readonly why: string;
  readonly layer: { rid?: string; spatial?: number; temporal?: number } | null;
  /** Bits a second that the next better state would take; null when bandwidth is not what is missing. */
  readonly needBps: number | null;
  /** Bits a second that there are for it; null when bandwidth is not what is missing. */
  readonly haveBps: number | null;
  /** Set while it is received. */
  readonly stream: MediaStream | null;
  readonly mediaStreamTrack: MediaStreamTrack | null;
  readonly subscribed: boolean;
}

export class LocalTrack {
  readonly source: Source;
  readonly kind: 'audio' | 'video';
  /** The room's id for it; null until it is published. */
  readonly id: string | null;
  readonly mediaStreamTrack: MediaStreamTrack | null;
  readonly muted: boolean;
  /** The encodings that somebody watches; null: all. */
  readonly wanted: string[] | null;
  /** Whether anybody watches it: while nobody does, nothing is encoded. */
  readonly watched: boolean;
  setMuted(muted: boolean): Promise<void>;
  /** Sends another source in its place, or nothing. A picture of quite another size becomes another track of the room: `id` changes. */
  replace(track: MediaStreamTrack | null): Promise<void>;
  unpublish(): Promise<void>;
}

export interface Message {
  participant: string;
  /** The sender as it came, when it is not in `participants` (in a large room). */
  from?: any;
  to?: string[];
  topic: string;
  body: any;
  retain: boolean;
  atMs: number;
}

export interface Recording {
  state: 'started' | 'stopped' | 'failed';
  /** Its name: what its files are found under. */
  recording?: string;
  /** Unix milliseconds, by the server's clock: compare with `room.serverTime`. */
  startedAtMs?: number;
  /** Who wants it: ids of participants, some of whom may have left; `admin`, an operator; `server`, for this room is always recorded. */
  owners: string[];
  /** The tracks that are recorded; absent when all are. */
  tracks?: string[];
  /** Who stopped it, written like an owner. */
  by?: string;
  /** Why it failed. */
  why?: 'diskFull' | 'diskError' | 'refused' | (string & {});
}

export interface RoomInfo {
  name: string;
  locked: boolean;
  recording: boolean;
  startedAtMs: number;
  /** In a large room: how many there are, and how many of them publish nothing. */
  participants?: { total: number; viewers: number };
}

export interface Grants {
  publish?: boolean;
  subscribe?: boolean;
  say?: boolean;
  moderate?: boolean;
  record?: boolean;
}

export interface Stats {
  /** Unix milliseconds. */
  at: number;
  /** What the server answers to `stats`; null if it did not. */
  server: any;
  pub: PathStats;
  sub: PathStats;
}

export interface PathStats {
  rttMs: number | null;
  availableBps: number | null;
  bytesSent: number;
  bytesReceived: number;
  remote: string | null;
  /** One entry for each stream, with the counters of RTCStats. `track` is the room's id. */
  tracks: Array<{ track: string; kind: string; mid: string; rid?: string; codec?: string; [counter: string]: any }>;
}

/** `code` is one of the room API's: bad_request unsupported unauthorized forbidden not_found conflict limit_reached rate_limited unavailable internal. */
export class ExedraError extends Error {
  constructor(code: string, message?: string, more?: { retryable?: boolean; retryAfterMs?: number; cause?: unknown });
  readonly code: string;
  /** Trying the same again may help. */
  readonly retryable: boolean;
  readonly retryAfterMs: number;
}

export function openCamera(wish?: { deviceId?: string; width?: number; height?: number; frameRate?: number; facingMode?: string }): Promise<MediaStreamTrack>;
export function openMicrophone(wish?: { deviceId?: string; echoCancellation?: boolean; noiseSuppression?: boolean; autoGainControl?: boolean }): Promise<MediaStreamTrack>;
/** A screen, window or tab; the picture first, then its sound. Empty if the person decided against it. */
export function openScreen(wish?: { audio?: boolean; frameRate?: number }): Promise<MediaStreamTrack[]>;
export function listDevices(): Promise<MediaDeviceInfo[]>;
export function cameras(): Promise<MediaDeviceInfo[]>;
export function microphones(): Promise<MediaDeviceInfo[]>;
export function speakers(): Promise<MediaDeviceInfo[]>;

/** How loud a track is, about 20 times a second: 0 (silence) to 1. */
export class LevelMeter {
  constructor(track: MediaStreamTrack, onLevel: (level: number) => void);
  close(): void;
}
