/**
 * Numbers as words of 64 bits whose sum modulo 2^64 is the sum of the numbers, as
 * celeba_fl/privacy/encoding.py has them. Words are halves in a Uint32Array, the lower one first.
 */
import { ToldInputError } from "../fleet/errors.js";
import { compare, dumps } from "./bytes.js";

export const [WHOLE, SMALL, EXACT, MEAN] = ["whole", "small", "exact", "mean"];
const WORD = 2 ** 32; // half a word; a step of a mean is one part of so many
const FULL = 2 ** 62;
const LIMBS = 6;
const SCALE = 2 ** 128;
const LARGEST = 1e15;
const SIZE = {
  whole: (n) => n,
  small: (n) => Math.ceil(n / 2),
  exact: (n) => LIMBS * n,
  mean: (n) => n,
};
const WRITE = { whole, small, exact, mean };

/**
 * The layout of some numbers, which says nothing of their values, and their words.
 *
 * @param {Map<string, {kind: string, tensor: object, weight?: number}>} summands by name
 * @param {number} number of clients in the exchange; numbers that could make its total wrap are a
 *   ToldInputError
 * @returns {{layout: string, words: Uint32Array}}
 */
export function encode(summands, number) {
  const named = [...summands].sort(([one], [other]) => compare(one, other));
  const layout = dumps(named.map(([name, { kind, tensor }]) => [name, kind, tensor.shape]));
  const sizes = named.map(([, { kind, tensor }]) => 2 * SIZE[kind](tensor.data.length));
  const words = new Uint32Array(sizes.reduce((sum, size) => sum + size, 0));
  let at = 0;
  named.forEach(([name, { kind, tensor, weight }], i) => {
    const fits = (value, largest) => {
      if (Math.abs(value) < largest) return;
      throw new ToldInputError(
        `${name}: a number is not finite, or so large that the sum of all ` + `clients could wrap`,
      );
    };
    WRITE[kind](words.subarray(at, (at += sizes[i])), tensor.data, fits, number, weight);
  });
  return { layout, words };
}

function whole(halves, data, fits, number) {
  if (!(data instanceof BigInt64Array)) return data.forEach((value, i) => put(halves, i, value));
  halves.set(new Uint32Array(data.buffer, data.byteOffset, 2 * data.length));
  for (let i = 0; i < halves.length; i += 2) {
    fits((halves[i + 1] | 0) * WORD + halves[i], FULL / number);
  }
}

function small(halves, data, fits, number) {
  for (let i = 0; i < data.length; i++) {
    const value = Number(data[i]);
    fits(value, WORD / number);
    halves[i] = value;
  }
}

function exact(halves, data, fits) {
  data.forEach((value, i) => {
    fits(value, LARGEST);
    const steps = BigInt(Math.trunc(value * SCALE));
    for (let k = 0; k < LIMBS; k++) {
      const limb = steps >> BigInt(32 * k);
      const low = Number(BigInt.asUintN(32, limb));
      put(halves, LIMBS * i + k, k < LIMBS - 1 ? low : Number(limb));
    }
  });
}

function mean(halves, data, fits, number, weight) {
  for (let i = 0; i < data.length; i++) {
    const steps = data[i] * (weight * WORD);
    fits(steps, FULL / number);
    const near = Math.round(steps); // which takes the upper of two that are as near
    put(halves, i, near - steps === 0.5 && near % 2 ? near - 1 : near);
  }
}

/** A whole number as the word at a place. */
function put(halves, place, value) {
  const high = Math.floor(value / WORD);
  halves[2 * place] = value - high * WORD;
  halves[2 * place + 1] = high;
}
