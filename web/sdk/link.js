// @ts-check
import { backoff } from './backoff.js';
import { Emitter } from './emitter.js';
import { ExedraError } from './errors.js';

const DISCONNECTED_MS = 2_000;
const CONNECT_MS = 8_000;
const RESTARTS_BEFORE_REBUILD = 3;
const MAX_CONFLICTS = 5;

/**
 * One peer connection (`pub` or `sub`), of which we are always the offerer: negotiation in single file with a growing
 * `rev`, ICE restarts while it is broken, and a new RTCPeerConnection when these do not help.
 *
 * What is on it is the owner's: `build(pc)` puts the transceivers onto a new connection.
 * Emits `state('idle' | 'connecting' | 'connected' | 'broken')`, `rebuilt(pc)` and `failed(error)`.
 */
export class Link extends Emitter {
  /**
   * @param {object} options
   * @param {'pub' | 'sub'} options.role
   * @param {import('./signal.js').Signal} options.signal
   * @param {(pc: RTCPeerConnection) => void} options.build
   * @param {() => boolean} [options.allowed] false: there is no right to it, so nothing is offered
   * @param {() => any[] | undefined} [options.tracks] the `tracks` of a negotiate
   * @param {(answer: any) => void} [options.answered]
   * @param {(sdp: string) => string} [options.mapAnswer]
   * @param {any} [options.RTCPeerConnection]
   */
  constructor({ role, signal, build, allowed = () => true, tracks = () => undefined, answered = () => {}, mapAnswer = (sdp) => sdp, RTCPeerConnection = globalThis.RTCPeerConnection }) {
    super();
    this.role = role;
    this.rev = 0;
    /** @type {RTCIceServer[]} */
    this.iceServers = [];
    /** @type {RTCPeerConnection | null} */
    this.pc = null;
    /** @type {'idle' | 'connecting' | 'connected' | 'broken'} */
    this.state = 'idle';
    this._signal = signal;
    this._build = build;
    this._allowed = allowed;
    this._tracks = tracks;
    this._answered = answered;
    this._mapAnswer = mapAnswer;
    this._RTCPeerConnection = RTCPeerConnection;
    this._dirty = false;
    this._restart = false;
    /** @type {string | undefined} The server's SDP session that this connection belongs to. */
    this._session = undefined;
    /** @type {Promise<void> | null} */
    this._running = null;
    this._attempts = 0;
    /** @type {any} */
    this._timer = null;
    this._closed = false;
  }

  /** Opens the connection if it is not; returns it. @returns {RTCPeerConnection} */
  open() {
    if (this.pc) return this.pc;
    /** @type {RTCPeerConnection} */
    const pc = new this._RTCPeerConnection({ bundlePolicy: 'max-bundle', rtcpMuxPolicy: 'require', iceServers: this.iceServers });
    this.pc = pc;
    pc.oniceconnectionstatechange = pc.onconnectionstatechange = () => pc === this.pc && this._onPcState();
    this._build(pc);
    return pc;
  }

  /**
   * Offers what is on the connection now. Calls that come while one is under way are served together by the next.
   * @param {{restart?: boolean}} [options]
   * @returns {Promise<void>} when everything asked for so far is agreed
   */
  negotiate({ restart = false } = {}) {
    if (this._closed) return Promise.reject(new ExedraError('unavailable', 'The session has ended.', { retryable: false }));
    this.open();
    this._dirty = true;
    this._restart ||= restart;
    this._running ??= this._run().finally(() => (this._running = null));
    return this._running;
  }

  /** The way to the server is, or may be, another one: new ICE credentials, at once. */
  restartIce() {
    if (!this.pc || this._closed) return;
    if (this.state === 'connected') this.negotiate({ restart: true }).catch(() => {}); // if it breaks meanwhile, we shall hear
    else this._heal();
  }

  /** Called when signalling is back: what is broken is healed at once. */
  resumed() {
    if (this.pc && this.state !== 'connected') {
      this._attempts = 0;
      this._heal();
    }
  }

  /**
   * Throws the connection away and starts another one, from the given `rev` on.
   * @param {number} [rev]
   */
  rebuild(rev = this.rev) {
    this.rev = rev;
    if (!this.pc) return;
    clearTimeout(this._timer);
    this._discard();
    this.open();
    this._setState('connecting');
    this.emit('rebuilt', this.pc);
    this.negotiate().catch(() => {}); // 'failed' says it
  }

  close() {
    this._closed = true;
    clearTimeout(this._timer);
    this._discard();
    this._setState('idle');
  }

  // ------------------------------------------------------------------------------------------------ negotiation

