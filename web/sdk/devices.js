// @ts-check
import { ExedraError } from './errors.js';

/** What went wrong with a device, in words that help. @type {Record<string, string>} */
const TROUBLE = {
  NotAllowedError: 'The browser was told not to allow it. Allow it in the address bar or the system settings, then try again.',
  NotFoundError: 'No such device was found.',
  OverconstrainedError: 'The chosen device is not there any more.',
  NotReadableError: 'Another program is using the device, or it failed.',
  AbortError: 'The device stopped working.',
  SecurityError: 'Devices need a secure page (https, or localhost).',
  TypeError: 'Devices need a secure page (https, or localhost).',
};

/**
 * @param {{deviceId?: string, width?: number, height?: number, frameRate?: number, facingMode?: string}} [wish]
 * @returns {Promise<MediaStreamTrack>}
 */
export async function openCamera({ deviceId, width = 1280, height = 720, frameRate = 30, facingMode } = {}) {
  const video = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: frameRate, max: frameRate }, ...chosen(deviceId), ...(facingMode && { facingMode }) };
  const stream = await user({ video }, deviceId);
  return stream.getVideoTracks()[0];
}

/**
 * @param {{deviceId?: string, echoCancellation?: boolean, noiseSuppression?: boolean, autoGainControl?: boolean}} [wish]
 * @returns {Promise<MediaStreamTrack>}
 */
export async function openMicrophone({ deviceId, echoCancellation = true, noiseSuppression = true, autoGainControl = true } = {}) {
  const stream = await user({ audio: { echoCancellation, noiseSuppression, autoGainControl, ...chosen(deviceId) } }, deviceId);
  return stream.getAudioTracks()[0];
}

/**
 * A screen, window or tab, with its sound where the browser has it.
 * @param {{audio?: boolean, frameRate?: number}} [wish]
 * @returns {Promise<MediaStreamTrack[]>} the picture first; empty if the person decided against it
 */
export async function openScreen({ audio = true, frameRate = 15 } = {}) {
  try {
    const sound = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, suppressLocalAudioPlayback: false };
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { max: frameRate } }, audio: audio && sound });
    return [...stream.getVideoTracks(), ...stream.getAudioTracks()];
  } catch (error) {
    if (error instanceof DOMException && error.name === 'NotAllowedError') return []; // closed the chooser
    throw deviceError(error);
  }
}

/** @returns {Promise<MediaDeviceInfo[]>} */
export async function listDevices() {
  try {
    return (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  } catch {
    return [];
  }
}

export const cameras = () => ofKind('videoinput');
export const microphones = () => ofKind('audioinput');
export const speakers = () => ofKind('audiooutput');

/** How loud a track is, for a meter: 0 (silence) to 1. */
export class LevelMeter {
  /** @param {MediaStreamTrack} track @param {(level: number) => void} onLevel about 20 times a second */
  constructor(track, onLevel) {
    this._context = new AudioContext();
    this._source = this._context.createMediaStreamSource(new MediaStream([track]));
    this._analyser = this._context.createAnalyser();
    this._analyser.fftSize = 512;
    this._source.connect(this._analyser);
    const samples = new Float32Array(this._analyser.fftSize);
    let smooth = 0;
    this._timer = setInterval(() => {
      this._analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      const level = Math.min(1, Math.max(0, (10 * Math.log10(power + 1e-10) + 60) / 50)); // -60 dB..-10 dB
      smooth = Math.max(level, smooth * 0.85);
      onLevel(smooth);
    }, 50);
    // Without a gesture the context may be asleep: the first one wakes it.
    this._wake = () => this._context.resume().catch(() => {});
    if (this._context.state === 'suspended') addEventListener('pointerdown', this._wake, { once: true });
  }

  close() {
    clearInterval(this._timer);
    removeEventListener('pointerdown', this._wake);
    this._context.close().catch(() => {});
  }
}

/** @param {MediaDeviceKind} kind */
async function ofKind(kind) {
  return (await listDevices()).filter((device) => device.kind === kind);
}

/** A device that is gone is replaced by any other one. @param {MediaStreamConstraints} constraints @param {string} [deviceId] */
async function user(constraints, deviceId) {
  try {
    return await navigator.mediaDevices.getUserMedia(constraints);
  } catch (error) {
    if (!deviceId || !['OverconstrainedError', 'NotFoundError'].includes(/** @type {any} */ (error)?.name)) throw deviceError(error);
    const [[kind, wish]] = Object.entries(constraints);
    const { deviceId: _, ...rest } = wish;
    return user({ [kind]: rest });
  }
}

/** @param {string} [deviceId] */
function chosen(deviceId) {
  return deviceId ? { deviceId: { exact: deviceId } } : {};
}

/** @param {any} error */
function deviceError(error) {
  const name = error?.name ?? 'AbortError';
  return new ExedraError(name === 'NotAllowedError' ? 'forbidden' : name === 'NotFoundError' ? 'not_found' : 'unavailable', TROUBLE[name] ?? String(error?.message ?? error), { cause: error, retryable: true });
}
