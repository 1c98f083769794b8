// @ts-check
/** What is said to people. `ended` and `down` reasons of signal.js, and `media`. @type {Record<string, string>} */
const RECONNECTING = {
  offline: 'This device is offline. You will be back as soon as it has a network.',
  socket: 'The connection to the server was lost.',
  heartbeat: 'The server has not been heard for a while.',
  timeout: 'The server does not answer.',
  server: 'The server is restarting.',
  slow: 'This connection fell too far behind.',
  protocol: 'The server and this page lost track of each other.',
  rate_limited: 'The server asks for a little patience.',
  unavailable: 'The server is not ready yet.',
  media: 'Sound and picture are interrupted.',
};

/** @type {Record<string, string>} */
const ENDED = {
  left: 'You left the room.',
  replaced: 'You joined from somewhere else, and this page was signed out.',
  unauthorized: 'The room wants an invitation, and yours is missing or not valid any more.',
  forbidden: 'You are not allowed into this room.',
  not_found: 'There is no such room.',
  limit_reached: 'The room is full.',
  stopped: 'The meeting was ended.',
  failed: 'The server cannot be reached.',
};

/**
 * The state of a room in words. `since` is Unix milliseconds.
 * @param {{phase: 'connecting' | 'live' | 'reconnecting' | 'ended', why: string, since: number, attempt: number, error?: any}} state
 */
export function describe(state) {
  return { ...state, text: sentence(state) };
}

/** @param {{phase: string, why: string, error?: any}} state */
function sentence({ phase, why, error }) {
  if (phase === 'connecting') return why ? `${RECONNECTING[why] ?? ''} Still trying to join.`.trim() : 'Joining the room.';
  if (phase === 'live') return 'Connected.';
  if (phase === 'reconnecting') return RECONNECTING[why] ?? 'The connection was lost.';
  return ENDED[why] ?? error?.message ?? 'The meeting has ended.';
}
