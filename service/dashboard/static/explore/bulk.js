/** `<bulk-decision>`: one verdict on all samples that the filters mean, after it has said on how many; undone as one. */

import { post } from "../api.js";
import { html, nothing } from "../vendor/lit.js";
import { number } from "../words.js";
import { Part } from "./part.js";
import { view } from "./view.js";

const WHICH = { more_difficult: "the more difficult sample of each pair", both: "both samples of each pair" };

class BulkDecision extends Part {
  static properties = { which: { state: true }, counted: { state: true }, done: { state: true }, working: { state: true } };

  constructor() {
    super();
    this.which = "more_difficult";
  }

  changed() {
    this.counted = undefined;
  }

  request(more) {
    return { pairs: view.body(), of_pairs: this.which, ...more };
  }

  /** @param {() => Promise<void>} action */
  async work(action) {
    if (this.working) return;
    this.working = true;
    await this.attempt(action);
    this.working = false;
  }

  /** @param {"keep" | "drop"} verdict */
  count(verdict) {
    return this.work(async () => {
      const request = this.request({ verdict });
      const counts = await post(`/curations/${this.curation}/decisions/bulk`, { ...request, dry_run: true });
      this.counted = { ...counts, request };
      await this.updateComplete;
      this.querySelector("dialog").showModal();
    });
  }

  async decide(event) {
    event.preventDefault();
    const note = String(new FormData(event.target).get("note"));
    await this.work(async () => {
      const made = await post(`/curations/${this.curation}/decisions/bulk`, { ...this.counted.request, note });
      this.done = { ...made, verdict: this.counted.request.verdict };
      document.dispatchEvent(new CustomEvent("decided-many"));
    });
    this.close();
  }

  undo() {
    return this.work(async () => {
      await post(`/curations/${this.curation}/decisions/bulk/${this.done.batch}/undo`, {});
      this.done = undefined;
      document.dispatchEvent(new CustomEvent("decided-many"));
    });
  }

  close() {
    this.querySelector("dialog")?.close();
    this.counted = undefined;
  }

  render() {
    const { request, matched, changed } = this.counted ?? {};
    const past = { drop: "Dropped", keep: "Kept" };
    return html`<div class="tools bulk">
        <span class="labelled">
          <label for="bulk-which">Of all pairs below</label>
          <select id="bulk-which" @change=${(event) => (this.which = event.target.value)}>
            ${Object.entries(WHICH).map(([name, text]) => html`<option value=${name}>${text}</option>`)}
          </select>
          <button ?disabled=${this.working} @click=${() => this.count("drop")}>Drop…</button>
          <button ?disabled=${this.working} @click=${() => this.count("keep")}>Keep…</button>
        </span>
        <span role="status">
          ${this.done
            ? html`${past[this.done.verdict]} ${number(this.done.changed)} samples.
                <button class="quiet" ?disabled=${this.working} @click=${() => this.undo()}>Undo all of it</button>`
            : nothing}
        </span>
      </div>
      ${this.trouble()}
      ${this.counted
        ? html`<dialog aria-labelledby="bulk-title" @close=${() => (this.counted = undefined)}>
            <form method="dialog" @submit=${this.decide}>
              <h2 id="bulk-title">${request.verdict === "drop" ? "Drop" : "Keep"} ${WHICH[request.of_pairs]}?</h2>
              <p>
                The filters mean <b>${number(matched)}</b> samples. On <b>${number(changed)}</b> of them another decision stands, or
                none: these change. It can be undone as one.
              </p>
              <label for="bulk-note">Why (kept with each decision)</label>
              <input id="bulk-note" name="note" maxlength="2000" autocomplete="off" />
              <p class="dialog-buttons">
                <button type="button" @click=${() => this.close()}>Cancel</button>
                <button class="primary" ?disabled=${!changed}>${request.verdict === "drop" ? "Drop" : "Keep"} ${number(changed)} samples</button>
              </p>
            </form>
          </dialog>`
        : nothing}`;
  }
}

customElements.define("bulk-decision", BulkDecision);
