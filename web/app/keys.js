import { isTyping } from './dom.js';

/** Single keys while nobody types. `actions`: `{m: () => …}`. `hold`: `{down, up}` for the space bar. */
export class Keys {
  constructor(actions, hold) {
    this._held = false;
    this._down = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || (isTyping(event) && event.key !== 'Escape') || document.querySelector('dialog[open]')) return;
      if (event.key === 'Escape' && document.querySelector(':popover-open')) return; // the browser closes that first
      if (event.key === ' ' && !(event.target instanceof HTMLButtonElement) && event.target.tagName !== 'SUMMARY') {
        event.preventDefault();
        if (!this._held && !event.repeat) {
          this._held = true;
          hold.down();
        }
        return;
      }
      const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!action || event.repeat) return;
      event.preventDefault();
      action();
    };
    this._up = (event) => {
      if (event.type === 'keyup' && event.key !== ' ') return;
      if (!this._held) return;
      this._held = false;
      hold.up();
    };
    addEventListener('keydown', this._down);
    addEventListener('keyup', this._up);
    addEventListener('blur', this._up);
  }

  close() {
    removeEventListener('keydown', this._down);
    removeEventListener('keyup', this._up);
    removeEventListener('blur', this._up);
  }
}
