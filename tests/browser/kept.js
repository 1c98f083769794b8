// Recordings on disk for the page's tests: made by FFmpeg, with the manifest and the events that the recorder would write.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, open, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const TONES = { p1: 330, p2: 440, p3: 550 };
const ENCODERS = { VP8: 'libvpx', VP9: 'libvpx-vp9', H264: 'libx264' };

/** Films that are being made, by what they show: they are the same for each test, and stay in their folder for the next run. */
const films = new Map();

/**
 * A film of somebody: a colour, the time in it in seconds, and a beep each second.
 * @returns {Promise<Buffer>} WebM, or Matroska for H264, in clusters of a second, as the recorder writes it
 */
export function film({ participant = 'p1', codec = 'VP8', seconds = 20, width = 320, height = 180, color = 'teal', video = true, audio = true }, folder) {
  const key = JSON.stringify([participant, codec, seconds, width, color, video, audio]);
  if (!films.has(key)) films.set(key, make());
  return films.get(key);

  async function make() {
    const name = join(folder, `${key.replace(/[^\w]+/g, '-')}.${codec === 'H264' ? 'mkv' : 'webm'}`);
    if (existsSync(name)) return readFile(name);
    const picture = `color=c=${color}:s=${width}x${height}:r=25:d=${seconds},drawgrid=w=40:h=40:c=white@0.15,drawbox=x=0:y=ih-14:w=iw:h=14:c=black:t=fill,drawbox=x='iw*mod(t,1)':y=ih-14:w=10:h=14:c=white:t=fill,drawtext=text='%{eif\\:t\\:d}':fontsize=${Math.round(height / 3)}:fontcolor=white:x=(w-tw)/2:y=(h-th)/2`;
    const sound = `aevalsrc='if(lt(mod(t,1),0.15),0.3*sin(2*PI*${TONES[participant] ?? 440}*t),0)':s=48000:d=${seconds}`;
    const args = ['-nostdin', '-v', 'error', '-y'];
    if (video) args.push('-f', 'lavfi', '-i', picture);
    if (audio) args.push('-f', 'lavfi', '-i', sound);
    if (video) args.push('-pix_fmt', 'yuv420p', '-c:v', ENCODERS[codec], '-g', '50', '-b:v', '250k', ...(codec === 'H264' ? ['-preset', 'ultrafast', '-tune', 'zerolatency'] : ['-deadline', 'realtime', '-cpu-used', '8', '-lag-in-frames', '0', '-auto-alt-ref', '0']));
    if (audio) args.push('-c:a', 'libopus', '-ac', '2', '-b:a', '32k');
    await run('ffmpeg', [...args, '-cluster_time_limit', '1000', '-f', codec === 'H264' ? 'matroska' : 'webm', `${name}.new`]);
    await rename(`${name}.new`, name);
    return readFile(name);
  }
}

/** A recording's folder under `root`. `session` is its manifest; files are `{ name: Buffer }`, events an array of lines. */
export async function keep(root, session, files, events = []) {
  const folder = join(root, session.id);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  for (const [name, bytes] of Object.entries(files)) await writeFile(join(folder, name), bytes);
  await writeFile(join(folder, 'events.jsonl'), events.map((line) => `${JSON.stringify(line)}\n`).join(''));
  await describe(folder, session);
  return folder;
}

/** Replaces the manifest, as the recorder does. */
export async function describe(folder, session) {
  await writeFile(join(folder, 'session.json.new'), JSON.stringify(session));
  await rename(join(folder, 'session.json.new'), join(folder, 'session.json'));
}

/** Adds to a file what came. */
export async function grow(path, bytes) {
  const file = await open(path, 'a');
  await file.write(bytes);
  await file.close();
}

/** A file's entry in the manifest. */
export function entry({ name, participant = 'p1', content = 'camera', part = 1, startMs = 0, durationMs = 0, codec = 'VP8', video = true, audio = true, gaps = [], size = 0, sha256, width = 320, height = 180, endMs = startMs + durationMs }) {
  const track = (id, kind, of, more) => ({ id, kind, codec: of, firstMs: startMs, lastMs: endMs, frames: 100, keyframes: 4, lostPackets: 0, ...more });
  const tracks = [];
  if (video) tracks.push(track(`t${participant}v`, 'video', codec, { sizes: [{ atMs: startMs, width, height }] }));
  if (audio) tracks.push(track(`t${participant}a`, 'audio', 'opus'));
  return { name, participant, content, part, startMs, durationMs, tracks, gaps, moreGaps: 0, size, ...(sha256 && { sha256 }) };
}

/** The same file as it was before it was closed: without a duration, and without the places of its cues. */
export function unfinished(bytes) {
  const out = Buffer.from(bytes);
  const duration = out.indexOf(Buffer.from([0x44, 0x89, 0x88]));
  out.set([0xec, 0x89], duration); // a Void of the same length
  const seekHead = out.indexOf(Buffer.from([0x11, 0x4d, 0x9b, 0x74]));
  const length = seekHead < 0 ? 0 : out.readUInt8(seekHead + 4) & 0x7f;
  if (seekHead >= 0) out.set([0xec, 0x80 | (length + 3)], seekHead);
  const segment = out.indexOf(Buffer.from([0x18, 0x53, 0x80, 0x67]));
  out.set([0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], segment + 4);
  return out;
}
