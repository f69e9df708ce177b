/** `<decision-buttons>`: keep or drop one sample. `<pair-list>`: keys that move through a table of pairs. */

import { get, post } from "./api.js";
import { PageElement } from "./element.js";
import { html, nothing } from "./vendor/lit.js";

/**
 * Attributes: `curation`, `sample` (index), `name` (shown to screen readers), and what stands: `verdict` and `decision`
 * (its id). A sample may be in several pairs, so a change is told to all buttons of the page.
 */
class DecisionButtons extends PageElement {
  static properties = {
    curation: {},
    sample: { type: Number },
    name: {},
    verdict: {},
    decision: { type: Number },
    busy: { state: true },
    problem: { state: true },
  };

  connectedCallback() {
    super.connectedCallback();
    this.listening = new AbortController();
    document.addEventListener("decided", (event) => this.told(event.detail), { signal: this.listening.signal });
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.listening.abort();
  }

  /** @param {{curation: string, sample: number, verdict?: string, decision?: number}} change */
  told(change) {
    if (change.curation !== this.curation || change.sample !== this.sample) return;
    this.verdict = change.verdict;
    this.decision = change.decision;
  }

  /** @param {"keep" | "drop"} verdict */
  decide(verdict) {
    if (verdict === this.verdict) return undefined;
    return this.change(() => post(`/curations/${this.curation}/decisions`, { sample: this.sample, verdict }));
  }

  async undo() {
    if (!this.decision) return;
    const undone = this.decision;
    await this.change(() => post(`/decisions/${undone}/undo`, {}));
    // The pressed button is gone; the focus would fall back to the page's beginning.
    this.querySelector("button")?.focus();
  }

  /** Sends a change, then shows what the server says stands: beneath an undone decision there may be an earlier one. */
  async change(send) {
    if (this.busy) return;
    this.busy = true;
    this.problem = undefined;
    try {
      await send();
      const { items } = await get(`/curations/${this.curation}/decisions?sample=${this.sample}&limit=500`);
      const standing = items.filter((/** @type {any} */ item) => !item.undone).at(-1);
      const detail = {
        curation: this.curation,
        sample: this.sample,
        verdict: standing?.verdict,
        decision: standing?.id,
      };
      document.dispatchEvent(new CustomEvent("decided", { detail }));
    } catch (error) {
      this.problem = error.message;
    } finally {
      this.busy = false;
    }
    await this.updateComplete;
  }

  render() {
    const button = (verdict, mark, word) =>
      html`<button
        class=${verdict}
        aria-pressed=${this.verdict === verdict ? "true" : "false"}
        @click=${() => this.decide(verdict)}
      >
        <span aria-hidden="true">${mark}</span> ${word}
      </button>`;
    return html`<span role="group" aria-label="Decision on ${this.name}">
      ${button("keep", "✓", "Keep")} ${button("drop", "✕", "Drop")}
      ${this.decision ? html`<button class="quiet" @click=${() => this.undo()}>Undo</button>` : nothing}
      ${this.problem ? html`<span role="alert">${this.problem}</span>` : nothing}
    </span>`;
  }
}

/** Keys work while the focus is on a button of the table: j k next and previous pair, h l the other image, s x u decide. */
class PairList extends HTMLElement {
  connectedCallback() {
    this.addEventListener("keydown", (event) => this.pressed(event));
    const hint = document.createElement("p");
    hint.className = "muted";
    hint.textContent =
      "Keys, once a button here has the focus: j and k go to the next and the previous pair, h and l to the other " +
      "image; s keeps, x drops, u undoes.";
    this.prepend(hint);
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const here = event.target.closest("decision-buttons");
    if (!here || event.ctrlKey || event.metaKey || event.altKey) return;
    const all = [...this.querySelectorAll("decision-buttons")];
    const place = all.indexOf(here);
    const actions = {
      j: () => focusOn(all[place + 2]),
      k: () => focusOn(all[place - 2]),
      h: () => focusOn(all[place - (place % 2)]),
      l: () => focusOn(all[place - (place % 2) + 1]),
      s: () => here.decide("keep"),
      x: () => here.decide("drop"),
      u: () => here.undo(),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  }
}

/** @param {Element | undefined} buttons */
function focusOn(buttons) {
  buttons?.querySelector("button")?.focus();
}

customElements.define("decision-buttons", DecisionButtons);
customElements.define("pair-list", PairList);
