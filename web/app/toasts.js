import { announce, h } from './dom.js';
import { icon } from './icons.js';

const SHOWN_MS = 4500;
const MOST = 3;

/** A short notice that goes away by itself. `{action: {label, run}, sticky, icon}` */
export function toast(text, { action, sticky = false, icon: name, quiet = false } = {}) {
  const region = document.getElementById('toasts');
  const close = () => {
    element.dataset.leaving = '';
    setTimeout(() => element.remove(), 200);
  };
  const element = h(
    'div',
    { class: 'toast' },
    name && icon(name),
    h('span', { class: 'toast-text' }, text),
    action && h('button', { class: 'button button-quiet', type: 'button', onclick: () => (close(), action.run()) }, action.label),
    (sticky || action) && h('button', { class: 'icon-button', type: 'button', 'aria-label': 'Dismiss', onclick: close }, icon('close')),
  );
  region.append(element);
  while (region.children.length > MOST) region.firstElementChild.remove();
  if (!quiet) announce(text);
  let timer = sticky ? null : setTimeout(close, action ? SHOWN_MS * 2 : SHOWN_MS);
  const wait = () => clearTimeout(timer);
  const go = () => sticky || (timer = setTimeout(close, SHOWN_MS));
  element.addEventListener('pointerenter', wait);
  element.addEventListener('pointerleave', go);
  element.addEventListener('focusin', wait);
  element.addEventListener('focusout', go);
  return close;
}
