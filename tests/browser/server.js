// Starts the server under test: the release binary, on ports of its own.
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';

const BINARY = process.env.EXEDRA_BINARY ?? fileURLToPath(new URL('../../target/release/exedra', import.meta.url));

/**
 * @param {{ args?: string[], env?: Record<string, string>, advertise?: string, open?: boolean, ports?: [number, number] }} [options]
 *   `open` takes HTTP on all addresses, from anybody; `ports` are those for HTTP and UDP of a server that was there before
 * @throws when the binary was not built, or the server does not say that it is ready within 10 s
 */
export async function startServer({ args = [], env = {}, advertise, open, ports } = {}) {
  if (!existsSync(BINARY)) throw new Error(`${BINARY} is missing: cargo build --release`);
  const [httpPort, udpPort] = ports ?? [await freeTcpPort(), await freeUdpPort()];
  const url = `http://127.0.0.1:${httpPort}`;
  // Pages that were closed are waited for (a tab may come back): not here.
  const flags = ['--drain', '1s', '--http', `${open ? '0.0.0.0' : '127.0.0.1'}:${httpPort}`];
  if (open) flags.push('--open');
  // All addresses of this machine, as by default: Firefox does not take a loopback address from another one. Behind a relay it is Chromium only.
  if (advertise) flags.push('--udp', `127.0.0.1:${udpPort}`, '--advertise', advertise);
  else flags.push('--udp', `0.0.0.0:${udpPort}`, '--udp', `[::]:${udpPort}`);
  const child = spawn(BINARY, [...flags, ...args], { env: { ...process.env, NO_COLOR: '1', ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  const log = [];
  for (const out of [child.stdout, child.stderr]) out.setEncoding('utf8').on('data', (text) => log.push(text));
  const exited = once(child, 'exit');
  const ended = exited.then(([code, signal]) => Promise.reject(new Error(`the server ended (${code ?? signal}):\n${log.join('')}`)));
  ended.catch(() => {});
  await Promise.race([ready(url), ended]);
  return {
    url,
    httpPort,
    udpPort,
    pid: child.pid,
    log: () => log.join(''),
    metrics: async () => parseMetrics(await (await fetch(`${url}/metrics`)).text()),
    /** Asks it to end, and tells how it did: `[code, signal]`. */
    async stop(signal = 'SIGTERM') {
      child.kill(signal);
      const late = setTimeout(() => child.kill('SIGKILL'), 15_000);
      const result = await exited;
      clearTimeout(late);
      return result;
    },
  };
}

/** What the binary prints for these arguments. */
export async function run(...args) {
  const child = spawn(BINARY, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (part) => (text += part));
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`exedra ${args[0]} ended with ${code}`);
  return text.trim();
}

async function ready(url) {
  const until = Date.now() + 10_000;
  for (;;) {
    const answer = await fetch(`${url}/readyz`).catch(() => null);
    if (answer?.ok) return;
    if (Date.now() > until) throw new Error(`${url}/readyz: ${answer ? answer.status : 'no answer'}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

/** `name{labels}` to value. */
function parseMetrics(text) {
  const lines = text.split('\n').filter((line) => line && !line.startsWith('#'));
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));
}

async function freeTcpPort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

async function freeUdpPort() {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  await once(socket, 'close');
  return port;
}
