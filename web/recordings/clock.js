/** The one clock of a session that is being played. Pure: `now` is `performance.now()`, in milliseconds, as all times are. */
export class Clock {
  constructor() {
    this.playing = false;
    /** It would run, but what is to be shown is not there yet. */
    this.held = false;
    this.rate = 1;
    this._at = 0;
    this._since = 0;
  }

  get running() {
    return this.playing && !this.held;
  }

  at(now) {
    return this.running ? this._at + (now - this._since) * this.rate : this._at;
  }

  set(now, { at = this.at(now), playing = this.playing, held = this.held, rate = this.rate }) {
    Object.assign(this, { _at: at, _since: now, playing, held, rate });
  }
}
