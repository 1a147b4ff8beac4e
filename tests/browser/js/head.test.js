// The training of a head, by a runtime that computes nothing.

import assert from "node:assert/strict";
import { test } from "node:test";

import { trainHead } from "../../../celeba_fl/browser/page/client/head.js";

class Tensor {
  constructor(type, data) {
    Object.assign(this, { data, size: data.length });
  }
}

test("a person can end a training of any length", async () => {
  const run = async ({ weights }) => ({ loss: { data: [1] }, next_weights: weights });
  const runtime = { Tensor, session: async () => ({ run }) };
  const head = { weight: new Float32Array(2), bias: new Float32Array(1) };
  const end = new AbortController();
  setTimeout(() => end.abort(), 10);
  const options = { epochs: 1e12, batchSize: 1, learningRate: 1, optimizer: "sgd", dropout: 0 };
  const more = { mu: 0, weight: [1], counted: null, seed: 1, signal: end.signal };
  await assert.rejects(
    trainHead(runtime, "graph", head, new Float32Array(2), Uint8Array.of(1), {
      ...options,
      ...more,
    }),
    { name: "AbortError" },
  );
});
