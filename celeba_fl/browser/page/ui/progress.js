/** The site at work: its state, the rounds so far, bytes, and the model before and after. */

import { bytes, estimate } from "../site/estimate.js";
import { compare } from "../site/marks.js";
import { at, counted, draw, make, percent, table } from "./dom.js";

const DOING = {
  evaluating: "It is seeing how well the model does on your pictures",
  training: "It is training on your pictures",
  summing: "It is summing up your pictures",
};
const STATES = {
  registering: "The tab is introducing itself to the federation.",
  unregistered: "The federation does not know this site\u2019s key yet.",
  working: "The tab is at work.",
  offline: "There is no connection. The tab tries again by itself.",
  refused: "The federation does not take this site.",
};

// While nothing is asked of it: before a run, after the roll call, between rounds, and afterwards.
const WAITING = {
  ready: "All is ready. The tab is waiting for the federation to begin.",
  introduced:
    "This site has introduced itself, and waits for the first round. If the others begin without " +
    "it, the federation\u2019s log says why.",
  between: "The tab has answered, and waits for the others.",
  over: "The run is over for this site. The tab is waiting for the next one.",
};

export class Progress {
  /** @param {{name: string, words: string}[]} attributes */
  constructor(attributes) {
    Object.assign(this, { attributes, state: "" });
    this.reset();
  }

  reset() {
    Object.assign(this, { rounds: new Map(), base: null, last: null, declined: false });
    Object.assign(this, { work: "", waiting: WAITING.ready }); // what is said meanwhile
    at("rounds").replaceChildren();
    at("trouble").textContent = at("this-run").textContent = "";
    at("round").textContent = "\u2013";
    at("result").hidden = true;
  }

  /** What the node says of itself. */
  node({ state, detail = "", error = "", declined = false, bytesIn = 0, bytesOut = 0 }) {
    this.state = state;
    if (declined) {
      this.declined = true;
      this.waiting = "This site takes no part in this run, and waits for the next one.";
    }
    if (error && state === "working") this.failed({ why: error });
    else if (error) at("trouble").textContent = "";
    at("registering").hidden = state !== "unregistered";
    at("dot").className = state === "waiting" && this.declined ? "refused" : state;
    at("sent").textContent = bytes(bytesOut);
    at("received").textContent = bytes(bytesIn);
    if (state !== "working") {
      this.work = ""; // the next message asks for other work
      at("bar").hidden = true;
    }
    const reason = `${detail.charAt(0).toUpperCase()}${detail.slice(1)}.`;
    this.#say(["offline", "refused"].includes(state) ? `${STATES[state]} ${reason}` : "");
  }

  /** What the client says of its work. */
  client(event) {
    at("trouble").textContent = "";
    this[event.stage]?.(event);
  }

  run({ config, dim }) {
    this.reset();
    Object.assign(this, { config, waiting: WAITING.introduced });
    const [rounds, closed] = [config["num-server-rounds"], config.strategy === "closed-form"];
    const how = closed
      ? "solves for the model at once"
      : `averages over ${counted(Number(rounds), "round")}`;
    const hidden = config["secure-aggregation"]
      ? "Your numbers are hidden in a sum over several sites."
      : "Your numbers are sent as they are, without the cover of a sum.";
    const { averaging, closed: solving } = estimate(dim, config.groupings);
    const size = (closed ? solving : averaging)[config["secure-aggregation"] ? "masked" : "sent"];
    at("this-run").textContent =
      `This run ${how}, which sends about ${bytes(size)}${closed ? "" : " each"}. ${hidden}`;
  }

  failed({ why }) {
    at("trouble").textContent = `${this.declined ? "The reason" : "It could not answer"}: ${why}`;
  }

  features({ done, of }) {
    at("bar").hidden = done >= of;
    at("doing").textContent = `It is looking at your pictures: ${done} of ${of}`;
    Object.assign(at("progress"), { value: done, max: of });
  }

  round({ round, of, doing }) {
    at("round").textContent = `${round} of ${of}`;
    this.work = `${DOING[doing]}: round ${round} of ${of}.`;
    this.waiting = WAITING.between;
    this.#say("");
  }

