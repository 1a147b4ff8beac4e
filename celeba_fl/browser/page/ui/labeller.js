/** Labels by ticking, one picture at a time; or corrections of what a model says. */

import { Marks } from "../site/marks.js";
import { at, make } from "./dom.js";
import { address } from "./setup.js";

// Attributes that are looked for together; those that nobody has named here come last.
const GROUPS = {
  Impression: ["Male", "Young", "Attractive", "Chubby", "Smiling", "Blurry"],
  Hair: [
    ...["Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Bald", "Receding_Hairline"],
    ...["Bangs", "Straight_Hair", "Wavy_Hair", "Sideburns"],
  ],
  Beard: ["No_Beard", "5_o_Clock_Shadow", "Goatee", "Mustache"],
  "Eyes and brows": ["Arched_Eyebrows", "Bushy_Eyebrows", "Bags_Under_Eyes", "Narrow_Eyes"],
  Face: [
    ...["Oval_Face", "High_Cheekbones", "Double_Chin", "Big_Nose", "Pointy_Nose", "Big_Lips"],
    ...["Mouth_Slightly_Open", "Pale_Skin", "Rosy_Cheeks"],
  ],
  Wearing: [
    ...["Eyeglasses", "Wearing_Hat", "Wearing_Earrings", "Wearing_Necklace", "Wearing_Necktie"],
    ...["Wearing_Lipstick", "Heavy_Makeup"],
  ],
};

/**
 * The labelling of the pictures at hand.
 *
 * @param {{name: string, words: string, meaning: string}[]} attributes
 * @param {(at: number, labels: Uint8Array) => void} onLabels A picture is done.
 * @param {(labels: Uint8Array|null) => void} onEnd All are done (n * 40), or the person pauses.
 */
export class Labeller {
  constructor(attributes, onLabels, onEnd) {
    Object.assign(this, { attributes, onLabels, onEnd, boxes: [], place: 0 });
    const grouped = Object.values(GROUPS).flat();
    const rest = attributes.map(({ name }) => name).filter((name) => !grouped.includes(name));
    for (const [title, names] of Object.entries({ ...GROUPS, More: rest })) {
      const ticks = make("div", { class: "ticks" }, ...names.map((name) => this.#tick(name)));
      if (names.length) at("ticks").append(make("fieldset", {}, make("legend", {}, title), ticks));
    }
    at("ticks").addEventListener("submit", (event) => event.preventDefault());
    at("right").addEventListener("click", () => this.#right());
    at("previous").addEventListener("click", () => this.#go(this.place - 1));
    at("pause").addEventListener("click", () => this.#end(null));
    at("labelling").addEventListener("keydown", (event) => this.#key(event));
  }

  /** @param {object[]} pictures @param {Uint8Array|null} predicted What a model says of them. */
  open(pictures, predicted) {
    this.pictures = pictures;
    this.predicted = predicted;
    this.marks = new Marks(
      pictures.map(({ labels }) => labels),
      this.attributes.length,
    );
    if (predicted) this.marks.begin(predicted);
    at("labelling-title").textContent = predicted ? "Correct the model" : "Label the pictures";
    at("labelling-help").textContent = predicted
      ? "The federation\u2019s model has made a guess for each picture. Change what is wrong, " +
        "then say that it is right. Only what you change is learned from, and the others wait " +
        "for you up to an hour."
      : "Tick what the picture shows. With a keyboard: Tab and Space tick, Enter says that all " +
        "is right, the arrows left and right turn the pages.";
    at("pause").hidden = Boolean(predicted);
    at("labelling").hidden = false;
    this.#go(Math.max(0, this.marks.next(0)));
    at("labelling-title").focus();
  }

  #tick(name) {
    const number = this.attributes.findIndex((one) => one.name === name);
    const { words, meaning } = this.attributes[number];
    const box = make("input", { type: "checkbox" });
    box.addEventListener("change", () => {
      this.marks.toggle(this.place, number);
      this.#mark();
    });
    this.boxes[number] = box;
    return make("label", { title: meaning }, box, words);
  }

  #go(place) {
    this.place = Math.min(Math.max(place, 0), this.pictures.length - 1);
    const { file, blob } = this.pictures[this.place];
    const picture = at("picture");
    picture.hidden = !blob;
    if (blob) picture.src = address(blob);
    picture.alt = `The picture ${file}`;
    const lacks = blob ? "" : " (to see it, stop, and choose the pictures again)";
    at("picture-name").textContent =
      `${this.place + 1} of ${this.pictures.length}: ${file}${lacks}`;
    at("previous").disabled = !this.place;
    this.#mark();
  }

  /** Bring the boxes, and what is said of them, to the state of the marks. */
  #mark() {
    const [ticks, guessed] = [this.marks.ticks[this.place], this.marks.guessed[this.place]];
    this.boxes.forEach((box, i) => {
      box.checked = Boolean(ticks[i]);
      box.parentElement.classList.toggle("changed", Boolean(guessed) && guessed[i] !== ticks[i]);
    });
    const changed = this.marks.changed(this.place);
    at("right").textContent = changed ? `Right now (${changed} changed)` : "This is right";
  }

  #right() {
    this.marks.done[this.place] = true;
    this.onLabels(this.place, this.marks.ticks[this.place].slice());
    const next = this.marks.next(this.place + 1);
    if (next < 0) return this.#end(this.marks);
    this.#go(next);
    scrollTo({ top: at("labelling").offsetTop });
    at("ticks").querySelector("input").focus({ preventScroll: true });
  }

  #end(marks) {
    at("labelling").hidden = true;
    if (!marks) return this.onEnd(null);
    const labels = new Uint8Array(this.pictures.length * this.attributes.length);
    marks.ticks.forEach((ticks, i) => labels.set(ticks, i * ticks.length));
    this.onEnd(labels);
  }

  #key(event) {
    if (event.target.matches("button") && event.key === "Enter") return;
    const does = {
      Enter: () => this.#right(),
      ArrowLeft: () => this.#go(this.place - 1),
      ArrowRight: () => this.#go(this.place + 1),
    }[event.key];
    if (!does) return;
    event.preventDefault();
    does();
  }
}
