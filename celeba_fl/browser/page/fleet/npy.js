// NumPy's file format, in which Flower sends arrays.

import { ForeignDataError } from "./errors.js";

/** Of each type by NumPy's name: how a file tells it, and the typed array that holds it. */
const TYPES = {
  float16: ["<f2", Uint16Array], // its bits: node 20 and older browsers have no Float16Array
  float32: ["<f4", Float32Array],
  float64: ["<f8", Float64Array],
  int8: ["|i1", Int8Array],
  int16: ["<i2", Int16Array],
  int32: ["<i4", Int32Array],
  int64: ["<i8", BigInt64Array],
  uint8: ["|u1", Uint8Array],
  uint16: ["<u2", Uint16Array],
  uint32: ["<u4", Uint32Array],
  uint64: ["<u8", BigUint64Array],
  bool: ["|b1", Uint8Array],
};
const BY_DESCR = new Map(Object.entries(TYPES).map(([name, [descr]]) => [descr, name]));

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59]; // \x93NUMPY
const ALIGNMENT = 64;
const GROWTH_DIGITS = 21; // NumPy leaves room for the first axis to grow
const MAX_HEADER = 10_000; // NumPy's own limit
const HEADER =
  /^\{'descr': '([^']*)', 'fortran_order': (True|False), 'shape': \((\d*(?:, ?\d+)*),?\), ?\} *\n$/;

/** An array: its type by NumPy's name, its shape, and its values by rows. */
export function tensor(dtype, shape, data) {
  const kind = TYPES[dtype]?.[1];
  if (!(kind && data instanceof kind))
    throw new TypeError(`${dtype} with ${data?.constructor?.name}: should be ${kind?.name}`);
  if (data.length !== sizeOf(shape))
    throw new RangeError(`${data.length} values are not of shape ${JSON.stringify(shape)}`);
  return { dtype, shape, data };
}

const sizeOf = (shape) => shape.reduce((product, length) => product * length, 1);

/** The bytes that `numpy.save` writes for an array by rows. */
export function writeNpy({ dtype, shape, data }) {
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  let header = `{'descr': '${TYPES[dtype][0]}', 'fortran_order': False, 'shape': ${tuple}, }`;
  if (shape.length) header += " ".repeat(GROWTH_DIGITS - String(shape[0]).length);
  const start = MAGIC.length + 4; // two bytes of version, two of length
  header += `${" ".repeat(ALIGNMENT - ((start + header.length + 1) % ALIGNMENT))}\n`;
  const file = new Uint8Array(start + header.length + data.byteLength);
  file.set([...MAGIC, 1, 0, header.length & 0xff, header.length >> 8]);
  file.set(new TextEncoder().encode(header), start);
  file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), start + header.length);
  return file;
}

/**
 * The array in a file of NumPy's; its values are a copy, by rows.
 *
 * @throws {ForeignDataError} If it is none, or of a type that Flower's arrays do not have here.
 */
export function readNpy(file) {
  const [version] = file.subarray(MAGIC.length);
  if (!MAGIC.every((byte, i) => file[i] === byte) || !(version >= 1 && version <= 3))
    throw new ForeignDataError("an array is no file of NumPy's");
  const start = MAGIC.length + (version === 1 ? 4 : 6);
  let length = file[8] + file[9] * 2 ** 8;
  if (version > 1) length += file[10] * 2 ** 16 + file[11] * 2 ** 24;
  if (!(length <= MAX_HEADER && start + length <= file.length))
    throw new ForeignDataError("the header of an array is too long");
  const header = new TextDecoder().decode(file.subarray(start, start + length));
  const [, descr, byColumns, axes] = HEADER.exec(header) ?? [];
  const dtype = BY_DESCR.get(descr);
  if (!dtype) throw new ForeignDataError(`an array is of a type that no tab reads: ${header}`);
  const shape = axes ? axes.split(/, ?/).map(Number) : [];
  const kind = TYPES[dtype][1];
  const body = file.subarray(start + length);
  if (sizeOf(shape) * kind.BYTES_PER_ELEMENT !== body.length)
    throw new ForeignDataError(`an array of shape (${shape}) has ${body.length} bytes`);
  const data = new kind(body.slice().buffer);
  return { dtype, shape, data: byColumns === "True" ? byRows(data, shape) : data };
}

/** Values that lie by columns, by rows. */
function byRows(data, shape) {
  const out = new data.constructor(data.length);
  const index = shape.map(() => 0);
  const strides = [];
  shape.reduce((stride, length, axis) => ((strides[axis] = stride), stride * length), 1);
  for (let i = 0; i < out.length; i++) {
    out[i] = data[index.reduce((at, j, axis) => at + j * strides[axis], 0)];
    for (let axis = shape.length - 1; axis >= 0 && ++index[axis] === shape[axis]; axis--)
      index[axis] = 0;
  }
  return out;
}
