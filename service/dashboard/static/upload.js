/** `<upload-form>`: sends an archive as a new data set, or as the content of one that has none. */

import { post } from "./api.js";
import { PageElement } from "./element.js";
import { chosenFolder, dropped } from "./folder.js";
import { bar } from "./jobs.js";
import { refresh } from "./refresh.js";
import { begin, discard, isOf, send, unfinished } from "./tus.js";
import { html, nothing, repeat } from "./vendor/lit.js";
import { duration, plain, size, when } from "./words.js";

/** @typedef {import("./tus.js").Upload} Upload */

// The rate is that of the last few seconds.
const RATE_MILLISECONDS = 5000;

/** Attribute: `dataset`, the id of the data set that gets the archive; without it a new one is made. */
class UploadForm extends PageElement {
  static properties = {
    to: { attribute: "dataset" },
    uploads: { state: true },
    file: { state: true },
    received: { state: true },
    waiting: { state: true },
    problem: { state: true },
    said: { state: true },
    sending: { state: true },
    dragged: { state: true },
  };

  constructor() {
    super();
    /** @type {Upload[]} */
    this.uploads = [];
    /** @type {[number, number][]} when, and how many bytes had arrived */
    this.marks = [];
    this.leaving = (event) => event.preventDefault();
  }

  connectedCallback() {
    super.connectedCallback();
    this.load();
  }

  async load() {
    try {
      this.uploads = (await unfinished()).filter((upload) => !this.to || upload.dataset === this.to);
    } catch (error) {
      this.problem = error.message;
    }
  }

  /** The unfinished upload that the chosen file goes on with. @returns {Upload | undefined} */
  get earlier() {
    return this.file && this.uploads.find((upload) => isOf(upload, this.file));
  }

  chosen(event) {
    const files = [...event.target.files];
    const folder = event.target.id === "folder";
    this.take(async () => (folder && files.length ? chosenFolder(files) : files[0]));
  }

  dropped(event) {
    event.preventDefault();
    this.dragged = false;
    const { dataTransfer } = event;
    if (!this.sending) this.take(() => dropped(dataTransfer));
  }

  /** @param {() => Promise<File | undefined>} found */
  async take(found) {
    this.problem = undefined;
    try {
      this.file = await found();
    } catch (error) {
      this.problem = error.message;
      return;
    }
    const name = this.querySelector("#dataset-name");
    if (name && this.file) name.value ||= this.file.name.replace(/(\.tar)?\.\w+$/, "");
  }

  over(event) {
    event.preventDefault();
    this.dragged = event.type === "dragover";
  }

  async start(event) {
    event.preventDefault();
    if (!this.file) {
      this.problem = "Choose an archive or a folder first.";
      return;
    }
    const name = new FormData(event.target).get("name");
    this.problem = undefined;
    this.said = "The upload began.";
    this.received = this.earlier?.received ?? 0;
    this.marks = [];
    this.sending = new AbortController();
    addEventListener("beforeunload", this.leaving);
    try {
      const upload = this.earlier ?? (await begin(this.to ?? (await post("/datasets", { name })).id, this.file));
      await send(upload.id, this.file, {
        signal: this.sending.signal,
        progress: (received) => this.moved(received),
        trouble: (seconds) => {
          this.waiting = seconds;
          this.said = "The connection is cut. Trying again.";
        },
      });
      removeEventListener("beforeunload", this.leaving);
      location.assign(`/datasets/${upload.dataset}`);
    } catch (error) {
      if (this.sending.signal.aborted) this.said = "Stopped. What has arrived is kept.";
      else this.problem = error.message;
      // The data set that was made for it is there.
      await Promise.all([this.load(), refresh().catch(() => {})]);
    } finally {
      removeEventListener("beforeunload", this.leaving);
      this.sending = undefined;
      this.waiting = undefined;
    }
  }

