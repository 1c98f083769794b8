// @ts-check
import { AudioOutput } from './audio.js';
import { Emitter } from './emitter.js';
import { ExedraError } from './errors.js';
import { Participant, Track, messageKey } from './model.js';
import { Publisher } from './publisher.js';
import { Signal, socketUrl } from './signal.js';
import { describe } from './state.js';
import { collectStats } from './stats.js';
import { SessionStore } from './store.js';
import { Subscriber } from './subscriber.js';
import { ViewReporter } from './view.js';

const MAX_MESSAGES = 500;

/**
 * A room that one is in, or comes back to. Made by `joinRoom`. See index.d.ts for the events and README.md for how to use it.
 */
export class Room extends Emitter {
  /** @param {import('./index.js').JoinOptions} options */
  constructor(options) {
    super();
    this.options = options;
    /** @type {Map<string, Participant>} */
    this.participants = new Map();
    /** Everything published, by id; yours too. @type {Map<string, Track>} */
    this.tracks = new Map();
    /** Everything said that we know, oldest first. @type {any[]} */
    this.messages = [];
    /** @type {any} */
    this.info = { name: options.room ?? '', locked: false, recording: false, startedAtMs: 0 };
    /** The recording that runs. @type {any} */
    this.recording = null;
    /** @type {any} */
    this.grants = {};
    /** @type {any} */
    this.limits = {};
    /** @type {any} */
    this.state = describe({ phase: 'connecting', why: '', since: Date.now(), attempt: 0 });
    this._id = '';
    /** Names of those who left, for what they said. @type {Map<string, string>} */
    this._names = new Map();
    /** @type {Record<string, any>} what we set of ourselves, for a fresh join */
    this._own = {};
    /** @type {Map<HTMLMediaElement, {track: Track, off: () => void}>} */
    this._attached = new Map();
    this._joinedOnce = false;
    /** @type {any} */
    this._down = null;
    /** @type {number | undefined} since when sound and picture are interrupted */
    this._mediaSince = undefined;

    const url = socketUrl(options.url ?? globalThis.location?.origin ?? 'http://localhost:8080');
    this._store = new SessionStore(options.persist === false ? null : `exedra:${url}:${options.room ?? ''}`, options.storage);
    this._signal = new Signal({ url, credentials: () => this._credentials(), client: options.client, WebSocket: options.WebSocket });
    const shared = { signal: this._signal, RTCPeerConnection: options.RTCPeerConnection };
    this._publisher = new Publisher(shared);
    this._subscriber = new Subscriber({ ...shared, allowed: () => this.grants.subscribe !== false });
    this._view = new ViewReporter((view) => this._signal.request('view', view, { bound: true }));
    this._audio = new AudioOutput();
    this._wire();
  }

  // ------------------------------------------------------------------------------------------------ for everybody

  /** You. Null until the first welcome. @returns {Participant | null} */
  get me() {
    return this.participants.get(this._id) ?? null;
  }

  /** How many there are. In a large room that is more than `participants` has. */
  get count() {
    return this.info.participants?.total ?? this.participants.size;
  }

  /** Whether the room is so large that those who only watch are counted, and are not in `participants`. */
  get large() {
    return Boolean(this.info.participants);
  }

  /**
   * A page of everybody, in the order of joining; in a large room also those who are not in `participants`.
   * @param {{after?: string, limit?: number}} [page] `after` is the `next` of the page before
   * @returns {Promise<{participants: Participant[], next: string | null, total: number}>}
   */
  async listParticipants(page = {}) {
    const { participants, next = null, total } = await this._signal.request('participants', page);
    return { participants: participants.map((/** @type {any} */ wire) => this._known(wire)), next, total };
  }

  /** What you publish. */
  get localTracks() {
    return [...this._publisher.tracks];
  }

  /** True while the browser waits for a click before it plays sound: then call `startAudio()` from one. */
  get audioBlocked() {
    return this._audio.blocked;
  }

