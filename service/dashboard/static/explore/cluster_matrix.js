/** `<cluster-matrix>`: how many pairs of the filters lie between each two clusters; a cell filters by its two. */

import { ask } from "../api.js";
import { html, nothing } from "../vendor/lit.js";
import { number } from "../words.js";
import { Part } from "./part.js";
import { view } from "./view.js";

// Up to so many clusters have their medoids drawn beside them.
const PICTURED = 24;
const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

/** Attribute beside those of a part: `leads`, the page to go to with a cell's filter; without it, this one filters. */
class ClusterMatrix extends Part {
  static properties = { leads: {}, told: { state: true }, at: { state: true }, medoids: { state: true } };

  async begin() {
    await this.load();
    if (this.told.clusters > PICTURED || !this.dataset) return;
    const { items } = await (await ask(`/curations/${this.curation}/clusters`)).json();
    this.medoids = items.map((item) => item.medoid);
  }

  changed() {
    this.attempt(() => this.load());
  }

  async load() {
    // Its own cells are no filter of what it shows: all of them stay, to go from one to another.
    const query = new URLSearchParams(view.query());
    query.delete("cluster_a");
    query.delete("cluster_b");
    if (query.toString() === this.asked) return this.requestUpdate();
    const answer = await this.now(`confusion?${query}`);
    const told = await answer.json();
    this.asked = query.toString();
    this.counts = new Map(told.cells.map(([a, b, count]) => [a * told.clusters + b, count]));
    this.told = told;
  }

  /** Pairs between the clusters of a row and of a column. @param {number} row @param {number} column */
  count(row, column) {
    const [a, b] = this.clusters(row, column);
    return this.counts.get(a * this.told.clusters + b) ?? 0;
  }

  clusters(row, column) {
    const { arranged } = this.told;
    return [Math.min(arranged[row], arranged[column]), Math.max(arranged[row], arranged[column])];
  }

  /** @param {PointerEvent} event */
  cellAt(event) {
    const { clusters } = this.told;
    const box = event.currentTarget.getBoundingClientRect();
    const place = (offset, side) => Math.min(Math.max(Math.floor((offset / side) * clusters), 0), clusters - 1);
    return [place(event.clientY - box.top, box.height), place(event.clientX - box.left, box.width)];
  }

  choose([row, column]) {
    const [a, b] = this.clusters(row, column);
    if (this.leads) return location.assign(`${this.leads}?cluster_a=${a}&cluster_b=${b}`);
    const same = view.number("cluster_a") === a && view.number("cluster_b") === b;
    return view.set(same ? { cluster_a: null, cluster_b: null } : { cluster_a: a, cluster_b: b });
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const at = this.at ?? [0, 0];
    const last = this.told.clusters - 1;
    if (event.key in MOVES) this.at = MOVES[event.key].map((step, axis) => Math.min(Math.max(at[axis] + step, 0), last));
    else if (event.key === "Enter" || event.key === " ") this.choose(at);
    else return;
    event.preventDefault();
  }

  updated() {
    if (!this.told) return;
    const canvas = this.querySelector("canvas");
    const { clusters, arranged } = this.told;
    const side = Math.max(Math.floor(640 / clusters), 1);
    canvas.width = canvas.height = side * clusters;
    const paper = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const [low, high] = [style.backgroundColor, style.color].map((text) => text.match(/[\d.]+/g).slice(0, 3).map(Number));
    const most = Math.log1p(this.told.cells[0]?.[2] ?? 0) || 1;
    const gap = side > 5 ? 1 : 0;
    for (let row = 0; row < clusters; row += 1) {
      for (let column = 0; column < clusters; column += 1) {
        const count = this.count(row, column);
        const share = count ? 0.08 + (0.92 * Math.log1p(count)) / most : 0.03;
        paper.fillStyle = `rgb(${low.map((part, i) => Math.round(part + share * (high[i] - part))).join(" ")})`;
        paper.fillRect(column * side, row * side, side - gap, side - gap);
      }
    }
    const [a, b] = [view.number("cluster_a"), view.number("cluster_b")];
    const mark = (row, column, colour) => {
      paper.lineWidth = 2;
      paper.strokeStyle = colour;
      paper.strokeRect(column * side + 1, row * side + 1, Math.max(side - gap - 2, 2), Math.max(side - gap - 2, 2));
    };
    if (a !== null && b !== null) {
      const [row, column] = [arranged.indexOf(a), arranged.indexOf(b)];
      mark(row, column, style.outlineColor);
      mark(column, row, style.outlineColor);
    }
    if (this.at) mark(...this.at, style.borderTopColor);
  }

  render() {
    if (!this.told) return this.problem ? this.trouble() : html`<p class="muted">Counting the pairs.</p>`;
    const { clusters, left_out: left } = this.told;
    const at = this.at;
    const [a, b] = at ? this.clusters(...at) : [];
    const pictures = (side) => this.medoids?.map((medoid) => html`<img class="few-pixels" src="/api/v1/datasets/${this.dataset}/samples/${medoid}/thumbnail?size=96" alt="" data-side=${side} />`);
    return html`<div class="matrix ${this.medoids ? "pictured" : ""}">
        <div class="matrix-top" aria-hidden="true">${pictures("top")}</div>
        <div class="matrix-left" aria-hidden="true">${pictures("left")}</div>
        <canvas
        tabindex="0"
        role="application"
        aria-label="Pairs between ${number(clusters)} clusters. Arrows move, Enter filters by the two clusters. The page of clusters has the same as a table."
        aria-busy=${this.busy ? "true" : "false"}
        @pointermove=${(event) => (this.at = this.cellAt(event))}
        @pointerleave=${() => (this.at = undefined)}
        @click=${(event) => this.choose(this.cellAt(event))}
        @keydown=${this.pressed}
        @blur=${() => (this.at = undefined)}
      ></canvas>
      </div>
      <p class="muted matrix-says" role="status">
        ${at
          ? html`<b>${number(this.count(...at))}</b> pairs ${a === b ? html`inside cluster ${a}` : html`between clusters ${a} and ${b}`}`
          : html`At most ${number(this.told.cells[0]?.[2] ?? 0)} pairs a cell. Darker is more, on a log scale; clusters alike stand
              side by side.`}
        ${left ? html`${number(left)} cells with few pairs are left out.` : nothing}
      </p>
      ${this.trouble()}`;
  }
}

customElements.define("cluster-matrix", ClusterMatrix);
