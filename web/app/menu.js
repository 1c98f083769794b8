import { h } from './dom.js';
import { icon } from './icons.js';

/**
 * A button with a menu above it: arrows move, Escape and a click elsewhere close, focus comes back to the button.
 * `items()` is asked each time: `[{label, icon, run, hidden?}]`.
 */
export class Menu {
  constructor(button, items) {
    this._button = button;
    this._items = items;
    this._menu = null;
    button.setAttribute('aria-haspopup', 'menu');
    button.setAttribute('aria-expanded', 'false');
    button.addEventListener('click', () => (this._menu ? this.close() : this.open()));
    this._outside = (event) => !this._menu?.contains(event.target) && !button.contains(event.target) && this.close(false);
  }

  open() {
    const entries = this._items().filter((item) => !item.hidden);
    this._menu = h(
      'div',
      { class: 'menu', role: 'menu', onkeydown: (event) => this._onKey(event) },
      entries.map((item) => h('button', { class: 'menu-item', role: 'menuitem', type: 'button', tabindex: '-1', onclick: () => (this.close(), item.run()) }, icon(item.icon), item.label)),
    );
    this._button.after(this._menu);
    this._button.setAttribute('aria-expanded', 'true');
    this._menu.firstElementChild.focus();
    document.addEventListener('pointerdown', this._outside);
  }

  close(refocus = true) {
    this._menu?.remove();
    this._menu = null;
    this._button.setAttribute('aria-expanded', 'false');
    document.removeEventListener('pointerdown', this._outside);
    if (refocus) this._button.focus();
  }

  _onKey(event) {
    const entries = [...this._menu.children];
    const at = entries.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: entries.length - 1 }[event.key];
    if (to !== undefined) entries[(to + entries.length) % entries.length].focus();
    else if (event.key === 'Escape' || event.key === 'Tab') this.close();
    else return;
    event.stopPropagation();
    if (event.key !== 'Tab') event.preventDefault();
  }
}
