// @ts-check
import { backoff } from './backoff.js';
import { Emitter } from './emitter.js';
import { ExedraError } from './errors.js';

const PROTOCOL = 'exedra.v1';
const OPEN_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 15_000;
/** Until the welcome says better. */
const DEFAULT_PING_MS = 5_000;
const STEADY_MS = 5_000;
/** A connection attempt older than this is not waited for when the network changes. */
const STALE_ATTEMPT_MS = 1_500;

/** Close codes after which coming back is pointless, and the code that the caller sees. @type {Record<number, string>} */
const FATAL = { 4401: 'unauthorized', 4403: 'forbidden', 4404: 'not_found', 4409: 'replaced' };

/**
 * @typedef {object} Pending
 * @property {number} id
 * @property {string} type
 * @property {any} data
 * @property {boolean} bound dies with its session: sending it in another one would be wrong
 * @property {boolean} sent
 * @property {number} patience how often it is sent again when the server says it is too soon
 * @property {number} timeoutMs
 * @property {any} timer
 * @property {(data: any) => void} resolve
 * @property {(error: ExedraError) => void} reject
 */

/**
 * One session over as many sockets as it takes: `hello` and resume, requests answered by id, numbered events in order and
 * exactly once, the heartbeat, and coming back.
 *
 * Emits `welcome(answer)` (before any event of that socket), `event(type, data)`, `down({why, attempt, since, retryInMs})`,
 * `live()` and `ended({why, error?})`.
 */
export class Signal extends Emitter {
  /**
   * @param {object} options
   * @param {string} options.url the WebSocket's URL
   * @param {() => any} options.credentials what `hello` carries: `{token}` or `{room, name}`; may be async
   * @param {string} [options.client] what this client is, for the server's log
   * @param {{session: string, secret: string} | null} [options.resume] credentials of an earlier page
   * @param {any} [options.WebSocket]
   * @param {() => number} [options.random]
   */
  constructor({ url, credentials, client = 'exedra-web/0.1', resume = null, WebSocket = globalThis.WebSocket, random = Math.random }) {
    super();
    this._url = url;
    this._credentials = credentials;
    this._client = client;
    this._WebSocket = WebSocket;
    this._random = random;
    /** @type {{session: string, secret: string} | null} */
    this.session = resume;
    /** The number of the last event applied; 0 asks for a snapshot. */
    this.seq = 0;
    this.pingMs = DEFAULT_PING_MS;
    /** How far this device's clock is ahead of the server's, and how long a ping travels. */
    this.skewMs = 0;
    /** @type {'idle' | 'connecting' | 'live' | 'waiting' | 'ended'} */
    this.phase = 'idle';
    this.attempt = 0;
    /** @type {number | null} */
    this.downSince = null;
    /** @type {any} */
    this._ws = null;
    // Ids must stay unique when a reloaded page takes its session over: start where no earlier page can have been.
    this._nextId = Date.now() * 1000;
    /** @type {Map<number, Pending>} */
    this._pending = new Map();
    /** @type {any[] | null} Events that came before the welcome. */
    this._early = null;
    /** @type {Array<{resolve: () => void, reject: (e: any) => void}>} */
    this._waiters = [];
    /** @type {any} */
    this._bye = null;
    this._welcomed = false;
    this._applied = false;
    /** After `leave`, a closed socket is what was wanted. */
    this.leaving = false;
    this._helloId = -1;
    this._lastHeard = 0;
    this._liveAt = 0;
    this._connectAt = 0;
    this._timers = { retry: /** @type {any} */ (null), open: /** @type {any} */ (null), heartbeat: /** @type {any} */ (null) };
  }

  /** The state up to `seq` was restored from an earlier page: what follows it is enough. */
  restored() {
    this._applied = true;
  }

  start() {
    if (this.phase === 'idle') this._connect();
  }

