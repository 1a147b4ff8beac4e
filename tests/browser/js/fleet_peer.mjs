// What the page makes of objects and keys, for `test_fleet.py`: JSON comes in, JSON goes out.

import { readFileSync } from "node:fs";

import { Identity } from "../../../celeba_fl/browser/page/fleet/identity.js";
import { deflate, idsOf, inflate, sha256 } from "../../../celeba_fl/browser/page/fleet/objects.js";

const fromBase64 = (text) => Uint8Array.from(Buffer.from(text, "base64"));
const toBase64 = (data) => Buffer.from(data).toString("base64");

/** A value with its type, for in JSON 1 and 1.0 are one. */
function shown(value) {
  if (Array.isArray(value)) return value.map(shown);
  if (typeof value === "bigint") return { int: String(value) };
  if (typeof value === "number") {
    const data = new Uint8Array(Float64Array.of(value).buffer);
    return { float: toBase64(data) };
  }
  if (value instanceof Uint8Array) return { bytes: toBase64(value) };
  if (value?.dtype) {
    const { dtype, shape, data } = value;
    return { dtype, shape, data: toBase64(new Uint8Array(data.buffer)) };
  }
  return value;
}

async function around({ id, contents }) {
  const objects = new Map(Object.entries(contents).map(([key, text]) => [key, fromBase64(text)]));
  for (const [key, content] of objects)
    if ((await sha256(content)) !== key) throw new Error(`${key} is no SHA-256`);
  const message = inflate(id, objects);
  const again = await deflate(message);
  const records = [...(message.content ?? [])].map(([name, { kind, items }]) => [
    name,
    kind,
    [...items].map(([key, value]) => [key, shown(value)]),
  ]);
  return {
    id: again.id,
    ids: idsOf(again.tree),
    contents: Object.fromEntries([...again.contents].map(([key, one]) => [key, toBase64(one)])),
    records,
    error: message.error?.reason,
  };
}

const asked = JSON.parse(readFileSync(0, "utf8"));
const identity = await Identity.create();
const signed = [];
for (const text of asked.texts)
  signed.push(toBase64(await identity.sign(new TextEncoder().encode(text))));
const { pem, openssh } = identity;
const messages = [];
for (const message of asked.messages) messages.push(await around(message));
process.stdout.write(JSON.stringify({ messages, signed, pem, openssh }));