  /** @param {number} received */
  moved(received) {
    const now = performance.now();
    const tenth = (count) => Math.floor((10 * count) / this.file.size);
    if (this.waiting !== undefined) this.said = "The connection is back.";
    // Told to screen readers at each tenth: at each part would be too much.
    else if (tenth(received) > tenth(this.received)) this.said = `${10 * tenth(received)} % has arrived.`;
    this.waiting = undefined;
    this.received = received;
    this.marks = [...this.marks.filter(([time]) => now - time < RATE_MILLISECONDS), [now, received]];
  }

  /** @param {Upload} upload */
  async drop(upload) {
    this.problem = undefined;
    try {
      await discard(upload.id);
      this.said = `The upload of ${upload.name} was discarded.`;
    } catch (error) {
      this.problem = error.message;
    }
    await this.load();
    await this.updateComplete;
    // The pressed button is gone; the focus would fall back to the page's beginning.
    this.querySelector("input")?.focus();
  }

  render() {
    const busy = Boolean(this.sending);
    const earlier = this.earlier;
    return html`<form
        class="maker ${this.dragged ? "dropped-on" : ""}"
        @submit=${this.start}
        @dragover=${this.over}
        @dragleave=${this.over}
        @drop=${this.dropped}
      >
        <label for="archive">Archive of images</label>
        <input id="archive" type="file" aria-describedby="archive-kinds" ?disabled=${busy} @change=${this.chosen} />
        <label for="folder">or a folder</label>
        <input id="folder" type="file" webkitdirectory ?disabled=${busy} @change=${this.chosen} />
        ${this.to || earlier
          ? nothing
          : html`<label for="dataset-name">Name of the data set</label>
              <input id="dataset-name" name="name" required maxlength="200" ?disabled=${busy} />`}
        ${busy
          ? html`<button type="button" @click=${() => this.sending.abort()}>Stop</button>`
          : html`<button class="primary">${earlier ? `Go on at ${size(earlier.received)}` : "Upload"}</button>`}
        <p id="archive-kinds" class="muted">
          A zip, tar or tar.gz of images, or a WebDataset shard, Parquet, CIFAR, STL-10 or IDX file; either may be dropped
          here. A cut connection is no harm.${this.file ? html` <b>Chosen: <bdi>${plain(this.file.name)}</bdi>, ${size(this.file.size)}.</b>` : nothing}
        </p>
      </form>
      ${busy ? this.bar() : nothing}
      <p class="unseen" role="status">${this.said ?? nothing}</p>
      ${this.problem ? html`<p class="alert" role="alert">${this.problem}</p>` : nothing}
      ${this.uploads.length && !busy ? this.list() : nothing}`;
  }

  bar() {
    const [first, last] = [this.marks[0], this.marks.at(-1)];
    const rate = last && last[0] > first[0] ? (1000 * (last[1] - first[1])) / (last[0] - first[0]) : 0;
    return html`<div class="sending">
      ${bar(`Progress of the upload of ${plain(this.file.name)}`, this.received, this.file.size)}
      <span class="job-figures">
        ${size(this.received)} of ${size(this.file.size)}${rate
          ? html`, ${size(rate)} a second, ${duration((this.file.size - this.received) / rate)} left`
          : nothing}
      </span>
      ${this.waiting === undefined
        ? nothing
        : html`<p class="alert">
            The server does not answer. Trying again in ${duration(this.waiting)}; leave this page open, or choose the
            same file again later.
          </p>`}
    </div>`;
  }

  list() {
    return html`<p class="muted">Unfinished uploads. Choose the same file again to go on with one.</p>
      <ul class="manifests" aria-label="Unfinished uploads">
        ${repeat(
          this.uploads,
          (upload) => upload.id,
          (upload) => html`<li>
            <span><bdi>${plain(upload.name)}</bdi> for <bdi>${plain(upload.dataset_name)}</bdi></span>
            <span class="muted">${size(upload.received)} of ${size(upload.size)}, kept until ${when(upload.expires_at)}</span>
            <button class="quiet" aria-label="Discard the upload of ${plain(upload.name)}" @click=${() => this.drop(upload)}>
              Discard
            </button>
          </li>`,
        )}
      </ul>`;
  }
}

customElements.define("upload-form", UploadForm);
