// Exact sums of a site's examples, in whole numbers: bit for bit those of Python's clients.
//
// Features are rounded to steps of 2^-14. Squares of them are below 2^42, so that doubles add up
// 2,048 of them without error, and integers of 64 bits hold the rest. See models/ridge.py and
// models/scaling.py.

import { ToldInputError } from "../fleet/errors.js";

const STEP = 2 ** -14;
const WEIGHT_STEP = 2 ** -8;
const BLOCK = 2048;
const LARGEST = 128;
const FULL = 2 ** 62;

/** The nearest whole number, of two the even one; for numbers below 2^51. */
export const rint = (x) => x + 1.5 * 2 ** 52 - 1.5 * 2 ** 52;

/** Weights in steps of 1/256, rounded, but never to 0. */
export const inWeightSteps = (weight) => Math.max(1, rint(weight / WEIGHT_STEP));

/**
 * Number, sum and sum of squares of features: `{n, x, xx}`, BigInt64Arrays of (1), (dim), (dim).
 *
 * @param {Float32Array} rows (n, dim)
 * @param {number} dim
 * @param {number[]} chosen The rows that are summed.
 */
export function scalingSums(rows, dim, chosen) {
  const total = { n: new Total(1), x: new Total(dim), xx: new Total(dim) };
  total.n.add(0, [chosen.length], 1);
  for (const block of blocks(chosen)) {
    const x = inSteps(rows, dim, block);
    const [sum, square] = [new Float64Array(dim), new Float64Array(dim)];
    for (let at = 0; at < x.length; at += dim + 1) {
      for (let j = 0; j < dim; j++) {
        sum[j] += x[at + j];
        square[j] += x[at + j] ** 2;
      }
    }
    total.x.add(0, sum, 1);
    total.xx.add(0, square, 1);
  }
  return values(total);
}

/**
 * The sums of ridge regression: `xx` the upper triangle of X'X, row by row, and `xy` X'Y.
 *
 * X has a constant 1 at the end; both are BigInt64Arrays in steps of 2^-36.
 *
 * @param {Float32Array} rows (n, dim)
 * @param {number} dim
 * @param {number[]} chosen The rows that are summed.
 * @param {Uint8Array} labels (n, outputs), 0 or 1.
 * @param {number} outputs
 * @param {(row: number) => number} weigh The weight by which a row counts.
 */
export function ridgeSums(rows, dim, chosen, labels, outputs, weigh) {
  const size = dim + 1;
  const total = { xx: new Total((size * (size + 1)) / 2), xy: new Total(size * outputs) };
  const times = new Map([...chosen].map((row) => [row, inWeightSteps(weigh(row))]));
  for (const factor of new Set(times.values())) {
    for (const block of blocks(chosen.filter((row) => times.get(row) === factor))) {
      const x = inSteps(rows, dim, block);
      const line = new Float64Array(size);
      for (let i = 0, at = 0; i < size; at += size - i, i++) {
        products(x, size, i, line);
        total.xx.add(at, line.subarray(i), factor);
      }
      const xy = new Float64Array(size * outputs);
      block.forEach((row, r) => {
        for (let k = 0; k < outputs; k++) {
          if (!labels[row * outputs + k]) continue;
          for (let j = 0; j < size; j++) xy[j * outputs + k] += x[r * size + j] / STEP;
        }
      });
      total.xy.add(0, xy, factor);
    }
  }
  return values(total);
}

/** Sums of the products of one column with itself and those after it, four rows at a time. */
function products(x, size, i, line) {
  line.fill(0, i);
  for (let a = 0; a < x.length; a += 4 * size) {
    const [b, c, d] = [a + size, a + 2 * size, a + 3 * size];
    const [p, q, r, s] = [x[a + i], x[b + i], x[c + i], x[d + i]];
    for (let j = i; j < size; j++) {
      line[j] += p * x[a + j] + q * x[b + j] + r * x[c + j] + s * x[d + j];
    }
  }
}

/** Features in steps, each row with a constant 1 at the end; rows of 0 make a multiple of 4. */
function inSteps(rows, dim, chosen) {
  const x = new Float64Array(Math.ceil(chosen.length / 4) * 4 * (dim + 1));
  chosen.forEach((row, r) => {
    const at = r * (dim + 1);
    for (let j = 0; j < dim; j++) {
      const value = rows[row * dim + j];
      if (!(Math.abs(value) < LARGEST)) throw new ToldInputError(TOO_LARGE);
      x[at + j] = rint(value / STEP);
    }
    x[at + dim] = 1 / STEP;
  });
  return x;
}

const TOO_LARGE =
  "a feature is too large; exact sums are of whole numbers, and that takes features below 128: " +
  "scale them in the backbone, or set scaling to none and take no closed form";

/** Sums in integers of 64 bits, refused before they could be more. */
class Total {
  constructor(length) {
    this.values = new BigInt64Array(length);
  }

  add(at, more, times) {
    const factor = BigInt(times);
    for (let i = 0; i < more.length; i++) {
      const sum = this.values[at + i] + BigInt(more[i]) * factor;
      if (sum >= FULL || sum <= -FULL) {
        throw new ToldInputError(
          "the exact sums do not fit into 64 bits: there are too many examples, too large " +
            "features, or too unlike groups in group-weighting",
        );
      }
      this.values[at + i] = sum;
    }
  }
}

const values = (totals) =>
  Object.fromEntries(Object.entries(totals).map(([name, total]) => [name, total.values]));

function* blocks(chosen) {
  for (let i = 0; i < chosen.length; i += BLOCK) yield chosen.slice(i, i + BLOCK);
}
