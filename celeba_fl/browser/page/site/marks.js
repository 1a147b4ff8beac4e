/** What a person has ticked, picture by picture; nothing counts before it is said to be right. */
export class Marks {
  /**
   * @param {(Uint8Array|null)[]} labels Of each picture; null where nobody has said anything.
   * @param {number} width Attributes.
   */
  constructor(labels, width) {
    this.done = labels.map(Boolean);
    this.ticks = labels.map((one) => Uint8Array.from(one ?? new Uint8Array(width)));
    this.guessed = labels.map(() => null);
  }

  get left() {
    return this.done.filter((one) => !one).length;
  }

  /** Begin with what a model says (n * width) where the person has not said anything yet. */
  begin(predicted) {
    this.ticks.forEach((ticks, at) => {
      this.guessed[at] = predicted.slice(at * ticks.length, (at + 1) * ticks.length);
      if (!this.done[at]) ticks.set(this.guessed[at]);
    });
  }

  toggle(at, attribute) {
    this.ticks[at][attribute] ^= 1;
    return this.ticks[at][attribute];
  }

  /** How many answers of the model were changed on a picture; 0 without a model. */
  changed(at) {
    return this.guessed[at]?.filter((one, i) => one !== this.ticks[at][i]).length ?? 0;
  }

  /** The first picture that is not done, from one on and round; -1 if all are. */
  next(from) {
    const order = this.done.map((_, at) => (from + at) % this.done.length);
    return order.find((at) => !this.done[at]) ?? -1;
  }
}

/**
 * The base model against the updated one, on the tab's own pictures.
 *
 * @param {Uint8Array} base Answers (n * width), 1 = yes.
 * @param {Uint8Array} updated The same of the updated model.
 * @param {Uint8Array} labels What is right.
 * @param {Uint8Array} chosen (n,) 1 for the pictures that count.
 * @param {number} width Attributes.
 * @returns {{answers: number, before: number, after: number, fixed: number[], broken: number[]}}
 *   How many answers, how many of them right, and of each attribute how many became right or wrong.
 */
export function compare(base, updated, labels, chosen, width) {
  const [fixed, broken] = [new Array(width).fill(0), new Array(width).fill(0)];
  let [answers, before, after] = [0, 0, 0];
  labels.forEach((label, at) => {
    if (!chosen[Math.floor(at / width)]) return;
    const [was, is] = [base[at] === label, updated[at] === label];
    answers++;
    before += was;
    after += is;
    if (is && !was) fixed[at % width]++;
    if (was && !is) broken[at % width]++;
  });
  return { answers, before, after, fixed, broken };
}
