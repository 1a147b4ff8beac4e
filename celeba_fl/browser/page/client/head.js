// The head: its scores, its scale, and its training on a site's own pictures.
//
// A head is `{weight, bias}`, Float32Arrays of (outputs, dim) and (outputs,); it is what
// `celeba_fl/models` has in heads.py, scaling.py and head_training.py, to rounding.

import { generator } from "../vision/augmentation.js";
import { outlives, permutation } from "./random.js";

const BREATH = 100; // ms between two pauses of training

/**
 * Logits of examples, (n, outputs), in doubles: no score depends on who is scored with it.
 *
 * @param {{weight: Float32Array, bias: Float32Array}} head
 * @param {Float32Array} rows Features, (n, dim).
 */
export function scores({ weight, bias }, rows) {
  const [outputs, dim] = [bias.length, weight.length / bias.length];
  const result = new Float64Array((rows.length / dim) * outputs);
  for (let at = 0, row = 0; at < result.length; row += dim) {
    for (let k = 0; k < outputs; k++, at++) {
      let sum = 0;
      for (let j = 0; j < dim; j++) sum += weight[k * dim + j] * rows[row + j];
      result[at] = sum + bias[k];
    }
  }
  return result;
}

/** Features on a scale `{mean, factor}`, in float32; without a scale as they are. */
export function scaled(rows, scale) {
  if (!scale) return rows;
  const dim = scale.mean.length;
  return rows.map((x, i) => Math.fround(x - scale.mean[i % dim]) * scale.factor[i % dim]);
}

/** The head on raw features that gives the scores of `head` on scaled ones. */
export function fold(head, scale) {
  if (!scale) return head;
  const dim = scale.mean.length;
  const weight = head.weight.map((w, i) => w * scale.factor[i % dim]);
  const bias = head.bias.map((b, k) => {
    let moved = 0;
    for (let j = 0; j < dim; j++) moved += weight[k * dim + j] * scale.mean[j];
    return b - moved;
  });
  return { weight, bias };
}

/**
 * Train a head, from `head` on, by the graph of one step (`celeba_fl/models/head_graph.py`).
 *
 * @param {object} runtime Of vision/runtime.js.
 * @param {string | Uint8Array} graph The step of an optimizer: its URL, or the graph itself.
 * @param {{weight: Float32Array, bias: Float32Array}} head
 * @param {Float32Array} rows Features as the head sees them, (n, dim), n > 0.
 * @param {Uint8Array} labels (n, outputs), 0 or 1.
 * @param {object} options `epochs`, `batchSize`, `learningRate`, `optimizer`, `dropout`, `mu` of
 *   FedProx, `positives` (outputs) the weight of positives or null, `weight` (n) of examples,
 *   `counted` (n, outputs) which labels are learned from, or null; `seed`, below 2^32; and, if it
 *   may be ended, its `signal`.
 * @returns {Promise<{head: object, loss: number}>} The head, and the mean loss of the last epoch.
 */
export async function trainHead(runtime, graph, head, rows, labels, options) {
  const { epochs, batchSize, optimizer, dropout, weight, counted } = options;
  const session = await runtime.session(graph);
  const outputs = head.bias.length;
  const n = labels.length / outputs;
  const dim = head.weight.length / outputs;
  const tensor = (data, ...shape) => new runtime.Tensor(kindOf(data), data, shape);
  const number = (value) => tensor(Float64Array.of(value));
  const mean = weight.reduce((sum, one) => sum + one, 0) / n;
  const factor = Float32Array.from(labels, (_, i) => weight[Math.floor(i / outputs)] / mean);
  if (counted) factor.forEach((_, i) => (factor[i] *= counted[i]));
  const share = counted ? factor.reduce((sum, one) => sum + one, 0) / factor.length : 1;
  const start = tensor(withBias(head), outputs, dim + 1);
  const given = {
    positives: tensor(options.positives ?? new Float32Array(outputs).fill(1), outputs),
    start,
    mu: number(options.mu),
    learning_rate: number(options.learningRate),
  };
  let state = { weights: start };
  if (optimizer === "adam") {
    const zeros = () => tensor(new Float32Array(start.size), outputs, dim + 1);
    state = { ...state, mean: zeros(), square: zeros() };
  }
  const random = generator(options.seed);
  let [steps, total, breath] = [0, 0, performance.now()];
  for (let epoch = 0; epoch < epochs; epoch++) {
    total = 0;
    const order = permutation(random, n);
    for (let first = 0; first < n; first += batchSize, steps++) {
      const batch = order.subarray(first, first + batchSize);
      const picked = (of) => gather(of, outputs, batch);
      const feeds = {
        x: tensor(inputs(rows, dim, batch, dropout, random), batch.length, dim + 1),
        y: new runtime.Tensor("bool", picked(labels), [batch.length, outputs]),
        factor: tensor(picked(factor), batch.length, outputs),
        ...given,
        ...state,
        ...(optimizer === "adam" ? { steps: number(steps) } : {}),
      };
      const { loss, ...next } = await session.run(feeds);
      // A Worker whose steps follow one another hears no button, and sends no heartbeat.
      if (performance.now() - breath > BREATH) {
        await new Promise((resolve) => setTimeout(resolve));
        options.signal?.throwIfAborted();
        breath = performance.now();
      }
      total += loss.data[0] * batch.length;
      state = Object.fromEntries(
        Object.entries(next).map(([name, value]) => [name.replace("next_", ""), value]),
      );
    }
  }
  return { head: withoutBias(state.weights.data, outputs), loss: total / (share * n) };
}

const kindOf = (data) => (data instanceof Float64Array ? "float64" : "float32");

/** The rows of a batch, inputs dropped, with a 1 for the bias, which is never dropped. */
function inputs(rows, dim, batch, dropout, random) {
  const x = new Float32Array(batch.length * (dim + 1));
  const grown = Math.fround(1 / Math.fround(1 - dropout));
  batch.forEach((row, i) => {
    const at = i * (dim + 1);
    x.set(rows.subarray(row * dim, (row + 1) * dim), at);
    x[at + dim] = 1;
    for (let j = at; dropout && j < at + dim; j++) x[j] *= outlives(random, dropout) ? grown : 0;
  });
  return x;
}

/** Rows of an array (n, width). */
export function gather(values, width, rows) {
  const found = new values.constructor(rows.length * width);
  rows.forEach((row, i) => found.set(values.subarray(row * width, (row + 1) * width), i * width));
  return found;
}

/** The bias as the weight of one more input. */
function withBias({ weight, bias }) {
  const dim = weight.length / bias.length;
  const all = new Float32Array(weight.length + bias.length);
  bias.forEach((value, k) => {
    all.set(weight.subarray(k * dim, (k + 1) * dim), k * (dim + 1));
    all[k * (dim + 1) + dim] = value;
  });
  return all;
}

function withoutBias(all, outputs) {
  const size = all.length / outputs;
  const head = { weight: new Float32Array(all.length - outputs), bias: new Float32Array(outputs) };
  for (let k = 0; k < outputs; k++) {
    head.weight.set(all.subarray(k * size, (k + 1) * size - 1), k * (size - 1));
    head.bias[k] = all[(k + 1) * size - 1];
  }
  return head;
}