  /**
   * Publishes a MediaStreamTrack. Resolves with the LocalTrack when the room knows it.
   * @param {MediaStreamTrack} track @param {Partial<import('./publisher.js').PublishOptions>} [options] `source` is `microphone` or `camera` when absent
   */
  publish(track, options = {}) {
    return this._publisher.publish(track, { ...options, source: options.source ?? (track.kind === 'audio' ? 'microphone' : 'camera') });
  }

  /** The local track of that source. @param {string} source */
  localTrack(source) {
    return this._publisher.tracks.find((track) => track.source === source) ?? null;
  }

  /**
   * Shows a track in a media element, whenever there is something to show, and tells the server how large it is shown.
   * An element shows one track: attaching another one replaces it.
   * @param {HTMLMediaElement} element @param {Track} track
   * @param {{priority?: number, fps?: number}} [options] the higher the priority, the more important when not everything fits
   */
  attach(element, track, options = {}) {
    if (this._attached.get(element)?.track === track) {
      if (track.kind === 'video') this._view.add(/** @type {HTMLVideoElement} */ (element), track, options);
      return;
    }
    this.detach(element);
    const show = () => {
      if (element.srcObject === track.stream) return;
      element.srcObject = track.stream;
      if (track.stream) element.play?.()?.catch?.(() => {}); // muted video plays by itself; an element without autoplay may be told to by its owner
    };
    const changed = (/** @type {Track} */ other) => other === track && show();
    const offs = [this.on('trackSubscribed', changed), this.on('trackUnsubscribed', changed)];
    this._attached.set(element, { track, off: () => offs.forEach((off) => off()) });
    if (track.kind === 'video') this._view.add(/** @type {HTMLVideoElement} */ (element), track, options);
    show();
  }

  /** @param {HTMLMediaElement} element */
  detach(element) {
    const attached = this._attached.get(element);
    if (!attached) return;
    attached.off();
    this._attached.delete(element);
    this._view.remove(/** @type {HTMLVideoElement} */ (element));
    element.srcObject = null;
  }

  /**
   * Calls you for every track of the others, those there are and those to come. What you return is called when the track goes.
   * @param {(track: Track) => (() => void) | void} listener
   * @returns {() => void} stops it
   */
  onTrack(listener) {
    /** @type {Map<Track, (() => void) | void>} */
    const shown = new Map();
    const add = (/** @type {Track} */ track) => !track.participant.isLocal && !shown.has(track) && shown.set(track, listener(track));
    const offs = [
      this.on('trackPublished', add),
      this.on('trackUnpublished', (/** @type {Track} */ track) => {
        shown.get(track)?.();
        shown.delete(track);
      }),
    ];
    for (const track of [...this.tracks.values()]) add(track);
    return () => offs.forEach((off) => off());
  }

  /** The part of the wish that no element tells: `{lastN, audioN, follow}`. @param {Record<string, any>} wish */
  view(wish) {
    this._view.set(wish);
  }

  /**
   * Says something to everybody, or to some.
   * @param {string} topic @param {any} body any JSON @param {{to?: string[], retain?: boolean}} [options]
   */
  say(topic, body, options = {}) {
    return this._signal.request('say', { topic, body, ...options });
  }

  /** Changes what others see of you. Attributes are merged; null takes one away. @param {{name?: string, attributes?: Record<string, any>}} own */
  async set(own) {
    const attributes = { ...this._own.attributes, ...own.attributes };
    this._own = { ...this._own, ...own, ...(own.attributes && { attributes }) };
    await this._signal.request('set', own);
  }

  /**
   * Has the room recorded, or no longer. Resolves when the recording has begun, or with how things stand after you wanted it stopped: others may want it
   * still (`state` is `started` then). `tracks` limits it to these; `layout` is how a composite is arranged later on; `force` stops it for all participants, which takes the grant `moderate`.
   * @param {'start' | 'stop'} action @param {{tracks?: string[], layout?: 'grid' | 'speaker', force?: boolean}} [options]
   */
  record(action, options = {}) {
    return this._signal.request('record', { action, ...options });
  }

