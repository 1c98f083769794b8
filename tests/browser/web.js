// Serves tests/browser/pages, and passes /sdk/ on to the server under test, so that one origin has both.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { basename, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('./pages/', import.meta.url));
/** A folder to take the client library from instead of the server: for work on it without building the server each time. */
const SDK = process.env.EXEDRA_SDK;
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.webm': 'video/webm', '.mkv': 'video/x-matroska' };

/** @param {string} [upstream] `http://host:port` of the server under test @param {boolean} [open] on all addresses @returns its address, and a way to close it */
export async function servePages(upstream, open = false) {
  const server = createServer(async (request, response) => {
    try {
      const { pathname } = new URL(request.url, 'http://localhost');
      if (pathname.startsWith('/sdk/') && SDK) {
        const body = await readFile(join(SDK, normalize(pathname.slice(5))));
        return response.writeHead(200, { 'content-type': TYPES['.js'] }).end(body);
      }
      if (pathname.startsWith('/sdk/') && upstream) {
        const from = await fetch(upstream + pathname);
        response.writeHead(from.status, { 'content-type': from.headers.get('content-type') ?? 'text/plain' });
        return response.end(Buffer.from(await from.arrayBuffer()));
      }
      const file = normalize(pathname === '/' ? 'index.html' : pathname.slice(1));
      const body = await readFile(join(ROOT, file));
      response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream' }).end(body);
    } catch (error) {
      response.writeHead(404).end(String(error));
    }
  });
  await new Promise((done) => server.listen(0, open ? '0.0.0.0' : '127.0.0.1', done));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    close: () => new Promise((done) => (server.closeAllConnections(), server.close(done))),
  };
}

/** Serves the files of one folder, whole or in ranges, to pages of any origin. @returns its address, and a way to close it */
export async function serveFolder(folder) {
  const server = createServer(async (request, response) => {
    try {
      const file = basename(new URL(request.url, 'http://localhost').pathname);
      const body = await readFile(join(folder, file));
      const headers = { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream', 'accept-ranges': 'bytes', 'access-control-allow-origin': '*' };
      const range = request.headers.range?.match(/^bytes=(\d+)-(\d*)$/);
      if (!range) return response.writeHead(200, { ...headers, 'content-length': body.length }).end(body);
      const [from, to] = [Number(range[1]), Math.min(body.length - 1, range[2] ? Number(range[2]) : Infinity)];
      if (from > to) return response.writeHead(416, { ...headers, 'content-range': `bytes */${body.length}` }).end();
      response.writeHead(206, { ...headers, 'content-range': `bytes ${from}-${to}/${body.length}`, 'content-length': to - from + 1 });
      response.end(body.subarray(from, to + 1));
    } catch (error) {
      response.writeHead(404).end(String(error));
    }
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    close: () => new Promise((done) => (server.closeAllConnections(), server.close(done))),
  };
}
