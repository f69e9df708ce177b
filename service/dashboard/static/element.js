/** A Lit element without a shadow tree, so that the pages' style sheets reach what it draws. */

import { LitElement } from "./vendor/lit.js";

export class PageElement extends LitElement {
  createRenderRoot() {
    return this;
  }

  /** What the server drew in its place goes once there is something to draw. */
  willUpdate() {
    if (!this.hasUpdated) this.replaceChildren();
  }
}
