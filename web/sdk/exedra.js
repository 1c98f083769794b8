// @ts-check
/**
 * The client library of Exedra. Plain ES modules, no dependency, no build step; types in index.d.ts, guide in README.md.
 *
 * ```js
 * import { joinRoom } from '/sdk/exedra.js';
 * const room = await joinRoom({ room: 'tea', name: 'Ada' });
 * ```
 */
import { Room } from './room.js';

export { ExedraError } from './errors.js';
export { LevelMeter, cameras, listDevices, microphones, openCamera, openMicrophone, openScreen, speakers } from './devices.js';
export { LocalTrack } from './publisher.js';
export { Participant, Track } from './model.js';
export { Room } from './room.js';

/**
 * Joins a room. Resolves when you are in; rejects with an ExedraError when you cannot be let in or the server cannot be reached.
 * @param {import('./index.js').JoinOptions} options
 * @returns {Promise<Room>}
 */
export function joinRoom(options) {
  return createRoom(options).join();
}

/**
 * The same in two steps, to have listeners in place before anything happens: `const room = createRoom(…); room.on(…); await room.join()`.
 * @param {import('./index.js').JoinOptions} options
 */
export function createRoom(options) {
  return new Room(options);
}
