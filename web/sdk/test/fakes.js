/** A WebSocket, a peer connection and a room server that do as they are told, without a network. */

globalThis.MediaStream ??= class MediaStream {
  constructor(tracks = []) {
    this._tracks = tracks;
  }
  getTracks() {
    return this._tracks;
  }
};

export class FakeSocket {
  /** @type {FakeSocket[]} every socket of the test, oldest first */
  static all = [];
  static onOpen = (_socket) => {};

  constructor(url, protocol) {
    Object.assign(this, { url, protocol, sent: [], closed: null });
    FakeSocket.all.push(this);
    queueMicrotask(() => {
      if (this.closed) return;
      this.onopen?.();
      FakeSocket.onOpen(this);
    });
  }
  send(text) {
    if (this.closed) return;
    const message = JSON.parse(text);
    this.sent.push(message);
    queueMicrotask(() => this.onrequest?.(message));
  }
  close(code) {
    this.closed ??= { code, byClient: true };
  }
  /** From the server. */
  tell(message) {
    if (!this.closed) this.onmessage?.({ data: JSON.stringify(message) });
  }
  drop(code = 1006) {
    if (this.closed) return;
    this.closed = { code };
    this.onclose?.({ code, reason: '' });
  }
}

export class FakePeerConnection {
  /** @type {FakePeerConnection[]} */
  static all = [];

  constructor() {
    Object.assign(this, { transceivers: [], signalingState: 'stable', iceConnectionState: 'new', connectionState: 'new', offers: 0, restarts: 0, closed: false });
    FakePeerConnection.all.push(this);
  }
  addTransceiver(trackOrKind, { direction, sendEncodings = [{}] }) {
    const kind = typeof trackOrKind === 'string' ? trackOrKind : trackOrKind.kind;
    const parameters = { encodings: sendEncodings.map((e) => ({ active: true, ...e })) };
    let setting = false;
    const transceiver = {
      mid: null,
      kind,
      direction,
      receiver: { track: { kind, id: Math.random() } },
      sender: { track: typeof trackOrKind === 'string' ? null : trackOrKind, parameters, async replaceTrack(track) { this.track = track; }, getParameters: () => structuredClone(parameters), async setParameters(p) {
          if (setting) throw new Error('setParameters overlaps another one');
          setting = true;
          this.settings = (this.settings ?? 0) + 1;
          await settle(10);
          setting = false;
          parameters.encodings = p.encodings;
        } },
    };
    this.transceivers.push(transceiver);
    return transceiver;
  }
  async createOffer({ iceRestart } = {}) {
    this.offers += 1;
    if (iceRestart) this.restarts += 1;
    return { type: 'offer', sdp: `offer ${this.offers} ${this.transceivers.map((t) => `${t.kind}:${t.direction}`).join(',')}` };
  }
  async setLocalDescription(description) {
    if (description.type === 'rollback') return (this.signalingState = 'stable');
    this.localDescription = description;
    this.signalingState = 'have-local-offer';
    this.transceivers.forEach((t, i) => (t.mid ??= String(i)));
  }
  async setRemoteDescription(description) {
    if (this.signalingState !== 'have-local-offer') throw new Error(`answer in ${this.signalingState}`);
    this.remoteDescription = description;
    this.signalingState = 'stable';
  }
  become(ice, connection = ice) {
    this.iceConnectionState = ice;
    this.connectionState = connection;
    this.oniceconnectionstatechange?.();
  }
  getConfiguration() {
    return {};
  }
  setConfiguration(configuration) {
    this.configuration = configuration;
  }
  async getStats() {
    return new Map();
  }
  close() {
    this.closed = true;
  }
}

/** What a room server does with one participant: sessions with numbered events, answers by id. */
export class FakeServer {
  constructor() {
    FakeSocket.all = [];
    FakePeerConnection.all = [];
    this.sessions = 0;
    this.sdpSession = 1; // another one: it has begun anew
    this.session = null;
    this.hellos = [];
    this.negotiations = [];
    this.taken = []; // requests that had an effect, by type
    this.refuse = null; // (message) => error | undefined
    this.silent = new Set(); // types that get no answer
    this.need = { audio: 2, video: 2 };
    this.grants = { publish: true, subscribe: true, say: true };
    this.participants = [];
    this.tracks = [];
    this.recording = null;
    this.page = (_after) => ({ participants: this.participants, total: this.participants.length });
    FakeSocket.onOpen = (socket) => {
      this.socket = socket;
      socket.onrequest = (message) => this._on(socket, message);
    };
  }

  /** Numbers an event, keeps it, and sends it if somebody is connected. */
  event(type, data) {
    const event = { seq: ++this.session.last, type, data };
    this.session.log.push(event);
    this.socket?.tell(event);
  }

