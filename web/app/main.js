import { createRoom } from '../sdk/exedra.js';
import { Call } from './call.js';
import { showConnecting, showEnded } from './ended.js';
import { showHome } from './home.js';
import { Lobby } from './lobby.js';
import { LocalMedia } from './media.js';
import { decode, roomPath } from './names.js';
import { preferences, remember } from './preferences.js';

/** In this tab we were in that room: a reload goes straight back. */
const IN_ROOM = 'exedra:in-room';
const root = document.getElementById('app');
let screen = null;
let media = null;
let generation = 0;

/** What the address says: see docs of the query parameters in web/README.md. */
function address() {
  const query = new URLSearchParams(location.search);
  const fragment = new URLSearchParams(location.hash.slice(1));
  const room = decode(/^\/r\/([^/]+)\/?$/.exec(location.pathname)?.[1] ?? '');
  const size = /^(\d+)x(\d+)(?:@(\d+))?$/.exec(query.get('video') ?? '');
  return {
    room,
    // A fragment is not sent to any server: the only place in an address where a credential may be.
    token: fragment.get('token') || undefined,
    name: query.get('name') ?? '',
    auto: query.get('auto') === '1',
    mic: query.get('mic'),
    cam: query.get('cam'),
    capture: size ? { width: Number(size[1]), height: Number(size[2]), frameRate: Number(size[3] ?? 30) } : undefined,
  };
}

function show(state, make) {
  screen?.close();
  document.body.dataset.state = state;
  delete document.body.dataset.panel;
  screen = make();
}

function title(text) {
  document.title = text ? `${text} · Exedra` : 'Exedra';
}

function goHome() {
  leaveRoom();
  media?.stop();
  media = null;
  if (location.pathname !== '/') history.pushState(null, '', '/');
  title('');
  show('home', () => showHome(root, { enter: (room) => (history.pushState(null, '', roomPath(room)), route()) }));
}

function goLobby(error) {
  const { room, token } = address();
  title(room);
  show('lobby', () => new Lobby(root, { room, media, error, home: goHome, join: (name) => enter({ room, token, name }) }));
}

/** @param {{room: string, token?: string, name: string}} who */
async function enter({ room: roomName, token, name }) {
  const mine = ++generation;
  if (screen instanceof Lobby) document.body.dataset.state = 'connecting';
  else show('connecting', () => showConnecting(root, roomName));
  const room = createRoom({ room: roomName, name, token });
  window.exedra = room; // for the console: see web/README.md
  if (preferences.speakerId) room.setSpeaker(preferences.speakerId).catch(() => {});
  let joined = false;
  room.once('ended', (ended) => mine === generation && joined && onEnded(room, roomName, ended));
  // Tracks are published as soon as there are any: neither waits for the other.
  const publishing = media.enter(room);
  try {
    await room.join();
  } catch (error) {
    if (mine !== generation) return;
    media.leave();
    sessionStorage.removeItem(IN_ROOM);
    goLobby(error.code === 'unauthorized' ? `${room.state.text} Ask for a new link to this room.` : error.message);
    return;
  }
  if (mine !== generation) return room.leave();
  joined = true;
  sessionStorage.setItem(IN_ROOM, JSON.stringify({ room: roomName, name }));
  title(roomName);
  show('live', () => new Call(root, { room, media, roomName, leave: () => room.leave() }));
  await publishing;
}

function onEnded(room, roomName, { why }) {
  generation += 1;
  sessionStorage.removeItem(IN_ROOM);
  media.leave();
  const { name, token } = room.options;
  media.stop();
  const detail = { replaced: 'You can take the meeting back to this page.', stopped: room.state.error?.message, left: 'You can come back for as long as the room is there.' }[why];
  show('ended', () => showEnded(root, { room: roomName, ended: { text: room.state.text, why, detail }, home: goHome, rejoin: () => rejoin({ room: roomName, name, token }) }));
}

function rejoin(who) {
  media = new LocalMedia({ capture: address().capture });
  media.set('mic', preferences.mic);
  media.set('cam', preferences.cam);
  enter(who);
}

function leaveRoom() {
  generation += 1;
  window.exedra?.leave();
  sessionStorage.removeItem(IN_ROOM);
}

function route() {
  const { room, token, name, auto, mic, cam, capture } = address();
  if (!room) return goHome();
  media?.stop();
  media = new LocalMedia({ capture });
  if (name) preferences.name = name; // for this page only
  const wanted = (asked, remembered) => (asked === null ? remembered : asked !== '0');
  const before = JSON.parse(sessionStorage.getItem(IN_ROOM) ?? 'null');
  const returning = before?.room === room;
  if (!returning && !(auto && name)) return goLobby();
  for (const [kind, asked] of [['mic', mic], ['cam', cam]]) media.set(kind, wanted(asked, preferences[kind]));
  title(room);
  enter({ room, token, name: returning ? before.name : name });
}

addEventListener('popstate', () => {
  leaveRoom();
  route();
});
addEventListener('pagehide', () => {
  if (window.exedra?.state.phase !== 'live' || !media) return;
  for (const kind of ['mic', 'cam']) if (!media[kind].error) remember({ [kind]: media[kind].on });
});
route();
