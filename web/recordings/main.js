/** `/recordings`: the list, and one recording (`?id=…`). */
import { h } from '../app/dom.js';
import { logo } from '../app/icons.js';
import { guestRoom, pageOf, token } from './api.js';
import { List } from './list.js';
import { SessionView } from './session.js';

const root = document.getElementById('app');
let screen = null;

function show(state, make) {
  screen?.close();
  document.body.dataset.state = state;
  screen = make();
}

function go(id) {
  history.pushState(null, '', pageOf(id));
  route();
}

/** The server does not know who asks, or does not let them. */
function refused(error) {
  token.set('');
  askForToken(error.message);
}

function route() {
  token.take();
  const id = new URLSearchParams(location.search).get('id');
  document.title = 'Recordings · Exedra';
  if (!token.get() && !guestRoom()) return askForToken('');
  const ways = { open: go, home: () => go(''), refused, signOut: () => (token.set(''), history.pushState(null, '', '/recordings'), route()) };
  if (id) show('recording', () => new SessionView(root, id, ways));
  else show('recordings', () => new List(root, ways));
}

function askForToken(problem) {
  show('token', () => {
    const field = h('input', { id: 'token', class: 'input', type: 'password', autocomplete: 'off', spellcheck: 'false', required: true, 'aria-describedby': 'token-help' });
    const submit = (event) => {
      event.preventDefault();
      token.set(field.value.trim());
      if (token.get()) route();
    };
    root.replaceChildren(
      h(
        'main',
        { class: 'page home' },
        h('div', { class: 'home-mark' }, logo()),
        h('h1', {}, 'Recordings'),
        h('p', { class: 'lead', id: 'token-help' }, 'What was recorded on this server. A token with the grant “record” shows the recordings of its room, the admin token shows all.'),
        h('form', { class: 'home-form', onsubmit: submit }, h('label', { for: 'token', class: 'visually-hidden' }, 'Token'), field, h('button', { class: 'button button-primary', type: 'submit' }, 'Show them')),
        h('p', { class: 'problem', role: 'alert' }, problem),
        h('p', {}, h('a', { href: '/' }, 'To the start page')),
      ),
    );
    field.placeholder = 'Token';
    field.focus();
    return { close() {} };
  });
}

addEventListener('popstate', route);
addEventListener('hashchange', route);
route();
