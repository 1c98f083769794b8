/** What the page asks of the server: `/v1/recordings`. */
const KEY = 'exedra:recordings-token';

export class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** The token, for as long as this tab is open. It may come by the fragment of the address, which no server gets to see. */
export const token = {
  take() {
    const given = new URLSearchParams(location.hash.slice(1)).get('token');
    if (!given) return;
    this.set(given);
    history.replaceState(null, '', location.pathname + location.search);
  },
  get: () => sessionStorage.getItem(KEY) ?? '',
  set: (text) => (text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY)),
};

/** Where guests may record, they may look at the recordings of the room that the address names. */
export const guestRoom = () => (token.get() ? '' : new URLSearchParams(location.search).get('room') ?? '');

/** The address of the list, or of one recording. */
export function pageOf(id) {
  const query = new URLSearchParams({ ...(guestRoom() && { room: guestRoom() }), ...(id && { id }) }).toString();
  return `/recordings${query && `?${query}`}`;
}

async function ask(path, { method = 'GET', headers = {}, signal } = {}) {
  const room = guestRoom();
  const url = room && !/[?&]room=/.test(path) ? `${path}${path.includes('?') ? '&' : '?'}room=${encodeURIComponent(room)}` : path;
  const credentials = token.get() && { authorization: `Bearer ${token.get()}` };
  let answer;
  try {
    answer = await fetch(url, { method, headers: { ...credentials, ...headers }, cache: 'no-store', signal });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, 'The server cannot be reached.');
  }
  if (answer.ok) return answer;
  const { detail } = await answer.json().catch(() => ({}));
  throw new ApiError(answer.status, detail ? `${detail[0].toUpperCase()}${detail.slice(1)}.` : `The server answered ${answer.status}.`);
}

const place = (id) => `/v1/recordings/${encodeURIComponent(id)}`;

/** @returns {Promise<{ recordings: object[], next?: string }>} the newest first */
export async function list({ room, after, limit = 50 } = {}) {
  const query = new URLSearchParams({ limit });
  if (room) query.set('room', room);
  if (after) query.set('after', after);
  return (await ask(`/v1/recordings?${query}`)).json();
}

/** The manifest, with what else there is to know now. */
export const show = async (id) => (await ask(place(id))).json();

export const remove = (id) => ask(place(id), { method: 'DELETE' });

/** Bytes from `from` up to `to` of a file, as many of them as there are. */
export async function bytes(id, name, from, to, signal) {
  const wanted = to === undefined ? `bytes=${from}-` : `bytes=${from}-${to - 1}`;
  const answer = await ask(`${place(id)}/files/${encodeURIComponent(name)}`, { headers: { range: wanted }, signal });
  const all = new Uint8Array(await answer.arrayBuffer());
  return answer.status === 206 ? all : all.subarray(from, to);
}
