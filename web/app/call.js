import { Chat } from './chat.js';
import { Connection } from './connection.js';
import { openHelp, openSettings } from './dialogs.js';
import { announce, h, setAttribute, setText } from './dom.js';
import { icon, logo, swapIcon } from './icons.js';
import { Keys } from './keys.js';
import { Menu } from './menu.js';
import { People } from './people.js';
import { Recording } from './recording.js';
import { Stage } from './stage.js';
import { toast } from './toasts.js';

/** In the room. */
export class Call {
  constructor(root, { room, media, roomName, leave }) {
    this._room = room;
    this._media = media;
    this._roomName = roomName;
    this._leave = leave;
    this._panel = null;
    this._offs = [];
    this._stage = new Stage(room, media, { changed: () => this._renderBar() });
    this._stage.onRest(() => this._show('people'));
    this._chat = new Chat(room, { onUnread: (count, message) => this._onUnread(count, message) });
    this._people = new People(room, { media, copyLink: () => this.copyLink() });
    this._connection = new Connection(room);
    this._buttons = this._makeButtons();
    this._recording = new Recording(room, this._buttons.record, { changed: () => this._renderBar() });
    root.replaceChildren(this._page());
    this._menu = new Menu(this._buttons.more, () => this._menuItems());
    this._keys = new Keys(
      { m: () => this._toggle('mic'), v: () => this._toggle('cam'), s: () => this._share(), r: () => this._recording.toggle(), h: () => this._hand(), c: () => this._show('chat'), p: () => this._show('people'), i: () => this._show('connection'), l: () => this._stage.toggleMode(), f: () => this._fullscreen(), '?': openHelp, Escape: () => this._panel && this._show(null) },
      { down: () => this._talk(true), up: () => this._talk(false) },
    );
    this._listen();
    this._stayAwake();
    this._stage.update();
    this._render();
    this._onState(room.state);
    this._stage.element.focus({ preventScroll: true });
  }

  close() {
    this._keys.close();
    this._chat.close();
    this._connection.close();
    this._recording.close();
    this._stage.close();
    clearInterval(this._ticker);
    for (const off of this._offs) off();
  }

  // ------------------------------------------------------------------------------------------------ the page

  _page() {
    this._count = h('span', { class: 'count' });
    this._banner = h('div', { class: 'banner', hidden: true }, h('span', { class: 'spinner', 'aria-hidden': 'true' }), (this._bannerText = h('span')), (this._retry = h('button', { class: 'button button-quiet', type: 'button', onclick: () => this._room.retryNow() }, 'Try now')));
    this._alone = h('div', { class: 'alone', hidden: true }, h('p', {}, 'You are the only one here.'), h('button', { class: 'button button-primary', type: 'button', onclick: () => this.copyLink() }, icon('link'), 'Copy the link to invite others'));
    this._unblock = h('button', { class: 'unblock', type: 'button', hidden: true, onclick: () => this._room.startAudio() }, icon('speaker'), 'Click to hear the others');
    this._panelTitle = h('h2', { id: 'panel-title' });
    this._panelBody = h('div', { class: 'panel-body' });
    this._aside = h('aside', { class: 'panel', hidden: true, 'aria-labelledby': 'panel-title' }, h('header', {}, this._panelTitle, h('button', { class: 'icon-button', type: 'button', 'aria-label': 'Close', onclick: () => this._show(null) }, icon('close'))), this._panelBody);
    const b = this._buttons;
    return h(
      'div',
      { class: 'call' },
      h('header', { class: 'call-head' }, h('span', { class: 'brand' }, logo()), h('h1', { class: 'room-title' }, this._roomName), this._recording.element, h('button', { class: 'button button-quiet copy-link', type: 'button', 'aria-label': 'Copy link to this room', onclick: () => this.copyLink() }, icon('link'), h('span', {}, 'Copy link')), this._count),
      h('main', { class: 'call-main' }, this._stage.element, this._banner, this._alone, this._unblock),
      this._aside,
      h('nav', { class: 'bar', 'aria-label': 'Controls' }, h('div', { class: 'bar-group' }, b.mic, b.cam, b.share, b.hand), h('div', { class: 'bar-group' }, b.record, b.chat, b.people, b.layout, h('div', { class: 'menu-anchor' }, b.more)), b.leave),
    );
  }

