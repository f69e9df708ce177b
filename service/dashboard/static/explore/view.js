/**
 * What the explore page shows, kept in its address: a reload, or whoever is sent the address, sees the same.
 *
 * The names are those of the API's filters. Whoever draws listens for `change`.
 */

const FILTERS = ["sim_low", "sim_high", "cluster_a", "cluster_b", "sample", "apart", "decision", "hardest", "box"];

// Browsers refuse to have an address changed a few hundred times in half a minute, as dragging would.
const WRITE_MILLISECONDS = 300;

class View extends EventTarget {
  constructor() {
    super();
    this.values = new URLSearchParams(location.search);
    this.hash = location.hash;
  }

  /** @param {string} name @returns {string | null} */
  get(name) {
    return this.values.get(name);
  }

  /** A number, or null. @param {string} name */
  number(name) {
    return this.values.has(name) ? Number(this.values.get(name)) : null;
  }

  /** Sets some; null takes one away. @param {Record<string, string | number | null>} changes */
  set(changes) {
    for (const [name, value] of Object.entries(changes)) {
      if (value === null) this.values.delete(name);
      else this.values.set(name, String(value));
    }
    this.dispatchEvent(new Event("change"));
    this.at("");
  }

  /** Keeps a place in the page, which goes with the next change. @param {string} hash */
  at(hash) {
    this.hash = hash;
    this.writing ??= setTimeout(() => this.write(), WRITE_MILLISECONDS);
  }

  write() {
    this.writing = undefined;
    const query = this.values.toString();
    history.replaceState(null, "", (query ? `?${query}` : location.pathname) + this.hash);
  }

  /** The filters as a query, with what else is asked for. @param {Record<string, string | number>} more */
  query(more = {}) {
    const asked = new URLSearchParams(Object.entries(more).map(([name, value]) => [name, String(value)]));
    for (const name of FILTERS) if (this.values.has(name)) asked.set(name, this.values.get(name));
    return asked.toString();
  }

  /** The filters as the body of a request. @returns {Record<string, any>} */
  body() {
    const found = {};
    for (const name of FILTERS) {
      const value = this.values.get(name);
      if (value === null) continue;
      if (name === "decision") found[name] = value;
      else if (name === "apart") found[name] = value === "true";
      else found[name] = name === "box" ? value.split(",").map(Number) : Number(value);
    }
    return found;
  }
}

export const view = new View();