  _on(socket, message) {
    if (message.type === 'pong') return this.pongs?.push(message.t);
    const error = this.refuse?.(message);
    if (error) return socket.tell({ id: message.id, ok: false, error });
    if (message.type === 'hello') return this._hello(socket, message);
    if (!this.session) return;
    if (this.session.answers.has(message.id)) return socket.tell(this.session.answers.get(message.id));
    const answer = { id: message.id, ok: true, data: this._effect(message) };
    this.session.answers.set(message.id, answer);
    if (!this.silent.has(message.type)) socket.tell(answer);
  }

  _hello(socket, { id, data }) {
    this.hellos.push(data);
    const resumed = this.session !== null && data.resume?.session === this.session.id;
    if (!resumed) this.session = { id: `s${++this.sessions}`, last: 0, log: [], answers: new Map(), revs: { pub: 0, sub: 0 }, tracks: 0, oldest: 0 };
    const { session } = this;
    const reaches = resumed && data.resume.seq >= session.oldest;
    const you = { participant: `p${this.sessions}`, grants: this.grants };
    const me = { participant: you.participant, name: data.name ?? '', attributes: {}, joinedAtMs: 1, connection: 'live' };
    const snapshot = { room: { name: 'tea', locked: false, recording: false, startedAtMs: 1 }, you, participants: [me, ...this.participants], tracks: this.tracks, slots: { need: this.need, bindings: [] }, messages: [], ...(this.recording && { recording: this.recording }) };
    socket.tell({ id, ok: true, data: { session: session.id, secret: 'x', seq: reaches ? data.resume.seq : session.last, resumed, participant: you.participant, pingMs: 1000, graceMs: 5000, limits: {}, iceServers: [], revs: { ...session.revs }, ...(!reaches && { snapshot }) } });
    if (reaches) for (const event of session.log.filter(({ seq }) => seq > data.resume.seq)) socket.tell(event);
  }

  _record({ action, tracks }) {
    const owners = action === 'start' ? [`p${this.sessions}`] : [];
    const now = { state: action === 'start' ? 'started' : 'stopped', recording: 'r-1', startedAtMs: Date.now(), owners, ...(tracks && { tracks }) };
    this.recording = action === 'start' ? now : null;
    queueMicrotask(() => this.event('recording', now));
    return now;
  }

  _effect({ type, data }) {
    this.taken.push({ type, data });
    if (type === 'participants') return this.page(data);
    if (type === 'record') return this._record(data);
    if (type !== 'negotiate') return type === 'say' ? { seq: this.session.last + 1 } : {};
    this.negotiations.push(data);
    this.session.revs[data.pc] = data.rev;
    return { rev: data.rev, sdp: `v=0\r\no=- ${this.sdpSession} ${data.rev} IN IP4 0.0.0.0\r\n`, ...(data.tracks && { tracks: data.tracks.map(({ mid }) => ({ mid, track: `t${this.sessions}-${mid}` })) }) };
  }
}

export const options = (more = {}) => ({ url: 'http://server.test', room: 'tea', name: 'Ada', playAudio: false, persist: false, WebSocket: FakeSocket, RTCPeerConnection: FakePeerConnection, ...more });

export const fakeTrack = (kind, settings = { width: 1280, height: 720 }) => ({ kind, enabled: true, contentHint: '', getSettings: () => settings });

/** Lets everything happen that waits for nothing but its turn. */
export async function settle(rounds = 60) {
  for (let i = 0; i < rounds; i++) await null;
}

/** A clock that only moves when it is told to: timers and Date.now of the whole process. */
export class FakeClock {
  constructor() {
    this.now = 1_700_000_000_000;
    this._next = 1;
    this._timers = new Map();
    this._real = { setTimeout, clearTimeout, setInterval, clearInterval, now: Date.now };
    globalThis.setTimeout = (run, ms = 0) => this._add(run, ms, null);
    globalThis.setInterval = (run, ms = 0) => this._add(run, ms, ms);
    globalThis.clearTimeout = globalThis.clearInterval = (id) => this._timers.delete(id);
    Date.now = () => this.now;
  }

  restore() {
    const { now, ...timers } = this._real;
    Object.assign(globalThis, timers);
    Date.now = now;
  }

  /** Lets time pass in small steps, with everything that happens meanwhile. */
  async pass(ms, step = 50) {
    for (let passed = 0; passed < ms; passed += step) {
      this._tick(Math.min(step, ms - passed));
      await settle();
    }
  }

  _tick(ms) {
    const end = this.now + ms;
    for (;;) {
      const due = [...this._timers.entries()].filter(([, timer]) => timer.at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      const [id, timer] = due;
      this.now = Math.max(this.now, timer.at);
      if (timer.every === null) this._timers.delete(id);
      else timer.at += Math.max(1, timer.every);
      timer.run();
    }
    this.now = end;
  }

  _add(run, ms, every) {
    this._timers.set(this._next, { run, at: this.now + ms, every });
    return this._next++;
  }
}