  async _run() {
    let conflicts = 0;
    let failures = 0;
    while (this._dirty && !this._closed) {
      const pc = this.open();
      try {
        await this._round(pc);
        conflicts = failures = 0;
      } catch (thrown) {
        if (this._closed) throw thrown;
        if (pc !== this.pc) continue; // rebuilt meanwhile: the new one is dirty
        const error = thrown instanceof ExedraError ? thrown : new ExedraError('internal', String(thrown), { cause: thrown });
        this._dirty = true;
        if (error.code === 'conflict' && conflicts++ < MAX_CONFLICTS) {
          this.rev = Math.max(this.rev, Number(/\d+/.exec(error.message)?.[0] ?? 0));
          continue;
        }
        if (error.retryable && failures < 4) {
          await sleep(Math.max(error.retryAfterMs, backoff(failures++)));
          continue;
        }
        this._dirty = false;
        await rollback(pc);
        this.emit('failed', error);
        throw error;
      }
    }
  }

  /** One offer and its answer. @param {RTCPeerConnection} pc */
  async _round(pc) {
    this._dirty = false;
    const restart = this._restart;
    const offer = await pc.createOffer({ iceRestart: restart });
    if (pc !== this.pc) return;
    await pc.setLocalDescription(offer);
    await this._signal.ready();
    if (!this._allowed()) {
      this._dirty = false;
      return;
    }
    if (pc !== this.pc || this._dirty) return; // more was asked for while we waited: offer it all together
    const rev = ++this.rev;
    const sdp = /** @type {RTCSessionDescription} */ (pc.localDescription).sdp;
    const answer = await this._signal.request('negotiate', { pc: this.role, rev, sdp, tracks: this._tracks() }, { bound: true });
    if (pc !== this.pc) return;
    if (restart) this._restart = false;
    const session = sessionOf(answer.sdp);
    if (this._session && session !== this._session) {
      this.rebuild(); // the server had given the connection up and knows nothing of its DTLS: no restart helps
      return;
    }
    this._session = session;
    await pc.setRemoteDescription({ type: 'answer', sdp: this._mapAnswer(answer.sdp) });
    if (pc !== this.pc) return;
    this._answered(answer);
    if (this.state !== 'connected') this._expectConnection();
  }

  // ------------------------------------------------------------------------------------------------ health

  _onPcState() {
    const pc = /** @type {RTCPeerConnection} */ (this.pc);
    const ice = pc.iceConnectionState;
    if (isConnected(pc)) {
      clearTimeout(this._timer);
      this._attempts = 0;
      this._setState('connected');
    } else if (ice === 'failed') {
      this._heal();
    } else if (pc.connectionState === 'failed') {
      this._setState('broken');
      this._attempts = Math.max(this._attempts, RESTARTS_BEFORE_REBUILD); // DTLS failed: no ICE restart helps
      this._heal();
    } else if (ice === 'disconnected') {
      this._after(DISCONNECTED_MS, () => this._heal());
    } else if (this.state === 'idle') {
      this._setState('connecting');
    }
  }

  /** An answer was set: if it does not connect, something has to be done. */
  _expectConnection() {
    if (this.state === 'idle') this._setState('connecting');
    this._after(this._attempts === 0 ? CONNECT_MS : Math.max(4000, backoff(this._attempts, { baseMs: 1000 })), () => {
      if (this.pc && isConnected(this.pc)) this._onPcState(); // a restart may succeed without any change of state
      else this._heal();
    });
  }

  _heal() {
    clearTimeout(this._timer);
    if (this.state === 'connected' || this._attempts > 0) this._setState('broken');
    this._attempts += 1;
    const attempt = this._attempts;
    if (attempt > RESTARTS_BEFORE_REBUILD) {
      const stillNeeded = () => attempt === this._attempts && this.state !== 'connected' && !this._closed;
      this._signal.ready().then(() => stillNeeded() && this.rebuild(), () => {});
    } else {
      this.negotiate({ restart: true }).catch(() => {}); // 'failed' says it
    }
  }

  /** @param {number} ms @param {() => void} then */
  _after(ms, then) {
    clearTimeout(this._timer);
    this._timer = setTimeout(then, ms);
  }

  /** @param {'idle' | 'connecting' | 'connected' | 'broken'} state */
  _setState(state) {
    if (state === this.state || (this._closed && state !== 'idle')) return;
    this.state = state;
    this.emit('state', state);
  }

  _discard() {
    const pc = this.pc;
    this.pc = null;
    this._restart = false;
    this._session = undefined;
    if (!pc) return;
    pc.oniceconnectionstatechange = pc.onconnectionstatechange = null;
    pc.close();
  }
}

/** The id of an SDP session (RFC 8866 section 5.2). @param {string} sdp */
function sessionOf(sdp) {
  return /^o=\S+ (\S+)/m.exec(sdp)?.[1];
}

/** @param {RTCPeerConnection} pc */
function isConnected(pc) {
  return pc.connectionState === 'connected' && (pc.iceConnectionState === 'connected' || pc.iceConnectionState === 'completed');
}

/** Back to stable after a refused offer, so that the next one starts clean. @param {RTCPeerConnection} pc */
async function rollback(pc) {
  if (pc.signalingState !== 'have-local-offer') return;
  try {
    await pc.setLocalDescription({ type: 'rollback' });
  } catch {
    // The next negotiation offers anew from here; that works too.
  }
}

/** @param {number} ms */
function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
