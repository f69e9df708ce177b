/**
 * Where rows of a list stand that may have more of them than a browser's page has pixels.
 *
 * Small steps of the scroll bar move exactly so far; large ones, as when it is dragged, go to the row at that share of
 * the list; and when the list rests, the bar is put back to where its row belongs.
 */

const TALLEST = 8_000_000;

export class Scroller {
  /** @param {HTMLElement} frame scrolls @param {HTMLElement} canvas its content @param {number} height of a row @param {() => void} moved */
  constructor(frame, canvas, height, moved) {
    [this.frame, this.canvas, this.height, this.moved] = [frame, canvas, height, moved];
    this.count = 0;
    /** The first pixel that is seen, if the list were as tall as its rows. */
    this.top = 0;
    this.last = 0;
    frame.addEventListener("scroll", () => this.scrolled(), { passive: true });
  }

  get whole() {
    return this.count * this.height;
  }

  get furthest() {
    return Math.max(this.whole - this.frame.clientHeight, 0);
  }

  /** @param {number} count of rows @param {number} height of one */
  resize(count, height = this.height) {
    this.top *= height / this.height;
    [this.count, this.height] = [count, height];
    this.canvas.style.height = `${Math.min(this.whole, TALLEST)}px`;
    this.goto(Math.min(this.top, this.furthest));
  }

  scrolled() {
    const now = this.frame.scrollTop;
    const step = now - this.last;
    if (step === 0) return;
    this.last = now;
    const reach = Math.max(this.canvas.clientHeight - this.frame.clientHeight, 1);
    const exact = this.whole <= TALLEST;
    if (exact) this.top = now;
    else if (Math.abs(step) < 2 * this.frame.clientHeight && now > 0 && now < reach) this.top += step;
    else this.top = (now / reach) * this.furthest;
    this.top = Math.min(Math.max(this.top, 0), this.furthest);
    this.moved();
    if (exact) return;
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.anchor(), 150);
  }

  anchor() {
    const reach = this.canvas.clientHeight - this.frame.clientHeight;
    this.frame.scrollTop = this.whole <= TALLEST ? this.top : (this.top / Math.max(this.furthest, 1)) * reach;
    this.last = this.frame.scrollTop;
    this.moved();
  }

  /** @param {number} top */
  goto(top) {
    this.top = Math.min(Math.max(top, 0), this.furthest);
    this.anchor();
  }

  /** Moves no further than is needed to see a row. @param {number} row */
  show(row) {
    if (row * this.height < this.top) this.goto(row * this.height);
    else if ((row + 1) * this.height > this.top + this.frame.clientHeight)
      this.goto((row + 1) * this.height - this.frame.clientHeight);
  }

  /** The first and the last row of which something is seen. @returns {[number, number]} */
  seen() {
    const first = Math.floor(this.top / this.height);
    const last = Math.floor((this.top + this.frame.clientHeight) / this.height);
    return [Math.max(first, 0), Math.min(last, this.count - 1)];
  }

  /** Where a row is drawn in the content. @param {number} row */
  place(row) {
    return this.frame.scrollTop + row * this.height - this.top;
  }
}
