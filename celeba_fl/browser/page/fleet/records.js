// The records of a message: what a client is asked, and what it answers, as plain values.
//
// A content is a `Map` of records; a record is `{kind, items}`, of kind "arrays" (items: a Map of
// tensors), "metrics" or "config" (items: a Map of values). A value is a BigInt for an integer, a
// number for a double, or, in a config alone, a boolean, a string or bytes; or a list of these.

import { ForeignDataError } from "./errors.js";
import { ConfigRecord, MetricRecord } from "./messages.js";
import { decode, encode } from "./protobuf.js";

export { tensor } from "./npy.js";

const INT64_MAX = 2n ** 63n - 1n;
const SCHEMAS = { metrics: MetricRecord, config: ConfigRecord };

const record = (kind) => (items) => ({
  kind,
  items: items instanceof Map ? items : new Map(Object.entries(items)),
});

/** A record of arrays, from an object or a Map of tensors. */
export const arrays = record("arrays");
/** A record of numbers and lists of numbers. */
export const metrics = record("metrics");
/** A record of settings: numbers, words, bytes, and lists of them. */
export const config = record("config");

/** The kinds of values, in the order in which Flower's Python asks what a value is. */
const KINDS = {
  bool: (value) => typeof value === "boolean",
  sint64: (value) => typeof value === "bigint",
  double: (value) => typeof value === "number",
  string: (value) => typeof value === "string",
  bytes: (value) => value instanceof Uint8Array,
};
// Python asks of a metric for a double first, and so an empty list is one of doubles.
const ORDER = { metrics: ["double", "sint64"], config: Object.keys(KINDS) };
const LISTS = {
  bool: "boolList",
  sint64: "sintList",
  double: "doubleList",
  string: "stringList",
  bytes: "bytesList",
};

function toProto(kind, key, value) {
  for (const type of ORDER[kind]) {
    const right = KINDS[type];
    const large = (number) => type === "sint64" && number > INT64_MAX;
    if (right(value)) return { [large(value) ? "uint64" : type]: value };
    if (Array.isArray(value) && value.every(right))
      return { [value.some(large) ? "uintList" : LISTS[type]]: { vals: value } };
  }
  throw new TypeError(`${key}: no value of a record of ${kind}: an integer is a BigInt there`);
}

/** The one value in a message that has one of several; arrays of values as plain arrays. */
export function valueOf(message) {
  const [value, ...more] = Object.values(message ?? {}).filter((one) => one !== undefined);
  if (value === undefined || more.length)
    throw new ForeignDataError("a value of a record is none that Flower sends");
  return value.vals ?? value;
}

/** The bytes of a record of metrics or config, as Flower's Python makes them. */
export function encodeRecord({ kind, items }) {
  const list = [...items].map(([key, value]) => ({ key, value: toProto(kind, key, value) }));
  return encode(SCHEMAS[kind], { items: list });
}

/** The record of metrics or config in bytes; what is bytes in it is a copy. See `decode`. */
export function decodeRecord(kind, body, budget) {
  const copied = (value) => {
    if (value instanceof Uint8Array) return value.slice();
    return Array.isArray(value) ? value.map(copied) : value;
  };
  const { items } = decode(SCHEMAS[kind], body, budget);
  return { kind, items: new Map(items.map(({ key, value }) => [key, copied(valueOf(value))])) };
}
