/** What `events.jsonl` and the manifest say of a session, in the form in which it is drawn. Pure. */

/** Adds up the lines of `events.jsonl` as they come. */
export class Events {
  constructor() {
    /** Bytes that were read. */
    this.read = 0;
    this.messages = [];
    /** By participant: `[from, to]`, `to` is Infinity while it goes on. */
    this.speech = new Map();
    this._speaking = new Map();
    this._rest = new Uint8Array();
  }

  /** @param {Uint8Array} bytes what follows what was read. @returns whether there was a whole line */
  add(bytes) {
    this.read += bytes.length;
    const all = new Uint8Array(this._rest.length + bytes.length);
    all.set(this._rest);
    all.set(bytes, this._rest.length);
    const end = all.lastIndexOf(10) + 1;
    this._rest = all.slice(end);
    for (const line of new TextDecoder().decode(all.subarray(0, end)).split('\n')) {
      if (!line) continue;
      try {
        this._line(JSON.parse(line));
      } catch {
        // A line that a crash tore.
      }
    }
    return end > 0;
  }

  _line({ tMs, type, data }) {
    if (type === 'speakers' && Array.isArray(data)) this._speakers(tMs, new Set(data.map(({ participant }) => participant)));
    if (type === 'message') this._message(tMs, data);
    if (type === 'participant.left') this._speakers(tMs, new Set([...this._speaking.keys()].filter((id) => id !== data.participant)));
  }

  _speakers(tMs, now) {
    for (const [id, span] of this._speaking) {
      if (now.has(id)) continue;
      span[1] = tMs;
      this._speaking.delete(id);
    }
    for (const id of now) {
      if (this._speaking.has(id)) continue;
      const span = [tMs, Infinity];
      this._speaking.set(id, span);
      if (!this.speech.has(id)) this.speech.set(id, []);
      this.speech.get(id).push(span);
    }
  }

  _message(tMs, data) {
    const { body } = data;
    const text = typeof body === 'string' ? body : typeof body?.text === 'string' ? body.text : '';
    if (!text || data.to?.length || (data.topic && data.topic !== 'chat')) return;
    this.messages.push({ tMs, participant: data.participant ?? data.from, text });
  }
}

/**
 * A lane for each participant, in the order in which they came.
 * @returns {Array<{ id: string, name: string, present: number[][], files: object[], screens: number[][], gaps: object[], speech: number[][] }>} all times in milliseconds
 */
export function lanes(manifest, events, endMs) {
  const all = new Map();
  const lane = (id, name) => {
    if (!all.has(id)) all.set(id, { id, name: name ?? id, present: [], files: [], screens: [], gaps: [], speech: [] });
    return all.get(id);
  };
  for (const { id, name, joinedMs, leftMs } of manifest.participants) lane(id, name).present.push([joinedMs, leftMs ?? endMs]);
  for (const file of manifest.files) {
    if (file.content === 'composite') continue;
    const at = lane(file.participant);
    const span = [file.startMs, file.growing ? endMs : file.startMs + file.durationMs];
    (file.content === 'screen' ? at.screens : at.files).push(span);
    for (const gap of file.gaps) at.gaps.push({ ...gap, content: file.content });
  }
  for (const at of all.values()) at.speech = (events.speech.get(at.id) ?? []).map(([from, to]) => [from, Math.min(to, endMs)]);
  return [...all.values()];
}

/** Pictures and sounds of the same participant and content are shown in one place. */
export function tiles(manifest) {
  const all = new Map();
  for (const file of manifest.files) {
    if (file.content === 'composite') continue;
    // `p7-screen2-1.webm`: the second screen.
    const key = file.name.replace(/-\d+\.\w+$/, '');
    if (!all.has(key)) all.set(key, { key, participant: file.participant, content: file.content, files: [] });
    all.get(key).files.push(file);
  }
  return [...all.values()];
}
