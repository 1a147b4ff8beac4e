// Flower's content-addressed objects: a message as a tree of them, and back.
//
// An object is `<Type> <ids of its children> <length of its body>\0<body>`, its id the SHA-256 of
// that. A Message has one RecordDict, that has records, an ArrayRecord has Arrays, and an Array has
// the chunks of a file of NumPy's. The types say how deep a tree may be, the hashes that it has no
// cycle; how large it may be says `MAX_BYTES`, for whoever sends one is not to be trusted with a
// tab's memory.

import { ForeignDataError } from "./errors.js";
import { Message } from "./messages.js";
import { readNpy, writeNpy } from "./npy.js";
import { MAX_VALUES, concat, decode, encode } from "./protobuf.js";
import { decodeRecord, encodeRecord } from "./records.js";

/** The most bytes of a message's objects, and of the arrays that are made of them. */
export const MAX_BYTES = 256 << 20;
/** The most objects of a message. */
export const MAX_OBJECTS = 10_000;
const CHUNK = 5 << 20;
const MAX_CHUNKS = 1000;
const MAX_HEAD = 72 * MAX_OBJECTS;
const NUMPY = "numpy.ndarray";
const ID = /^[0-9a-f]{64}$/;

const toBytes = (text) => new TextEncoder().encode(text);

