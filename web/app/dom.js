/** Small helpers around the DOM. Text goes in as text, never as markup. */

/**
 * Makes an element: `h('button', {class: 'x', onclick: f, 'aria-label': 'Close', data: {id: 1}}, 'text', child)`.
 * Attributes that are false, null or undefined are left out; `true` sets an empty one.
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (key === 'data') Object.assign(element.dataset, value);
    else if (key === 'value' || key === 'checked' || key === 'muted' || key === 'srcObject') element[key] = value;
    else element.setAttribute(key, value === true ? '' : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Sets an attribute, or takes it away. Touches the DOM only when something changes. */
export function setAttribute(element, name, value) {
  const wanted = value === null || value === undefined || value === false ? null : value === true ? '' : String(value);
  if (element.getAttribute(name) === wanted) return;
  if (wanted === null) element.removeAttribute(name);
  else element.setAttribute(name, wanted);
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Text with its http(s) addresses as links. */
export function linkified(text) {
  const parts = text.split(/(https?:\/\/[^\s<>"']+)/g);
  return parts.map((part, i) => (i % 2 ? h('a', { href: part, target: '_blank', rel: 'noopener noreferrer' }, part) : document.createTextNode(part)));
}

/** Says something to screen readers. */
export function announce(text, { assertive = false } = {}) {
  const region = document.getElementById(assertive ? 'announce-assertive' : 'announce-polite');
  const line = h('p', {}, text);
  region.append(line);
  setTimeout(() => line.remove(), 6000);
}

export function isTyping(event) {
  const target = event.target;
  return target instanceof HTMLElement && (target.isContentEditable || ['INPUT', 'TEXTAREA', 'SELECT'].includes(target.tagName));
}
