// An AudioWorklet that tells which participant's tone sounds in each 20 ms, and when a beep began. See probe.js.
const BEEP_HZ = 3200; // as in code.js: a worklet module may not import in every browser
const WINDOW = Math.round(sampleRate / 50);
const BEEP_WINDOW = Math.floor(WINDOW / 4);

class Listener extends AudioWorkletProcessor {
  #tones;
  #samples = new Float32Array(WINDOW);
  #filled = 0;
  #beeping = true;
  #beepAt = null;

  constructor({ processorOptions }) {
    super();
    this.#tones = processorOptions.tones;
  }

  process([[channel]]) {
    const block = channel ?? new Float32Array(128);
    // 128 does not divide a window: go sample by sample.
    for (let n = 0; n < block.length; n++) {
      this.#samples[this.#filled++] = block[n];
      if (this.#filled % BEEP_WINDOW === 0) this.#hearBeep(currentFrame + n + 1);
      if (this.#filled === WINDOW) this.#endWindow();
    }
    return true;
  }

  #hearBeep(frame) {
    const level = amplitude(this.#samples.subarray(this.#filled - BEEP_WINDOW, this.#filled), BEEP_HZ);
    const beeping = level > (this.#beeping ? 0.06 : 0.12);
    // A window that holds only part of the beep is the less loud the later the beep began.
    if (beeping && !this.#beeping) this.#beepAt = ((frame - BEEP_WINDOW * Math.min(1, level / 0.3)) / sampleRate) * 1000;
    this.#beeping = beeping;
  }

  #endWindow() {
    const levels = this.#tones.map((hz) => amplitude(this.#samples, hz));
    const loudest = Math.max(...levels);
    const toneId = loudest > 0.05 ? levels.indexOf(loudest) : -1;
    this.port.postMessage({ time: currentTime * 1000, at: Date.now(), toneId, beepAt: this.#beepAt });
    this.#beepAt = null;
    this.#filled = 0;
  }
}

/** The amplitude of the part of `samples` at `hz` (Goertzel's algorithm). */
function amplitude(samples, hz) {
  const factor = 2 * Math.cos((2 * Math.PI * hz) / sampleRate);
  let before = 0;
  let last = 0;
  for (const sample of samples) [before, last] = [last, sample + factor * last - before];
  return (2 * Math.sqrt(Math.max(0, before * before + last * last - factor * before * last))) / samples.length;
}

registerProcessor('listener', Listener);
