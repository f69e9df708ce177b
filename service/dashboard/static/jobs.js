/** `<job-list>`: jobs with live bars. */

import { post } from "./api.js";
import { PageElement } from "./element.js";
import { ENDED, onJob } from "./events.js";
import { refresh } from "./refresh.js";
import { html, nothing, repeat } from "./vendor/lit.js";
import { part, plain, when } from "./words.js";

/** @typedef {import("./events.js").Job} Job */

/** Between two drawings of a live page, at least. */
const REDRAWN_MS = 2000;

/**
 * Attributes: `since` is when the server drew the page; `active` shows only jobs that have run or waited after that;
 * `dataset` and `job` show only those of one data set, or one job; `live` draws the page anew as that goes on.
 */
class JobList extends PageElement {
  static properties = { since: {}, active: { type: Boolean }, from: { attribute: "dataset" }, job: {}, live: { type: Boolean }, jobs: { state: true } };

  constructor() {
    super();
    /** @type {Map<string, Job>} */
    this.jobs = new Map();
    /** Ids of jobs that have run or waited since, and of those among them whose end the page shows. */
    this.current = new Set();
    this.shown = new Set();
    /** When a live page was last drawn. */
    this.drawn = 0;
  }

  connectedCallback() {
    super.connectedCallback();
    this.stop = onJob((job) => this.heard(job));
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.stop();
  }

  /** @param {Job} job */
  heard(job) {
    if ((this.from && job.dataset !== this.from) || (this.job && job.id !== this.job)) return;
    const ended = ENDED.includes(job.state);
    const before = this.jobs.get(job.id);
    // The page of one job has its log too.
    if (this.job && before && before.progress.stage !== job.progress.stage) refresh();
    if (this.live && !ended && Date.now() > this.drawn + REDRAWN_MS) {
      this.drawn = Date.now();
      refresh();
    }
    if (!ended || Date.parse(job.finished_at) >= Date.parse(this.since)) this.current.add(job.id);
    if (this.active && !this.current.has(job.id)) return;
    if (ended && this.current.has(job.id) && !this.shown.has(job.id)) {
      this.shown.add(job.id);
      refresh();
    }
    this.jobs = new Map(this.jobs).set(job.id, job);
  }

  shouldUpdate() {
    return this.jobs.size > 0;
  }

  render() {
    const order = (/** @type {Job} */ job) => `${ENDED.includes(job.state) ? 0 : 1} ${job.created_at} ${job.id}`;
    const listed = [...this.jobs.values()].sort((a, b) => (order(a) < order(b) ? 1 : -1));
    return html`<ul class="jobs">
      ${repeat(listed, (job) => job.id, (job) => html`<li class="job">${row(job)}</li>`)}
    </ul>`;
  }
}

/** @param {Job} job */
function row(job) {
  const { done, total, message } = job.progress;
  return html`<span class="job-name"
      ><a href=${job.url}><bdi>${plain(job.dataset_name)}</bdi></a> <a class="muted" href="/jobs/${job.id}">${job.kind}</a></span
    >
    <span class="state ${job.state}">${job.state}</span>
    ${ENDED.includes(job.state)
      ? nothing
      : html`${bar(`Progress of ${job.kind} of ${plain(job.dataset_name)}`, done, total)}
          <span class="job-figures">${total ? part(done, total) : nothing}</span>`}
    <span class="job-message">${plain(job.error ?? message)} <job-action job=${job.id} name="${job.kind} of ${plain(job.dataset_name)}" state=${job.state}></job-action></span>
    <time class="muted" datetime=${job.created_at}>${when(job.created_at)}</time>`;
}

/**
 * `<job-action>`: cancels a job that waits or runs, once that is confirmed; tries one again that failed or was cancelled.
 *
 * Attributes: `job`, its id; `name`, for screen readers; `state`.
 */
class JobAction extends PageElement {
  static properties = { job: {}, name: {}, state: {}, asking: { state: true }, said: { state: true } };

  /** @param {"cancel" | "retry"} action */
  async act(action) {
    this.asking = false;
    this.said = undefined;
    try {
      await post(`/jobs/${this.job}/${action}`, {});
    } catch (error) {
      this.said = error.message;
    }
  }

  render() {
    const said = this.said ? html`<span role="alert">${this.said}</span>` : nothing;
    if (this.state === "succeeded") return nothing;
    if (ENDED.includes(this.state))
      return html`<button class="quiet" aria-label="Try again: ${this.name}" @click=${() => this.act("retry")}>Try again</button>${said}`;
    if (!this.asking)
      return html`<button class="quiet" aria-label="Cancel: ${this.name}" @click=${() => (this.asking = true)}>Cancel</button>${said}`;
    return html`<button class="quiet" @click=${() => this.act("cancel")}>Yes, cancel it</button>
      <button class="quiet" @click=${() => (this.asking = false)}>No, go on</button>`;
  }
}

customElements.define("job-action", JobAction);

/** A bar; a moving one where no total is known. @param {string} label @param {number} done @param {number} total */
export function bar(label, done, total) {
  return total
    ? html`<progress aria-label=${label} max=${total} .value=${done}></progress>`
    : html`<progress aria-label=${label}></progress>`;
}

customElements.define("job-list", JobList);
