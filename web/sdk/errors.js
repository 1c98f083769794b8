// @ts-check
/** The error codes of the room API that a request may answer; they are never renamed. */
const SENTENCES = {
  bad_request: 'The server did not understand the request.',
  unsupported: 'The server does not support this.',
  unauthorized: 'The link or token is not valid any more.',
  forbidden: 'You are not allowed to do this.',
  not_found: 'There is no such room.',
  conflict: 'Somebody was faster; try again.',
  limit_reached: 'A limit of the server was reached.',
  rate_limited: 'Too many requests; wait a moment.',
  unavailable: 'The server cannot be reached.',
  internal: 'The server made a mistake.',
};

/** Every error that the library throws or rejects with. `code` is one of the room API's codes; `retryable` says if trying again may help. */
export class ExedraError extends Error {
  /**
   * @param {string} code
   * @param {string} [message]
   * @param {{retryable?: boolean, retryAfterMs?: number, cause?: unknown}} [more]
   */
  constructor(code, message, more = {}) {
    super(message || SENTENCES[/** @type {keyof typeof SENTENCES} */ (code)] || code, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = 'ExedraError';
    this.code = code;
    this.retryable = more.retryable ?? (code === 'unavailable' || code === 'rate_limited');
    this.retryAfterMs = more.retryAfterMs ?? 0;
  }

  /** From the `error` of an answer. @param {any} error */
  static fromAnswer(error) {
    const { code = 'internal', message, retryable, retryAfterMs } = error ?? {};
    return new ExedraError(String(code), message, { retryable, retryAfterMs });
  }
}
