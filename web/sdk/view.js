// @ts-check

const DEBOUNCE_MS = 80;
/** A tab that was left for a moment comes back with its pictures running. */
const HIDDEN_AFTER_MS = 3_000;
/** A picture that is out of view only while a layout moves it goes on. */
const OUT_OF_VIEW_AFTER_MS = 600;
/** Sizes are told in steps, so that a window being dragged does not ask for something new with every pixel. */
const STEP = 16;
/** Another shape of picture, or another place for it. */
const ELEMENT_EVENTS = ['resize', 'enterpictureinpicture', 'leavepictureinpicture'];

/**
 * Tells the server what is looked at, and how large: the size in device pixels of the picture in every attached video element, and whether
 * it can be seen. Sends the whole wish, and only when it changed.
 */
export class ViewReporter {
  /** @param {(view: any) => Promise<any>} send */
  constructor(send) {
    this._send = send;
    /** @type {Map<HTMLVideoElement, {track: {id: string}, visible: boolean, leaving?: any, window?: any, priority?: number, fps?: number}>} */
    this._elements = new Map();
    /** @type {Record<string, any>} */
    this._wish = {};
    this._last = '';
    /** @type {any} */
    this._timer = null;
    this._sentAt = 0;
    this._hidden = globalThis.document?.visibilityState === 'hidden';
    /** @type {MediaQueryList | null} */
    this._ratio = null;
    /** Until an element was attached once, the server shows what it thinks best. */
    this._used = false;
    const schedule = () => this.schedule();
    this._resize = typeof ResizeObserver === 'function' ? new ResizeObserver(schedule) : null;
    this._intersection = typeof IntersectionObserver === 'function' ? new IntersectionObserver((entries) => this._onIntersection(entries)) : null;
    this._onVisibility = () => this._onVisibilityChange();
    this._onElement = (/** @type {Event} */ event) => this._onElementEvent(event);
    this._onRatio = () => {
      this._watchRatio();
      this.schedule();
    };
    this._watchRatio();
    globalThis.document?.addEventListener?.('visibilitychange', this._onVisibility);
  }

  /** @param {HTMLVideoElement} element @param {{id: string}} track @param {{priority?: number, fps?: number}} [options] */
  add(element, track, options = {}) {
    const known = this._elements.get(element);
    this._elements.set(element, { track, visible: known?.visible ?? true, leaving: known?.leaving, window: known?.window, ...options });
    this._used = true;
    if (!known) {
      this._resize?.observe(element);
      this._intersection?.observe(element);
      for (const event of ELEMENT_EVENTS) element.addEventListener?.(event, this._onElement);
    }
    this.schedule();
  }

  /** @param {HTMLVideoElement} element */
  remove(element) {
    if (!this._elements.delete(element)) return;
    this._resize?.unobserve(element);
    this._intersection?.unobserve(element);
    for (const event of ELEMENT_EVENTS) element.removeEventListener?.(event, this._onElement);
    this.schedule();
  }

  /** The rest of the wish: `lastN`, `audioN`, `follow`. @param {Record<string, any>} wish */
  set(wish) {
    this._wish = { ...this._wish, ...wish };
    this._used = true;
    this.schedule();
  }

  /** Another session knows nothing of our wish. */
  forget() {
    this._last = '';
    this.schedule();
  }

  schedule() {
    if (this._timer !== null || !this._used) return;
    const wait = Math.max(16, this._sentAt + DEBOUNCE_MS - Date.now());
    this._timer = setTimeout(() => this._flush(), wait);
  }

  close() {
    clearTimeout(this._timer);
    clearTimeout(this._hiddenTimer);
    this._timer = -1;
    this._resize?.disconnect();
    this._intersection?.disconnect();
    this._ratio?.removeEventListener('change', this._onRatio);
    globalThis.document?.removeEventListener?.('visibilitychange', this._onVisibility);
  }

  /** The whole wish as it stands. */
  view() {
    /** @type {Record<string, any>} */
    const tracks = {};
    for (const [element, { track, visible, priority, fps }] of this._elements) {
      const { width, height, seen } = this._shown(element, visible);
      const wish = {
        w: step(width),
        h: step(height),
        ...(fps && { fps }),
        ...(priority && { priority }),
        ...(!seen && { paused: true }),
      };
      tracks[track.id] = larger(tracks[track.id], wish);
    }
    return { tracks, ...this._wish };
  }

