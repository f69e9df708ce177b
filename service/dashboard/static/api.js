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
  const answer = await ask(path, options);
  return answer.json().catch(() => ({}));
}

/** The answer, whatever is in it. Throws what the server says is wrong. @param {string} path @param {RequestInit} options */
export async function ask(path, options = {}) {
  const answer = await fetch(`/api/v1${path}`, options).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Try again in a moment.");
  });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Error(body.detail ?? `The server answered ${answer.status}.`);
}
