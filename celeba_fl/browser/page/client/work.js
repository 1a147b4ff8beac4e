// What a site answers: an introduction, counts, sums and a trained head, of its own pictures.
//
// As `celeba_fl/tasks/attributes.py` and what it calls. `site` is what a tab knows in a run:
// `name`, `config`, `attributes` (names), `bins` (edges), `dim` of features, `examples`,
// `features(version)` -> Float32Array (pictures, dim), `corrections(predicted)`, `tell(event)`, and
// `signal`, which ends its work.

import { arrays, metrics, tensor } from "../fleet/records.js";
import { groupings, names } from "./config.js";
import { countAnswers, countGroups, countScores, groupOf } from "./counts.js";
import { fold, gather, scaled, scores, trainHead } from "./head.js";
import { trainingSeed } from "./random.js";
import * as received from "./received.js";
import { ridgeSums, rint, scalingSums } from "./sums.js";

const PARTS = ["train", "valid"];

/** The records of an introduction that are numbers; all 0 from a site that lacks the weights. */
export function described({ config, attributes, dim, examples, rows }) {
  const number = attributes.length;
  const train = rows ? examples.parts.train : [];
  const [{ labels }, { taught, counted }] = [examples, examples.targets(null)];
  const groupings = ["partition-by", "group-weighting"].map((key) => names(config[key]).join());
  const groups = [...new Set(groupings)].filter(Boolean).map((grouping) => {
    const columns = columnsOf(attributes, names(grouping));
    const sizes = new Array(2 ** columns.length).fill(0);
    for (const i of train) sizes[groupOf(labels, number, columns, i)]++;
    return sizes;
  });
  const perAttribute = (of) =>
    attributes.map((_, k) => train.reduce((sum, i) => sum + of(i * number + k), 0));
  // Positives that the person may still correct are none yet: the server holds a site to others.
  const positives = perAttribute((at) => (examples.unlabelled ? 0 : labels[at]));
  const counts = whole([...groups.flat(), ...positives]);
  const sums = config.scaling === "clients" ? scalingSums(rows ?? [], dim, train) : {};
  const told = Object.entries(sums).map(([key, of]) => [key, tensor("int64", [of.length], of)]);
  if (config.init === "base-rates") {
    told.push(["labels", whole(perAttribute((at) => counted[at]))]);
    told.push(["positives", whole(perAttribute((at) => taught[at] & counted[at]))]);
  }
  const valid = rows ? examples.parts.valid : [];
  const numbers = [BigInt(train.length), BigInt(valid.length)];
  return [
    ["metrics", metrics({ "num-examples": numbers[0], "num-valid": numbers[1] })],
    ["counts", arrays({ counts })],
    ["sums", arrays(new Map(told))],
  ];
}

const whole = (numbers) =>
  tensor("int64", [numbers.length], BigInt64Array.from(numbers, (number) => BigInt(number)));

/** Counts of how well the model does, by part. */
export async function evaluate(site, content, told) {
  const { attributes, bins, examples, config } = site;
  const number = attributes.length;
  const head = received.head(content, number, site.dim);
  const outputs = scores(fold(head, received.scale(told, site.dim)), await site.features(0));
  const predicted = await shown(site, outputs);
  const final = "final" in told;
  const found = PARTS.map((part) => {
    const chosen = examples.parts[part];
    const of = [outputs, examples.labels, chosen, number, bins];
    const counts = { ...countScores(...of) };
    if (part === "train" && examples.answers) {
      const teacher = [examples.answers, examples.labels, outputs, chosen, number];
      Object.assign(counts, countAnswers(...teacher));
    }
    if (final) {
      const columns = groupings(config).map((grouping) => columnsOf(attributes, grouping));
      Object.assign(counts, countGroups(...of, columns));
    }
    return [part, arrays(counts)];
  });
  const valid = new Uint8Array(outputs.length / number);
  for (const i of examples.parts.valid) valid[i] = 1;
  const round = Number(told["server-round"]);
  site.tell({ stage: "evaluated", round, final, predicted, labels: examples.labels, valid });
  return reply(found, examples.parts.valid.length);
}

