/** `<cut-chart>`: the similarities of all pairs and of the listed ones, with a cut whose ends can be moved. */

import { html, nothing, svg } from "../vendor/lit.js";
import { number, part, percent } from "../words.js";
import { Part } from "./part.js";
import { view } from "./view.js";

const WIDTH = 1000;
const HEIGHT = 120;
const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };

/**
 * All that a cut gives is told in advance, by a table: while an end is dragged no request is made, and the numbers are
 * exact. Attributes beside those of a part: `sim-low` and `sim-high`, the band.
 */
class CutChart extends Part {
  static properties = {
    bandLow: { type: Number, attribute: "sim-low" },
    bandHigh: { type: Number, attribute: "sim-high" },
    told: { state: true },
    samples: { type: Number },
  };

  async begin() {
    const table = await this.table("recut");
    const column = (name) => Float64Array.from(table.getChild(name).toArray());
    this.told = {
      edges: column("edge"),
      pairs: column("pairs"),
      listed: column("listed"),
      samples: table.getChild("samples").toArray(),
    };
    this.shapes = { all: area(this.told.edges, this.told.pairs), listed: area(this.told.edges, this.told.listed) };
  }

  changed() {
    this.requestUpdate();
  }

  /** The ends of the cut as numbers of edges. */
  get ends() {
    const { edges } = this.told;
    const low = view.number("sim_low");
    const high = view.number("sim_high");
    const last = edges.length - 1;
    return [low === null ? 0 : nearest(edges, low), high === null ? last : nearest(edges, high)];
  }

  /** Moves an end to an edge; it stops before the other. @param {0 | 1} end @param {number} place */
  move(end, place) {
    const { edges } = this.told;
    const [low, high] = this.ends;
    const last = edges.length - 1;
    const stopped = end === 0 ? Math.min(Math.max(place, 0), high - 1) : Math.max(Math.min(place, last), low + 1);
    // An end at the edge of all cuts nothing off: what lies beyond the last edge by a rounding is meant too.
    if (end === 0) view.set({ sim_low: stopped === 0 ? null : edges[stopped] });
    else view.set({ sim_high: stopped === last ? null : edges[stopped] });
  }

  /** @param {PointerEvent} event @param {0 | 1} end */
  grab(event, end) {
    const handle = /** @type {HTMLElement} */ (event.currentTarget);
    handle.setPointerCapture(event.pointerId);
    const frame = this.querySelector(".cut-frame").getBoundingClientRect();
    const { edges } = this.told;
    handle.onpointermove = (moved) => {
      const share = (moved.clientX - frame.left) / frame.width;
      this.move(end, nearest(edges, edges[0] + share * (edges.at(-1) - edges[0])));
    };
    handle.onpointerup = handle.onpointercancel = () => (handle.onpointermove = null);
  }

  /** @param {KeyboardEvent} event @param {0 | 1} end */
  pressed(event, end) {
    const place = this.ends[end];
    const wanted = { Home: 0, End: this.told.edges.length - 1 }[event.key] ?? place + (STEPS[event.key] ?? NaN);
    if (Number.isNaN(wanted)) return;
    event.preventDefault();
    this.move(end, wanted);
  }

  updated() {
    if (!this.told) return;
    const share = this.ends.map((place) => this.share(this.told.edges[place]));
    // The policy allows no style attribute; what a script sets, it does.
    this.querySelectorAll(".cut-end").forEach((end, place) => (end.style.left = `${100 * share[place]}%`));
  }

  /** Where a similarity stands between the first edge and the last. @param {number} similarity */
  share(similarity) {
    const { edges } = this.told;
    return (similarity - edges[0]) / (edges.at(-1) - edges[0]);
  }

