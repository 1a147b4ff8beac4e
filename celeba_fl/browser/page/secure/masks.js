/**
 * Masks, as celeba_fl/privacy/masks.py makes them: AES-256 in counter mode, added modulo 2^64.
 *
 * Words are halves in a Uint32Array, the lower one first: arithmetic on BigInt takes ten times as
 * long.
 */
const { subtle } = crypto;
const BLOCK = 1 << 18; // halves at once, so that no more than a megabyte of a mask is in memory

/** Add the mask of a key to words, in place; or subtract it. */
export async function addMask(halves, key, negative = false) {
  const aes = await subtle.importKey("raw", key, "AES-CTR", false, ["encrypt"]);
  for (let start = 0; start < halves.length; start += BLOCK) {
    const part = halves.subarray(start, start + BLOCK);
    const counter = new Uint8Array(16);
    new DataView(counter.buffer).setUint32(12, start / 4); // four halves are a block of AES
    const form = { name: "AES-CTR", counter, length: 64 };
    const zeros = new Uint8Array(part.byteLength);
    const mask = new Uint32Array(await subtle.encrypt(form, aes, zeros));
    (negative ? subtract : add)(part, mask);
  }
}

function add(halves, mask) {
  for (let i = 0; i < halves.length; i += 2) {
    const low = halves[i] + mask[i];
    halves[i] = low;
    halves[i + 1] = halves[i + 1] + mask[i + 1] + (low > 0xffffffff ? 1 : 0);
  }
}

function subtract(halves, mask) {
  for (let i = 0; i < halves.length; i += 2) {
    const low = halves[i] - mask[i];
    halves[i] = low;
    halves[i + 1] = halves[i + 1] - mask[i + 1] - (low < 0 ? 1 : 0);
  }
}
