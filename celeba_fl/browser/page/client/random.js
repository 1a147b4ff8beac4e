// What follows from a seed: the very numbers that Python's clients draw.

const SIMULATED = 2n ** 62n; // as `celeba_fl.data.teacher` has it

/**
 * An order of `n` examples, n > 0, as `torch.randperm` draws it.
 *
 * @param {() => number} random Of `generator`: NumPy's RandomState is the same.
 */
export function permutation(random, n) {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  for (let i = 0; i < n - 1; i++) {
    const other = i + (random() % (n - i));
    [order[i], order[other]] = [order[other], order[i]];
  }
  return order;
}

/** Whether an input outlives `torch.nn.functional.dropout`. */
export function outlives(random, dropout) {
  const high = random() % 2 ** 21;
  return high * 2 ** 32 + random() < (1 - dropout) * 2 ** 53;
}

/** The seed of a client's training in a round: `celeba_fl.common.seeds.derived_seed`, mod 2^32. */
export async function trainingSeed(seed, round, name) {
  const quote = name.includes("'") && !name.includes('"') ? '"' : "'";
  const escaped = name.replaceAll("\\", "\\\\").replaceAll(quote, `\\${quote}`);
  const text = `(${seed}, ${round}, ${quote}${escaped}${quote})`;
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Number(BigInt.asUintN(32, new DataView(digest).getBigUint64(0, true) >> 1n));
}

/**
 * Numbers in [0, 1) that follow from a key and 64 bits of each picture's content, whoever holds it.
 *
 * @param {BigUint64Array} content
 * @param {bigint} key
 */
export function uniform(content, key) {
  const start = mix(BigInt.asUintN(64, key));
  return Float64Array.from(content, (bits) => Number(mix(bits ^ start) >> 11n) * 2 ** -53);
}

/** A step of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). */
function mix(bits) {
  bits = BigInt.asUintN(64, bits + 0x9e3779b97f4a7c15n);
  bits = BigInt.asUintN(64, (bits ^ (bits >> 30n)) * 0xbf58476d1ce4e5b9n);
  bits = BigInt.asUintN(64, (bits ^ (bits >> 27n)) * 0x94d049bb133111ebn);
  return bits ^ (bits >> 31n);
}

/**
 * The answers of a simulated teacher: the labels, wrong in a share of each attribute.
 *
 * @param {BigUint64Array} content Of each picture.
 * @param {Uint8Array} labels (pictures, attributes).
 * @param {number[]} errors The share of each attribute.
 * @param {bigint} seed Of the run.
 */
export function simulatedAnswers(content, labels, errors, seed) {
  const answers = Int8Array.from(labels);
  errors.forEach((error, k) => {
    const chance = uniform(content, seed + SIMULATED + BigInt(k) * 2n ** 32n);
    chance.forEach((value, i) => {
      answers[i * errors.length + k] ^= value < error;
    });
  });
  return answers;
}