  _makeButtons() {
    const button = (id, name, label, key, run) => h('button', { class: 'round', type: 'button', id: `button-${id}`, 'aria-label': label, title: key ? `${label} (${key})` : label, 'aria-keyshortcuts': key, onclick: run }, icon(name), h('span', { class: 'badge', hidden: true }));
    const buttons = {
      mic: button('mic', 'mic', 'Microphone', 'm', () => this._toggle('mic')),
      cam: button('cam', 'camera', 'Camera', 'v', () => this._toggle('cam')),
      share: button('share', 'screen', 'Share a screen', 's', () => this._share()),
      hand: button('hand', 'hand', 'Raise your hand', 'h', () => this._hand()),
      record: button('record', 'record', 'Record this call', 'r', () => this._recording.toggle()),
      chat: button('chat', 'chat', 'Chat', 'c', () => this._show('chat')),
      people: button('people', 'people', 'People', 'p', () => this._show('people')),
      layout: button('layout', 'stage', 'Layout', 'l', () => this._stage.toggleMode()),
      more: button('more', 'more', 'More', '', undefined),
      leave: button('leave', 'leave', 'Leave the room', '', () => this._leave()),
    };
    buttons.leave.classList.add('round-leave');
    return buttons;
  }

  _menuItems() {
    const narrow = matchMedia('(max-width: 640px)').matches;
    const stage = this._stage.hasStage;
    return [
      { label: this._media.screen.length ? 'Stop sharing' : 'Share a screen', icon: 'screen', run: () => this._share(), hidden: !narrow || this._buttons.share.hidden },
      { label: this._recording.label, icon: 'record', run: () => this._recording.toggle(), hidden: !narrow || !this._recording.allowed },
      { label: 'People', icon: 'people', run: () => this._show('people'), hidden: !narrow },
      { label: stage ? 'Everybody in a grid' : 'One person large', icon: stage ? 'grid' : 'stage', run: () => this._stage.toggleMode(), hidden: !narrow },
      { label: 'Copy the link', icon: 'link', run: () => this.copyLink() },
      { label: 'Devices', icon: 'settings', run: () => openSettings(this._media, this._room, () => this._stage.update()) },
      { label: 'Full screen', icon: 'fullscreen', run: () => this._fullscreen(), hidden: !document.fullscreenEnabled },
      { label: 'Connection', icon: 'signal', run: () => this._show('connection') },
      { label: 'Keyboard', icon: 'keyboard', run: openHelp },
    ];
  }

  // ------------------------------------------------------------------------------------------------ what happens

  _listen() {
    const { _room: room, _stage: stage, _media: media } = this;
    const all = () => this._render();
    const tiles = () => (stage.update(), all());
    const on = (names, listener) => names.split(' ').forEach((name) => this._offs.push(room.on(name, listener)));
    on('participantJoined', (participant) => (tiles(), this._onJoined(participant)));
    on('participantLeft', (participant, why) => (tiles(), this._onLeft(participant, why)));
    on('participantUpdated', (participant) => (tiles(), this._onUpdated(participant)));
    on('trackPublished trackUnpublished', (track) => (tiles(), track.source === 'screen' && !track.participant.isLocal && this._said(this._room.tracks.has(track.id) ? `${track.participant.name} shares a screen` : `${track.participant.name} stopped sharing`)));
    on('trackUpdated trackSubscribed trackUnsubscribed trackState', (track) => (stage.tileOf(track.participant, track.source === 'screen' ? 'screen' : 'camera')?.render(), this._people.render()));
    on('quality', (participant) => stage.tileOf(participant)?.render());
    on('speakers', (participants) => (stage.spoke(participants), this._people.render()));
    on('state', (state) => this._onState(state));
    on('youUpdated', all);
    on('roomUpdated', () => (this._large !== room.large ? tiles() : all(), (this._large = room.large)));
    on('audioBlocked', () => this._renderBlocked());
    on('error', (error) => toast(error.message, { icon: 'warning' }));
    media.addEventListener('change', tiles);
    this._offs.push(() => media.removeEventListener('change', tiles));
    // Any gesture will do; the button only says so.
    const unblock = () => room.audioBlocked && room.startAudio();
    for (const gesture of ['pointerup', 'keyup']) {
      document.addEventListener(gesture, unblock);
      this._offs.push(() => document.removeEventListener(gesture, unblock));
    }
    this._renderBlocked();
  }

