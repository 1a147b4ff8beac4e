/**
 * A secret in shares, as celeba_fl/privacy/shamir.py makes them: by polynomials over GF(2^128)
 * modulo x^128 + x^7 + x^2 + x + 1, one for each half of a secret of 32 bytes.
 */
import { hex, joined, unhex } from "./bytes.js";

const HALF = 16;
const LOW = (1n << 128n) - 1n;
const number = (bytes) => BigInt(`0x${hex(bytes)}`);

/** Shares of a secret for the indices from 1: as many as the threshold give it back. */
export function split(secret, threshold, size, random) {
  const halves = [secret.slice(0, HALF), secret.slice(HALF)].map((half) => {
    const drawn = Array.from({ length: threshold - 1 }, () => number(random(HALF)));
    return [...drawn, number(half)]; // coefficients, the highest first
  });
  return Array.from({ length: size }, (_, i) => joined(...halves.map((of) => valueAt(of, i + 1))));
}

function valueAt(coefficients, index) {
  const value = coefficients.reduce((sum, one) => times(sum, index) ^ one, 0n);
  return unhex(value.toString(16).padStart(2 * HALF, "0"));
}

/** The product of an element and an index, which has few bits. */
function times(element, index) {
  let product = 0n;
  for (let bit = 0; index >> bit; bit++) {
    if ((index >> bit) & 1) product ^= element << BigInt(bit);
  }
  const over = product >> 128n;
  return (product & LOW) ^ over ^ (over << 1n) ^ (over << 2n) ^ (over << 7n);
}