  /** The server's clock in Unix milliseconds, as far as is known: how long something takes is the same for everybody. */
  get serverTime() {
    return Date.now() - this._signal.skewMs;
  }

  /** Call it from a click or a key when `audioBlocked` was told. */
  startAudio() {
    return this._audio.resume();
  }

  /** Where sound comes out. @param {string} deviceId */
  setSpeaker(deviceId) {
    return this._audio.setSinkId(deviceId);
  }

  /** @param {number} volume 0..1 */
  setVolume(volume) {
    this._audio.setVolume(volume);
  }

  /** What the server and this browser know of your connections. */
  stats() {
    return collectStats({ signal: this._signal, pub: this._publisher.link.pc, sub: this._subscriber.link.pc, slots: this._subscriber.slots, local: this._publisher.tracks });
  }

  /** A request that this library does not wrap. @param {string} type @param {any} [data] */
  request(type, data) {
    return this._signal.request(type, data);
  }

  /** The name of somebody who is, or was, here. @param {string} id */
  nameOf(id) {
    return this.participants.get(id)?.name ?? this._names.get(id) ?? '';
  }

  /** While reconnecting: try now instead of after the pause. */
  retryNow() {
    this._signal.nudge();
  }

  /** Leaves. The tracks you gave stay yours to stop. */
  async leave() {
    if (this.state.phase === 'ended') return;
    if (this._signal.phase === 'live') {
      this._signal.leaving = true;
      await Promise.race([this._signal.request('leave', {}, { bound: true, timeoutMs: 1000 }), new Promise((done) => setTimeout(done, 1000))]).catch(() => {});
    }
    this._signal.end('left');
  }

  // ------------------------------------------------------------------------------------------------ joining

  /** @returns {Promise<this>} */
  async join() {
    const stored = await this._store.take();
    if (stored) this._restore(stored);
    const joined = new Promise((resolve, reject) => {
      const limit = this.options.joinTimeoutMs ?? 20_000;
      const giveUp = () => this._signal.end('failed', new ExedraError('unavailable', 'The server cannot be reached.'));
      const timer = limit > 0 ? setTimeout(giveUp, limit) : undefined;
      this.once('joined', () => resolve(this));
      this.once('ended', (/** @type {any} */ { error }) => reject(error ?? new ExedraError('unavailable', 'Left before it had joined.', { retryable: false })));
      for (const settled of ['joined', 'ended']) this.once(settled, () => clearTimeout(timer));
    });
    this._signal.start();
    this._subscriber.prepare();
    for (const { track, ...options } of this.options.tracks ?? []) this.publish(track, options).catch((error) => this.emit('error', error));
    return joined;
  }

  async _credentials() {
    const { room, name } = this.options;
    const token = typeof this.options.token === 'function' ? await this.options.token() : this.options.token;
    return { ...(token && { token }), ...(room && { room }), ...((this._own.name ?? name) && { name: this._own.name ?? name }) };
  }

  /** A page that was reloaded goes on where it was. @param {any} stored */
  _restore(stored) {
    this._signal.session = { session: stored.session, secret: stored.secret };
    this._signal.seq = stored.seq;
    this._signal.restored();
    this._id = stored.participant;
    this._own = stored.own ?? {};
    this._publisher.link.rev = stored.revs?.pub ?? 0;
    this._subscriber.expect(stored.slots ?? []);
    this._subscriber.replaceBindings(stored.bindings ?? []);
    this._applySnapshot(stored.snapshot, true);
  }

