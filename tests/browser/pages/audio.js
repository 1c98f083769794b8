// The page's one AudioContext. It is started with the page: when Firefox opens its sound device, everything it plays stalls for a second.

let starting;

/** @returns {Promise<AudioContext>} running, with the `listener` worklet loaded */
export const audioContext = () => (starting ??= start());

async function start() {
  const context = new AudioContext({ latencyHint: 'interactive' });
  await context.resume();
  await context.audioWorklet.addModule(new URL('./listener.js', import.meta.url));
  new ConstantSourceNode(context, { offset: 0 }).connect(context.destination);
  return context;
}
