/**
 * Pillow's bilinear resizing, rows first and columns then, to the last bit as in Python
 * (`data/images.py`).
 *
 * An image is `{ width, height, data }`: its pixels row by row, three bytes each (RGB).
 */

const BITS = 22;

/**
 * Resize an image, or a box of it, to a square of `size` pixels; the aspect ratio is not kept.
 *
 * @param {{width: number, height: number, data: Uint8Array}} image
 * @param {number} size
 * @param {{left: number, top: number, width: number, height: number}} box - by default all of it
 */
export function resize(image, size, box = { left: 0, top: 0, ...image }) {
  const start = 3 * (box.top * image.width + box.left), line = 3 * image.width;
  const [across, down] = [taps(box.width, size), taps(box.height, size)];
  const data = new Uint8Array(3 * size * size);
  const rows = new Uint8Array(3 * size * box.height), each = 3 * size;
  const from = { data: image.data, start, step: 3, line };
  shrink(from, box.height, across, { data: rows, step: 3, line: each });
  shrink({ data: rows, start: 0, step: each, line: 3 }, size, down, { data, step: each, line: 3 });
  return { width: size, height: size, data };
}

/** Red, green and blue one after the other: (3, height, width). */
export function planes({ width, height, data }) {
  const number = width * height, result = new Uint8Array(3 * number);
  for (let i = 0; i < number; i++) {
    for (let colour = 0; colour < 3; colour++) result[colour * number + i] = data[3 * i + colour];
  }
  return result;
}

/**
 * For each place of a line of `size`, where it looks at a line of `edge`, and with what weights.
 */
function taps(edge, size) {
  const step = edge / size, reach = Math.max(step, 1);
  return Array.from({ length: size }, (_, place) => {
    const centre = (place + 0.5) * step;
    const first = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const last = Math.min(Math.trunc(centre + reach + 0.5), edge);
    const weights = [];
    for (let x = first; x < last; x++) {
      weights.push(Math.max(1 - Math.abs((x - centre + 0.5) * (1 / reach)), 0));
    }
    const sum = weights.reduce((total, one) => total + one, 0);
    return { first, weights: weights.map((one) => Math.trunc((one / sum) * 2 ** BITS + 0.5)) };
  });
}

function shrink(from, lines, places, to) {
  for (let line = 0; line < lines; line++) {
    for (let place = 0; place < places.length; place++) {
      const { first, weights } = places[place];
      for (let colour = 0; colour < 3; colour++) {
        let at = from.start + line * from.line + first * from.step + colour;
        let sum = 1 << (BITS - 1);
        for (let i = 0; i < weights.length; i++, at += from.step) sum += weights[i] * from.data[at];
        to.data[line * to.line + place * to.step + colour] = Math.min(sum >> BITS, 255);
      }
    }
  }
}
