// Reads a recorded file as a player would: what FFmpeg decodes of it, and what the test picture and tone in it say.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { BEEP_HZ, CELL, COLUMNS, ROWS, WRAP_MS, decode, secondCorner } from './pages/code.js';

/** Pixels of a code cell in the pictures that are read; the film has 16 to 9. */
const SIDE = 8;
const WIDTH = Math.round(SIDE / CELL);
const HEIGHT = (WIDTH * 9) / 16;
/** Sound is looked at in pieces of so many samples of 48,000: 2 ms. */
const PIECE = 96;
/** A beep in such a piece, and nothing else, is louder than this at its pitch (dB). */
const BEEP_LEVEL = -24;
/** Two beeps are never closer. */
const BEEP_PAUSE_MS = 500;

/**
 * @typedef {object} Film
 * @property {string} complaints  what FFmpeg and ffprobe said of the file at the level of warnings: it should be nothing
 * @property {number} durationMs  as the file's front says
 * @property {Record<string, string>} codecs  by kind, as FFmpeg names them
 * @property {Array<{atMs: number, width: number, height: number, key: boolean, whole: boolean, code: {id: number, frame: number, ms: number} | null}>} pictures
 * @property {number[]} beeps  when they begin, milliseconds
 */

/**
 * Decodes a file.
 * @param {string} path
 * @returns {Promise<Film>}
 */
export async function readFilm(path) {
  const shown = await ffmpeg('ffprobe', ['-v', 'warning', '-show_streams', '-show_format', '-show_entries', 'frame=media_type,pts_time,width,height,key_frame', '-select_streams', 'v', '-show_frames', '-of', 'json', path]);
  const { frames = [], format } = JSON.parse(shown.out);
  const streams = JSON.parse((await ffmpeg('ffprobe', ['-v', 'error', '-show_streams', '-of', 'json', path])).out).streams;
  const codecs = Object.fromEntries(streams.map((stream) => [stream.codec_type, stream.codec_name]));
  const decoded = await ffmpeg('ffmpeg', ['-v', 'warning', '-i', path, '-fps_mode', 'passthrough', '-enc_time_base:v', '1:1000', '-f', 'null', '-']);
  const raw = await ffmpeg('ffmpeg', ['-v', 'error', '-i', path, '-map', '0:v?', '-fps_mode', 'passthrough', '-enc_time_base:v', '1:1000', '-vf', `scale=${WIDTH}:${HEIGHT}:flags=area,format=gray`, '-f', 'rawvideo', '-']);
  const size = WIDTH * HEIGHT;
  const complaints = [shown.complaints, decoded.complaints, raw.complaints];
  if (raw.bytes.length !== frames.length * size) complaints.push(`ffprobe counts ${frames.length} pictures, FFmpeg ${raw.bytes.length / size}`);
  const pictures = frames.map((frame, n) => ({
    atMs: Number(frame.pts_time) * 1000,
    width: frame.width,
    height: frame.height,
    key: frame.key_frame === 1,
    ...readCode(raw.bytes.subarray(n * size, (n + 1) * size)),
  }));
  const sound = codecs.audio ? await ffmpeg('ffmpeg', ['-v', 'error', '-i', path, '-map', '0:a', '-af', levels(), '-f', 'null', '-']) : { out: '', complaints: '' };
  complaints.push(sound.complaints);
  return { complaints: complaints.filter(Boolean).join('\n'), durationMs: Number(format.duration) * 1000, codecs, pictures, beeps: beepsOf(sound.out) };
}

/** A filter that prints how loud it is at the pitch of the beep, piece by piece. */
const levels = () =>
  `bandpass=f=${BEEP_HZ}:width_type=h:w=800,asetnsamples=n=${PIECE},astats=metadata=1:reset=1,ametadata=mode=print:key=lavfi.astats.Overall.RMS_level:file=-`;

function beepsOf(printed) {
  const beeps = [];
  let at = 0;
  for (const line of printed.split('\n')) {
    const time = line.match(/pts_time:(\S+)/);
    if (time) at = Number(time[1]) * 1000;
    const level = line.match(/RMS_level=(\S+)/);
    if (level && Number(level[1]) > BEEP_LEVEL && !(at - beeps.at(-1) < BEEP_PAUSE_MS)) beeps.push(at);
  }
  return beeps;
}

function readCode(grey) {
  const bitsAt = ([left, top]) =>
    Array.from({ length: COLUMNS * ROWS }, (_, n) => {
      const x = Math.round(left + (n % COLUMNS) * SIDE + SIDE / 2);
      const y = Math.round(top + Math.floor(n / COLUMNS) * SIDE + SIDE / 2);
      return grey[y * WIDTH + x] > 127 ? 1 : 0;
    });
  const bits = bitsAt([0, 0]);
  const code = decode(bits);
  return { code, whole: code !== null && String(bits) === String(bitsAt(secondCorner(WIDTH, HEIGHT))) };
}

/**
 * How the camera's numbers go on in the pictures of a film.
 * @param {Film} film
 */
export function counted({ pictures }) {
  const read = pictures.filter(({ code }) => code);
  const steps = read.slice(1).map(({ code }, n) => ((code.frame - read[n].code.frame + 0x8000) & 0xffff) - 0x8000);
  return {
    pictures: pictures.length,
    unreadable: pictures.length - read.length,
    mixed: read.filter(({ whole }) => !whole).length,
    backwards: steps.filter((step) => step < 0).length,
    /** Numbers that are not there between the first and the last: pictures that the publisher's encoder left out, or that are missing. */
    skipped: steps.reduce((sum, step) => sum + Math.max(0, step - 1), 0),
    first: read[0]?.code.frame,
    last: read.at(-1)?.code.frame,
  };
}

/**
 * How far sound and picture are apart at each beep: beeps are made on whole seconds of the clock that each picture tells. Above 0: the picture
 * is ahead of the sound.
 * @param {Film} film
 * @returns {Array<{atMs: number, offsetMs: number}>}
 */
export function lips({ pictures, beeps }) {
  const read = pictures.filter(({ code }) => code);
  const offsets = [];
  for (const beep of beeps) {
    const nearest = read.reduce((best, picture) => (Math.abs(picture.atMs - beep) < Math.abs(best.atMs - beep) ? picture : best), { atMs: -1e15 });
    if (Math.abs(nearest.atMs - beep) > 200) continue; // no picture then
    const source = (nearest.code.ms + (beep - nearest.atMs) + WRAP_MS) % 1000;
    offsets.push({ atMs: beep, offsetMs: source > 500 ? source - 1000 : source });
  }
  return offsets;
}

export const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

async function ffmpeg(program, args) {
  const child = spawn(program, program === 'ffmpeg' ? ['-nostdin', ...args] : args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const [out, said] = [[], []];
  child.stdout.on('data', (part) => out.push(part));
  child.stderr.setEncoding('utf8').on('data', (part) => said.push(part));
  const [code] = await once(child, 'close');
  const complaints = said.join('').trim();
  if (code !== 0) throw new Error(`${program} ended with ${code}: ${complaints}`);
  const bytes = Buffer.concat(out);
  return { bytes, out: program === 'ffprobe' || !args.includes('rawvideo') ? bytes.toString('utf8') : '', complaints };
}
