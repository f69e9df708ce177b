/** `<sample-map>`: the samples as points. Wheel and keys zoom, dragging moves, dragging with Shift chooses a box. */

import { html, nothing } from "../vendor/lit.js";
import { number } from "../words.js";
import { Part } from "./part.js";
import { Points } from "./points.js";
import { view } from "./view.js";

const HUES = 8;

class SampleMap extends Part {
  static properties = {
    told: { state: true },
    touched: { state: true },
    hovered: { state: true },
    unable: { state: true },
  };

  async begin() {
    const table = await this.table("map");
    const column = (name) => table.getChild(name).toArray();
    this.told = { samples: column("sample"), clusters: column("cluster"), x: column("x"), y: column("y") };
    await this.updateComplete;
    const canvas = this.querySelector("canvas");
    try {
      this.points = new Points(canvas);
    } catch (error) {
      this.unable = error.message;
      return;
    }
    this.paintWith();
    const hues = new Uint8Array(this.told.clusters.length);
    for (let i = 0; i < hues.length; i += 1) hues[i] = this.told.clusters[i] % HUES;
    this.points.load(this.told.x, this.told.y, hues);
    this.listen(canvas, "wheel", (event) => {
      event.preventDefault();
      this.points.zoomAt(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
    });
    this.watching = new ResizeObserver(() => this.points.draw(true));
    this.watching.observe(canvas);
    this.listen(matchMedia("(prefers-color-scheme: dark)"), "change", () => {
      this.paintWith();
      this.points.draw();
    });
    await this.flag();
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.watching?.disconnect();
    this.points?.release();
  }

  changed() {
    if (this.points) this.attempt(() => this.flag());
  }

  async flag() {
    const answer = await this.now(`flags?${view.query()}`);
    const bits = new Uint8Array(await answer.arrayBuffer());
    this.touched = [Number(answer.headers.get("x-samples")), Number(answer.headers.get("x-pairs"))];
    this.points.flag(bits);
    // What is there at once is a fair part of the points; the rest follows when nothing moves.
    this.points.draw(true);
  }

  /** Takes the colours from the style sheet, which knows the theme. */
  paintWith() {
    const probe = document.createElement("span");
    this.append(probe);
    const colour = (className, property) => {
      probe.className = className;
      return getComputedStyle(probe)[property].match(/[\d.]+/g).slice(0, 3).map((each) => Number(each) / 255);
    };
    this.points.hues = Array.from({ length: HUES }, (_, hue) => colour(`hue-${hue}`, "backgroundColor"));
    this.points.ink = colour("", "color");
    probe.remove();
  }

  /** @param {PointerEvent} event */
  grabbed(event) {
    const canvas = /** @type {HTMLCanvasElement} */ (event.currentTarget);
    canvas.setPointerCapture(event.pointerId);
    const from = [event.offsetX, event.offsetY];
    let [last, far] = [from, 0];
    canvas.onpointermove = (moved) => {
      const here = [moved.offsetX, moved.offsetY];
      far += Math.hypot(here[0] - last[0], here[1] - last[1]);
      if (event.shiftKey) this.outline(from, here);
      else {
        const [before, now] = [this.points.under(...last), this.points.under(...here)];
        this.points.pan(before[0] - now[0], before[1] - now[1]);
      }
      last = here;
    };
    canvas.onpointerup = canvas.onpointercancel = (ended) => {
      canvas.onpointermove = (moved) => this.hover(moved);
      canvas.onpointerup = canvas.onpointercancel = null;
      this.outline();
      if (ended.type !== "pointerup") return;
      if (event.shiftKey && far > 4) this.choose(this.points.given(...from), this.points.given(...last));
      else if (far < 4) this.open(this.points.pick(...from));
    };
  }

  /** @param {number[]} [from] @param {number[]} [to] */
  outline(from, to) {
    const box = this.querySelector(".map-box");
    box.hidden = !from;
    if (!from) return;
    box.style.left = `${Math.min(from[0], to[0])}px`;
    box.style.top = `${Math.min(from[1], to[1])}px`;
    box.style.width = `${Math.abs(from[0] - to[0])}px`;
    box.style.height = `${Math.abs(from[1] - to[1])}px`;
  }

  choose(one, other) {
    const ends = [Math.min(one[0], other[0]), Math.min(one[1], other[1]), Math.max(one[0], other[0]), Math.max(one[1], other[1])];
    view.set({ box: ends.map((end) => Number(end.toPrecision(6))).join(",") });
  }

  /** @param {number} point */
  open(point) {
    if (point >= 0) view.set({ sample: this.told.samples[point] });
  }

  /** @param {PointerEvent} event */
  hover(event) {
    const point = this.points?.pick(event.offsetX, event.offsetY) ?? -1;
    this.hovered = point < 0 ? undefined : point;
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const { clientWidth, clientHeight } = this.querySelector("canvas");
    const step = 0.2 / this.points.zoom;
    const actions = {
      ArrowLeft: () => this.points.pan(-step, 0),
      ArrowRight: () => this.points.pan(step, 0),
      ArrowUp: () => this.points.pan(0, step),
      ArrowDown: () => this.points.pan(0, -step),
      "+": () => this.points.zoomAt(1.5, clientWidth / 2, clientHeight / 2),
      "-": () => this.points.zoomAt(1 / 1.5, clientWidth / 2, clientHeight / 2),
      0: () => this.points.whole(),
      Enter: () => this.open(this.points.pick(clientWidth / 2, clientHeight / 2)),
    };
    if (!(event.key in actions) || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    actions[event.key]();
  }

  updated() {
    const tip = this.querySelector(".map-tip");
    if (!tip || this.hovered === undefined) return;
    const [left, top] = this.points.shown(this.hovered);
    const { clientWidth } = this.querySelector("canvas");
    tip.style.left = `${Math.min(left + 12, clientWidth - 120)}px`;
    tip.style.top = `${top + 12}px`;
  }

  render() {
    if (!this.told) return this.problem ? this.trouble() : html`<p class="muted">Loading the map.</p>`;
    const point = this.hovered;
    return html`<div class="map-frame">
        <canvas
          tabindex="0"
          role="application"
          aria-label="Map of ${number(this.told.samples.length)} samples. Arrows move, plus and minus zoom, 0 shows all, Enter chooses the sample in the middle."
          @pointerdown=${this.grabbed}
          @pointermove=${this.hover}
          @pointerleave=${() => (this.hovered = undefined)}
          @keydown=${this.pressed}
        ></canvas>
        <div class="map-box" hidden></div>
        ${point === undefined
          ? nothing
          : html`<div class="map-tip">
              <img src="/api/v1/datasets/${this.dataset}/samples/${this.told.samples[point]}/thumbnail?size=96" width="96" height="96" alt="" />
              sample ${this.told.samples[point]}<br />cluster ${this.told.clusters[point]}
            </div>`}
      </div>
      ${this.unable ? html`<p class="alert" role="alert">${this.unable} The map needs it; all else works without.</p>` : nothing}
      <p class="muted map-says">
        ${this.touched
          ? html`<b>${number(this.touched[0])}</b> of ${number(this.told.samples.length)} samples are in the
              ${number(this.touched[1])} pairs of the filters: they are ringed.`
          : nothing}
        Drag to move, wheel to zoom, Shift and drag to choose a box, click for one sample's pairs.
      </p>
      ${this.trouble()}`;
  }
}

customElements.define("sample-map", SampleMap);