  /** A phone must not fall asleep in a meeting. The lock is lost with every change of tab. */
  _stayAwake() {
    const ask = () => document.visibilityState === 'visible' && navigator.wakeLock?.request('screen').then((lock) => (this._wakeLock = lock), () => {});
    document.addEventListener('visibilitychange', ask);
    this._offs.push(() => (document.removeEventListener('visibilitychange', ask), this._wakeLock?.release().catch(() => {})));
    ask();
  }

  /** Joins and leaves: calm, and not for a whole crowd at once, nor for everybody when we come back ourselves. */
  _said(text) {
    if (this._room.state.phase !== 'live') return;
    if (this._room.participants.size > 12) return announce(text);
    toast(text);
  }

  /** In a large room somebody joins the list by doing something, and was there before. */
  _onJoined(participant) {
    if (this._room.large) this._onUpdated(participant);
    else if (!participant.isLocal) this._said(`${participant.name || 'Somebody'} joined`);
  }

  _onLeft(participant, why) {
    const how = { timeout: 'lost the connection', kicked: 'was removed', replaced: null, unlisted: null }[why];
    if (how !== null && !participant.isLocal) this._said(`${participant.name || 'Somebody'} ${how ?? 'left'}`);
    this._hands?.delete(participant.id);
  }

  _onUpdated(participant) {
    this._hands ??= new Set();
    const raised = Boolean(participant.attributes.hand);
    if (raised && !this._hands.has(participant.id) && !participant.isLocal) toast(`${participant.name} raised a hand`, { icon: 'hand' });
    if (raised) this._hands.add(participant.id);
    else this._hands.delete(participant.id);
  }

  _onUnread(count, message) {
    const badge = this._buttons.chat.querySelector('.badge');
    badge.hidden = count === 0;
    setText(badge, count > 99 ? '99+' : String(count));
    setAttribute(this._buttons.chat, 'aria-label', count ? `Chat, ${count} unread` : 'Chat');
    if (!message) return;
    this._chatToast?.(); // the latest is enough
    this._chatToast = toast(`${message.name}: ${message.text.length > 90 ? `${message.text.slice(0, 90)}…` : message.text}`, { icon: 'chat', quiet: true, action: { label: 'Open', run: () => this._panel !== 'chat' && this._show('chat') } });
  }

  _onState(state) {
    document.body.dataset.state = state.phase;
    clearInterval(this._ticker);
    const trouble = state.phase === 'reconnecting';
    this._banner.hidden = !trouble;
    this._retry.hidden = state.why === 'media';
    if (trouble) {
      const tick = () => setText(this._bannerText, `${state.text} Reconnecting… ${Math.max(0, Math.round((Date.now() - state.since) / 1000))} s`);
      this._ticker = setInterval(tick, 1000);
      tick();
      if (!this._troubled) announce(`${state.text} Reconnecting.`, { assertive: true });
    } else if (this._troubled && state.phase === 'live') {
      toast('You are back.', { icon: 'check' });
    }
    this._troubled = trouble;
    this._render();
  }

  // ------------------------------------------------------------------------------------------------ what one does

  async _toggle(kind) {
    if (this._buttons[kind].hidden) return toast('You are here to watch and listen.');
    await this._media.toggle(kind);
    const { error, on } = this._media[kind];
    const what = kind === 'mic' ? 'Microphone' : 'Camera';
    if (error) toast(`${what}: ${error.message}`, { icon: 'warning' });
    else announce(`${what} ${on ? 'on' : 'off'}`);
  }

  /** Held space bar: speak for as long as it is held. */
  _talk(down) {
    if (down) this._talking = !this._media.mic.on && !this._buttons.mic.hidden;
    if (this._talking) this._media.set('mic', down);
    if (!down) this._talking = false;
  }

  async _share() {
    if (this._buttons.share.hidden) return;
    try {
      if (this._media.screen.length) this._media.stopScreen();
      else if (await this._media.startScreen()) announce('You are sharing a screen');
    } catch (error) {
      toast(`The screen cannot be shared: ${error.message}`, { icon: 'warning' });
    }
  }