/** The head, trained on the site's examples; as it came, where there is nothing to learn. */
export async function train(site, content, told) {
  const { attributes, config, examples, dim } = site;
  const number = attributes.length;
  const head = received.head(content, number, dim);
  const scale = received.scale(told, dim);
  const disagreements = config["train-on"] === "disagreements";
  let outputs = null;
  if (disagreements || examples.unlabelled) {
    outputs = scores(fold(head, scale), await site.features(0));
    await shown(site, outputs);
  }
  const { taught, counted } = examples.targets(disagreements ? outputs : null);
  const counts = (i) => counted.subarray(i * number, (i + 1) * number).some(Boolean);
  const chosen = examples.parts.train.filter(counts);
  if (!chosen.length) return trained(head, 0, 0, attributes, dim);
  const weigh = weighing(site, told);
  const weight = chosen.map(weigh);
  const copies = Array.from({ length: config.augmentations + 1 }, (_, version) => version);
  const tiled = (values, width) => concatenated(copies.map(() => gather(values, width, chosen)));
  const rows = [];
  for (const version of copies) {
    rows.push(scaled(gather(await site.features(version), dim, chosen), scale));
  }
  const all = concatenated(copies.map(() => Float64Array.from(weight)));
  const picked = tiled(counted, number);
  const positives = received.listed(told, "positive-weight", number);
  const result = await trainHead(
    ...[site.runtime, site.graph, head, concatenated(rows), tiled(taught, number)],
    {
      epochs: config["local-epochs"],
      batchSize: config["batch-size"],
      learningRate: config["learning-rate"],
      optimizer: config.optimizer,
      dropout: config.dropout,
      mu: told["proximal-mu"] ?? 0,
      positives: positives && Float32Array.from(positives),
      weight: all,
      counted: picked.every(Boolean) ? null : picked,
      seed: await trainingSeed(config.seed, told["server-round"], site.name),
      signal: site.signal,
    },
  );
  const said = Math.max(1, rint(weight.reduce((sum, one) => sum + one, 0)));
  const round = Number(told["server-round"]);
  site.tell({ stage: "trained", round, loss: result.loss, examples: said });
  return trained(result.head, said, result.loss, attributes, dim);
}

/** The sums for the closed form that were asked for. */
export async function summarise(site, content, told) {
  const { attributes, config, examples, dim } = site;
  const number = attributes.length;
  const fair = columnsOf(attributes, names(config["fair-groups"]));
  const rows = await site.features(0);
  const weigh = weighing(site, told);
  const sums = new Map();
  for (const part of PARTS.filter((name) => told.sums.includes(`${name}_xx`))) {
    const chosen = examples.parts[part];
    const columns = part === "train" ? fair : [];
    const outputs = number * 2 ** columns.length;
    const labels = withGroups(examples.labels, number, columns);
    const { xx, xy } = ridgeSums(rows, dim, chosen, labels, outputs, weigh);
    sums.set(`${part}_xx`, tensor("int64", [xx.length], xx));
    sums.set(`${part}_xy`, tensor("int64", [dim + 1, outputs], xy));
  }
  return reply([["arrays", arrays(sums)]], examples.parts.train.length);
}

/** The model's answers, 1 for yes; a person whose pictures lack labels is asked what is wrong. */
async function shown({ examples, corrections }, outputs) {
  const predicted = Uint8Array.from(outputs, (score) => score > 0);
  if (examples.unlabelled) examples.corrected(await corrections(predicted.slice()));
  return predicted;
}

/** From a picture to its weight, by its group. */
function weighing({ attributes, config, examples }, told) {
  const columns = columnsOf(attributes, names(config["group-weighting"]));
  const weights = received.listed(told, "group-weights", 2 ** columns.length, [1]);
  return (i) => weights[groupOf(examples.labels, attributes.length, columns, i)];
}

const columnsOf = (attributes, grouping) => grouping.map((name) => attributes.indexOf(name));

/** Labels, then those of the examples of each group but the first: models/fair_ridge.py. */
function withGroups(labels, number, columns) {
  const groups = 2 ** columns.length;
  if (groups === 1) return labels;
  const all = new Uint8Array(labels.length * groups);
  for (let i = 0; i < labels.length / number; i++) {
    const own = labels.subarray(i * number, (i + 1) * number);
    const group = groupOf(labels, number, columns, i);
    for (const at of new Set([0, group])) all.set(own, (i * groups + at) * number);
  }
  return all;
}

function concatenated(parts) {
  const all = new parts[0].constructor(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  return all;
}

function trained({ weight, bias }, number, loss, attributes, dim) {
  const shapes = [[attributes.length, dim], [attributes.length]];
  const head = {
    weight: tensor("float32", shapes[0], weight),
    bias: tensor("float32", shapes[1], bias),
  };
  return reply([["arrays", arrays(head)]], number, { "local-loss": loss });
}

const reply = (records, number, more = {}) =>
  new Map([...records, ["metrics", metrics({ "num-examples": BigInt(number), ...more })]]);
