// Protocol buffers' wire format, as far as Flower's Fleet API needs it.
//
// A message's schema is an object: the name of each field and `[number, type, label]`. The type is
// a word or another schema; the label is "repeated", "optional" (a member of a oneof: it is there
// or not) or nothing. Bytes come out as Python's `SerializeToString` makes them: fields by their
// number, defaults left out, numbers of a list packed.

import { ForeignDataError } from "./errors.js";

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;
const MAX_DEPTH = 32;

/** How many values a message may have: 2 million numbers take a tab about 50 MB. */
export const MAX_VALUES = 2_000_000;

const WIRE = { double: FIXED64, string: BYTES, bytes: BYTES };
const DEFAULTS = { double: 0, int32: 0, string: "", bool: false, uint64: 0n, sint64: 0n };
const wireType = (type) => (typeof type === "string" ? (WIRE[type] ?? VARINT) : BYTES);
const isNumber = (type) => typeof type === "string" && WIRE[type] !== BYTES;

const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

class Writer {
  parts = [];
  bytes = [];
  length = 0;

  byte(value) {
    this.bytes.push(value);
    this.length += 1;
  }

  raw(data) {
    this.flush();
    this.parts.push(data);
    this.length += data.length;
  }

  flush() {
    if (this.bytes.length) this.parts.push(Uint8Array.from(this.bytes));
    this.bytes = [];
  }

  varint(value) {
    let rest = value;
    if (typeof rest === "bigint" && rest < 0x7fffffffn) rest = Number(rest);
    if (typeof rest === "bigint") {
      for (; rest > 0x7fn; rest >>= 7n) this.byte(Number(rest & 0x7fn) | 0x80);
      return this.byte(Number(rest));
    }
    for (; rest > 0x7f; rest = Math.floor(rest / 128)) this.byte((rest & 0x7f) | 0x80);
    return this.byte(rest);
  }

  value(type, value) {
    if (typeof type !== "string") {
      const inner = new Writer();
      inner.message(type, value);
      inner.flush();
      this.varint(inner.length);
      for (const part of inner.parts) this.raw(part);
    } else if (type === "bytes" || type === "string") {
      const data = type === "bytes" ? value : utf8.encode(value);
      this.varint(data.length);
      this.raw(data);
    } else if (type === "double") {
      const data = new Uint8Array(8);
      new DataView(data.buffer).setFloat64(0, value, true);
      this.raw(data);
    } else {
      this.varint(unsigned(type, value));
    }
  }

  message(schema, message) {
    for (const { number, type, label, name } of fieldsOf(schema).sorted) {
      const value = message[name];
      const always = label || typeof type !== "string"; // even one that is a default
      if (label === "repeated") this.repeated(number, type, value ?? []);
      else if (value !== undefined && (always || !isDefault(type, value)))
        this.field(number, type, value);
    }
  }

  field(number, type, value) {
    this.varint(number * 8 + wireType(type));
    this.value(type, value);
  }

  repeated(number, type, values) {
    if (!isNumber(type)) {
      for (const value of values) this.field(number, type, value);
    } else if (values.length) {
      const inner = new Writer();
      for (const value of values) inner.value(type, value);
      inner.flush();
      this.varint(number * 8 + BYTES);
      this.varint(inner.length);
      for (const part of inner.parts) this.raw(part);
    }
  }
}

function isDefault(type, value) {
  if (type === "bytes") return value.length === 0;
  return type === "double" ? Object.is(value, 0) : value === DEFAULTS[type];
}

function unsigned(type, value) {
  if (type === "bool") return value ? 1 : 0;
  if (type === "sint64") {
    if (BigInt.asIntN(64, value) !== value) throw new RangeError(`${value} is not of 64 bits`);
    return BigInt.asUintN(64, (value << 1n) ^ (value >> 63n));
  }
  if (type === "uint64") {
    if (BigInt.asUintN(64, value) !== value) throw new RangeError(`${value} is not of 64 bits`);
    return value;
  }
  return value < 0 ? BigInt.asUintN(64, BigInt(value)) : value; // int32
}

class Reader {
  constructor(data, budget) {
    this.data = data;
    this.view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    this.at = 0;
    this.budget = budget;
  }

