/** A part of the explore page: it loads what the server knows, and says so where that fails. */

import { ask } from "../api.js";
import { PageElement } from "../element.js";
import { tableFromIPC } from "../vendor/arrow.js";
import { html } from "../vendor/lit.js";
import { view } from "./view.js";

const SOON_MILLISECONDS = 250;
const REST_MILLISECONDS = 80;

/** Attributes: `curation` and `dataset`, their ids. */
export class Part extends PageElement {
  static properties = { curation: {}, dataset: {}, problem: { state: true }, busy: { state: true } };

  connectedCallback() {
    super.connectedCallback();
    this.listening = new AbortController();
    this.listen(view, "change", () => this.changed());
    this.attempt(() => this.begin());
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.listening.abort();
    this.asking?.abort();
  }

  /** @param {EventTarget} target @param {string} name @param {(event: any) => void} heard */
  listen(target, name, heard) {
    target.addEventListener(name, heard, { signal: this.listening.signal });
  }

  /** Loads what never changes, once. */
  async begin() {}

  /** Called as the view changes. */
  changed() {}

  /** Does it, and keeps what goes wrong to be shown. @param {() => Promise<void>} action */
  async attempt(action) {
    this.problem = undefined;
    try {
      await action();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.again = action;
      this.problem = error.message;
    }
  }

  /** Asks for what the view means now; an answer to an earlier question is not waited for. @param {string} path */
  async now(path) {
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    this.busy = true;
    const soon = performance.now() - (this.askedAt ?? -Infinity) < SOON_MILLISECONDS;
    this.askedAt = performance.now();
    try {
      // While an end of the cut is dragged, only where it rests is asked for.
      if (soon) await new Promise((resolve) => setTimeout(resolve, REST_MILLISECONDS));
      asking.signal.throwIfAborted();
      return await ask(`/curations/${this.curation}/${path}`, { signal: asking.signal });
    } finally {
      if (this.asking === asking) this.busy = false;
    }
  }

  /** @param {string} path @returns {Promise<import("../vendor/arrow.js").Table>} */
  async table(path) {
    const answer = await ask(`/curations/${this.curation}/${path}`);
    return tableFromIPC(new Uint8Array(await answer.arrayBuffer()));
  }

  trouble() {
    if (!this.problem) return "";
    return html`<p class="alert" role="alert">
      ${this.problem} <button @click=${() => this.attempt(this.again)}>Try again</button>
    </p>`;
  }
}
