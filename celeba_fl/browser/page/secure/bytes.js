/**
 * Bytes and text as Python writes them: what is signed, derived from or summed by must be the same
 * to the last character on both sides.
 */
import { ToldInputError } from "../fleet/errors.js";

const ENCODER = new TextEncoder();

/** The lowercase hexadecimal digits of bytes. */
export const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");

/** The bytes of hexadecimal digits; a ToldInputError if they are none. */
export function unhex(text) {
  if (typeof text !== "string" || !/^([0-9a-f]{2})*$/i.test(text)) {
    throw new ToldInputError("a text that should be hexadecimal digits is not");
  }
  return Uint8Array.from(text.match(/../g) ?? [], (digits) => parseInt(digits, 16));
}

export function joined(...parts) {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) whole.set(part, (at += part.length) - part.length);
  return whole;
}

/** The order of two texts in Python: by code points, not by the halves of these as here. */
export function compare(one, other) {
  const [a, b] = [Array.from(one), Array.from(other)];
  const i = a.findIndex((character, k) => character !== b[k]);
  return i < 0 || i >= b.length ? a.length - b.length : a[i].codePointAt(0) - b[i].codePointAt(0);
}

/** Texts in Python's order. */
export const sorted = (texts) => [...texts].sort(compare);

/** JSON as Python's `json.dumps` writes it. Maps become objects, in their own order. */
export function dumps(value) {
  if (value instanceof Map) {
    const pairs = Array.from(value, ([key, one]) => `${dumps(String(key))}: ${dumps(one)}`);
    return `{${pairs.join(", ")}}`;
  }
  if (Array.isArray(value)) return `[${value.map(dumps).join(", ")}]`;
  const escaped = (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(value).replace(/[\x7f-\uffff]/g, escaped);
}

/** The bytes of `dumps`. */
export const dumped = (value) => ENCODER.encode(dumps(value));

/** Random bytes from the operating system. */
export const random = (size) => crypto.getRandomValues(new Uint8Array(size));
