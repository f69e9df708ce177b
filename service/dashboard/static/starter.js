/** `<curation-starter>`: asks for a curation of a data set. */

import { post } from "./api.js";
import { PageElement } from "./element.js";
import { html, nothing } from "./vendor/lit.js";

class CurationStarter extends PageElement {
  static properties = { of: { attribute: "dataset" }, busy: { state: true }, problem: { state: true } };

  async start(event) {
    event.preventDefault();
    const encoder = new FormData(event.target).get("encoder");
    this.busy = true;
    this.problem = undefined;
    try {
      const curation = await post("/curations", { dataset: this.of, encoder });
      location.assign(`/curations/${curation.id}`);
    } catch (error) {
      this.problem = error.message;
      this.busy = false;
    }
  }

  render() {
    return html`<form class="maker" @submit=${this.start}>
        <label for="encoder">Encoder</label>
        <select id="encoder" name="encoder">
          <option value="simclr">simclr: trained on these images</option>
          <option value="embeddings">embeddings: those that were sent</option>
        </select>
        <button class="primary" ?disabled=${this.busy}>Start a curation</button>
      </form>
      ${this.problem ? html`<p class="alert" role="alert">${this.problem}</p>` : nothing}`;
  }
}

customElements.define("curation-starter", CurationStarter);