/** The SHA-256 of bytes, in hexadecimal. */
export async function sha256(data) {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** JSON as `json.dumps` writes it: ASCII alone, a space after comma and colon. */
const quoted = (text) =>
  JSON.stringify(text).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
const pairs = (list) => `{${list.map(([key, value]) => `${quoted(key)}: ${value}`).join(", ")}}`;
const items = (list) => `[${list.join(", ")}]`;

/** An object of a type, with its children, each `{id, content, children}`. */
async function object(type, children, body) {
  const unique = [...new Map(children.map((child) => [child.id, child])).values()];
  const head = `${type} ${unique.map((child) => child.id)} ${body.length}\0`;
  const content = concat([toBytes(head), body]);
  return { id: await sha256(content), content, children: unique };
}

async function ofTensor(tensor) {
  const file = writeNpy(tensor);
  const chunks = [];
  for (let at = 0; at < file.length; at += CHUNK)
    chunks.push(await object("ArrayChunk", [], file.subarray(at, at + CHUNK)));
  const unique = [...new Set(chunks.map((chunk) => chunk.id))];
  const body = pairs([
    ["dtype", quoted(tensor.dtype)],
    ["shape", items(tensor.shape)],
    ["stype", quoted(NUMPY)],
    ["arraychunk_ids", items(chunks.map((chunk) => unique.indexOf(chunk.id)))],
  ]);
  return object("Array", chunks, toBytes(body));
}

/** An object whose body tells the ids of its named children. */
async function named(type, children) {
  const body = pairs(children.map(([name, child]) => [name, quoted(child.id)]));
  return object(type, children.map(([, child]) => child), toBytes(body));
}

async function ofRecord(record) {
  if (record.kind !== "arrays") {
    const type = record.kind === "metrics" ? "MetricRecord" : "ConfigRecord";
    return object(type, [], encodeRecord(record));
  }
  const children = [];
  for (const [name, tensor] of record.items) children.push([name, await ofTensor(tensor)]);
  return named("ArrayRecord", children);
}

/**
 * A message as objects.
 *
 * @param {{metadata: object, content?: Map, error?: {code: bigint, reason: string}}} message
 * @returns {Promise<{id: string, tree: object, contents: Map<string, Uint8Array>}>}
 */
export async function deflate({ metadata, content, error }) {
  const body = encode(Message, { metadata: { ...metadata, messageId: "" }, error });
  const records = [];
  for (const [name, record] of content ?? []) records.push([name, await ofRecord(record)]);
  const children = content ? [await named("RecordDict", records)] : [];
  const whole = await object("Message", children, body);
  const contents = new Map();
  const visit = (one) => {
    const tree = { objectId: one.id, children: one.children.map(visit) };
    contents.set(one.id, one.content);
    return tree;
  };
  return { id: whole.id, tree: visit(whole), contents };
}

/** The ids of a tree of objects, each once; of one that is too large there are none. */
export function idsOf(tree) {
  const ids = new Set();
  const visit = ({ objectId, children }, depth) => {
    if (!ID.test(objectId) || depth > 5 || ids.size >= MAX_OBJECTS)
      throw new ForeignDataError(
        `a message is no tree of at most ${MAX_OBJECTS} objects, five deep, as Flower makes them`,
      );
    for (const child of children) visit(child, depth + 1);
    ids.add(objectId);
  };
  visit(tree, 1);
  return [...ids];
}

/**
 * The message in objects, whose contents are those of their ids (see `sha256`).
 *
 * @param {string} id The message's id.
 * @param {Map<string, Uint8Array>} contents The objects by their ids; emptied as it is read.
 * @returns {{metadata: object, content: Map | undefined, error: object | undefined}}
 * @throws {ForeignDataError} If they are not what Flower makes, or more than a tab should hold.
 */
export function inflate(id, contents) {
  const reading = new Reading(contents);
  const { children, body } = reading.object(id, "Message");
  const { metadata, error } = decode(Message, body);
  if (!metadata || children.length !== (error ? 0 : 1))
    throw new ForeignDataError("a message has neither content nor error");
  return { metadata, error, content: error ? undefined : reading.recordDict(children[0]) };
}

class Reading {
  arrayBytes = 0;
  budget = { values: MAX_VALUES };
  tensors = new Map();

  constructor(contents) {
    this.contents = contents;
  }

  /** Type, children and body of an object, which should be of one of the types. */
  object(id, ...types) {
    const content = this.contents.get(id);
    const end = content?.subarray(0, MAX_HEAD).indexOf(0) ?? -1;
    if (end < 0) throw new ForeignDataError("an object of a message is missing, or has no head");
    const head = new TextDecoder().decode(content.subarray(0, end)).split(" ");
    const [type, ids, length] = head;
    const body = content.subarray(end + 1);
    if (!types.includes(type))
      throw new ForeignDataError(
        `an object is ${JSON.stringify(type.slice(0, 40))}, should be ${types.join(" or ")}: ` +
          "this page does not know the SuperLink's version of Flower",
      );
    const children = ids ? ids.split(",") : [];
    const right = head.length === 3 && Number(length) === body.length;
    if (!right || !children.every((one) => ID.test(one)))
      throw new ForeignDataError(`the head of an object of type ${type} is not as Flower makes it`);
    return { type, children, body };
  }

  /** The names in an object's body and the ids that they stand for, which are its children. */
  names({ type, children, body }) {
    const found = readPairs(new TextDecoder().decode(body), type);
    if (!sameSet([...found.values()], children))
      throw new ForeignDataError(`the names of an ${type} are not those of its objects`);
    return found;
  }

  recordDict(id) {
    const content = new Map();
    for (const [name, child] of this.names(this.object(id, "RecordDict")))
      content.set(name, this.record(child));
    return content;
  }

  record(id) {
    const object = this.object(id, "ArrayRecord", "MetricRecord", "ConfigRecord");
    if (object.type !== "ArrayRecord")
      return decodeRecord(
        object.type === "MetricRecord" ? "metrics" : "config",
        object.body,
        this.budget,
      );
    const found = [...this.names(object)].map(([name, child]) => [name, this.tensor(child)]);
    return { kind: "arrays", items: new Map(found) };
  }

  tensor(id) {
    if (!this.tensors.has(id)) this.tensors.set(id, this.array(this.object(id, "Array")));
    return this.tensors.get(id);
  }

  array({ children, body }) {
    const { dtype, shape, stype, arraychunk_ids: order } = readJson(body);
    const lists = Array.isArray(shape) && Array.isArray(order) && order.length <= MAX_CHUNKS;
    if (stype !== NUMPY || !lists)
      throw new ForeignDataError("an array is not one of NumPy's");
    const chunks = order.map((i) => children[i]);
    if (!sameSet(chunks, children)) throw new ForeignDataError("an array lacks some of its chunks");
    const parts = chunks.map((chunk) => {
      const data = this.object(chunk, "ArrayChunk").body;
      this.arrayBytes += data.length; // before they are put together: one chunk may stand for many
      if (this.arrayBytes > MAX_BYTES)
        throw new ForeignDataError(`the arrays of a message are larger than ${MAX_BYTES} bytes`);
      return data;
    });
    const tensor = readNpy(concat(parts));
    if (tensor.dtype !== dtype || String(tensor.shape) !== String(shape))
      throw new ForeignDataError("an array is not of the type and shape that its head tells");
    return tensor;
  }
}

function sameSet(found, children) {
  const set = new Set(found);
  return set.size === new Set(children).size && children.every((child) => set.has(child));
}

function readJson(body) {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body)) ?? {};
  } catch {
    throw new ForeignDataError("the body of an object is no JSON");
  }
}

/** The pairs of a flat JSON object of texts, in their order, which JSON.parse would not keep. */
function readPairs(text, type) {
  const found = new Map();
  const pair = /\s*("(?:[^"\\]|\\.){0,1000}")\s*:\s*"([0-9a-f]{64})"\s*([,}])/y;
  pair.lastIndex = 1;
  let end = text === "{}" ? "}" : ",";
  while (end === "," && text[0] === "{") {
    const [, name, id, after] = pair.exec(text) ?? [];
    end = after;
    if (name) found.set(readJson(toBytes(name)), id);
  }
  if (end !== "}" || (found.size && pair.lastIndex !== text.length))
    throw new ForeignDataError(`the body of an ${type} is not as Flower makes it`);
  return found;
}
