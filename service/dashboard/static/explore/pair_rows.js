/** `<pair-rows>`: the pairs of the filters as a list of any length, of which only the rows in sight are there. */

import { get } from "../api.js";
import { html, nothing, repeat } from "../vendor/lit.js";
import { number, plain } from "../words.js";
import { Part } from "./part.js";
import { Scroller } from "./rows.js";
import { view } from "./view.js";

// Of a row, in pixels, as explore.css has it.
const NARROW = matchMedia("(max-width: 720px)");
const height = () => (NARROW.matches ? 268 : 124);
const PAGE = 50;
const PAGES = 40;

/** Attribute beside those of a part: `sim-high`, the upper end of the band. */
class PairRows extends Part {
  static properties = { bandHigh: { type: Number, attribute: "sim-high" }, total: { state: true }, row: { state: true }, side: { state: true } };

  constructor() {
    super();
    /** @type {Map<number, any[] | Promise<void>>} by number of the page */
    this.pages = new Map();
    this.row = 0;
    this.side = 0;
  }

  async begin() {
    await this.updateComplete;
    const frame = this.querySelector(".rows");
    this.scroller = new Scroller(frame, frame.firstElementChild, height(), () => this.requestUpdate());
    this.listen(NARROW, "change", () => this.scroller.resize(this.total ?? 0, height()));
    this.listen(document, "decided", ({ detail }) => this.decided(detail));
    this.listen(document, "decided-many", () => this.forget());
    this.watching = new ResizeObserver(() => this.requestUpdate());
    this.watching.observe(frame);
    this.row = Number(location.hash.match(/^#row-(\d+)$/)?.[1] ?? 1) - 1;
    await this.restart();
    this.scroller.show(this.row);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.watching?.disconnect();
  }

  get question() {
    return view.query({ sort: view.get("sort") ?? "-difficulty" });
  }

  changed() {
    if (this.scroller && this.question !== this.asked) this.attempt(() => this.restart());
  }

  /** Begins a list anew, at its first row unless the page has just been opened. */
  async restart() {
    const fresh = this.asked !== undefined;
    this.asked = this.question;
    const answer = await this.now(`pairs?${this.asked}&offset=0&limit=${PAGE}`);
    const { items, total } = await answer.json();
    this.pages = new Map([[0, items]]);
    this.total = total;
    if (fresh) this.row = this.scroller.top = 0;
    this.row = Math.min(Math.max(this.row, 0), Math.max(total - 1, 0));
    this.scroller.resize(total);
    this.requestUpdate();
  }

  forget() {
    this.attempt(() => this.restart());
  }

  /** @param {{sample: number, verdict?: string, decision?: number}} change */
  decided(change) {
    const standing = change.decision ? { id: change.decision, verdict: change.verdict } : null;
    for (const page of this.pages.values())
      if (Array.isArray(page))
        for (const pair of page)
          for (const side of [pair.a, pair.b]) if (side.index === change.sample) side.decision = standing;
    this.requestUpdate();
  }

  /** The pair of a row, or undefined while it is on its way. @param {number} row */
  pair(row) {
    const place = Math.floor(row / PAGE);
    const page = this.pages.get(place);
    if (page === undefined) this.pages.set(place, this.attempt(() => this.load(place)));
    else if (Array.isArray(page)) {
      // The latest that was looked at is forgotten last.
      this.pages.delete(place);
      this.pages.set(place, page);
      return page[row % PAGE];
    }
    return undefined;
  }

  async load(place) {
    const asked = this.asked;
    // Rows that were passed by before their answer is here are not asked for.
    await new Promise((resolve) => setTimeout(resolve, 30));
    const [first, last] = this.scroller.seen();
    if (asked !== this.asked || place < Math.floor(first / PAGE) || place > Math.floor(last / PAGE)) {
      this.pages.delete(place);
      return;
    }
    try {
      const answer = await this.listed(asked, place);
      if (asked !== this.asked) return;
      this.pages.set(place, answer);
    } catch (error) {
      this.pages.delete(place);
      throw error;
    }
    for (const old of this.pages.keys()) {
      if (this.pages.size <= PAGES) break;
      if (old !== place && Array.isArray(this.pages.get(old))) this.pages.delete(old);
    }
    this.requestUpdate();
  }

  async listed(asked, place) {
    return (await get(`/curations/${this.curation}/pairs?${asked}&offset=${place * PAGE}&limit=${PAGE}`)).items;
  }

  /** @param {number} row */
  goto(row) {
    this.row = Math.min(Math.max(row, 0), this.total - 1);
    this.scroller.show(this.row);
    view.at(`#row-${this.row + 1}`);
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.total) return;
    const page = Math.max(Math.floor(this.scroller.frame.clientHeight / this.scroller.height), 1);
    const buttons = () => this.querySelector(`[data-row="${this.row}"]`)?.querySelectorAll("decision-buttons")[this.side];
    const move = (rows) => () => this.goto(this.row + rows);
    const actions = {
      ArrowDown: move(1),
      ArrowUp: move(-1),
      j: move(1),
      k: move(-1),
      PageDown: move(page),
      PageUp: move(-page),
      Home: () => this.goto(0),
      End: () => this.goto(this.total - 1),
      h: () => (this.side = 0),
      l: () => (this.side = 1),
      ArrowLeft: () => (this.side = 0),
      ArrowRight: () => (this.side = 1),
      s: () => buttons()?.decide("keep"),
      x: () => buttons()?.decide("drop"),
      u: () => buttons()?.undo(),
    };
    if (event.key === "Enter" && event.target === this.scroller.frame) this.open();
    else if (event.key in actions) actions[event.key]();
    else return;
    event.preventDefault();
  }

  open() {
    const pair = this.pair(this.row);
    if (pair) location.assign(this.address(pair));
  }

  address(pair) {
    return `/curations/${this.curation}/pairs/${pair.a.index}-${pair.b.index}`;
  }

  updated() {
    for (const row of this.querySelectorAll("[data-row]")) {
      row.style.transform = `translateY(${this.scroller.place(Number(row.dataset.row))}px)`;
    }
  }

  render() {
    const [first, last] = this.scroller && this.total ? this.scroller.seen() : [0, -1];
    const rows = Array.from({ length: last - first + 1 }, (_, place) => first + place);
    return html`<p class="muted rows-says" role="status">
        ${this.total === undefined ? "Loading the pairs." : this.total ? html`Row ${number(this.row + 1)} of ${number(this.total)}.` : "No pair is as the filters say."}
        ${this.busy ? "Loading." : nothing}
      </p>
      ${this.trouble()}
      <div
        class="rows"
        tabindex="0"
        role="group"
        aria-label="Pairs. j and k or the arrows move, h and l choose the image, s keeps, x drops, u undoes, Enter opens."
        @keydown=${this.pressed}
      >
        <div class="rows-canvas">${repeat(rows, (row) => row, (row) => this.one(row))}</div>
      </div>`;
  }

  /** @param {number} row */
  one(row) {
    const pair = this.pair(row);
    const here = row === this.row;
    return html`<article class="pair-row ${here ? "here" : ""}" data-row=${row} @click=${() => (this.row = row)}>
      ${pair
        ? html`<p class="pair-figures">
              <a href=${this.address(pair)}><b>${pair.similarity.toFixed(4)}</b></a>
              <span class="muted">${pair.in_band ? "in the band" : pair.similarity >= this.bandHigh ? "above the band" : "below the band"}</span>
              <span class="muted">row ${number(row + 1)}</span>
            </p>
            ${[pair.a, pair.b].map((side, place) => this.half(side, here && place === this.side))}`
        : html`<p class="muted">Row ${number(row + 1)}</p>`}
    </article>`;
  }

  half(side, here) {
    const small = 2 * Math.max(side.width, side.height) <= 96;
    return html`<div class="half ${here ? "here" : ""}">
      <a href="/curations/${this.curation}/samples/${side.index}" tabindex="-1">
        <img
          class=${small ? "few-pixels" : ""}
          src="/api/v1/datasets/${this.dataset}/samples/${side.index}/thumbnail?size=96"
          width="96"
          height="96"
          alt="Sample ${side.index}"
        />
      </a>
      <div>
        <bdi class="half-name" title=${plain(side.sample_id)}>${plain(side.sample_id)}</bdi>
        <span class="muted"
          ><span class="hue hue-${side.cluster % 8}"></span>cluster ${side.cluster}${side.label === null ? nothing : html`, <bdi>${plain(side.label)}</bdi>`}</span
        >
        <span class="muted">difficulty ${side.difficulty.toFixed(3)}</span>
        <decision-buttons
          curation=${this.curation}
          .sample=${side.index}
          .name=${plain(side.sample_id)}
          .verdict=${side.decision?.verdict}
          .decision=${side.decision?.id}
        ></decision-buttons>
      </div>
    </div>`;
  }
}

customElements.define("pair-rows", PairRows);
