/**
 * One picture that every site sees alike: by its features a server tells how far those of a tab are
 * from its own. The same as in Python (`vision/probe.py`).
 */

import { ToldInputError } from "../fleet/errors.js";
import { tensor } from "../fleet/records.js";
import { openExtractor } from "./features.js";
import { pixels } from "./pixels.js";
import { resize } from "./resizing.js";

const WIDTH = 218, HEIGHT = 178;

/** Its pixels: two gradients, and rings around the middle. */
export function probe() {
  const data = new Uint8Array(3 * WIDTH * HEIGHT);
  for (let y = 0, at = 0; y < HEIGHT; y++) {
    for (let x = 0; x < WIDTH; x++) {
      data[at++] = Math.floor((x * 255) / (WIDTH - 1));
      data[at++] = Math.floor((y * 255) / (HEIGHT - 1));
      data[at++] = Math.floor(((x - 109) ** 2 + (y - 89) ** 2) / 16) % 256;
    }
  }
  return { width: WIDTH, height: HEIGHT, data };
}

/**
 * What a tab adds to its introduction in the roll call: which runtime makes its features, and those
 * of the probe, as words and as tensors by record.
 *
 * @throws {ToldInputError} if this browser alters what it lets a page read of a picture
 */
export async function introduction(runtime, view, { base = "/" } = {}) {
  const image = probe();
  if (globalThis.createImageBitmap) await checkReading(image);
  const see = await openExtractor(runtime, view, base);
  const features = tensor("float32", [view.dim], await see.run(resize(image, view.imageSize)));
  return { words: { runtime: see.name }, arrays: { probe: { features } } };
}

/** Some browsers add noise to what a page reads, so that it cannot tell them apart. */
async function checkReading(image) {
  const line = 4 * Math.ceil((3 * WIDTH) / 4), bytes = new Uint8Array(54 + line * HEIGHT);
  const header = [bytes.length, 0, 54, 40, WIDTH, -HEIGHT, 1 | (24 << 16)]; // BMP, top down
  header.forEach((word, i) => new DataView(bytes.buffer).setInt32(2 + 4 * i, word, true));
  bytes.set([0x42, 0x4d]);
  for (let i = 0; i < image.data.length; i++) {
    const [row, at] = [Math.floor(i / (3 * WIDTH)), i % (3 * WIDTH)];
    bytes[54 + row * line + at - (at % 3) + 2 - (at % 3)] = image.data[i]; // blue comes first
  }
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/bmp" }));
  const read = pixels(bitmap).data;
  bitmap.close();
  if (read.some((value, i) => value !== image.data[i])) {
    throw new ToldInputError(
      "this browser alters the pixels that a page reads (a protection against fingerprinting); " +
        "allow this page to read them, or take another browser",
    );
  }
}
