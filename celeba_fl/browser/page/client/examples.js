// A site's pictures as a run counts and learns from them.

import { ToldInputError } from "../fleet/errors.js";
import { errorRates } from "./config.js";
import { UNASKED } from "./counts.js";
import { simulatedAnswers, uniform } from "./random.js";

/**
 * The pictures of a tab in one run. What is counted in the roll call stays so until the run ends,
 * whatever the person labels meanwhile; but for the answers of a person whom the run asks.
 */
export class Examples {
  /**
   * @param {object} pictures `count`, `content`, `labels(i)`, `identity(i)`, `identified`,
   *   `simulated`, `features(view, version, onDone)`; see site/pictures.js.
   * @param {object} config Of the run.
   * @param {string[]} attributes Their names.
   * @throws {ToldInputError} If none can take part.
   */
  constructor(pictures, config, attributes) {
    this.pictures = pictures;
    this.attributes = attributes;
    const [number, taught] = [attributes.length, config.labels === "teacher"];
    this.labels = new Uint8Array(pictures.count * number);
    const all = Array.from({ length: pictures.count }, (_, i) => i);
    const missing = all.filter((i) => !pictures.labels(i));
    const rows = taught ? all : all.filter((i) => pictures.labels(i));
    for (const i of all) this.labels.set(pictures.labels(i) ?? [], i * number);
    /** Whether the person is still to be asked for labels. */
    this.unlabelled = taught && missing.length > 0;
    if (!rows.length) {
      throw new ToldInputError(
        pictures.count
          ? "no picture of this site is labelled yet; label them in the page, or choose a folder " +
              "with a metadata.csv"
          : "no pictures are chosen in this tab yet; choose some in the page",
      );
    }
    const valid = this.#heldOut(config);
    /** The pictures of each part, by their numbers. */
    this.parts = { train: rows.filter((i) => !valid[i]), valid: rows.filter((i) => valid[i]) };
    this.answers = null;
    if (taught && pictures.simulated) {
      const errors = errorRates(config["teacher-error"], attributes);
      const seed = BigInt(config.seed);
      this.answers = simulatedAnswers(pictures.content, this.labels, errors, seed);
    } else if (taught) {
      this.answers = Int8Array.from(this.labels);
      for (const i of missing) this.answers.fill(UNASKED, i * number, (i + 1) * number);
    }
  }

  /** Which pictures validate, as `celeba_fl.data.draws.valid_mask` draws them. */
  #heldOut({ seed, "valid-by": by, "valid-fraction": fraction }) {
    const { pictures } = this;
    let drawn = pictures.content;
    if (by === "identity") {
      if (!pictures.identified) {
        throw new ToldInputError(
          "valid-by = 'identity': keeps whole people for validation, and these pictures do not " +
            "say who is who; set valid-by = 'image', or add their identities",
        );
      }
      drawn = BigUint64Array.from({ length: pictures.count }, (_, i) =>
        BigInt.asUintN(64, BigInt(pictures.identity(i))),
      );
    }
    return uniform(drawn, BigInt(seed)).map((chance) => chance < fraction);
  }

  /** Take what the person says of all pictures, who was shown the base model's answers. */
  corrected(labels) {
    this.labels = labels;
    this.answers = Int8Array.from(labels);
    this.unlabelled = false;
  }

  /**
   * What is learned from, and which of it counts, (pictures, attributes) of 0 and 1 each.
   *
   * @param {Float64Array | null} scores Of the received model, if only what it gets wrong counts.
   */
  targets(scores) {
    const { answers, labels } = this;
    const taught = answers ? Uint8Array.from(answers, (one) => one === 1) : labels;
    const counted = taught.map((yes, at) => {
      const known = !answers || answers[at] >= 0;
      return known && (!scores || (scores[at] > 0) !== !!yes);
    });
    return { taught, counted };
  }
}