  /**
   * The size of the picture in device pixels, and whether it can be seen. A picture in a window of its own can be seen whatever becomes of the tab.
   * @param {HTMLVideoElement} element @param {boolean} visible
   */
  _shown(element, visible) {
    const page = globalThis.document;
    const ratio = element.ownerDocument?.defaultView?.devicePixelRatio || globalThis.devicePixelRatio || 1;
    if (page?.pictureInPictureElement === element) {
      const floating = this._elements.get(element)?.window ?? { width: element.clientWidth, height: element.clientHeight };
      return { ...drawn(element, floating.width * ratio, floating.height * ratio, 'contain'), seen: true };
    }
    // Document picture-in-picture: no observer of this page sees what is in another window.
    const elsewhere = page && element.ownerDocument && element.ownerDocument !== page ? element.ownerDocument : null;
    const seen = elsewhere ? elsewhere.visibilityState !== 'hidden' : visible && !this._hidden;
    const { clientWidth: width, clientHeight: height } = element;
    const size = drawn(element, width * ratio, height * ratio, globalThis.getComputedStyle?.(element).objectFit ?? 'fill');
    return { ...size, seen: seen && width > 0 && height > 0 };
  }

  /** @param {Event} event */
  _onElementEvent(event) {
    const known = this._elements.get(/** @type {HTMLVideoElement} */ (event.target));
    if (known && event.type === 'leavepictureinpicture') known.window = undefined;
    if (known && event.type === 'enterpictureinpicture') {
      known.window = /** @type {PictureInPictureEvent} */ (event).pictureInPictureWindow;
      known.window.addEventListener('resize', () => this.schedule());
    }
    this.schedule();
  }

  /** A window that is taken to another screen keeps its size in CSS pixels. */
  _watchRatio() {
    if (typeof globalThis.matchMedia !== 'function') return;
    this._ratio?.removeEventListener('change', this._onRatio);
    this._ratio = globalThis.matchMedia(`(resolution: ${globalThis.devicePixelRatio || 1}dppx)`);
    this._ratio.addEventListener('change', this._onRatio);
  }

  _flush() {
    this._timer = null;
    const view = this.view();
    const text = JSON.stringify(view);
    if (text === this._last) return;
    this._last = text;
    this._sentAt = Date.now();
    this._send(view).catch(() => (this._last = '')); // sent again with the next change, or the next session
  }

  /** @param {IntersectionObserverEntry[]} entries */
  _onIntersection(entries) {
    for (const { target, isIntersecting } of entries) {
      const known = this._elements.get(/** @type {HTMLVideoElement} */ (target));
      if (!known) continue;
      clearTimeout(known.leaving);
      if (isIntersecting) known.visible = true;
      else known.leaving = setTimeout(() => this._leave(/** @type {HTMLVideoElement} */ (target)), OUT_OF_VIEW_AFTER_MS);
    }
    this.schedule();
  }

  /** @param {HTMLVideoElement} element */
  _leave(element) {
    const known = this._elements.get(element);
    if (known) known.visible = false;
    this.schedule();
  }

  _onVisibilityChange() {
    clearTimeout(this._hiddenTimer);
    const hidden = document.visibilityState === 'hidden';
    const apply = () => {
      this._hidden = hidden;
      this.schedule();
    };
    if (hidden) this._hiddenTimer = setTimeout(apply, HIDDEN_AFTER_MS);
    else apply();
  }
}

/** @param {number} pixels */
function step(pixels) {
  return Math.ceil(Math.max(0, Math.round(pixels)) / STEP) * STEP;
}

/**
 * How large a picture is drawn in a box: `contain` leaves margins, `cover` is cut off and so larger than the box.
 * @param {HTMLVideoElement} element @param {number} width @param {number} height @param {string} fit
 */
export function drawn({ videoWidth, videoHeight }, width, height, fit) {
  if (!videoWidth || !videoHeight || !width || !height || !['contain', 'cover', 'scale-down'].includes(fit)) return { width, height };
  const choose = fit === 'cover' ? Math.max : Math.min;
  // Not `scale-down` to the letter: a small layer of a large picture would then never be asked to grow.
  const scale = choose(width / videoWidth, height / videoHeight);
  return { width: videoWidth * scale, height: videoHeight * scale };
}

/** Two elements show one track: the larger one counts, and the one that is visible. @param {any} a @param {any} b */
function larger(a, b) {
  if (!a || (a.paused && !b.paused)) return b;
  if (b.paused && !a.paused) return a;
  return a.w * a.h >= b.w * b.h ? a : b;
}
