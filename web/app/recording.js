import { confirm } from './dialogs.js';
import { h, setAttribute, setText } from './dom.js';
import { icon } from './icons.js';
import { goesOn, notRecorded, recordingEnded, startedByOthers, whoKeeps, whoRecords } from './reasons.js';
import { toast } from './toasts.js';

const START = 'Record this call';
const STOP = 'Stop recording';

/** That the call is recorded: everybody sees it, and who may starts and stops it. */
export class Recording {
  constructor(room, button, { changed }) {
    this._room = room;
    this._button = button;
    this._busy = false;
    this._time = h('span', { class: 'rec-time' });
    this.element = h('p', { class: 'rec', hidden: true }, h('span', { class: 'rec-dot', 'aria-hidden': 'true' }), h('span', { 'aria-hidden': 'true' }, 'REC'), h('span', { class: 'visually-hidden' }, 'This call is being recorded.'), this._time);
    this._off = room.on('recording', (recording, before) => (this._onChange(recording, before), changed()));
    if (room.recording) this._tell();
    this.render();
  }

  close() {
    this._off();
    clearInterval(this._ticker);
  }

  get allowed() {
    return Boolean(this._room.grants.record);
  }

  /** For the menu. */
  get label() {
    return this._room.recording ? STOP : START;
  }

  render() {
    const { recording } = this._room;
    clearInterval(this._ticker);
    this.element.hidden = !recording;
    setAttribute(this.element, 'title', recording && whoRecords(recording, this._room));
    if (recording) {
      const tick = () => setText(this._time, clock(this._room.serverTime - recording.startedAtMs));
      this._ticker = setInterval(tick, 1000);
      tick();
    }
    this._button.hidden = !this.allowed;
    for (const name of ['aria-label', 'title']) setAttribute(this._button, name, name === 'title' ? `${this.label} (r)` : this.label);
    setAttribute(this._button, 'data-recording', Boolean(recording));
    setAttribute(this._button, 'aria-busy', this._busy);
  }

  /** Starts it, or stops it after asking: what is not recorded cannot be had afterwards. */
  async toggle() {
    if (!this.allowed || this._busy) return;
    const { recording } = this._room;
    if (!recording) return this._run('start', {});
    const keeps = whoKeeps(recording, this._room);
    if (keeps) return toast(keeps, { icon: 'record' });
    const others = startedByOthers(recording, this._room);
    const text = others ? `${others} started this recording. It ends for everybody.` : 'Everybody is told that the recording has ended. It can be started again.';
    if (await confirm({ title: 'Stop the recording?', text, yes: STOP, no: 'Go on' })) await this._run('stop', others ? { force: true } : {});
  }

  async _run(action, options) {
    this._busy = true;
    this.render();
    try {
      const now = await this._room.record(action, options);
      if (action === 'stop' && now.state === 'started') toast(goesOn(now, this._room), { icon: 'record' });
    } catch (error) {
      toast(notRecorded(action, error), { icon: 'warning' });
    }
    this._busy = false;
    this.render();
  }

  _onChange(recording, before) {
    this.render();
    if (recording.state === 'started') {
      if (recording.recording !== before?.recording) this._tell();
    } else if (before || recording.state === 'failed') {
      const action = this.allowed && recording.recording ? { label: 'Watch it', run: () => open(this._pageOf(recording.recording), '_blank', 'noopener') } : undefined;
      toast(recordingEnded(recording, this._room), { icon: recording.state === 'failed' ? 'warning' : 'record', sticky: recording.state === 'failed' && this.allowed, action });
    }
  }

  /** Where it can be watched: a token goes into the fragment, which is sent to no server. */
  _pageOf(id) {
    const { room, token } = this._room.options;
    const query = new URLSearchParams({ ...(!token && { room }), id });
    return `/recordings?${query}${token ? `#token=${encodeURIComponent(token)}` : ''}`;
  }

  _tell() {
    toast('This call is being recorded', { icon: 'record' });
  }
}

/** @param {number} ms */
export function clock(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  const two = (n) => String(n).padStart(2, '0');
  const hours = Math.floor(s / 3600);
  return hours ? `${hours}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}` : `${Math.floor(s / 60)}:${two(s % 60)}`;
}