  _wire() {
    const { _signal: signal, _publisher: publisher, _subscriber: subscriber, _audio: audio } = this;
    signal.on('welcome', (/** @type {any} */ welcome) => this._onWelcome(welcome));
    signal.on('live', () => this._onLive());
    signal.on('event', (/** @type {string} */ type, /** @type {any} */ data) => this._onEvent(type, data));
    signal.on('bye', (/** @type {any} */ bye) => this.emit('bye', bye));
    signal.on('down', (/** @type {any} */ down) => {
      this._down = down;
      if (this._joinedOnce) this._onSpeakers([]); // nobody is heard
      this._updateState();
    });
    signal.on('ended', (/** @type {any} */ ended) => this._onEnded(ended));
    for (const link of [publisher.link, subscriber.link]) {
      link.on('state', () => this._updateState());
      // Who publishes without the right to is told by `publish`.
      link.on('failed', (/** @type {ExedraError} */ error) => error.code !== 'forbidden' && this.emit('error', error));
    }
    subscriber.on('bound', (/** @type {any} */ slot, /** @type {any} */ now, /** @type {any} */ before) => this._onBound(slot, now, before));
    subscriber.on('slots', () => this.options.playAudio !== false && audio.update(subscriber.slots));
    publisher.on('published', (/** @type {any} */ local) => this._onLocalPublished(local));
    audio.on('blocked', (/** @type {boolean} */ blocked) => this.emit('audioBlocked', blocked));
    this._watchNetwork();
    this._store.watch(() => this._toStore());
  }

  /** A change of network is acted upon at once, instead of after the timeouts. */
  _watchNetwork() {
    const target = globalThis.window;
    if (!target?.addEventListener) return;
    const changed = () => {
      this._signal.nudge();
      for (const link of [this._publisher.link, this._subscriber.link]) link.restartIce();
    };
    const nudge = () => this._signal.nudge();
    const connection = /** @type {any} */ (navigator).connection;
    let type = connection?.type;
    const maybeChanged = () => {
      if (connection.type === type) return; // only its estimates changed
      type = connection.type;
      changed();
    };
    target.addEventListener('online', changed);
    target.addEventListener('pageshow', nudge);
    document.addEventListener('visibilitychange', nudge);
    connection?.addEventListener?.('change', maybeChanged);
    this._unwatch = () => {
      target.removeEventListener('online', changed);
      target.removeEventListener('pageshow', nudge);
      document.removeEventListener('visibilitychange', nudge);
      connection?.removeEventListener?.('change', maybeChanged);
    };
  }

  /** @param {any} welcome */
  _onWelcome(welcome) {
    const { revs = { pub: 0, sub: 0 }, snapshot } = welcome;
    const again = this._joinedOnce && !welcome.resumed;
    this._id = welcome.participant;
    this.limits = welcome.limits ?? {};
    this.graceMs = welcome.graceMs;
    if (welcome.iceServers?.length) this._useIceServers(welcome.iceServers);
    for (const [link, rev] of [[this._publisher.link, revs.pub], [this._subscriber.link, revs.sub]]) link.rev = welcome.resumed ? Math.max(link.rev, rev) : rev;
    if (again) this._subscriber.restart(revs.sub, snapshot.slots.need);
    if (snapshot) this._applySnapshot(snapshot, false);
    if (!welcome.resumed && this.me) this._signal.skewMs = Date.now() - this.me.joinedAt; // which is now
    if (again) this._publisher.restart(revs.pub);
    if (this._joinedOnce && welcome.resumed) for (const link of [this._publisher.link, this._subscriber.link]) link.resumed();
    if (!welcome.resumed) this._view.forget();
    this._store.save(this._toStore());
  }

  _onLive() {
    this._down = null;
    const first = !this._joinedOnce;
    this._joinedOnce = true;
    this._updateState();
    if (first) this.emit('joined');
    else this._reapplyOwn();
  }

  /** After a fresh join, the server knows nothing of what we had set. */
  _reapplyOwn() {
    const { attributes } = this._own;
    if (!attributes || JSON.stringify({ ...this.me?.attributes, ...attributes }) === JSON.stringify(this.me?.attributes)) return;
    this._signal.request('set', { attributes }).catch(() => {}); // lost again: done after the next welcome
  }

