/**
 * Features of pictures: the frozen backbone's ONNX file, the very one of the Python clients, run in
 * this tab picture by picture, so that no more than one of them is in memory at a time.
 *
 * A view is `{ backbone, weights, features, imageSize, dim }`: what of which network, weights by
 * their SHA-256, edge of a picture in pixels, number of features. `base` is the URL of the page.
 */

import { alter } from "./augmentation.js";
import { decode } from "./pixels.js";
import { planes, resize } from "./resizing.js";

/** The host of the page does not have the weights of this SHA-256; the SuperLink sends them. */
export class MissingWeightsError extends Error {
  constructor(sha256) {
    super(`The host of this page lacks the weights ${sha256}.`);
    this.sha256 = sha256;
  }
}

/**
 * The features of pictures, row by row (number of pictures * dim).
 *
 * @param {object} runtime - of `loadRuntime`
 * @param {object} view
 * @param {(Blob | (() => Promise<Blob>))[]} images - encoded
 * @param {{version?: {seed: number|bigint, number: number},
 *   onProgress?: (done: number, of: number) => void, base?: string}} options - `version`: which
 *   altered one of them; none: as they are
 * @returns {Promise<Float32Array>}
 */
export async function features(runtime, view, images, options = {}) {
  const { version, onProgress = () => {}, base = "/" } = options;
  const see = await openExtractor(runtime, view, base);
  const rows = new Float32Array(images.length * view.dim);
  for (const [i, image] of images.entries()) {
    const file = typeof image === "function" ? await image() : image;
    const seen = await decode(file);
    const pixels = version
      ? alter(seen, view.imageSize, new Uint8Array(await file.arrayBuffer()), version)
      : resize(seen, view.imageSize);
    rows.set(await see.run(pixels), i * view.dim);
    onProgress(i + 1, images.length);
  }
  return rows;
}

/** Give the host weights that came from the SuperLink; it checks them by their hash. */
export async function giveWeights(sha256, bytes, { base = "/" } = {}) {
  const answer = await fetch(`${base}onnx/backbone/${sha256}`, { method: "PUT", body: bytes });
  if (!answer.ok) throw new Error(`The host of this page refuses the weights: ${answer.status}`);
}

let opened = { key: "" };

/** The backbone of a view: its `name`, and `run` from (imageSize, imageSize) pixels to features. */
export async function openExtractor(runtime, view, base) {
  const key = JSON.stringify([base, view]);
  if (opened.key !== key) {
    const session = await runtime.session(await backbone(view, base));
    const shape = [1, 3, view.imageSize, view.imageSize];
    const run = async (image) => {
      const tensor = new runtime.Tensor("uint8", planes(image), shape);
      return (await session.run({ pixels: tensor })).features.data;
    };
    opened = { key, name: runtime.name, run };
  }
  return opened;
}

/** The ONNX file of a view: from the browser's cache, or from the host; whole by its SHA-256. */
async function backbone(view, base) {
  const place = [view.weights, view.features, `${view.imageSize}.onnx`].map(encodeURIComponent);
  const url = `${base}onnx/backbone/${place.join("/")}?backbone=${view.backbone}`;
  const cache = await globalThis.caches?.open("backbones");
  const kept = await whole(await cache?.match(url));
  if (kept) return kept;
  const answer = await fetch(url);
  if (answer.status === 404) throw new MissingWeightsError(view.weights);
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
  const copy = answer.clone(), bytes = await whole(answer);
  if (!bytes) throw new Error(`${url}: came damaged`);
  await cache?.put(url, copy);
  return bytes;
}

/** The bytes of a response, if they have the hash in its header (RFC 9530). */
async function whole(response) {
  if (!response) return null;
  const bytes = new Uint8Array(await response.arrayBuffer());
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const said = `sha-256=:${btoa(String.fromCharCode(...digest))}:`;
  return response.headers.get("Repr-Digest") === said ? bytes : null;
}
