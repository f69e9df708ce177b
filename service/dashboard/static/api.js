/** Calls of the REST API. */

/** @param {string} path @returns {Promise<any>} */
export function get(path) {
  return call(path, {});
}

/**
 * Sends JSON. The key makes a repetition harmless.
 * @param {string} path
 * @param {object} body
 * @returns {Promise<any>}
 */
export function post(path, body) {
  const headers = { "content-type": "application/json", "idempotency-key": fresh() };
  return call(path, { method: "POST", headers, body: JSON.stringify(body) });
}

/** A new idempotency key, drawn by hand because randomUUID() needs https. */
export function fresh() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(16)).join("-");
}

/** @param {string} path @param {RequestInit} options @returns {Promise<any>} */
export async function call(path, options) {
  const answer = await fetch(`/api/v1${path}`, options).catch(() => {
    throw new Error("The server does not answer. Try again in a moment.");
  });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.detail ?? `The server answered ${answer.status}.`);
  return body;
}