  /** @param {any[]} iceServers */
  _useIceServers(iceServers) {
    for (const link of [this._publisher.link, this._subscriber.link]) {
      if (JSON.stringify(link.iceServers) === JSON.stringify(iceServers)) continue;
      link.iceServers = iceServers;
      link.pc?.setConfiguration?.({ ...link.pc.getConfiguration(), iceServers });
      if (link.pc) link.negotiate({ restart: true }).catch(() => {}); // 'failed' says it
    }
  }

  /** @param {{why: string, error?: ExedraError}} ended */
  _onEnded({ why, error }) {
    this._store.clear();
    this._unwatch?.();
    this._view.close();
    this._publisher.close();
    for (const element of [...this._attached.keys()]) this.detach(element);
    this._subscriber.close();
    this._audio.close();
    this._setState(describe({ phase: 'ended', why, since: Date.now(), attempt: 0, error }));
    this.emit('ended', { why, error });
  }

  // ------------------------------------------------------------------------------------------------ what happens

  /** @param {string} type @param {any} data */
  _onEvent(type, data) {
    /** @type {Record<string, (data: any) => void>} */
    const handlers = {
      'participant.joined': (d) => this._putParticipant(d),
      'participant.updated': (d) => this._putParticipant(d),
      'participant.left': (d) => this._removeParticipant(d.participant, d.why),
      'track.published': (d) => this._putTrack(d),
      'track.updated': (d) => this._putTrack(d),
      'track.unpublished': (d) => this._removeTrack(d.track),
      'slots.need': (d) => this._subscriber.ensure(d),
      'slot.bind': (d) => this._subscriber.bind(d),
      'track.state': (d) => this._onTrackState(d),
      'publish.layers': (d) => this._publisher.setLayers(d).catch((error) => this.emit('error', error)),
      speakers: (d) => this._onSpeakers(d),
      quality: (d) => this._onQuality(d),
      message: (d) => this._onMessage(d),
      recording: (d) => this._onRecording(d),
      'room.updated': (d) => this._onRoom(d),
      'you.updated': (d) => this._onYou(d),
    };
    if (Object.hasOwn(handlers, type)) handlers[type](data);
    this.emit('event', type, data);
    if (type !== 'speakers' && type !== 'quality') this._store.touch(); // these come all the time, and pagehide saves too
  }

  /** Makes our state that of the snapshot, and tells each difference like an event. @param {any} snapshot @param {boolean} stored */
  _applySnapshot(snapshot, stored) {
    this._onRoom(snapshot.room);
    this._onYou(snapshot.you);
    const there = new Map(snapshot.participants.map((/** @type {any} */ p) => [p.participant, p]));
    // A server that was started anew gives the old ids to others.
    const same = (/** @type {Participant} */ p) => there.get(p.id)?.joinedAtMs === p.joinedAt && p.isLocal === (p.id === this._id);
    const published = new Set(snapshot.tracks.map((/** @type {any} */ t) => t.track));
    for (const id of [...this.tracks.keys()]) if (!published.has(id)) this._removeTrack(id);
    for (const participant of [...this.participants.values()]) if (!same(participant)) this._removeParticipant(participant.id, 'left');
    for (const participant of snapshot.participants) this._putParticipant(participant);
    for (const track of snapshot.tracks) this._putTrack(track);
    const recording = snapshot.recording ?? null;
    if (JSON.stringify(recording) !== JSON.stringify(this.recording)) this._onRecording(recording ?? { state: 'stopped', owners: [] });
    const known = new Set(this.messages.map(messageKey));
    for (const message of snapshot.messages ?? []) if (!known.has(messageKey(message))) this._onMessage(message);
    for (const { participant, name } of snapshot.names ?? []) this._names.set(participant, name);
    if (stored) return;
    if (snapshot.slots?.need) this._subscriber.ensure(snapshot.slots.need);
    this._subscriber.replaceBindings(snapshot.slots?.bindings ?? []);
    for (const state of snapshot.states ?? []) this._onTrackState(state);
    for (const layers of snapshot.layers ?? []) this._publisher.setLayers(layers).catch((error) => this.emit('error', error));
    this._onSpeakers(snapshot.speakers ?? []);
    this.emit('snapshot');
  }

