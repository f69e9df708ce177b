/** `<decision-log>`: undoes decisions of a table that the server drew, one or a batch of them. */

import { post } from "../api.js";

class DecisionLog extends HTMLElement {
  connectedCallback() {
    this.addEventListener("click", (event) => {
      const button = /** @type {HTMLElement} */ (event.target).closest("button");
      if (button) this.undo(button);
    });
  }

  /** @param {HTMLElement} button */
  async undo(button) {
    const { decision, batch } = button.dataset;
    try {
      await post(batch ? `/curations/${this.getAttribute("curation")}/decisions/bulk/${batch}/undo` : `/decisions/${decision}/undo`, {});
      location.reload();
    } catch (error) {
      const said = document.createElement("span");
      said.setAttribute("role", "alert");
      said.textContent = error.message;
      button.replaceWith(said);
    }
  }
}

customElements.define("decision-log", DecisionLog);
