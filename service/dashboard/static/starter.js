/** `<curation-starter>`: asks for a curation of a data set. */

import { call, get, post } from "./api.js";
import { PageElement } from "./element.js";
import { html, nothing } from "./vendor/lit.js";
import { plain } from "./words.js";

/** @typedef {{id: string, encoder: string, fingerprint: string, name: string, architecture: string}} Encoder */

// The kinds that a server takes, as tamis/encoders/names.py has them.
const KINDS = {
  simclr: "trained on these images",
  torchvision: "a network of this library",
  timm: "a network of this library",
  checkpoint: "an encoder of yours",
  embeddings: "those that were sent",
};
const EXAMPLES = { torchvision: "resnet18", timm: "vit_small_patch16_224.dino" };

// What a request means that leaves a setting out; empty for what is chosen by the data.
const DEFAULTS = {
  views: "1",
  architecture: "",
  image_size: "",
  epochs: "",
  steps: "",
  classes: "",
  score: "blend",
  neighbours: "64",
  device: "",
  seed: "0",
};
const WORDS = ["architecture", "score", "device"];

// `invalid` does not bubble: it is caught on its way down.
const OPEN_WHEN_INVALID = { handleEvent: (event) => (event.currentTarget.open = true), capture: true };

/** Attributes: `dataset`, its id, and `embeddings` where some were sent for it. */
class CurationStarter extends PageElement {
  static properties = {
    of: { attribute: "dataset" },
    brought: { type: Boolean, attribute: "embeddings" },
    kind: { state: true },
    encoders: { state: true },
    chosen: { state: true },
    said: { state: true },
    problem: { state: true },
  };

  constructor() {
    super();
    this.kind = "simclr";
    /** @type {Encoder[] | undefined} those that were sent, once they are asked for */
    this.encoders = undefined;
    /** Which of them, as requests call it; empty for a file that is yet to be sent. */
    this.chosen = "";
  }

  async choose(event) {
    this.kind = event.target.value;
    this.problem = undefined;
    if (this.kind !== "checkpoint" || this.encoders?.length) return;
    try {
      this.encoders = (await get("/encoders?limit=500")).items;
      this.chosen = this.encoders[0]?.encoder ?? "";
    } catch (error) {
      this.problem = error.message;
      this.encoders = [];
    }
  }

  async start(event) {
    event.preventDefault();
    if (this.said) return;
    const typed = new FormData(event.target);
    this.problem = undefined;
    try {
      const encoder = await this.encoder(typed);
      this.said = "Starting the curation.";
      const curation = await post("/curations", { dataset: this.of, encoder, ...changed(typed) });
      location.assign(`/curations/${curation.id}`);
    } catch (error) {
      this.problem = error.message;
      this.said = undefined;
    }
  }

  /** What the request calls the encoder. A file is sent first. @param {FormData} typed @returns {Promise<string>} */
  async encoder(typed) {
    const named = (field) => String(typed.get(field)).trim();
    if (this.kind in EXAMPLES) return `${this.kind}:${named("network")}`;
    if (this.kind !== "checkpoint") return this.kind;
    if (this.chosen) return this.chosen;
    const file = /** @type {File} */ (typed.get("file"));
    const query = new URLSearchParams({ name: file.name });
    if (named("architecture")) query.set("architecture", named("architecture"));
    this.said = "Sending the encoder.";
    const sent = await call(`/encoders?${query}`, { method: "POST", body: file });
    this.encoders = [sent, ...this.encoders.filter((known) => known.id !== sent.id)];
    this.chosen = sent.encoder;
    return sent.encoder;
  }

  render() {
    const kinds = Object.entries(KINDS).filter(([kind]) => kind !== "embeddings" || this.brought);
    return html`<form class="starter" aria-label="New curation" @submit=${this.start}>
        <div class="fields">
          ${field({
            id: "encoder",
            label: "Encoder",
            control: html`<select id="encoder" @change=${this.choose}>
              ${kinds.map(([kind, text]) => html`<option value=${kind}>${kind}: ${text}</option>`)}
            </select>`,
          })}
          ${this.kind in EXAMPLES ? this.network() : nothing}
          ${this.kind === "checkpoint" && this.encoders ? this.checkpoint() : nothing}
        </div>
        ${this.settings()}
        <button class="primary">Start a curation</button>
      </form>
      <p class=${this.said ? "muted" : "unseen"} role="status">${this.said ?? nothing}</p>
      ${this.problem ? html`<p class="alert" role="alert">${this.problem}</p>` : nothing}`;
  }