  async _hand() {
    const raised = !this._room.me?.attributes.hand;
    await this._room.set({ attributes: { hand: raised ? Date.now() : null } }).catch((error) => toast(error.message));
    announce(raised ? 'Hand raised' : 'Hand lowered');
  }

  /** Opens a side panel, or closes it if it is the open one. @param {'chat' | 'people' | 'connection' | null} which */
  _show(which) {
    const closing = which === null || which === this._panel;
    const from = this._panel;
    this._panel = closing ? null : which;
    this._aside.hidden = closing;
    setAttribute(document.body, 'data-panel', this._panel);
    if (!closing) {
      setText(this._panelTitle, { chat: 'Chat', people: 'People', connection: 'Connection' }[which]);
      this._panelBody.replaceChildren({ chat: this._chat, people: this._people, connection: this._connection }[which].element);
    }
    if (this._panel === 'chat') this._chatToast?.();
    this._chat.setOpen(this._panel === 'chat');
    this._connection.setOpen(this._panel === 'connection');
    this._renderBar();
    if (this._panel === 'people') this._aside.querySelector('.people-invite').focus({ preventScroll: true });
    if (this._panel === 'connection') this._connection.element.focus({ preventScroll: true });
    if (closing && from) (this._buttons[from] ?? this._buttons.more).focus({ preventScroll: true });
  }

  _fullscreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen?.().catch(() => {});
  }

  async copyLink() {
    const link = `${location.origin}${location.pathname}`;
    try {
      await navigator.clipboard.writeText(link);
      toast('The link is copied. Send it to whom you want to meet.', { icon: 'check' });
    } catch {
      toast(link, { sticky: true, icon: 'link' });
    }
  }

  // ------------------------------------------------------------------------------------------------ rendering

  _render() {
    const { count } = this._room;
    setText(this._count, count === 1 ? 'Only you' : `${count} people`);
    this._alone.hidden = count !== 1 || this._media.screen.length > 0 || this._room.state.phase !== 'live';
    this._people.render();
    this._renderBlocked();
    this._renderBar();
  }

  _renderBar() {
    const { _buttons: b, _media: media, _room: room } = this;
    const mayPublish = room.grants.publish !== false;
    for (const button of [b.mic, b.cam]) button.hidden = !mayPublish;
    b.share.hidden = !mayPublish || !navigator.mediaDevices?.getDisplayMedia;
    this._chat.setAllowed(room.grants.say !== false);
    this._recording.render();
    toggle(b.mic, media.mic.on, ['mic', 'micOff'], ['Turn your microphone off', 'Turn your microphone on'], 'm');
    toggle(b.cam, media.cam.on, ['camera', 'cameraOff'], ['Turn your camera off', 'Turn your camera on'], 'v');
    const sharing = media.screen.length > 0;
    toggle(b.share, sharing, ['screenOff', 'screen'], ['Stop sharing', 'Share a screen'], 's');
    const raised = Boolean(room.me?.attributes.hand);
    toggle(b.hand, raised, ['hand', 'hand'], ['Lower your hand', 'Raise your hand'], 'h');
    for (const kind of ['mic', 'cam']) {
      setAttribute(b[kind], 'data-off', !media[kind].on);
      setAttribute(b[kind], 'data-on', false); // that they are on is the usual case: only off is coloured
      setAttribute(b[kind], 'data-problem', Boolean(media[kind].error));
      setAttribute(b[kind], 'aria-busy', media[kind].busy);
    }
    for (const kind of ['chat', 'people']) setAttribute(b[kind], 'aria-expanded', String(this._panel === kind));
    const stage = this._stage.hasStage;
    swapIcon(b.layout, stage ? 'grid' : 'stage');
    setAttribute(b.layout, 'aria-label', stage ? 'Everybody in a grid' : 'One person large');
    setAttribute(b.layout, 'title', `${stage ? 'Everybody in a grid' : 'One person large'} (l)`);
  }

  _renderBlocked() {
    this._unblock.hidden = !this._room.audioBlocked || this._room.participants.size < 2;
  }
}

function toggle(button, on, [onIcon, offIcon], [onLabel, offLabel], key) {
  swapIcon(button, on ? onIcon : offIcon);
  setAttribute(button, 'aria-label', on ? onLabel : offLabel);
  setAttribute(button, 'title', `${on ? onLabel : offLabel} (${key})`);
  setAttribute(button, 'data-on', on);
}
