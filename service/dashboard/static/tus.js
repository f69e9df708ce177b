/** Sends a file in parts by the tus protocol 1.0, and goes on where a cut connection or a closed page left it. */

import { call, fresh } from "./api.js";

/** @typedef {{id: string, dataset: string, dataset_name: string, name: string, size: number, received: number,
 *   metadata: Record<string, string>, expires_at: string}} Upload */

const VERSION = { "tus-resumable": "1.0.0" };
const FIRST = 2 ** 20;
const LEAST = 2 ** 18;
const MOST = 2 ** 23;
// A part should neither take so long that its bar stands still, nor be so short that the answers take longer.
const SLOW = 4000;
const QUICK = 1000;
const LONGEST_PAUSE = 10_000;
// Faults of the moment: the line's, a restarting server's, another request at the same upload, a damaged part.
const PASSING = [409, 423, 429, 460, 500, 502, 503, 504];
// Those of them that may be more than that, and how many in a row are.
const DOUBTFUL = [409, 460, 500];
const TRIES = 5;

/** The unfinished uploads, newest first. @returns {Promise<Upload[]>} */
export async function unfinished() {
  return (await call("/uploads?limit=500", {})).items;
}

/** Whether an unfinished upload is of this file, chosen again. @param {Upload} upload @param {File} file */
export function isOf(upload, file) {
  const { filename, modified } = upload.metadata;
  return upload.size === file.size && filename === file.name && modified === String(file.lastModified);
}

/** Begins the upload of a file as a data set's archive. @param {string} dataset @param {File} file @returns {Promise<Upload>} */
export function begin(dataset, file) {
  const told = Object.entries({ filename: file.name, modified: String(file.lastModified) });
  const metadata = told.map(([key, value]) => `${key} ${base64(new TextEncoder().encode(value))}`).join(",");
  const headers = {
    ...VERSION,
    "upload-length": String(file.size),
    "upload-metadata": metadata,
    "idempotency-key": fresh(),
  };
  return call(`/datasets/${dataset}/uploads`, { method: "POST", headers });
}

/** Gives an unfinished upload up. @param {string} id */
export function discard(id) {
  return call(`/uploads/${id}`, { method: "DELETE", headers: VERSION });
}

/**
 * Sends what the upload lacks. Tries again for as long as it takes, until `signal` aborts; throws what it is refused with.
 * @param {string} id
 * @param {File} file
 * @param {{signal: AbortSignal, progress: (received: number) => void, trouble: (seconds: number) => void}} watch
 */
export async function send(id, file, { signal, progress, trouble }) {
  let offset = null; // not known: to be asked for
  let length = FIRST;
  let failures = 0;
  while (offset !== file.size) {
    signal.throwIfAborted();
    const began = performance.now();
    const answer = await (offset === null ? ask(id, signal) : sendPart(id, file, offset, length, signal));
    if (answer?.ok) {
      const took = performance.now() - began;
      if (offset !== null && took < QUICK) length = Math.min(length * 2, MOST);
      if (offset !== null && took > SLOW) length = Math.max(length / 2, LEAST);
      if (offset !== null) failures = 0;
      offset = Number(answer.headers.get("upload-offset"));
      progress(offset);
      continue;
    }
    const lasting = answer && DOUBTFUL.includes(answer.status) && failures >= TRIES;
    if (lasting || (answer && !PASSING.includes(answer.status))) throw new Error(await reason(answer));
    offset = null;
    length = Math.max(length / 2, LEAST);
    const pause = Math.min(500 * 2 ** failures, LONGEST_PAUSE);
    failures += 1;
    trouble(pause / 1000);
    await waited(pause, signal);
  }
}

/** @param {string} id @param {AbortSignal} signal */
function ask(id, signal) {
  return reached(fetch(`/api/v1/uploads/${id}`, { method: "HEAD", headers: VERSION, signal, cache: "no-store" }), signal);
}

async function sendPart(id, file, offset, length, signal) {
  const body = await file.slice(offset, offset + length).arrayBuffer().catch(() => {
    throw new Error(`${file.name} cannot be read any more. Choose it again.`);
  });
  const headers = {
    ...VERSION,
    "content-type": "application/offset+octet-stream",
    "upload-offset": String(offset),
    ...(await checksum(body)),
  };
  return reached(fetch(`/api/v1/uploads/${id}`, { method: "PATCH", headers, body, signal }), signal);
}

/** The answer; nothing when the server was not reached. */
function reached(answer, signal) {
  return answer.catch((error) => {
    if (signal.aborted) throw error;
    return undefined;
  });
}

/** Browsers compute digests for pages that came over https or from this machine alone. @param {ArrayBuffer} body */
async function checksum(body) {
  if (!globalThis.crypto.subtle) return {};
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
  return { "upload-checksum": `sha256 ${base64(digest)}` };
}

/** @param {Response} answer */
async function reason(answer) {
  if (answer.status === 404 || answer.status === 410) {
    return "The server no longer has this upload: it was discarded or left for too long. Start it again.";
  }
  const body = await answer.json().catch(() => ({}));
  return body.detail ?? `The server answered ${answer.status}. Reload the page and choose the file again.`;
}

/** Ends sooner when the browser says that it is online again. @param {number} pause @param {AbortSignal} signal */
function waited(pause, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      resolve(undefined);
    };
    const timer = setTimeout(done, pause);
    addEventListener("online", done);
    signal.addEventListener("abort", done, { once: true });
  });
}

/** @param {Uint8Array} bytes */
function base64(bytes) {
  return btoa(String.fromCharCode(...bytes));
}