  trained({ round, loss, examples }) {
    Object.assign(this.#of(round), { loss, examples });
    this.#table();
  }

  evaluated({ round, final, predicted, labels, valid }) {
    const row = this.#of(round);
    const train = valid.map((one) => 1 - one);
    for (const [part, chosen] of Object.entries({ train, valid })) {
      row[part] = compare(predicted, predicted, labels, chosen, this.attributes.length);
    }
    this.base ??= predicted;
    this.last = { predicted, labels, valid, train };
    this.#table();
    if (!final) return;
    this.waiting = WAITING.over;
    this.#result();
  }

  /** The person is asked to correct what the model says. */
  correct(predicted) {
    this.base = predicted;
    this.work = "The federation waits for you: please correct its model, above.";
    this.#say("");
  }

  #of(round) {
    if (!this.rounds.has(round)) this.rounds.set(round, {});
    return this.rounds.get(round);
  }

  #say(words) {
    const usual = { working: this.work, waiting: this.waiting }[this.state];
    const text = words || usual || STATES[this.state] || "";
    if (at("state").textContent !== text) at("state").textContent = text; // read out once
  }

  #table() {
    const rows = [...this.rounds].sort(([a], [b]) => a - b);
    const share = (part) => (part ? percent(part.before, part.answers) : "\u2013");
    at("rounds").replaceChildren(
      table(
        "Rounds that this site was in, on your own pictures",
        ["Round", "Loss in training", "Right before training", "Right, not trained on"],
        rows.map(([round, { loss, train, valid }]) => [
          round ? String(round) : "Start",
          Number.isFinite(loss) ? loss.toFixed(3) : "\u2013",
          share(train),
          share(valid),
        ]),
      ),
      this.#curve(rows),
    );
  }

  /** Right answers by round, as a small curve; the table beside it says the same. */
  #curve(rows) {
    const shares = rows
      .map(([round, { train, valid }]) => [round, valid?.answers ? valid : train])
      .filter(([, part]) => part?.answers)
      .map(([round, part]) => [round, part.before / part.answers]);
    if (shares.length < 2) return "";
    const [width, height, edge, all] = [480, 150, 30, shares.map(([, share]) => share)];
    const low = Math.floor(20 * Math.min(...all)) / 20;
    const high = Math.min(1, Math.ceil(20 * Math.max(...all) + 0.1) / 20);
    const [first, end] = [shares[0][0], shares[shares.length - 1][0]];
    const x = (round) => 60 + ((width - 70) * (round - first)) / (end - first);
    const y = (share) => 12 + ((height - edge - 12) * (high - share)) / (high - low);
    const text = (place, words) => draw("text", place, words);
    return draw(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Right answers by round" },
      ...[low, high].flatMap((share) => [
        draw("line", { class: "axis", x1: 60, x2: width - 10, y1: y(share), y2: y(share) }),
        text({ x: 54, y: y(share) + 4, "text-anchor": "end" }, `${Math.round(100 * share)} %`),
      ]),
      draw("polyline", {
        class: "line",
        points: shares.map(([r, s]) => `${x(r)},${y(s)}`).join(" "),
      }),
      ...shares.map(([r, s]) => draw("circle", { class: "point", cx: x(r), cy: y(s), r: 4 })),
      text({ x: 60, y: height - 6 }, first ? `Round ${first}` : "Start"),
      text({ x: width - 10, y: height - 6, "text-anchor": "end" }, `Round ${end}`),
    );
  }

  #result() {
    const { predicted, labels, valid, train } = this.last;
    const unseen = valid.some(Boolean);
    const [chosen, width] = [unseen ? valid : train, this.attributes.length];
    const found = compare(this.base, predicted, labels, chosen, width);
    const changed = this.attributes
      .map(({ words }, i) => [words, found.fixed[i], found.broken[i]])
      .filter(([, fixed, broken]) => fixed || broken)
      .sort((a, b) => b[1] - b[2] - (a[1] - a[2]));
    const share = (part) => make("strong", {}, percent(part, found.answers));
    const which = unseen
      ? "These are pictures of yours that nobody has trained on."
      : "These are the pictures that this site trained on, so strangers will fare less well.";
    const all = table(
      "Answers on your pictures that changed",
      ["Attribute", "Now right", "Now wrong"],
      changed.map(([words, fixed, broken]) => [words, String(fixed), String(broken)]),
    );
    at("compared").replaceChildren(
      make(
        "p",
        {},
        "Of the answers on your pictures, the model that the federation began with got ",
        share(found.before),
        " right, and the updated model ",
        share(found.after),
        ". ",
        which,
      ),
      changed.length
        ? make(
            "details",
            {},
            make("summary", {}, `${counted(changed.length, "attribute")} changed`),
            all,
          )
        : make("p", {}, "No answer on your pictures has changed."),
    );
    at("result").hidden = false;
  }
}
