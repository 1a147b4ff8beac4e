// Clients in node whose messages come from a Python test, line by line as JSON: what the app itself
// says to a message they ask the test for. See tests/browser/test_secure.py.
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";

import { random as fromSystem } from "../../../celeba_fl/browser/page/secure/bytes.js";
import { SecureClient } from "../../../celeba_fl/browser/page/secure/client.js";
import { encode } from "../../../celeba_fl/browser/page/secure/encoding.js";
import { plan } from "../../../celeba_fl/browser/page/secure/graph.js";
import {
  identityOf,
  newSigningKeys,
  publicLine,
} from "../../../celeba_fl/browser/page/secure/roster.js";

const ARRAYS = {
  bool: Uint8Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
  int64: BigInt64Array,
  float32: Float32Array,
  float64: Float64Array,
};
const clients = new Map();
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const next = async () => JSON.parse((await lines.next()).value ?? "null");
const say = (said) => process.stdout.write(`${JSON.stringify(said)}\n`);

// `{int: "5"}` is a whole number; of a tensor, `data` are its bytes in base64.
const value = (one) => (one?.int === undefined ? one : BigInt(one.int));
function tensor({ dtype, shape, data }) {
  const bytes = Uint8Array.from(Buffer.from(data, "base64"));
  return { dtype, shape, data: new ARRAYS[dtype](bytes.buffer) };
}
const item = (one) => {
  if (Array.isArray(one)) return one.map(value);
  return one?.dtype ? tensor(one) : value(one);
};
const record = ({ kind, items }) => ({ kind, items: new Map(items.map(([k, v]) => [k, item(v)])) });
const read = (content) => new Map(content.map(([name, one]) => [name, record(one)]));

function shown(one) {
  if (typeof one === "bigint") return { int: String(one) };
  if (!one?.dtype) return one;
  const { dtype, shape, data } = one;
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return { dtype, shape, data: bytes.toString("base64") };
}
const written = (content) =>
  [...content].map(([name, { kind, items }]) => [
    name,
    { kind, items: [...items].map(([key, one]) => [key, shown(one)]) },
  ]);

/** Random bytes that the test can draw as well: SHA-256 of a seed and a counter, in a row. */
function stream(seed) {
  let [number, rest] = [0, Buffer.alloc(0)];
  return (size) => {
    while (rest.length < size) {
      rest = Buffer.concat([rest, createHash("sha256").update(`${seed} ${number++}`).digest()]);
    }
    const drawn = Uint8Array.from(rest.subarray(0, size));
    rest = rest.subarray(size);
    return drawn;
  };
}

async function answer() {
  say({ ask: true });
  const { content, error } = await next();
  if (error) throw new Error(error);
  return read(content);
}

/** What becomes of summands: layout and words, or why they are refused. */
function coded(summands, number) {
  try {
    const { layout, words } = encode(summands, number);
    return { layout, words: Buffer.from(words.buffer).toString("base64") };
  } catch (error) {
    return { error: error.message };
  }
}

let current = fromSystem;
let signing = null;
const random = (size) => current(size);
for (let said = await next(); said; said = await next()) {
  const { name, seed, roster } = said;
  if (said.signing) {
    signing ??= await newSigningKeys();
    say(await publicLine(signing));
    continue;
  }
  if (said.plans) {
    say(said.plans.map(plan));
    continue;
  }
  if (said.summands) {
    const found = said.summands.map(([key, one]) => [key, { ...one, tensor: tensor(one.tensor) }]);
    say(coded(new Map(found), said.number));
    continue;
  }
  if (!clients.has(name)) clients.set(name, new SecureClient({ name, random }));
  const client = clients.get(name);
  client.identity = roster ? await identityOf({ name, roster, keys: signing }) : null;
  current = seed ? stream(seed) : fromSystem;
  const message = { metadata: {}, content: read(said.content) };
  try {
    const content = await client.answer(message, { runId: BigInt(said.run) }, said.config, answer);
    say({ content: written(content) });
  } catch (error) {
    say({ error: `${error.name}: ${error.message}` });
  }
}
