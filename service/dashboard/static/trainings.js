/** `<training-starter>`: asks for a training on a manifest, or for an experiment on a curation. */

import { post } from "./api.js";
import { PageElement } from "./element.js";
import { choice, number } from "./starter.js";
import { html, nothing } from "./vendor/lit.js";

// As trainer/arms.py has them; controls are added by the server.
const ARMS = ["auto", "remove", "margin", "temperature", "combined", "debiased", "hard", "eliminated", "sas", "forgetting"];

/** Attributes: `manifest` or `curation`, an id. */
class TrainingStarter extends PageElement {
  static properties = { manifest: {}, curation: {}, problem: { state: true } };

  /** @param {SubmitEvent} event */
  async start(event) {
    event.preventDefault();
    const typed = new FormData(/** @type {HTMLFormElement} */ (event.target));
    const asked = this.manifest ? { manifest: this.manifest } : { curation: this.curation, arms: typed.getAll("arm") };
    for (const name of ["steps", "batch_size", "seed", "seeds"]) if (typed.get(name)) asked[name] = Number(typed.get(name));
    if (typed.get("method")) asked.method = typed.get("method");
    if (typed.get("images")) asked.baseline = true;
    this.problem = undefined;
    try {
      location.assign(`/trainings/${(await post("/trainings", asked)).id}`);
    } catch (error) {
      this.problem = error.message;
    }
  }

  render() {
    const one = this.manifest;
    return html`<form class="starter" aria-label=${one ? "New training" : "New experiment"} @submit=${this.start}>
      ${one ? nothing : this.arms()}
      <div class="fields">
        ${one
          ? [
              choice("images", "Images", "Which, and how.", { "": "as the manifest says", all: "all alike: the baseline" }),
              number("seed", "Seed", "Of every random choice.", 0, 2 ** 31 - 1),
            ]
          : number("seeds", "Seeds", "Runs of each arm. Empty: 3.", 2, 50)}
        ${choice("method", "Method", "Of learning.", { "": "simclr", moco: "moco", simsiam: "simsiam", byol: "byol" })}
        ${number("steps", "Steps", "Of the optimiser. Empty: by the number of images.", 1, 10_000_000)}
        ${number("batch_size", "Batch", "Images a step. Empty: by the recipe.", 4, 65_536)}
      </div>
      <button class="primary">Start ${one ? "a training" : "an experiment"}</button>
      ${this.problem ? html`<p class="alert" role="alert">${this.problem}</p>` : nothing}
    </form>`;
  }

  arms() {
    return html`<fieldset class="arms">
      <legend>Arms. Baselines and the controls of each are added.</legend>
      ${ARMS.map(
        (arm) => html`<label><input type="checkbox" name="arm" value=${arm} ?checked=${arm === "auto"} /> ${arm}</label>`,
      )}
    </fieldset>`;
  }
}

customElements.define("training-starter", TrainingStarter);
