/**
 * The pictures that a tab holds, as its client sees them: labels, identities and features, in one
 * order. Only this module and vision/ ever open a picture, and neither sends anything.
 */

import { ToldInputError } from "../fleet/errors.js";
import { hashImage } from "../vision/blake2b.js";
import { features as compute } from "../vision/features.js";
import { decode } from "../vision/pixels.js";
import { METADATA, readMetadata } from "./metadata.js";

// The run's keys by which drawn faces are dealt.
const DEALING = [
  ...["seed", "partitioner", "partition-by", "dirichlet-alpha", "dirichlet-order"],
  ...["min-partition-size", "partition-size", "public-fraction"],
];
const PICTURE = /\.(jpe?g|png)$/i;

/**
 * @typedef {object} Picture
 * @property {string} file Its name; stays in the tab.
 * @property {string} hash SHA-256 of the file, hex; by it labels and features are kept.
 * @property {bigint} content 64 bits of BLAKE2b of the file, by which Python draws validation.
 * @property {number} identity Who it shows.
 * @property {Uint8Array|null} labels 40 of 0 and 1; null where nobody has said.
 * @property {Blob|null} blob The file, if it is at hand.
 */

export class Pictures {
  /** @type {Picture[]} */
  all = [];
  identified = false;
  simulated = false;

  /**
   * @param {import("./store.js").Store} store
   * @param {{attributes: {name: string}[]}} about
   * @param {{k: number, of: number}|null} part Of the drawn faces, to try it.
   * @param {object} runtime Of vision/runtime.js.
   */
  constructor(store, about, part, runtime) {
    Object.assign(this, { store, about, part, runtime, simulated: Boolean(part) });
  }

  get count() {
    return this.all.length;
  }

  get content() {
    return BigUint64Array.from(this.all, (one) => one.content);
  }

  identity(at) {
    return this.all[at].identity;
  }

  labels(at) {
    return this.all[at].labels;
  }

  /**
   * Take the files that the person has chosen, with a `metadata.csv` if there is one among them.
   *
   * @param {{path: string, file: File}[]} chosen Paths are relative to the folder.
   * @param {(done: number, of: number) => void} onProgress
   * @returns {Promise<string[]>} Why some are left out, a sentence each.
   * @throws {import("./table.js").FileError} If the metadata cannot be read as it should.
   */
  async choose(chosen, onProgress) {
    const files = new Map(chosen.map(({ path, file }) => [path, file]));
    const [metadata, leftOut, known] = [files.get(METADATA), [], new Map()];
    const others = [...files.keys()].filter((path) => PICTURE.test(path));
    let rows = others.map((file, at) => ({ file, labels: null, identity: at, split: "train" }));
    if (metadata) {
      const names = this.about.attributes.map(({ name }) => name);
      rows = readMetadata(new Uint8Array(await metadata.arrayBuffer()), files.keys(), names);
    }
    for (const { hash, labels } of this.all) known.set(hash, labels);
    const [taken, people] = [[], new Set(rows.map(({ identity }) => identity))];
    for (const [at, row] of rows.entries()) {
      onProgress(at, rows.length);
      const blob = files.get(row.file);
      const other = `${row.file} is of the split '${row.split}'; only those of train take part.`;
      const why = row.split === "train" ? await fault(blob, row.file) : other;
      if (why) {
        leftOut.push(why);
        continue;
      }
      const data = new Uint8Array(await blob.arrayBuffer());
      const hash = await sha256(data);
      const labels = row.labels ?? known.get(hash) ?? null;
      taken.push({ ...row, hash, content: hashImage(data), labels, blob });
    }
    onProgress(rows.length, rows.length);
    this.identified = people.size < rows.length;
    this.all = taken;
    return leftOut;
  }

  /** Have what a run needs before anything is counted: drawn faces are dealt by its own keys. */
  async ready(config) {
    if (!this.part) return;
    const query = new URLSearchParams(DEALING.map((key) => [key, config[key]]));
    const { k, of } = this.part;
    const [told, file] = await Promise.all([
      fetched(`/try/${k}/${of}.json?${query}`),
      fetched(`/try/${k}/${of}.bin?${query}`),
    ]);
    const [{ pictures }, blob] = await Promise.all([told.json(), file.blob()]);
    this.all = await Promise.all(
      pictures.map(async ({ file, content, celeb_id, labels, offset, length }) => {
        const data = blob.slice(offset, offset + length, "image/jpeg");
        const hash = await sha256(await data.arrayBuffer());
        const said = Uint8Array.from(labels, Number);
        return {
          file,
          hash,
          content: BigInt(content),
          identity: celeb_id,
          labels: said,
          blob: data,
        };
      }),
    );
    this.identified = true;
  }

  /**
   * Features of all pictures; each is computed once in this browser.
   *
   * @param {{backbone: string, weights: string, features: string, imageSize: number,
   *   dim: number}} view
   * @param {{seed: number|bigint, version: number}} altered Version 0 is the picture itself.
   * @param {(done: number, of: number) => void} onProgress
   * @returns {Promise<Float32Array>} (count * dim).
   */
  async features(view, { seed, version = 0 }, onProgress) {
    const { weights, features, imageSize, dim } = view;
    const made = [weights, features, imageSize, ...(version ? [seed, version] : [])].join("|");
    const keys = this.all.map(({ hash }) => `${hash}|${made}`);
    const rows = await this.store.features(keys);
    const missing = keys.map((_, at) => at).filter((at) => !rows[at]);
    if (missing.some((at) => !this.all[at].blob)) {
      throw new ToldInputError("this site has to choose its pictures again");
    }
    if (missing.length) {
      const blobs = missing.map((at) => this.all[at].blob);
      const altered = version ? { version: { seed, number: version } } : {};
      const found = await compute(this.runtime, view, blobs, { onProgress, ...altered });
      for (const [i, at] of missing.entries()) {
        rows[at] = found.slice(i * dim, (i + 1) * dim);
        await this.store.keep(keys[at], rows[at]);
      }
    }
    const all = new Float32Array(this.count * dim);
    rows.forEach((row, at) => all.set(row, at * dim));
    return all;
  }
}

/** Why a file cannot be a picture here; empty if it can. */
async function fault(blob, name) {
  try {
    await decode(blob, { name });
    return "";
  } catch (error) {
    return error.message;
  }
}

async function sha256(data) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A response of this page's own host; an error in its words otherwise. */
async function fetched(address) {
  const response = await fetch(address);
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({ error: response.statusText }));
  throw new ToldInputError(`drawn faces: ${error}`);
}
