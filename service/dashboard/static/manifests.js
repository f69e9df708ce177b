/** `<manifest-maker>`: asks for manifests of a curation, follows them, and offers their files. */

import { get, post } from "./api.js";
import { PageElement } from "./element.js";
import { ENDED, onJob } from "./events.js";
import { bar } from "./jobs.js";
import { html, nothing, repeat } from "./vendor/lit.js";
import { number, part, plain, when } from "./words.js";

const STRATEGIES = {
  auto: "keeps all, and does what was found to pay: a temperature, unless the samples are of one class",
  remove: "leaves the most difficult samples out",
  margin: "keeps all, and gives difficult pairs a margin in the loss",
  temperature: "keeps all, and gives difficult pairs a temperature of their own",
  combined: "removes the most difficult, and gives the rest a margin and a temperature",
};

const DUPLICATES = {
  keep: { choice: "keep", meaning: "all are kept" },
  exact: { choice: "drop equal files", meaning: "of equal files only the first is kept" },
  near: {
    choice: "drop near ones too",
    meaning: "of equal files, and of images that are almost the same to the encoder, only the first is kept",
  },
};

/**
 * Attributes: `curation`, its id, and how many samples repeat an earlier one: `equal-files`, which only a curation of an
 * earlier version does not tell, and `near-duplicates`, unless they were not looked for.
 */
class ManifestMaker extends PageElement {
  static properties = {
    curation: {},
    equalFiles: { type: Number, attribute: "equal-files" },
    nearDuplicates: { type: Number, attribute: "near-duplicates" },
    manifests: { state: true },
    strategy: { state: true },
    duplicates: { state: true },
    busy: { state: true },
    problem: { state: true },
  };

  constructor() {
    super();
    this.strategy = "auto";
    this.duplicates = "keep";
    /** @type {Map<string, import("./events.js").Job>} */
    this.jobs = new Map();
  }

  connectedCallback() {
    super.connectedCallback();
    this.load();
    this.stop = onJob((job) => {
      if (job.kind === "manifest" && job.url === `/curations/${this.curation}`) this.heard(job);
    });
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.stop();
  }

  async load() {
    try {
      this.manifests = (await get(`/manifests?curation=${this.curation}`)).items;
      // An end that was told while the list was on its way here is not in it.
      if (this.manifests.some((row) => !ENDED.includes(row.state) && this.hasEnded(row.id))) this.load();
    } catch (error) {
      this.problem = error.message;
    }
  }

  /** @param {import("./events.js").Job} job */
  heard(job) {
    this.jobs.set(job.id, job);
    const listed = this.manifests?.find((row) => row.id === job.id);
    if (!this.manifests || (listed && ENDED.includes(listed.state))) return;
    if (!listed || this.hasEnded(job.id)) this.load();
    else this.manifests = this.manifests.map((row) => (row === listed ? { ...row, ...job } : row));
  }

  /** @param {string} id */
  hasEnded(id) {
    return ENDED.includes(this.jobs.get(id)?.state);
  }

  async make(event) {
    event.preventDefault();
    this.busy = true;
    this.problem = undefined;
    try {
      const { strategy, duplicates } = this;
      await post(`/curations/${this.curation}/manifests`, { strategy, duplicates });
      await this.load();
    } catch (error) {
      this.problem = error.message;
    } finally {
      this.busy = false;
    }
  }

  shouldUpdate() {
    return this.manifests !== undefined || this.problem !== undefined;
  }

  render() {
    const known = this.equalFiles !== undefined;
    const offered = Object.entries(DUPLICATES).filter(
      ([name]) => name !== "near" || !known || this.nearDuplicates != null,
    );
    return html`<form class="maker" @submit=${this.make}>
        <span class="labelled">
          <label for="strategy">Strategy</label>
          <select id="strategy" @change=${(event) => (this.strategy = event.target.value)}>
            ${Object.keys(STRATEGIES).map((name) => html`<option value=${name}>${name}</option>`)}
          </select>
        </span>
        <span class="labelled">
          <label for="duplicates">Duplicates</label>
          <select id="duplicates" @change=${(event) => (this.duplicates = event.target.value)}>
            ${offered.map(([name, { choice }]) => html`<option value=${name}>${choice}</option>`)}
          </select>
        </span>
        <button class="primary" ?disabled=${this.busy}>Make manifest</button>
        <p class="muted">${this.strategy}: ${STRATEGIES[this.strategy]}.</p>
        <p class="muted">
          Duplicates: ${DUPLICATES[this.duplicates].meaning}.
          ${known ? html`There are ${counts(this.equalFiles, this.nearDuplicates)}.` : nothing}
        </p>
      </form>
      ${this.problem ? html`<p class="alert" role="alert">${this.problem}</p>` : nothing}
      <ul class="manifests" aria-live="polite">
        ${repeat(this.manifests ?? [], (row) => row.id, (row) => html`<li>${one(row)}</li>`)}
      </ul>`;
  }
}

function one(row) {
  const { done, total } = row.progress;
  const result = row.result;
  return html`<a href="/manifests/${row.id}">${row.parameters.strategy}, ${when(row.created_at)}</a>
    <span class="state ${row.state}">${row.state}</span>
    ${ENDED.includes(row.state) ? nothing : bar("Progress of the manifest", done, total)}
    ${row.error ? html`<span class="job-message">${plain(row.error)}</span>` : nothing}
    ${result
      ? html`<span class="muted">${part(result.kept, result.samples)} samples kept, ${number(result.pairs)} pairs</span>
          ${result.equal_files || result.near_duplicates ? html`<span class="muted">${duplicateCounts(row)}</span>` : nothing}`
      : nothing}
    ${Object.entries(row.files).map(([name, address]) => html`<a href=${address} download=${name}>${name}</a>`)}`;
}

/** How many samples repeat an earlier one, and whether they were dropped. */
function duplicateCounts({ result, parameters }) {
  const fate = { keep: "kept", exact: "equal files dropped", near: "dropped" }[parameters.duplicates];
  return `duplicates: ${counts(result.equal_files, result.near_duplicates)}; ${fate}`;
}

/** @param {number} equal @param {number | null | undefined} near */
function counts(equal, near) {
  return `${number(equal)} by file` + (near == null ? "" : `, ${number(near)} by similarity`);
}

customElements.define("manifest-maker", ManifestMaker);