  /** Resolves when requests go straight out; rejects when the session has ended. @returns {Promise<void>} */
  ready() {
    if (this.phase === 'live') return Promise.resolve();
    if (this.phase === 'ended') return Promise.reject(new ExedraError('unavailable', 'The session has ended.', { retryable: false }));
    return new Promise((resolve, reject) => this._waiters.push({ resolve, reject }));
  }

  /**
   * Sends a request, now or as soon as there is a session. A request that was sent and not answered is sent again with
   * the same id after a resume, so it takes effect once.
   * @param {string} type
   * @param {any} [data]
   * @param {{timeoutMs?: number, bound?: boolean}} [options]
   * @returns {Promise<any>}
   */
  request(type, data = {}, { timeoutMs = REQUEST_TIMEOUT_MS, bound = false } = {}) {
    if (this.phase === 'ended') return Promise.reject(new ExedraError('unavailable', 'The session has ended.', { retryable: false }));
    return new Promise((resolve, reject) => {
      const pending = { id: this._nextId++, type, data, bound, sent: false, patience: 5, timeoutMs, timer: null, resolve, reject };
      this._pending.set(pending.id, pending);
      if (this.phase === 'live') this._send(pending);
    });
  }

  /** The network may be back, or another one: try now, with patience anew. */
  nudge() {
    const stale = this.phase === 'connecting' && this.attempt > 0 && Date.now() - this._connectAt > STALE_ATTEMPT_MS;
    if (this.phase === 'waiting' || stale) {
      this._closeSocket(1000);
      this.attempt = 0;
      this._connect();
    } else if (this.phase === 'live') {
      this._checkHeartbeat();
    }
  }

  /** Gives the socket up as dead and comes back. @param {string} why */
  drop(why) {
    if (this.phase === 'live' || this.phase === 'connecting') this._lost(why);
  }

  /** @param {string} why @param {ExedraError} [error] */
  end(why, error) {
    if (this.phase === 'ended') return;
    this._closeSocket(1000);
    this.phase = 'ended';
    clearTimeout(this._timers.retry);
    const failure = error ?? new ExedraError('unavailable', 'The session has ended.', { retryable: false });
    for (const pending of this._pending.values()) this._settle(pending, () => pending.reject(failure));
    for (const waiter of this._waiters.splice(0)) waiter.reject(failure);
    this.emit('ended', { why, error });
  }

  // ------------------------------------------------------------------------------------------------ the socket

  async _connect() {
    clearTimeout(this._timers.retry);
    this.phase = 'connecting';
    this._connectAt = Date.now();
    this._welcomed = false;
    this._early = [];
    this._bye = null;
    let ws;
    try {
      ws = new this._WebSocket(this._url, PROTOCOL);
    } catch (cause) {
      this.end('failed', new ExedraError('bad_request', `The address ${this._url} cannot be used.`, { cause, retryable: false }));
      return;
    }
    this._ws = ws;
    this._timers.open = setTimeout(() => ws === this._ws && this._lost('timeout'), OPEN_TIMEOUT_MS);
    ws.onmessage = (/** @type {any} */ event) => ws === this._ws && this._onMessage(event.data);
    ws.onclose = (/** @type {any} */ event) => ws === this._ws && this._onClose(event.code, event.reason);
    const opened = new Promise((resolve) => (ws.onopen = resolve));
    let credentials;
    try {
      [credentials] = await Promise.all([this._credentials(), opened]);
    } catch (cause) {
      if (ws === this._ws) this.end('unauthorized', new ExedraError('unauthorized', 'No token could be got.', { cause, retryable: false }));
      return;
    }
    if (ws !== this._ws) return;
    const data = { ...credentials, client: this._client };
    if (this.session) data.resume = { session: this.session.session, secret: this.session.secret, seq: this.seq };
    this._helloId = this._nextId++;
    ws.send(JSON.stringify({ id: this._helloId, type: 'hello', data }));
  }

