/** `<pair-filters>`: which of the listed pairs are shown, and in which order. */

import { PageElement } from "../element.js";
import { html, nothing } from "../vendor/lit.js";
import { number } from "../words.js";
import { view } from "./view.js";

const ORDERS = {
  "-difficulty": "most difficult first",
  "-similarity": "most similar first",
  similarity: "least similar first",
};
const HARDEST = [100, 1000, 10_000, 100_000];

/** Attribute: `listed`, how many pairs there are. */
class PairFilters extends PageElement {
  static properties = { listed: { type: Number } };

  connectedCallback() {
    super.connectedCallback();
    this.heard = () => this.requestUpdate();
    view.addEventListener("change", this.heard);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    view.removeEventListener("change", this.heard);
  }

  render() {
    const hardest = HARDEST.filter((count) => count < this.listed);
    const given = view.number("hardest");
    if (given !== null && !hardest.includes(given)) hardest.push(given);
    return html`<div class="filters">
      ${choice("hardest", "Pairs", { "": `all ${number(this.listed)}`, ...Object.fromEntries(hardest.map((count) => [count, `the ${number(count)} most difficult`])) })}
      ${choice("apart", "Clusters", { "": "of two or of one", true: "of two clusters", false: "of one cluster" })}
      ${choice("decision", "Decisions", { "": "any", undecided: "none yet", decided: "some", drop: "dropped", keep: "kept" })}
      ${choice("sort", "Order", { "": ORDERS["-difficulty"], "-similarity": ORDERS["-similarity"], similarity: ORDERS.similarity })}
      <span class="chips">${this.chips()}</span>
    </div>`;
  }

  /** What other parts of the page have chosen, each to be taken away. */
  chips() {
    const chip = (text, ...names) =>
      html`<button class="chip" aria-label="Take away: ${text}" @click=${() => view.set(Object.fromEntries(names.map((name) => [name, null])))}>
        ${text} <span aria-hidden="true">✕</span>
      </button>`;
    const [a, b, sample] = ["cluster_a", "cluster_b", "sample"].map((name) => view.number(name));
    const [low, high] = ["sim_low", "sim_high"].map((name) => view.number(name));
    return [
      a === null ? nothing : chip(b === null ? `cluster ${a}` : a === b ? `inside cluster ${a}` : `clusters ${a} and ${b}`, "cluster_a", "cluster_b"),
      sample === null ? nothing : chip(`sample ${sample}`, "sample"),
      view.get("box") === null ? nothing : chip("a box of the map", "box"),
      low === null && high === null
        ? nothing
        : chip(`similarity ${low === null ? "" : `from ${low.toFixed(3)} `}${high === null ? "" : `to ${high.toFixed(3)}`}`, "sim_low", "sim_high"),
    ];
  }
}

/** @param {string} name @param {string} label @param {Record<string, string>} options */
function choice(name, label, options) {
  const value = view.get(name) ?? "";
  return html`<span class="labelled">
    <label for="filter-${name}">${label}</label>
    <select id="filter-${name}" @change=${(event) => view.set({ [name]: event.target.value || null })}>
      ${Object.entries(options).map(([key, text]) => html`<option value=${key} .selected=${key === value}>${text}</option>`)}
    </select>
  </span>`;
}

customElements.define("pair-filters", PairFilters);
