/**
 * One stream of all jobs' changes for the whole page, open while the page is seen and someone listens: browsers allow
 * six connections to a server, and a seventh tab would wait without a word.
 *
 * A stream that opens again is sent the present state of every job, so nothing is missed in between.
 */

/** @typedef {{id: string, kind: string, state: string, dataset: string, dataset_name: string, url: string,
 *   error: string | null, created_at: string, finished_at: string,
 *   progress: {done: number, total: number, message: string}}} Job */

export const ENDED = ["succeeded", "failed", "cancelled"];

/** @type {Set<(job: Job) => void>} */
const listeners = new Set();
/** @type {Map<string, Job>} */
const known = new Map();
/** @type {EventSource | null} */
let source = null;

/** Calls `listener` with each job's present state and its changes; returns what ends that. @param {(job: Job) => void} listener */
export function onJob(listener) {
  listeners.add(listener);
  for (const job of known.values()) listener(job);
  settle();
  return () => {
    listeners.delete(listener);
    settle();
  };
}

function settle() {
  const wanted = listeners.size > 0 && !document.hidden;
  if (wanted && !source) {
    source = new EventSource("/api/v1/jobs/events");
    source.addEventListener("job", (event) => {
      const job = JSON.parse(event.data);
      known.set(job.id, job);
      for (const listener of [...listeners]) listener(job);
    });
  } else if (!wanted && source) {
    source.close();
    source = null;
  }
}

document.addEventListener("visibilitychange", settle);
