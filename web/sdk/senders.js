// @ts-check

/** A negotiation between `getParameters` and `setParameters` makes the browser refuse: then once more from what there is now. */
const ATTEMPTS = 4;
const PAUSE_MS = 50;

/**
 * @typedef {object} Wish
 * @property {(rid: string | undefined) => boolean} [isActive] which encodings are to be sent
 * @property {string} [degradationPreference] what gives way when there is too little of something
 */

/** @type {WeakMap<RTCRtpSender, {wish: Wish, dirty: boolean, running: Promise<void> | null}>} */
const states = new WeakMap();

/**
 * Says what a sender is to do from now on. Calls of one sender never overlap, as `setParameters` demands: what comes while one is under way
 * is done together, right after it, and the latest wish counts.
 * @param {RTCRtpSender} sender
 * @param {Wish} wish what it does not name stays as it was wished before
 * @returns {Promise<void>} when the sender does so
 */
export function adjust(sender, wish) {
  const state = states.get(sender) ?? { wish: {}, dirty: false, running: null };
  states.set(sender, state);
  Object.assign(state.wish, wish);
  state.dirty = true;
  state.running ??= run(sender, state).finally(() => (state.running = null));
  return state.running;
}

/** @param {RTCRtpSender} sender @param {{wish: Wish, dirty: boolean}} state */
async function run(sender, state) {
  for (let attempt = 1; state.dirty; ) {
    state.dirty = false;
    const parameters = sender.getParameters();
    if (!apply(parameters, state.wish)) continue;
    try {
      await sender.setParameters(parameters);
      attempt = 1;
    } catch (error) {
      if (attempt++ === ATTEMPTS) throw error;
      if (attempt > 2) delete state.wish.degradationPreference; // not every browser knows it
      state.dirty = true;
      await new Promise((done) => setTimeout(done, PAUSE_MS));
    }
  }
}

/** @param {RTCRtpSendParameters} parameters @param {Wish} wish @returns {boolean} whether that changed anything */
function apply(parameters, { isActive, degradationPreference }) {
  let changed = false;
  for (const encoding of parameters.encodings ?? []) {
    const active = isActive?.(encoding.rid) ?? encoding.active;
    if (encoding.active === active) continue;
    encoding.active = active;
    changed = true;
  }
  const known = /** @type {any} */ (parameters);
  if (degradationPreference && parameters.encodings?.length && known.degradationPreference !== degradationPreference) {
    known.degradationPreference = degradationPreference;
    changed = true;
  }
  return changed;
}