  /** @param {any} wire */
  _putParticipant(wire) {
    const known = this.participants.get(wire.participant);
    if (!known) {
      const participant = new Participant(wire, wire.participant === this._id);
      this.participants.set(participant.id, participant);
      this._names.set(participant.id, participant.name);
      this.emit('participantJoined', participant);
      return;
    }
    if (JSON.stringify(known.toWire()) === JSON.stringify({ ...known.toWire(), ...wire })) return;
    known.apply(wire);
    this._names.set(known.id, known.name);
    this.emit('participantUpdated', known);
  }

  /** The participant that we know, or one of its own for somebody of whom we are told nothing else. @param {any} wire */
  _known(wire) {
    this._names.set(wire.participant, String(wire.name ?? ''));
    return this.participants.get(wire.participant) ?? new Participant(wire, wire.participant === this._id);
  }

  /** @param {string} id @param {string} why */
  _removeParticipant(id, why) {
    const participant = this.participants.get(id);
    if (!participant) return;
    for (const trackId of [...participant.tracks.keys()]) this._removeTrack(trackId);
    this.participants.delete(id);
    this.emit('participantLeft', participant, why);
  }

  /** @param {any} wire */
  _putTrack(wire) {
    const known = this.tracks.get(wire.track);
    if (known) {
      if (JSON.stringify(known.toWire()) === JSON.stringify({ ...known.toWire(), ...wire })) return;
      known.apply(wire);
      this.emit('trackUpdated', known);
      return;
    }
    const participant = this.participants.get(wire.participant);
    if (!participant) return;
    const track = new Track(wire, participant);
    this.tracks.set(track.id, track);
    participant.tracks.set(track.id, track);
    this.emit('trackPublished', track);
    const slot = this._subscriber.slotOf(track.id);
    if (slot) this._onBound(slot, track.id, null);
  }

  /** @param {string} id */
  _removeTrack(id) {
    const track = this.tracks.get(id);
    if (!track) return;
    this._unsubscribe(track);
    for (const [element, attached] of [...this._attached]) if (attached.track === track) this.detach(element);
    this.tracks.delete(id);
    track.participant.tracks.delete(id);
    this.emit('trackUnpublished', track);
  }

  /** @param {import('./subscriber.js').Slot} slot @param {string | null} now @param {string | null} before */
  _onBound(slot, now, before) {
    const old = before === null ? undefined : this.tracks.get(before);
    if (old && old.stream === slot.stream) this._unsubscribe(old);
    const track = now === null ? undefined : this.tracks.get(now);
    if (!track) return;
    track.stream = slot.stream;
    track.layer = slot.layer;
    this.emit('trackSubscribed', track);
  }

  /** @param {import('./publisher.js').LocalTrack} local */
  _onLocalPublished(local) {
    // After a reload the room may have kept the track as it was: what counts is how it is now.
    const known = this.tracks.get(/** @type {string} */ (local.id))?.muted ?? false;
    if (known !== local.muted) local.setMuted(local.muted).catch((error) => this.emit('error', error));
    this.emit('localTrackPublished', local);
  }

  /** @param {Track} track */
  _unsubscribe(track) {
    if (!track.stream) return;
    track.stream = null;
    this.emit('trackUnsubscribed', track);
  }

  /** @param {any} wire */
  _onTrackState(wire) {
    const track = this.tracks.get(wire.track);
    if (!track) return;
    track.state = wire.state;
    track.why = wire.why ?? '';
    track.layer = wire.layer ?? null;
    track.needBps = wire.needBps ?? null;
    track.haveBps = wire.haveBps ?? null;
    this.emit('trackState', track, wire);
  }

