// A camera and a microphone whose every frame and second can be told apart at the other end.
import { BEEP_HZ, BEEP_SECONDS, CELL, COLUMNS, WRAP_MS, encode, secondCorner, toneHz } from './code.js';
import { Clock, wall } from './clock.js';
import { audioContext } from './audio.js';

/**
 * @typedef {object} SourceOptions
 * @property {number} id       0 to 15: whose picture and tone this is
 * @property {number} [width]
 * @property {number} [height]
 * @property {number} [fps]
 * @property {boolean} [tone]  whether the steady tone sounds from the start
 * @property {number} [texture] 0 to 1: noise that is another one in every frame, so that an encoder has something to spend its bits on
 * @property {number} [lateMs] makes the sound this much late, to check the measuring
 */

/**
 * Video: the code of `code.js` over moving shapes in the participant's colour. Audio: a soft steady tone of the participant's own
 * pitch, and a beep on every whole second of the audio clock. Each frame carries the audio clock's time at which it was drawn, so
 * the receiver can tell how far apart sound and picture are without waiting for a flash.
 * @param {SourceOptions} options
 */
export async function makeSource({ id, width = 640, height = 360, fps = 20, tone = true, texture = 0, lateMs = 0 }) {
  const sound = await makeSound(id, lateMs);
  sound.steady.gain.value = tone ? 0.15 : 0;
  const canvas = Object.assign(document.createElement('canvas'), { width, height });
  document.body.append(canvas);
  const context = canvas.getContext('2d', { alpha: false });
  const video = canvas.captureStream();
  const noise = texture > 0 ? makeNoise(context) : null;
  let frame = 0;
  let heldUntil = 0;
  let drawnAt = wall();
  let longestPause = 0;
  let since = { frame: 0, at: wall() };
  const draw = () => {
    sound.tick();
    if (wall() < heldUntil) return;
    longestPause = Math.max(longestPause, wall() - drawnAt);
    drawnAt = wall();
    const ms = sound.clock.ready ? Math.round(sound.clock.fromWall(wall())) : 0;
    paint(context, { id, frame: frame++ & 0xffff, ms: ms % WRAP_MS }, noise, texture);
  };
  const stopTicking = await tick(1000 / fps, draw);
  const stream = new MediaStream([...video.getVideoTracks(), ...sound.stream.getAudioTracks()]);
  return {
    stream,
    frames: () => frame,
    /** What was drawn since the last `restart`: a receiver cannot do better. */
    report: () => ({ longestPauseMs: longestPause, fps: ((frame - since.frame) * 1000) / (wall() - since.at) }),
    restart() {
      longestPause = 0;
      since = { frame, at: wall() };
    },
    /** Draws nothing for a while. */
    hold: (ms) => (heldUntil = wall() + ms),
    setTone: (on) => (sound.steady.gain.value = on ? 0.15 : 0),
    /** No tone and no beep: digital silence. */
    silence: (on) => (sound.volume.gain.value = on ? 0 : 1),
    stop() {
      stopTicking();
      stream.getTracks().forEach((track) => track.stop());
      sound.stop();
      canvas.remove();
    },
  };
}

async function makeSound(id, lateMs) {
  const context = await audioContext();
  const out = context.createMediaStreamDestination();
  const late = new DelayNode(context, { maxDelayTime: 1, delayTime: lateMs / 1000 });
  const volume = new GainNode(context);
  late.connect(volume).connect(out);
  const voice = (hz) => {
    const oscillator = new OscillatorNode(context, { frequency: hz });
    const gain = new GainNode(context, { gain: 0 });
    oscillator.connect(gain).connect(late);
    oscillator.start();
    voices.push(oscillator);
    return gain;
  };
  const voices = [];
  const steady = voice(toneHz(id));
  const beep = voice(BEEP_HZ);
  const clock = new Clock();
  let planned = Math.ceil(context.currentTime);
  const tickSound = () => {
    clock.observe(context.currentTime * 1000, wall());
    while (planned < context.currentTime + 2) {
      planned += 1;
      beep.gain.setValueAtTime(0.3, planned);
      beep.gain.setValueAtTime(0, planned + BEEP_SECONDS);
    }
  };
  const stop = () => voices.forEach((oscillator) => oscillator.stop());
  return { stream: out.stream, steady, volume, clock, tick: tickSound, stop };
}

/** Grey blocks of a few pixels, as a pattern. */
function makeNoise(context) {
  const SIDE = 64;
  const tile = new OffscreenCanvas(SIDE, SIDE);
  const grey = tile.getContext('2d');
  for (let x = 0; x < SIDE; x += 4) {
    for (let y = 0; y < SIDE; y += 4) {
      const shade = Math.floor(Math.random() * 256);
      grey.fillStyle = `rgb(${shade} ${shade} ${shade})`;
      grey.fillRect(x, y, 4, 4);
    }
  }
  return context.createPattern(tile, 'repeat');
}

function paint(context, { id, frame, ms }, noise, strength) {
  const { width, height } = context.canvas;
  const hue = (id * 67) % 360;
  context.fillStyle = `hsl(${hue} 45% 35%)`;
  context.fillRect(0, 0, width, height);
  for (let n = 0; n < 5; n++) {
    const angle = frame / (12 + 4 * n) + n;
    context.fillStyle = `hsl(${(hue + 40 * n) % 360} 60% ${45 + 8 * n}%)`;
    context.beginPath();
    context.arc(width * (0.6 + 0.3 * Math.cos(angle)), height * (0.65 + 0.25 * Math.sin(angle * 1.3)), height / 9, 0, 7);
    context.fill();
  }
  if (noise) {
    noise.setTransform(new DOMMatrix().translate(Math.random() * 64, Math.random() * 64));
    context.globalAlpha = strength;
    context.fillStyle = noise;
    context.fillRect(0, 0, width, height);
    context.globalAlpha = 1;
  }
  const cell = width * CELL;
  // Every cell changes with every frame, and is not the same again soon: with temporal layers, VP9 and AV1 encoders leave a block as it was
  // in the picture that they predict from when it did not change since the last one, whichever that was.
  const shade = (((frame % 7) * 3) % 7) * 8;
  const [black, white] = [`rgb(${shade} ${shade} ${shade})`, `rgb(${255 - shade} ${255 - shade} ${255 - shade})`];
  const bits = encode({ id, frame, ms });
  // At two corners: a picture in which they are not the same is made of two.
  for (const [left, top] of [[0, 0], secondCorner(width, height)]) {
    bits.forEach((bit, n) => {
      context.fillStyle = bit ? white : black;
      context.fillRect(left + (n % COLUMNS) * cell, top + Math.floor(n / COLUMNS) * cell, cell + 0.5, cell + 0.5);
    });
  }
}

/** Calls `work` every `ms`, from a worker's timer: a page's own is slowed down as soon as the page is not in front. */
async function tick(ms, work) {
  const code = `let next = performance.now(); const step = () => { postMessage(0); next += ${ms}; setTimeout(step, Math.max(0, next - performance.now())); }; step();`;
  const worker = new Worker(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })));
  worker.onmessage = work;
  return () => worker.terminate();
}
