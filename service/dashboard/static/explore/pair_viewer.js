/** `<pair-viewer>`: zooms two images as one, and shows them in turn or by their difference. */

import "../decisions.js";

const STEPS = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
const BLINK_MILLISECONDS = 600;

class PairViewer extends HTMLElement {
  connectedCallback() {
    this.panes = [...this.querySelectorAll(".pane")];
    this.images = this.panes.map((pane) => pane.querySelector("img"));
    [this.zoom, this.x, this.y] = [1, 0, 0];
    const tools = document.createElement("p");
    tools.className = "tools";
    this.modes = ["Side by side", "In turn", "Difference"].map((name, place) => {
      const button = document.createElement("button");
      button.textContent = name;
      button.addEventListener("click", () => this.show(place));
      tools.append(button);
      return button;
    });
    const hint = document.createElement("span");
    hint.className = "muted";
    hint.textContent = "Wheel, plus and minus zoom both; drag or arrows move both; 0 shows all.";
    tools.append(hint);
    this.prepend(tools);
    for (const pane of this.panes) {
      pane.tabIndex = 0;
      pane.setAttribute("role", "group");
      pane.setAttribute("aria-label", "Image. Plus and minus zoom both images, arrows move them, 0 shows all.");
      pane.addEventListener("wheel", (event) => this.wheeled(event, pane), { passive: false });
      pane.addEventListener("pointerdown", (event) => this.grabbed(event, pane));
      pane.addEventListener("keydown", (event) => this.pressed(event, pane));
    }
    this.show(0);
  }

  disconnectedCallback() {
    clearInterval(this.blinking);
  }

  /** @param {number} mode */
  show(mode) {
    clearInterval(this.blinking);
    this.modes.forEach((button, place) => button.setAttribute("aria-pressed", place === mode ? "true" : "false"));
    this.classList.toggle("over", mode > 0);
    this.classList.toggle("difference", mode === 2);
    this.classList.remove("second");
    if (mode > 0) this.panes[0].append(this.images[1]);
    else this.panes[1].append(this.images[1]);
    // Those who want no motion turn the images by pressing again.
    if (mode === 1 && !matchMedia("(prefers-reduced-motion: reduce)").matches)
      this.blinking = setInterval(() => this.classList.toggle("second"), BLINK_MILLISECONDS);
    else if (mode === 1) this.classList.toggle("second", !(this.turned = !this.turned));
    this.place();
  }

  place() {
    for (const image of this.images) image.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.zoom})`;
  }

  /** @param {number} factor @param {number} left @param {number} top from the pane's middle */
  zoomAt(factor, left, top) {
    const zoom = Math.min(Math.max(this.zoom * factor, 1), 40);
    const real = zoom / this.zoom;
    this.x = zoom === 1 ? 0 : left - (left - this.x) * real;
    this.y = zoom === 1 ? 0 : top - (top - this.y) * real;
    this.zoom = zoom;
    this.place();
  }

  wheeled(event, pane) {
    event.preventDefault();
    const box = pane.getBoundingClientRect();
    this.zoomAt(Math.exp(-event.deltaY / 400), event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2);
  }

  grabbed(event, pane) {
    event.preventDefault();
    pane.focus();
    pane.setPointerCapture(event.pointerId);
    let last = [event.clientX, event.clientY];
    pane.onpointermove = (moved) => {
      this.x += moved.clientX - last[0];
      this.y += moved.clientY - last[1];
      last = [moved.clientX, moved.clientY];
      this.place();
    };
    pane.onpointerup = pane.onpointercancel = () => (pane.onpointermove = null);
  }

  pressed(event, pane) {
    if (event.ctrlKey || event.metaKey || event.target !== pane) return;
    if (event.key in STEPS) {
      this.x += STEPS[event.key][0];
      this.y += STEPS[event.key][1];
      this.place();
    } else if (event.key === "+" || event.key === "-") this.zoomAt(event.key === "+" ? 1.5 : 1 / 1.5, 0, 0);
    else if (event.key === "0") this.zoomAt(0, 0, 0);
    else return;
    event.preventDefault();
  }
}

customElements.define("pair-viewer", PairViewer);