  /** A number of up to 64 bits: a plain one where it fits, or else a BigInt. */
  varint() {
    let low = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.byte();
      low += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return low;
    }
    let high = 0n;
    for (let shift = 0n; shift < 42n; shift += 7n) {
      const byte = this.byte();
      high |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, (high << 28n) | BigInt(low));
    }
    throw new ForeignDataError("a number of the SuperLink's has more than 64 bits");
  }

  byte() {
    if (this.at >= this.data.length) throw new ForeignDataError("a message ends too soon");
    return this.data[this.at++];
  }

  bytes() {
    const length = Number(this.varint());
    if (length > this.data.length - this.at)
      throw new ForeignDataError("a message ends too soon");
    this.at += length;
    return this.data.subarray(this.at - length, this.at);
  }

  count() {
    this.budget.values -= 1;
    if (this.budget.values < 0)
      throw new ForeignDataError(`a message has more than ${MAX_VALUES} values`);
  }

  value(type, depth) {
    this.count();
    if (typeof type !== "string") return new Reader(this.bytes(), this.budget).message(type, depth);
    if (type === "bytes") return this.bytes();
    if (type === "string") return text(this.bytes());
    if (type === "double") {
      if (this.data.length - this.at < 8) throw new ForeignDataError("a message ends too soon");
      this.at += 8;
      return this.view.getFloat64(this.at - 8, true);
    }
    const value = this.varint();
    if (type === "bool") return value !== 0;
    if (type === "uint64") return BigInt(value);
    if (type === "sint64") {
      const wide = BigInt(value);
      return (wide >> 1n) ^ -(wide & 1n);
    }
    return type === "int32" ? Number(BigInt.asIntN(32, BigInt(value))) : Number(value);
  }

  skip(wire) {
    if (wire === VARINT) this.varint();
    else if (wire === BYTES) this.bytes();
    else if (wire === FIXED64 || wire === FIXED32) this.at += wire === FIXED64 ? 8 : 4;
    else throw new ForeignDataError(`wire type ${wire} is none that Flower sends`);
  }

  message(schema, depth) {
    if (depth > MAX_DEPTH) throw new ForeignDataError(`a message is deeper than ${MAX_DEPTH}`);
    const fields = fieldsOf(schema);
    const message = fields.empty();
    while (this.at < this.data.length) {
      const key = Number(this.varint());
      const field = fields.byNumber.get(Math.floor(key / 8));
      const wire = key % 8;
      if (!field) {
        this.count();
        this.skip(wire);
      } else if (wire === BYTES && field.label === "repeated" && isNumber(field.type)) {
        const packed = new Reader(this.bytes(), this.budget);
        const values = message[field.name];
        while (packed.at < packed.data.length) values.push(packed.value(field.type, depth));
      } else if (wire !== wireType(field.type)) {
        throw new ForeignDataError(`${field.name} is of another type than in Flower`);
      } else {
        const value = this.value(field.type, depth + 1);
        if (field.label === "repeated") message[field.name].push(value);
        else message[field.name] = value;
      }
    }
    if (this.at > this.data.length) throw new ForeignDataError("a message ends too soon");
    return message;
  }
}

function text(data) {
  try {
    return fromUtf8.decode(data);
  } catch {
    throw new ForeignDataError("a text of the SuperLink's is not UTF-8");
  }
}

const known = new WeakMap();

function fieldsOf(schema) {
  if (!known.has(schema)) {
    const list = Object.entries(schema).map(([name, [number, type, label]]) => ({
      name,
      number,
      type,
      label,
    }));
    known.set(schema, {
      sorted: list.sort((a, b) => a.number - b.number),
      byNumber: new Map(list.map((field) => [field.number, field])),
      empty: () => Object.fromEntries(list.map((field) => [field.name, absent(field)])),
    });
  }
  return known.get(schema);
}

function absent({ type, label }) {
  if (label === "repeated") return [];
  if (label || typeof type !== "string") return undefined;
  return type === "bytes" ? new Uint8Array() : DEFAULTS[type];
}

/** The bytes of parts, one after the other. */
export function concat(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Encode a message: an object with the fields of its schema; 64-bit integers are BigInts. */
export function encode(schema, message) {
  const writer = new Writer();
  writer.message(schema, message);
  writer.flush();
  return concat(writer.parts);
}

/**
 * Decode a message; fields that the schema does not know are passed over. Bytes are views.
 *
 * @param {object} schema
 * @param {Uint8Array} data
 * @param {{values: number}} budget How many values it may have; what it has is taken off.
 * @throws {ForeignDataError} If it is no such message, too deep, or of too many values.
 */
export function decode(schema, data, budget = { values: MAX_VALUES }) {
  return new Reader(data, budget).message(schema, 0);
}