  /** @param {Array<{participant: string, level: number}>} speakers */
  _onSpeakers(speakers) {
    const levels = new Map(speakers.map(({ participant, level }) => [participant, level]));
    for (const participant of this.participants.values()) participant.level = levels.get(participant.id) ?? 0;
    this.emit('speakers', speakers.map(({ participant }) => this.participants.get(participant)).filter(Boolean));
  }

  /** @param {any[]} list */
  _onQuality(list) {
    for (const { participant, up, down, why } of list) {
      const known = this.participants.get(participant);
      if (!known) continue;
      known.quality = { up, down, why };
      this.emit('quality', known);
    }
  }

  /** @param {any} message */
  _onMessage(message) {
    this.messages.push(message);
    if (this.messages.length > MAX_MESSAGES) this.messages.splice(0, this.messages.length - MAX_MESSAGES);
    const from = message.from && this._known(message.from);
    this.emit('message', message, from ?? this.participants.get(message.participant) ?? null);
  }

  /** @param {any} recording */
  _onRecording(recording) {
    const before = this.recording;
    this.recording = recording.state === 'started' ? recording : null;
    this.emit('recording', recording, before);
  }

  /** @param {any} room */
  _onRoom(room) {
    this.info = room;
    this.emit('roomUpdated', room);
  }

  /** @param {any} you */
  _onYou(you) {
    const before = this.grants;
    this.grants = you.grants ?? {};
    if (before.subscribe === false && this.grants.subscribe) this._subscriber.prepare();
    this.emit('youUpdated', this.grants);
  }

  // ------------------------------------------------------------------------------------------------ state

  _updateState() {
    if (this._signal.phase === 'ended') return;
    const broken = [this._publisher.link, this._subscriber.link].some((link) => link.state === 'broken');
    if (broken) this._mediaSince ??= Date.now();
    if (this._down) {
      const phase = this._joinedOnce ? 'reconnecting' : 'connecting';
      const since = Math.min(this._down.since, this._mediaSince ?? Infinity);
      this._setState(describe({ phase, why: this._down.why, since, attempt: this._down.attempt }));
    } else if (broken) {
      this._setState(describe({ phase: 'reconnecting', why: 'media', since: this._mediaSince ?? Date.now(), attempt: 1 }));
    } else if (this._joinedOnce) {
      // A path that is being tried again after it broke is not live until it is connected.
      const healing = this._mediaSince !== undefined && [this._publisher.link, this._subscriber.link].some((link) => link.state === 'connecting');
      if (healing) return;
      this._mediaSince = undefined;
      this._setState(describe({ phase: 'live', why: '', since: Date.now(), attempt: 0 }));
    }
  }

  /** @param {any} state */
  _setState(state) {
    const { phase, why, attempt } = this.state;
    if (phase === state.phase && why === state.why && attempt === state.attempt) return;
    this.state = state;
    this.emit('state', state);
  }

  /** What another page in this tab needs to go on from here. */
  _toStore() {
    if (!this._signal.session || !this._joinedOnce && this._id === '') return null;
    const names = [...new Set(this.messages.map((message) => message.participant))].map((participant) => ({ participant, name: this.nameOf(participant) }));
    return {
      ...this._signal.session,
      seq: this._signal.seq,
      participant: this._id,
      own: this._own,
      revs: { pub: this._publisher.link.rev, sub: this._subscriber.link.rev },
      slots: this._subscriber.slots.map((slot) => slot.kind),
      bindings: this._subscriber.bindings,
      snapshot: {
        room: this.info,
        you: { participant: this._id, grants: this.grants },
        participants: [...this.participants.values()].map((participant) => participant.toWire()),
        tracks: [...this.tracks.values()].map((track) => track.toWire()),
        messages: this.messages,
        ...(this.recording && { recording: this.recording }),
        names,
      },
    };
  }
}