  /** @param {string} text */
  _onMessage(text) {
    this._lastHeard = Date.now();
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return this._lost('protocol');
    }
    if (message.type === 'ping') this.skewMs = Date.now() - message.t;
    if (message.type === 'ping') this._ws.send(JSON.stringify({ type: 'pong', t: message.t }));
    else if (typeof message.id === 'number') this._onAnswer(message);
    else if (typeof message.seq === 'number') this._welcomed ? this._onEvent(message) : this._early?.push(message);
  }

  /** @param {any} message */
  _onAnswer(message) {
    if (message.id === this._helloId) return message.ok ? this._onWelcome(message.data) : this._onRefused(ExedraError.fromAnswer(message.error));
    const pending = this._pending.get(message.id);
    if (!pending) return;
    if (message.error?.code === 'rate_limited' && pending.patience-- > 0) {
      // It had no effect: the same id may try again.
      clearTimeout(pending.timer);
      pending.timer = setTimeout(() => this.phase === 'live' && this._send(pending), Math.max(50, message.error.retryAfterMs ?? 0));
      return;
    }
    this._settle(pending, () => (message.ok ? pending.resolve(message.data ?? {}) : pending.reject(ExedraError.fromAnswer(message.error))));
  }

  /** @param {any} welcome */
  _onWelcome(welcome) {
    const known = this._applied;
    if (welcome.resumed && !welcome.snapshot && !known) {
      // We know nothing (a reloaded page), and got only what followed: start over with a snapshot.
      this.session = null;
      return this._lost('protocol', 0);
    }
    clearTimeout(this._timers.open);
    this.session = { session: welcome.session, secret: welcome.secret };
    this.pingMs = welcome.pingMs > 0 ? welcome.pingMs : DEFAULT_PING_MS;
    if (!welcome.resumed || welcome.snapshot) this.seq = welcome.seq ?? 0;
    if (!welcome.resumed) this._dropForeign(known);
    this._welcomed = true;
    this._applied = true;
    this._liveAt = Date.now();
    this.downSince = null;
    this._watchHeartbeat();
    this.emit('welcome', welcome);
    if (!this._welcomed) return; // a listener ended it
    this.phase = 'live';
    this.emit('live');
    for (const pending of [...this._pending.values()].sort((a, b) => a.id - b.id)) this._send(pending);
    for (const waiter of this._waiters.splice(0)) waiter.resolve();
    for (const event of this._early?.splice(0) ?? []) this._onEvent(event);
  }

  /** In another session, what was asked in the old one is lost, or would be wrong. @param {boolean} known there was an old one */
  _dropForeign(known) {
    if (!known) return;
    for (const pending of this._pending.values()) {
      if (!pending.sent && !pending.bound) continue;
      this._settle(pending, () => pending.reject(new ExedraError('unavailable', 'The connection was lost before the server answered.')));
    }
  }

  /** `hello` was refused. @param {ExedraError} error */
  _onRefused(error) {
    if (error.code === 'unauthorized' && this.session) {
      // It may be only the session that is not ours (another token, another identity): join anew.
      this.session = null;
      return this._lost('protocol', 0);
    }
    if (error.code === 'unauthorized' || error.code === 'forbidden' || (!error.retryable && error.code !== 'conflict')) {
      this.end(error.code, error);
      return;
    }
    this.session = null;
    this._lost(error.code, error.retryAfterMs);
  }

  /** @param {{seq: number, type: string, data: any}} event */
  _onEvent(event) {
    if (event.seq <= this.seq) return; // replayed, and known
    if (event.seq !== this.seq + 1) return this._lost('protocol', 0); // a gap: resume from what we have
    this.seq = event.seq;
    if (event.type === 'bye') return this._onBye(event.data);
    this.emit('event', event.type, event.data);
  }

  /** @param {{action: 'resume' | 'rejoin' | 'stop', reason: string, url?: string}} bye */
  _onBye(bye) {
    this.emit('bye', bye);
    if (bye.action === 'stop') return this.end('stopped', new ExedraError('forbidden', bye.reason, { retryable: false }));
    if (bye.action === 'rejoin') this.session = null;
    if (bye.url) this._url = socketUrl(bye.url);
    // Everybody in the room was told at the same time: spread the return over half a second.
    this._lost('server', 500 * this._random());
  }

  /** @param {number} code @param {string} reason */
  _onClose(code, reason) {
    if (FATAL[code]) {
      this.end(FATAL[code], new ExedraError(FATAL[code] === 'replaced' ? 'conflict' : FATAL[code], reason || undefined, { retryable: false }));
      return;
    }
    if (code === 4400) this.session = null; // we and the server disagree: a fresh start
    const why = code === 4408 ? 'slow' : code === 1001 ? 'server' : code === 4429 ? 'rate_limited' : isOffline() ? 'offline' : 'socket';
    this._lost(why, code === 4429 ? 5000 : undefined);
  }

  /** @param {string} why @param {number} [delayMs] */
  _lost(why, delayMs) {
    if (this.phase === 'ended') return;
    if (this.leaving) return this.end('left');
    this._closeSocket(1000);
    // Only a session that held starts the back-off over: one that breaks at once would otherwise be tried in a tight loop.
    if (this._liveAt > 0 && Date.now() - this._liveAt > STEADY_MS) this.attempt = 0;
    this._liveAt = 0;
    this.phase = 'waiting';
    this.downSince ??= Date.now();
    const retryInMs = Math.max(delayMs ?? 0, this.attempt === 0 && delayMs !== undefined ? delayMs : backoff(this.attempt, { random: this._random }));
    this.attempt += 1;
    for (const pending of this._pending.values()) clearTimeout(pending.timer);
    this._timers.retry = setTimeout(() => this._connect(), retryInMs);
    this.emit('down', { why, attempt: this.attempt, since: this.downSince, retryInMs });
  }

  /** @param {number} code */
  _closeSocket(code) {
    const ws = this._ws;
    this._ws = null;
    this._welcomed = false;
    clearTimeout(this._timers.open);
    clearTimeout(this._timers.heartbeat);
    try {
      ws?.close(code);
    } catch {
      // It was closed already.
    }
  }

  // ------------------------------------------------------------------------------------------------ requests, heartbeat

  /** @param {Pending} pending */
  _send(pending) {
    clearTimeout(pending.timer);
    pending.sent = true;
    pending.timer = setTimeout(() => this._settle(pending, () => pending.reject(new ExedraError('unavailable', `The server did not answer "${pending.type}" in time.`))), pending.timeoutMs);
    try {
      this._ws.send(JSON.stringify({ id: pending.id, type: pending.type, data: pending.data }));
    } catch {
      // The socket is closing: its close event follows, and the request is sent again after it.
    }
  }

  /** @param {Pending} pending @param {() => void} how */
  _settle(pending, how) {
    clearTimeout(pending.timer);
    if (this._pending.delete(pending.id)) how();
  }

  _watchHeartbeat() {
    clearTimeout(this._timers.heartbeat);
    this._lastHeard = Date.now();
    const tick = () => {
      this._timers.heartbeat = setTimeout(() => this._checkHeartbeat() && tick(), this.pingMs);
    };
    tick();
  }

  /** False if the server has been silent for too long: then the socket is given up. */
  _checkHeartbeat() {
    if (Date.now() - this._lastHeard <= 2 * this.pingMs + 1000) return true;
    this._lost(isOffline() ? 'offline' : 'heartbeat', 0);
    return false;
  }
}

/**
 * The room socket's URL for a server's base URL, or unchanged if it is one.
 * @param {string} url
 */
export function socketUrl(url) {
  const u = new URL(url, globalThis.location?.href);
  u.protocol = u.protocol.replace(/^http/, 'ws');
  if (!u.pathname.endsWith('/v1/room')) u.pathname = `${u.pathname.replace(/\/$/, '')}/v1/room`;
  u.hash = '';
  return u.href;
}

function isOffline() {
  return globalThis.navigator?.onLine === false;
}
