// @ts-check
const SAVE_AFTER_MS = 500;
const LOCK_WAIT_MS = 400;
/** Sessions are kept for seconds by the server; older notes are useless. */
const MAX_AGE_MS = 5 * 60_000;

/**
 * Keeps what a reloaded page needs to resume its session, in sessionStorage. A tab that was duplicated has a copy of it: a
 * lock held by the page that uses the session keeps the copy from taking it over.
 */
export class SessionStore {
  /** @param {string | null} key null: keep nothing @param {Storage} [storage] */
  constructor(key, storage) {
    this._key = key;
    try {
      this._storage = key === null ? null : (storage ?? globalThis.sessionStorage ?? null);
    } catch {
      this._storage = null; // storage is switched off
    }
    /** @type {any} */
    this._timer = null;
    /** @type {string | null} */
    this._locked = null;
  }

  /** What was kept, if nobody else is using it. @returns {Promise<any>} */
  async take() {
    const stored = this._read();
    if (!stored?.session || !(Date.now() - stored.savedAt < MAX_AGE_MS)) return null;
    return (await this._lock(stored.session)) ? stored : null;
  }

  /** Saves what `make` returns when the page goes away, and soon after each `touch`. @param {() => any} make */
  watch(make) {
    this._make = make;
    this._onHide = () => this.save(make());
    globalThis.window?.addEventListener?.('pagehide', this._onHide);
  }

  touch() {
    if (!this._storage || this._timer !== null) return;
    this._timer = setTimeout(() => {
      this._timer = null;
      this.save(this._make?.());
    }, SAVE_AFTER_MS);
  }

  /** @param {any} value */
  save(value) {
    if (!this._storage || !value || this._closed) return;
    if (this._locked !== value.session) void this._lock(value.session);
    try {
      this._storage.setItem(/** @type {string} */ (this._key), JSON.stringify({ ...value, savedAt: Date.now() }));
    } catch {
      this._storage.removeItem(/** @type {string} */ (this._key)); // full: then a reload joins anew
    }
  }

  clear() {
    this._closed = true;
    clearTimeout(this._timer);
    if (this._onHide) globalThis.window?.removeEventListener?.('pagehide', this._onHide);
    this._storage?.removeItem(/** @type {string} */ (this._key));
    this._release?.();
  }

  _read() {
    try {
      return JSON.parse(this._storage?.getItem(/** @type {string} */ (this._key)) ?? 'null');
    } catch {
      return null;
    }
  }

  /** Holds the session's lock until `clear` or the end of the page. @param {string} session @returns {Promise<boolean>} */
  _lock(session) {
    const locks = globalThis.navigator?.locks;
    this._release?.();
    this._locked = session;
    if (!locks) return Promise.resolve(true);
    return new Promise((resolve) => {
      const abort = new AbortController();
      const timer = setTimeout(() => abort.abort(), LOCK_WAIT_MS);
      locks
        .request(`exedra:${session}`, { signal: abort.signal }, () => {
          clearTimeout(timer);
          resolve(true);
          return new Promise((release) => (this._release = () => release(undefined)));
        })
        .catch(() => resolve(false));
    });
  }
}
