// Serves tests/browser/pages, and passes /sdk/ on to the server under test, so that one origin has both.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('./pages/', import.meta.url));
/** A folder to take the client library from instead of the server: for work on it without building the server each time. */
const SDK = process.env.EXEDRA_SDK;
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8' };

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
