/**
 * BLAKE2b (RFC 7693) without a key, of 64 bits: what Python's `hashlib.blake2b(data,
 * digest_size=8)` gives. WebCrypto has none. A word of 64 bits is two of 32, the lower one first.
 */

const SIZE = 8; // bytes of a digest
const BLOCK = 128; // bytes
const ROUNDS = 12;
const START = new Uint32Array([
  0xf3bcc908, 0x6a09e667, 0x84caa73b, 0xbb67ae85, 0xfe94f82b, 0x3c6ef372, 0x5f1d36f1, 0xa54ff53a,
  0xade682d1, 0x510e527f, 0x2b3e6c1f, 0x9b05688c, 0xfb41bd6b, 0x1f83d9ab, 0x137e2179, 0x5be0cd19,
]);
const ORDER = [
  "0123456789abcdef", "ea489fd61c02b753", "b8c052fdae367194", "7931dcbe265a40f8",
  "905724afe1bc683d", "2c6a0b834d75fe19", "c51fed4a0763928b", "db7ec13950f4862a",
  "6fe9b308c2d714a5", "a2847615fb9e3cd0",
].map((row) => Array.from(row, (place) => parseInt(place, 16)));
// Columns, then diagonals, of a square of 16 words.
const QUARTERS = [
  [0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15],
  [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14],
].map((quarter) => quarter.map((word) => 2 * word));

/** The hash of an image's encoded bytes, as `data/table.hash_image` in Python: a bigint. */
export function hashImage(bytes) {
  const state = START.slice();
  state[0] ^= 0x01010000 ^ SIZE;
  const words = new Uint32Array(BLOCK / 4), block = new Uint8Array(words.buffer);
  let start = 0;
  do {
    const part = bytes.subarray(start, start + BLOCK);
    block.fill(0).set(part);
    start += BLOCK;
    compress(state, words, Math.min(start, bytes.length), start >= bytes.length);
  } while (start < bytes.length);
  return (BigInt(state[1]) << 32n) | BigInt(state[0]);
}

function compress(state, words, length, last) {
  const work = new Uint32Array(32);
  work.set(state);
  work.set(START, 16);
  work[24] ^= length;
  work[25] ^= length / 2 ** 32;
  if (last) for (const half of [28, 29]) work[half] = ~work[half];
  for (let round = 0; round < ROUNDS; round++) {
    const order = ORDER[round % 10];
    for (let i = 0; i < 8; i++) {
      const [a, b, c, d] = QUARTERS[i];
      add(work, a, b, words, 2 * order[2 * i]);
      turn(work, d, a, 32);
      add(work, c, d);
      turn(work, b, c, 24);
      add(work, a, b, words, 2 * order[2 * i + 1]);
      turn(work, d, a, 16);
      add(work, c, d);
      turn(work, b, c, 63);
    }
  }
  for (let half = 0; half < 16; half++) state[half] ^= work[half] ^ work[half + 16];
}

/** Add to word `a` the word `b`, and one of `words`. */
function add(work, a, b, words, word) {
  const low = work[a] + work[b] + (words ? words[word] : 0);
  work[a + 1] += work[b + 1] + (words ? words[word + 1] : 0) + Math.floor(low / 2 ** 32);
  work[a] = low;
}

/** Exclusive or of the words `d` and `a` into `d`, turned to the right by some bits. */
function turn(work, d, a, bits) {
  let low = work[d] ^ work[a], high = work[d + 1] ^ work[a + 1];
  if (bits >= 32) [low, high] = [high, low];
  const rest = bits % 32;
  work[d] = rest ? (low >>> rest) | (high << (32 - rest)) : low;
  work[d + 1] = rest ? (high >>> rest) | (low << (32 - rest)) : high;
}
