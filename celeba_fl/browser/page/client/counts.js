// Counts of examples that add up over sites: what an evaluation sends, and never a picture's score.
//
// As `celeba_fl/evaluation` has them in metrics.py, fairness.py and corrections.py. Arrays over
// pictures are (pictures, attributes), and `chosen` says which of the pictures are counted.

import { tensor } from "../fleet/records.js";

/** The answer of a teacher that was not asked. */
export const UNASKED = -2;

/**
 * Score histograms and summed losses of the chosen pictures, as tensors.
 *
 * @param {Float64Array} scores
 * @param {Uint8Array} labels
 * @param {number[]} chosen
 * @param {number} attributes
 * @param {number[]} edges The lower edges of all bins but the first.
 */
export function countScores(scores, labels, chosen, attributes, edges) {
  const found = histograms(scores, labels, [chosen], attributes, edges, [attributes]);
  const loss = new Float64Array(attributes);
  for (const i of chosen) {
    for (let k = 0; k < attributes; k++) {
      const s = scores[i * attributes + k];
      loss[k] += Math.max(s, 0) - s * labels[i * attributes + k];
      loss[k] += Math.log1p(Math.exp(-Math.abs(s)));
    }
  }
  return { ...found, loss: tensor("float64", [attributes], loss) };
}

/**
 * Score histograms of every group of every grouping: `group_positives` and `group_negatives`.
 *
 * @param {number[][]} groupings The columns of the attributes that make the groups of each.
 */
export function countGroups(scores, labels, chosen, attributes, edges, groupings) {
  const members = groupings.flatMap((columns) => {
    const of = Array.from({ length: 2 ** columns.length }, () => []);
    for (const i of chosen) of[groupOf(labels, attributes, columns, i)].push(i);
    return of;
  });
  const shape = [members.length, attributes];
  const found = histograms(scores, labels, members, attributes, edges, shape);
  return { group_positives: found.positives, group_negatives: found.negatives };
}

/** The group of a picture, from all 0 to all 1 of the attributes in these columns. */
export const groupOf = (labels, attributes, columns, i) =>
  columns.reduce((code, column) => 2 * code + labels[i * attributes + column], 0);

/**
 * Counts of a teacher's answers: 1, 0, -1 for unsure, -2 where it was not asked.
 *
 * @param {Int8Array} answers
 * @param {Uint8Array} labels
 * @param {Float64Array} scores
 */
export function countAnswers(answers, labels, scores, chosen, attributes) {
  const found = ["asked", "answered", "agreed", "right"].map((name) => [
    `teacher_${name}`,
    new BigInt64Array(attributes),
  ]);
  for (const i of chosen) {
    for (let k = 0; k < attributes; k++) {
      const at = i * attributes + k;
      const [sure, yes] = [answers[at] >= 0, answers[at] === 1];
      const agreed = sure && yes === scores[at] > 0;
      const outcomes = [answers[at] !== UNASKED, sure, agreed, sure && yes === !!labels[at]];
      outcomes.forEach((is, which) => (found[which][1][k] += BigInt(is)));
    }
  }
  return Object.fromEntries(
    found.map(([name, counts]) => [name, tensor("int64", [attributes], counts)]),
  );
}

/** Histograms of several sets of pictures, in the smallest type that holds all numbers. */
function histograms(scores, labels, sets, attributes, edges, shape) {
  const bins = edges.length + 1;
  const size = sets.length * attributes * bins;
  const [negatives, positives] = [new Uint32Array(size), new Uint32Array(size)];
  sets.forEach((chosen, set) => {
    for (const i of chosen) {
      for (let k = 0; k < attributes; k++) {
        const at = i * attributes + k;
        const bin = (set * attributes + k) * bins + binOf(scores[at], edges);
        (labels[at] ? positives : negatives)[bin]++;
      }
    }
  });
  const largest = [positives, negatives].flatMap((of) => of.reduce((a, b) => Math.max(a, b), 0));
  const [dtype, Type] = SMALLEST.find(([, , limit]) => Math.max(...largest) < limit);
  const sent = (counts) => tensor(dtype, [...shape, bins], Type.from(counts));
  return { positives: sent(positives), negatives: sent(negatives) };
}

const SMALLEST = [
  ["uint8", Uint8Array, 2 ** 8],
  ["uint16", Uint16Array, 2 ** 16],
  ["uint32", Uint32Array, 2 ** 32],
];

/** The number of edges below a score, as `np.searchsorted` finds it; of NaN all of them. */
function binOf(score, edges) {
  let [low, high] = [0, edges.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (score <= edges[middle]) high = middle;
    else low = middle + 1;
  }
  return low;
}