  network() {
    return field({
      id: "network",
      label: "Network",
      hint: html`As ${this.kind} names it, such as <code>${EXAMPLES[this.kind]}</code>. The worker has its weights or
        downloads them.`,
      control: html`<input
        id="network"
        name="network"
        required
        aria-describedby="network-hint"
        autocapitalize="off"
        spellcheck="false"
      />`,
    });
  }

  checkpoint() {
    const choice = field({
      id: "chosen",
      label: "Which encoder",
      control: html`<select id="chosen" @change=${(event) => (this.chosen = event.target.value)}>
        ${this.encoders.map(
          ({ encoder, name, architecture, fingerprint }) =>
            html`<option value=${encoder} ?selected=${encoder === this.chosen}>
              ${plain(name)}, ${architecture}, ${fingerprint.slice(0, 12)}
            </option>`,
        )}
        <option value="" ?selected=${!this.chosen}>a file from this computer</option>
      </select>`,
    });
    const file = field({
      id: "encoder-file",
      label: "Checkpoint",
      hint: "encoder.pt of Tamis, or a state dict as .pt, .pth or .safetensors.",
      control: html`<input id="encoder-file" name="file" type="file" required aria-describedby="encoder-file-hint" />`,
    });
    const architecture = field({
      id: "architecture",
      label: "Network",
      hint: html`Where the weights do not tell, such as <code>torchvision:vit_b_16</code>.`,
      control: html`<input
        id="architecture"
        name="architecture"
        aria-describedby="architecture-hint"
        autocapitalize="off"
        spellcheck="false"
      />`,
    });
    return html`${this.encoders.length ? choice : nothing} ${this.chosen ? nothing : [file, architecture]}`;
  }

  settings() {
    const of = (...kinds) => kinds.includes(this.kind);
    return html`<details @invalid=${OPEN_WHEN_INVALID}>
      <summary>More settings</summary>
      <div class="fields">
        ${of("embeddings") ? nothing : number("views", "Views", "Of each image; their features are averaged.", 1, 10)}
        ${of("simclr") ? this.training() : nothing}
        ${number("classes", "Classes (r + 1)", "Empty: estimated.", 2, 2 ** 31 - 1)}
        ${choice(
          "score",
          "Score",
          "blend: how far an image is from others, and how like a blend of two. band: the share of its pairs high in the band.",
          { blend: "blend", band: "band, the paper's" },
        )}
        ${number("neighbours", "Neighbours", "Difficult partners listed of each image.", 1, 1024)}
        ${of("embeddings") ? nothing : choice("device", "Device", "Of the worker.", { "": "its own", cpu: "cpu", cuda: "cuda" })}
        ${number("seed", "Seed", "Of every random choice.", 0, 2 ** 31 - 1)}
      </div>
    </details>`;
  }

  training() {
    return [
      choice("architecture", "Architecture", "small is quick on a CPU; the others are for a GPU.", {
        "": "by device and images",
        small: "small",
        resnet18: "resnet18",
        resnet50: "resnet50",
      }),
      number("image_size", "Image size", "Pixels of a side. Empty: by device and images.", 16, 1024),
      number("epochs", "Epochs", "Of training. Empty: by the number of images.", 1, 10_000),
      number("steps", "Steps", "Of training, in place of epochs.", 1, 10_000_000),
    ];
  }
}

function field({ id, label, hint = "", control }) {
  return html`<div>
    <label for=${id}>${label}</label>
    ${control} ${hint ? html`<small id="${id}-hint">${hint}</small>` : nothing}
  </div>`;
}

export function number(id, label, hint, min, max) {
  const value = DEFAULTS[id];
  const control = html`<input
    id=${id}
    name=${id}
    type="number"
    min=${min}
    max=${max}
    value=${value}
    aria-describedby="${id}-hint"
  />`;
  return field({ id, label, hint, control });
}

/** @param {Record<string, string>} options what each value is called */
export function choice(id, label, hint, options) {
  const control = html`<select id=${id} name=${id} aria-describedby="${id}-hint">
    ${Object.entries(options).map(([value, text]) => html`<option value=${value}>${text}</option>`)}
  </select>`;
  return field({ id, label, hint, control });
}

/** The settings that are not left as they are by default. @param {FormData} typed */
function changed(typed) {
  const settings = {};
  for (const [name, value] of Object.entries(DEFAULTS)) {
    const given = typed.get(name);
    if (given && given !== value) settings[name] = WORDS.includes(name) ? given : Number(given);
  }
  return settings;
}

customElements.define("curation-starter", CurationStarter);
