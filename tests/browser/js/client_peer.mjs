// What a tab answers to the messages of a run, for `test_client.py`: JSON comes in, JSON goes out.
//
// Its pictures are numbers: their features, labels and identities are told. Its host is told, too.

import { readFileSync } from "node:fs";

import { Client } from "../../../celeba_fl/browser/page/client/client.js";
import { loadRuntime } from "../../../celeba_fl/browser/page/vision/runtime.js";

const told = JSON.parse(readFileSync(0, "utf8"));
const bytes = (text) => Uint8Array.from(Buffer.from(text, "base64"));
const TYPES = {
  float32: Float32Array,
  float64: Float64Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint64: BigUint64Array,
};
const array = ({ dtype, shape, data }) => {
  const raw = bytes(data);
  return { dtype, shape, data: new TYPES[dtype](raw.buffer) };
};

function value(one) {
  if (Array.isArray(one)) return one.map(value);
  if (one?.int) return BigInt(one.int);
  if (one?.bytes !== undefined) return bytes(one.bytes);
  return one?.dtype ? array(one) : one;
}

function shown(one) {
  if (Array.isArray(one)) return one.map(shown);
  if (typeof one === "bigint") return { int: String(one) };
  if (one instanceof Uint8Array) return { bytes: Buffer.from(one).toString("base64") };
  if (!one?.dtype) return one;
  const { dtype, shape, data } = one;
  const raw = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return { dtype, shape, data: raw.toString("base64") };
}

const content = (records) =>
  new Map(
    records.map(([name, kind, items]) => [
      name,
      { kind, items: new Map(items.map(([key, one]) => [key, value(one)])) },
    ]),
  );

globalThis.fetch = async (url) => {
  if (!url.startsWith("/onnx/view.json?")) throw new Error(`${url} is none that is served`);
  return Response.json(told.view);
};
const runtime = process.env.ORT_WEB ? await loadRuntime() : {};
const graphs = Object.fromEntries(
  Object.entries(told.graphs).map(([name, graph]) => [
    `/onnx/head-step.onnx?optimizer=${name}`,
    graph,
  ]),
);
const sessions = new Map();
const labels = array(told.labels).data;
const number = told.about.attributes.length;
const pictures = {
  count: told.identities.length,
  content: array(told.content).data,
  identified: true,
  simulated: told.simulated,
  identity: (i) => told.identities[i],
  labels: (i) => (told.unlabelled ? null : labels.slice(i * number, (i + 1) * number)),
  ready: async () => {},
  features: async (view, { version }) => array(told.features[version]).data,
};
let asked = 0;
const corrections = async () => {
  asked += 1;
  return labels;
};
const client = new Client({
  name: told.name,
  pictures,
  about: told.about,
  runtime: {
    Tensor: runtime.Tensor,
    session(url) {
      if (!sessions.has(url)) sessions.set(url, runtime.session(bytes(graphs[url])));
      return sessions.get(url);
    },
  },
  corrections,
  introduction: async () => ({ words: {}, arrays: {} }),
});
const replies = [];
for (const { type, records, overrides = told.overrides, run = 7 } of told.messages) {
  try {
    const message = { metadata: { messageType: type }, content: content(records) };
    const of = {
      runId: BigInt(run),
      overrides: new Map(Object.entries(overrides).map(([key, one]) => [key, value(one)])),
      fab: async () => bytes(told.fab),
    };
    const reply = await client.answer(message, of);
    const said = [...reply].map(([name, { kind, items }]) => [
      name,
      kind,
      [...items].map(([key, one]) => [key, shown(one)]),
    ]);
    replies.push({ records: said });
  } catch (error) {
    replies.push({ error: `${error.name}: ${error.message}`, stack: error.stack });
  }
}
process.stdout.write(JSON.stringify({ replies, asked }));
