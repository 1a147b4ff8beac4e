/**
 * What this browser keeps of a site, in IndexedDB: the name, the labels, features of pictures, and
 * the pictures themselves only if the person wants that. Nothing else on this page writes to disk,
 * but for the key of fleet/identity.js and ONNX files in the browser's cache.
 */

const SITES = "sites";
const FEATURES = "features";

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

export class Store {
  /** @param {string} slot Several sites may live in one browser, each in a slot of its own. */
  static async open(slot) {
    const request = indexedDB.open(`celeba-fl-site/${slot}`, 1);
    request.onupgradeneeded = () => {
      for (const name of [SITES, FEATURES]) request.result.createObjectStore(name);
    };
    return new Store(await done(request));
  }

  constructor(database) {
    this.database = database;
  }

  #in(name, mode = "readonly") {
    return this.database.transaction(name, mode).objectStore(name);
  }

  /** The site as it was last saved; undefined if it never was. */
  site() {
    return done(this.#in(SITES).get(SITES));
  }

  save(site) {
    return done(this.#in(SITES, "readwrite").put(site, SITES));
  }

  /** Features by their keys: Float32Array each, or undefined. */
  features(keys) {
    const kept = this.#in(FEATURES);
    return Promise.all(keys.map((key) => done(kept.get(key))));
  }

  keep(key, features) {
    return done(this.#in(FEATURES, "readwrite").put(features, key));
  }

  /** Forget all of it. */
  async clear() {
    for (const name of [SITES, FEATURES]) await done(this.#in(name, "readwrite").clear());
  }
}
