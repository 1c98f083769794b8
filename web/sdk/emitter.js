// @ts-check
/** Events by name. A listener that throws is reported and does not keep the others from being called. */
export class Emitter {
  constructor() {
    /** @type {Map<string, Set<Function>>} */
    this._listeners = new Map();
  }

  /**
   * @param {string} name
   * @param {Function} listener
   * @returns {() => void} takes the listener away again
   */
  on(name, listener) {
    let set = this._listeners.get(name);
    if (!set) this._listeners.set(name, (set = new Set()));
    set.add(listener);
    return () => this.off(name, listener);
  }

  /** @param {string} name @param {Function} listener */
  once(name, listener) {
    const off = this.on(name, (/** @type {any[]} */ ...args) => {
      off();
      listener(...args);
    });
    return off;
  }

  /** @param {string} name @param {Function} listener */
  off(name, listener) {
    this._listeners.get(name)?.delete(listener);
  }

  /** @param {string} name @param {...any} args */
  emit(name, ...args) {
    for (const listener of [...(this._listeners.get(name) ?? [])]) {
      try {
        listener(...args);
      } catch (error) {
        console.error(`exedra: a listener of "${name}" failed`, error);
      }
    }
  }
}
