// Objects and messages that no SuperLink should send.

import assert from "node:assert/strict";
import { test } from "node:test";

import { CALLS } from "../../../celeba_fl/browser/page/fleet/messages.js";
import {
  MAX_OBJECTS,
  deflate,
  idsOf,
  inflate,
  sha256,
} from "../../../celeba_fl/browser/page/fleet/objects.js";
import { decode, encode } from "../../../celeba_fl/browser/page/fleet/protobuf.js";
import { arrays, tensor } from "../../../celeba_fl/browser/page/fleet/records.js";

const text = (words) => new TextEncoder().encode(words);
async function objectOf(type, children, body) {
  const data = typeof body === "string" ? text(body) : body;
  const content = Buffer.concat([text(`${type} ${children} ${data.length}\0`), data]);
  return [await sha256(content), new Uint8Array(content)];
}

/** A message with one array of these chunks. */
async function messageOf(body, chunks) {
  const array = await objectOf("Array", chunks.map(([id]) => id), body);
  const record = await objectOf("ArrayRecord", [array[0]], `{"a": "${array[0]}"}`);
  const content = await objectOf("RecordDict", [record[0]], `{"r": "${record[0]}"}`);
  const { contents, id } = await deflate({ metadata: { runId: 1n }, content: new Map() });
  const empty = [...contents.values()].at(-1);
  const end = empty.indexOf(0);
  const message = await objectOf("Message", [content[0]], empty.subarray(end + 1));
  assert.ok(id);
  return [message[0], new Map([message, content, record, array, ...chunks])];
}

test("one chunk that stands for thousands does not fill the memory", async () => {
  const chunk = await objectOf("ArrayChunk", [], new Uint8Array(5 << 20));
  const order = Array(900).fill(0);
  const body = { dtype: "uint8", shape: [1], stype: "numpy.ndarray", arraychunk_ids: order };
  const message = await messageOf(JSON.stringify(body), [chunk]);
  assert.throws(() => inflate(...message), /larger than/);
});

test("what is no array of Flower's is refused", async () => {
  const { contents } = await deflate({
    metadata: {},
    content: new Map([["r", arrays({ a: tensor("float32", [1], Float32Array.of(1)) })]]),
  });
  const [chunk] = [...contents].filter(([, one]) => text("ArrayChunk").every((b, i) => one[i] === b));
  const right = { dtype: "float32", shape: [1], stype: "numpy.ndarray", arraychunk_ids: [0] };
  const read = async (changes, chunks = [chunk]) =>
    inflate(...(await messageOf(JSON.stringify({ ...right, ...changes }), chunks)));
  assert.ok((await read({})).content);
  const changes = [
    { dtype: "int32" },
    { shape: [2] },
    { stype: "pickle" },
    { arraychunk_ids: [1] },
    { arraychunk_ids: [] },
    { arraychunk_ids: { length: 1 } },
    { arraychunk_ids: Array(2000).fill(0) },
  ];
  for (const one of changes) await assert.rejects(read(one), { name: "ForeignDataError" });
  const pickled = await objectOf("ArrayChunk", [], "\x80\x04cos\nsystem\n");
  await assert.rejects(read({}, [pickled]), /no file of NumPy's/);
});

test("a tree that is too deep or too large is refused", () => {
  const tree = (depth) => ({ objectId: "0".repeat(64), children: depth ? [tree(depth - 1)] : [] });
  assert.throws(() => idsOf(tree(9)), /five deep/);
  const id = (i) => i.toString(16).padStart(64, "0");
  const leaves = Array.from({ length: MAX_OBJECTS + 1 }, (_, i) => ({ objectId: id(i), children: [] }));
  assert.throws(() => idsOf({ objectId: "f".repeat(64), children: leaves }), /at most/);
  assert.throws(() => idsOf({ objectId: "../etc", children: [] }), /as Flower makes them/);
});

test("bytes that are no message are refused", () => {
  const { response } = CALLS["pull-messages"];
  const whole = encode(response, {
    messagesList: [{ metadata: { runId: 1n, messageId: "ä".repeat(50) } }],
    messageObjectTrees: [{ objectId: "1", children: [{ objectId: "2", children: [] }] }],
  });
  assert.equal(decode(response, whole).messagesList[0].metadata.messageId, "ä".repeat(50));
  for (let length = 1; length < whole.length; length++) {
    try {
      decode(response, whole.subarray(0, length));
    } catch (error) {
      assert.equal(error.name, "ForeignDataError");
    }
  }
  let deep = new Uint8Array();
  for (let i = 0; i < 40; i++) deep = Uint8Array.of(0x12, deep.length, ...deep);
  const tree = Uint8Array.of(0x1a, deep.length, ...deep);
  assert.throws(() => decode(response, tree), /deeper than|ends too soon/);
  const many = encode(CALLS["push-messages"].request, { clientappRuntimeList: Array(9).fill(1) });
  assert.throws(() => decode(CALLS["push-messages"].request, many, { values: 8 }), /more than/);
});
