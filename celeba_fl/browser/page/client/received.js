// What a message says, checked: a server may send anything, and each field has one rule.

import { ToldInputError } from "../fleet/errors.js";

const HASH = /^[0-9a-f]{64}$/;
const finite = (value) => typeof value === "number" && Number.isFinite(value);
const weights = (value) => Array.isArray(value) && value.every((one) => finite(one) && one >= 0);
const words = (value) => Array.isArray(value) && value.every((one) => typeof one === "string");

/** Of each instruction, whether a value can be one; others are nothing to a tab. */
const RULES = {
  weights: (value) => HASH.test(value),
  preprocessing: (value) => HASH.test(value),
  precision: (value) => value === "fp32",
  "server-round": (value) => typeof value === "bigint" && value >= 0n,
  scaling: (value) => value instanceof Uint8Array && value.length % 8 === 0,
  "group-weights": weights,
  "positive-weight": weights,
  "proximal-mu": (value) => finite(value) && value >= 0,
  sums: words,
  final: () => true,
};
const CURES = { precision: ": a tab computes features in fp32; set precision = 'fp32'" };

/** The instructions in a message, by name, of those that a tab reads. */
export function instructions(content) {
  const told = {};
  for (const [key, value] of record(content, "config", "config")) {
    if (!Object.hasOwn(RULES, key)) continue;
    if (!RULES[key](value)) {
      const said = CURES[key] ? ` = '${value}'` : "";
      throw new ToldInputError(`${key}${said}${CURES[key] ?? ": is none that a server sends"}`);
    }
    told[key] = value;
  }
  return told;
}

/**
 * The head in a message, `{weight, bias}`.
 *
 * @throws {ToldInputError} Unless it is one of so many outputs and features, and finite.
 */
export function head(content, outputs, dim) {
  const found = Object.fromEntries(record(content, "arrays", "arrays"));
  const { weight, bias } = found;
  const right =
    Object.keys(found).length === 2 &&
    fits(weight, [outputs, dim]) &&
    fits(bias, [outputs]) &&
    [weight, bias].every(({ data }) => data.every(Number.isFinite));
  if (!right) {
    throw new ToldInputError(
      `the model in the message is none of ${outputs} finite outputs on ${dim} features in float32`,
    );
  }
  return { weight: weight.data, bias: bias.data };
}

const fits = (array, shape) =>
  array?.dtype === "float32" && String(array.shape) === String(shape);

/** The files in a query, by their SHA-256; no more than the one whose hash was told. */
export function files(content, told) {
  const found = [...record(content, "files", "arrays")];
  if (found.some(([hash, file]) => hash !== told || file.dtype !== "uint8")) {
    throw new ToldInputError("the server sends a file that it did not tell of");
  }
  return found.map(([, file]) => file.data);
}

/** The scale of features in the instructions, `{mean, factor}`; null if there is none. */
export function scale({ scaling }, dim) {
  if (!scaling) return null;
  const numbers = new Float32Array(scaling.slice().buffer);
  if (numbers.length !== 2 * dim || !numbers.every(Number.isFinite)) {
    throw new ToldInputError(`scaling: is none of ${dim} features`);
  }
  return { mean: numbers.subarray(0, dim), factor: numbers.subarray(dim) };
}

/** The weights in an instruction: so many of them; of none, what goes without saying. */
export function listed(told, key, number, usual) {
  const values = told[key] ?? usual;
  if (values && values.length !== number) {
    throw new ToldInputError(`${key}: has ${values.length} numbers, not ${number}`);
  }
  return values;
}

/** The items of a record, by key. */
export function record(content, name, kind) {
  const found = content.get(name);
  if (found?.kind !== kind) throw new ToldInputError(`the message has no ${kind} ${name}`);
  return found.items;
}
