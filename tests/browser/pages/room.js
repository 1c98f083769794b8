// Joins a room with the SDK, publishes the test source, and measures everybody else, each under their name.
import { makeSource } from './source.js';
import { Probe } from './probe.js';
import { wall } from './clock.js';

/**
 * @param {object} options `publish.audio` and `publish.video` go to the SDK with the source's tracks, `join` to `createRoom`; `bySlot`
 *   measures each receive slot, whoever is in it, instead of each person
 * @param {Map<string, Probe>} probes filled by name
 * @param {Map<string, any>} sources the own source is kept as `camera`
 */
export async function joinAndWatch({ url, room: roomName, name, id, token, source = {}, publish = {}, join = {}, bySlot = false }, probes, sources) {
  const { createRoom } = await import('/sdk/exedra.js');
  const made = id === undefined ? null : await makeSource({ id, ...source });
  if (made) sources.set('camera', made);
  const tracks = (made?.stream.getTracks() ?? []).map((track) => ({
    track,
    source: track.kind === 'video' ? 'camera' : 'microphone',
    ...publish[track.kind],
  }));
  const log = [];
  const room = createRoom({ url, ...(token ? { token } : { room: roomName, name }), client: 'exedra-tests', tracks, ...join });
  const started = wall();
  const slots = [];
  const keyOf = ({ participant, source: kind, mediaStreamTrack }) => {
    if (!bySlot) return kind === 'camera' || kind === 'microphone' ? participant.name : `${participant.name}/${kind}`;
    if (!slots.includes(mediaStreamTrack)) slots.push(mediaStreamTrack);
    return `slot ${slots.indexOf(mediaStreamTrack)}`;
  };
  const follow = (track) => {
    if (track.participant.isLocal || !track.mediaStreamTrack) return;
    const key = keyOf(track);
    if (!probes.has(key)) probes.set(key, new Probe(started));
    probes.get(key).receive(track.mediaStreamTrack);
  };
  room.on('trackSubscribed', follow);
  room.on('state', (state) => log.push({ at: Math.round(wall() - started), state: state.phase, why: state.why }));
  room.on('event', (type, data) => type !== 'speakers' && log.push({ at: Math.round(wall() - started), type, data }));
  room.on('error', (error) => log.push({ at: Math.round(wall() - started), error: `${error.code}: ${error.message}` }));
  await room.join();
  const joinedMs = wall() - started;
  return { room, log, result: { joinedMs, participant: room.me?.id } };
}