  render() {
    if (!this.told) return this.problem ? this.trouble() : html`<p class="muted">Loading the similarities.</p>`;
    const { edges, pairs, listed, samples } = this.told;
    const [low, high] = this.ends;
    const all = pairs.at(-1);
    const x = (similarity) => WIDTH * Math.min(Math.max(this.share(similarity), 0), 1);
    return html`<div class="cut-frame">
        <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" aria-hidden="true">
          ${svg`<rect class="band" x=${x(this.bandLow)} y="0" width=${x(this.bandHigh) - x(this.bandLow)} height=${HEIGHT}></rect>
          <path class="outside" d=${this.shapes.all}></path>
          <path class="listed" d=${this.shapes.listed}></path>
          <rect class="cut-off" x="0" y="0" width=${x(edges[low])} height=${HEIGHT}></rect>
          <rect class="cut-off" x=${x(edges[high])} y="0" width=${WIDTH - x(edges[high])} height=${HEIGHT}></rect>`}
        </svg>
        ${this.end(0, low, "Lower end of the cut")} ${this.end(1, high, "Upper end of the cut")}
      </div>
      <div class="axis" aria-hidden="true">${[0, 0.25, 0.5, 0.75, 1].map((share) => html`<span>${(edges[0] + share * (edges.at(-1) - edges[0])).toFixed(2)}</span>`)}</div>
      <div class="cut-figures">
        <p><b>${number(pairs[high] - pairs[low])}</b> of ${number(all)} pairs are in the cut (${percent((pairs[high] - pairs[low]) / all)})</p>
        <p><b>${number(listed[high] - listed[low])}</b> of ${number(listed.at(-1))} listed pairs</p>
        <p><b>${number(samples[low][high] - samples[low][low])}</b> of ${number(this.samples)} samples have one</p>
      </div>
      <div class="tools">
        <span class="legend"
          ><span class="key all"></span>all pairs <span class="key listed"></span>listed pairs
          <span class="key band"></span>the band, ${this.bandLow.toFixed(3)} to ${this.bandHigh.toFixed(3)}</span
        >
        <span>
          <button @click=${() => view.set({ sim_low: this.bandLow, sim_high: this.bandHigh })}>Cut to the band</button>
          <button ?disabled=${low === 0 && high === edges.length - 1} @click=${() => view.set({ sim_low: null, sim_high: null })}>All</button>
        </span>
      </div>
      ${this.problem ? this.trouble() : nothing}`;
  }

  /** @param {0 | 1} end @param {number} place @param {string} label */
  end(end, place, label) {
    const { edges, pairs } = this.told;
    const above = 1 - pairs[place] / pairs.at(-1);
    const text = `similarity ${edges[place].toFixed(3)}, ${percent(above)} of all pairs above`;
    return html`<div
      class="cut-end"
      role="slider"
      tabindex="0"
      aria-label=${label}
      aria-valuemin=${edges[0].toFixed(3)}
      aria-valuemax=${edges.at(-1).toFixed(3)}
      aria-valuenow=${edges[place].toFixed(3)}
      aria-valuetext=${text}
      @pointerdown=${(event) => this.grab(event, end)}
      @keydown=${(event) => this.pressed(event, end)}
    >
      <span>${edges[place].toFixed(3)}<br />${percent(above)} above</span>
    </div>`;
  }
}

/** The densities between edges as the outline of an area, on a root scale: few pairs are seen beside many.
 * @param {Float64Array} edges @param {Float64Array} below */
function area(edges, below) {
  const heights = [];
  for (let place = 1; place < edges.length; place += 1)
    heights.push(Math.sqrt((below[place] - below[place - 1]) / (edges[place] - edges[place - 1])));
  const tallest = heights.reduce((one, other) => Math.max(one, other), 0) || 1;
  const x = (place) => ((WIDTH * (edges[place] - edges[0])) / (edges.at(-1) - edges[0])).toFixed(1);
  const steps = heights.map((height, place) => `V${(HEIGHT * (1 - height / tallest)).toFixed(1)}H${x(place + 1)}`);
  return `M0 ${HEIGHT}${steps.join("")}V${HEIGHT}Z`;
}

/** The number of the edge nearest to a similarity. @param {Float64Array} edges @param {number} similarity */
function nearest(edges, similarity) {
  let [low, high] = [0, edges.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (edges[middle] <= similarity) low = middle;
    else high = middle;
  }
  return similarity - edges[low] <= edges[high] - similarity ? low : high;
}

customElements.define("cut-chart", CutChart);
