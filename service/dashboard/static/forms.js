/** `<rest-form>`: sends the form in it to the API as JSON. */

import { post } from "./api.js";
import { refresh } from "./refresh.js";
import { plain } from "./words.js";

/**
 * Attributes: `path` of the API, and `to`, the page to go to with the new id in place of `*`; without it the field
 * `shown` of the answer stands in the form's output. What is empty is left out, and boxes of one name are a list.
 */
class RestForm extends HTMLElement {
  connectedCallback() {
    this.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send(/** @type {HTMLFormElement} */ (event.target));
    });
  }

  /** @param {HTMLFormElement} form */
  async send(form) {
    const body = {};
    for (const { name, type, value, checked } of form.elements) {
      if (type === "checkbox") checked && (body[name] ??= []).push(value);
      else if (name && value) body[name] = type === "number" || value === "true" ? JSON.parse(value) : value;
    }
    const told = form.querySelector("output");
    const alert = form.querySelector("[role=alert]");
    alert.hidden = true;
    try {
      const made = await post(this.getAttribute("path"), body);
      const to = this.getAttribute("to");
      if (to) return location.assign(to.replace("*", made.id));
      form.reset();
      told.textContent = made[this.getAttribute("shown")];
      await refresh();
    } catch (error) {
      alert.textContent = plain(error.message);
      alert.hidden = false;
    }
  }
}

customElements.define("rest-form", RestForm);
