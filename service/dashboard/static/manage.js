/** `<row-actions>`: renames what has a name, and deletes it once it is said what goes with it. */

import { ask, call } from "./api.js";
import { PageElement } from "./element.js";
import { html, nothing } from "./vendor/lit.js";
import { plain } from "./words.js";

/**
 * Attributes: `kind` is of the API, such as `datasets`; `row` its id, `name` its name; `renames` where it may be renamed;
 * `back` is where to go once it is deleted; `word` is what that is called, if not Delete.
 */
class RowActions extends PageElement {
  static properties = { kind: {}, row: {}, name: {}, back: {}, word: {}, renames: { type: Boolean }, doing: { state: true }, depends: { state: true }, failed: { state: true } };

  /** @param {"rename" | "delete"} doing */
  async open(doing) {
    this.doing = doing;
    this.depends = this.failed = "";
    await this.updateComplete;
    this.querySelector("dialog").showModal();
  }

  close() {
    this.querySelector("dialog").close();
  }

  /** @param {SubmitEvent} event */
  async rename(event) {
    event.preventDefault();
    const name = new FormData(/** @type {HTMLFormElement} */ (event.target)).get("name");
    const headers = { "content-type": "application/json" };
    const sent = call(`/${this.kind}/${this.row}`, { method: "PATCH", headers, body: JSON.stringify({ name }) });
    await this.sent(sent, () => location.reload());
  }

  /** Asks for it alone first: the answer says what depends on it. @param {SubmitEvent} event */
  async remove(event) {
    event.preventDefault();
    const query = this.depends ? "?cascade=true" : "";
    const sent = ask(`/${this.kind}/${this.row}${query}`, { method: "DELETE" });
    const asked = Boolean(this.depends);
    await this.sent(sent, () => location.assign(this.back));
    if (!asked && this.failed.includes("cascade")) {
      this.depends = this.failed.replace(/ Repeat the request.*/, "");
      this.failed = "";
    }
  }

  /** @param {Promise<any>} sent @param {() => void} done */
  async sent(sent, done) {
    this.failed = "";
    try {
      await sent;
      done();
    } catch (error) {
      this.failed = /** @type {Error} */ (error).message;
    }
  }

  render() {
    return html`${this.renames ? html`<button @click=${() => this.open("rename")}>Rename</button>` : nothing}
      <button @click=${() => this.open("delete")}>${this.word ?? "Delete"}</button>
      <dialog aria-labelledby="action-title">${this.doing === "rename" ? this.renaming() : this.deleting()}</dialog>`;
  }

  renaming() {
    return html`<form @submit=${this.rename}>
      <h2 id="action-title">Rename</h2>
      <label>Name <input name="name" maxlength="200" required .value=${this.name} /></label>
      ${this.ending(html`<button class="primary">Rename</button>`)}
    </form>`;
  }

  deleting() {
    return html`<form @submit=${this.remove}>
      <h2 id="action-title">${this.word ?? "Delete"} <bdi>${plain(this.name)}</bdi>?</h2>
      ${this.depends
        ? html`<p role="status">${plain(this.depends)}</p>`
        : html`<p>It goes for good. If anything was made of it, you are asked once more.</p>`}
      ${this.ending(html`<button class="primary">${this.depends ? "Delete all of it" : (this.word ?? "Delete")}</button>`)}
    </form>`;
  }

  /** @param {unknown} button */
  ending(button) {
    return html`${this.failed ? html`<p class="alert" role="alert">${plain(this.failed)}</p>` : nothing}
      <p class="dialog-buttons">${button} <button type="button" @click=${this.close}>Leave it</button></p>`;
  }
}

customElements.define("row-actions", RowActions);
