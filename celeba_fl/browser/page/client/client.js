// A tab's side of a run: it reads a message, asks its pictures, and replies.
//
// `celeba_fl/client_app.py` and `celeba_fl/tasks/attributes.py` in a tab: the messages and what is
// in them are those of Python's clients. What leaves is counts, sums and heads, never a picture.

import { ToldInputError, wordsOf } from "../fleet/errors.js";
import { arrays, config as settings } from "../fleet/records.js";
import { SecureClient } from "../secure/client.js";
import { giveWeights, MissingWeightsError } from "../vision/features.js";
import { introduction as introduced } from "../vision/probe.js";
import { checkTab, names, runConfig } from "./config.js";
import { Examples } from "./examples.js";
import { joined, split } from "./parts.js";
import * as received from "./received.js";
import { described, evaluate, summarise, train } from "./work.js";

const TOGETHER = "train.together";
const RUNS = 4; // of which a tab remembers what it has told, the newest

/** The client of one tab. */
export class Client {
  #runs = new Map(); // by run id: promises of its `config`, and of what is counted, its `site`

  /**
   * @param {object} options
   * @param {string} options.name Of the site.
   * @param {object} options.pictures See `Examples`.
   * @param {object} options.runtime Of vision/runtime.js.
   * @param {object} options.about What `/about.json` says.
   * @param {(predicted: Uint8Array) => Promise<Uint8Array>} options.corrections Asks the person.
   * @param {(event: object) => void} [options.onProgress]
   * @param {{minCohort?: number, identity?: object}} [options.node] The site's wishes for sums.
   * @param {AbortSignal} [options.signal] Ends its training.
   * @param {string} [options.base] The URL that the page is served at.
   * @param {Function} [options.introduction] Of vision/probe.js, unless a test has another.
   */
  constructor({ name, pictures, runtime, about, corrections, onProgress, ...more }) {
    const { node = {}, signal, base = "/", introduction = introduced } = more;
    const given = { name, pictures, runtime, about, corrections, signal, base, introduction };
    Object.assign(this, given);
    this.onProgress = onProgress ?? (() => {});
    this.attributes = about.attributes.map((attribute) => attribute.name);
    this.secure = new SecureClient({ name, ...node });
  }

  /**
   * Reply to a message.
   *
   * @param {{metadata: {messageType: string}, content: Map}} message
   * @param {object} run Of fleet/node.js.
   * @returns {Promise<Map>} The content of the reply.
   * @throws {ToldInputError} With what the server may read.
   */
  async answer(message, run) {
    const at = this.#at(run);
    const config = await at.config;
    return this.secure.answer(message, run, config, (inner) => this.#plain(inner, at, config));
  }

  #at(run) {
    if (!this.#runs.has(run.runId)) {
      const config = runConfig(run, this.about.keys);
      config.catch(() => this.#runs.delete(run.runId));
      this.#runs.set(run.runId, { run, config, site: null });
      if (this.#runs.size > RUNS) this.#runs.delete(this.#runs.keys().next().value);
    }
    return this.#runs.get(run.runId);
  }

  async #plain({ metadata: { messageType: type }, content }, at, config) {
    if (type !== TOGETHER) return this.#one(type, content, at, config);
    const asked = received.record(content, "parts", "config");
    const [parts, types] = [asked.get("names"), asked.get("types")];
    const contents = new Map();
    for (const [name, of] of split(content, parts)) {
      try {
        contents.set(name, await this.#one(types[parts.indexOf(name)], of, at, config));
      } catch (error) {
        this.onProgress({ stage: "failed", why: error.message });
        contents.set(name, new Map([["failure", settings({ reason: wordsOf(error) })]]));
      }
    }
    return joined(contents);
  }

  async #one(type, content, at, config) {
    const chosen = names(config.clients);
    if (type === "query" && chosen.length && !chosen.includes(this.name)) {
      return new Map([["sits-out", settings({ name: this.name })]]);
    }
    checkTab(config, this.pictures.simulated);
    const told = received.instructions(content);
    if (type === "query") return this.#introduce(content, told, at, config);
    if (type !== "train" && type !== "evaluate") {
      throw new ToldInputError(`a message of type ${type} is none that a server of this app sends`);
    }
    const start = performance.now();
    at.site ??= await this.#site(await this.#view(told, config), config);
    const { site } = at;
    const of = config["num-server-rounds"];
    const doing = { evaluate: "evaluating", train: told.sums ? "summing" : "training" }[type];
    this.onProgress({ stage: "round", round: Number(told["server-round"]), of, doing });
    const work = type === "evaluate" ? evaluate : told.sums ? summarise : train;
    const reply = await work(site, content, told);
    reply.get("metrics").items.set("seconds", (performance.now() - start) / 1000);
    return reply;
  }

  /** Introduce the site to a run: its name, and what it holds. */
  async #introduce(content, told, at, config) {
    for (const file of received.files(content, told.weights)) {
      await giveWeights(told.weights, file, { base: this.base });
    }
    const view = await this.#view(told, config);
    const site = await this.#site(view, config);
    this.onProgress({ stage: "run", runId: at.run.runId, config, dim: view.dim });
    let [rows, missing, probe] = [null, "", { words: {}, arrays: {} }];
    try {
      probe = await this.introduction(this.runtime, view, { base: this.base });
      for (let version = config.augmentations; version >= 0; version--) {
        rows = await site.features(version);
      }
    } catch (error) {
      if (!(error instanceof MissingWeightsError)) throw error;
      missing = error.sha256;
    }
    at.site = missing ? null : site;
    const { code, path } = this.about;
    return new Map([
      ["client", settings({ name: this.name, missing, code, path, ...probe.words })],
      ...described({ ...site, rows }),
      ...Object.entries(probe.arrays).map(([name, of]) => [name, arrays(of)]),
    ]);
  }

  /** What this tab counts and learns from in a run. */
  async #site(view, config) {
    const { name, pictures, runtime, about, onProgress, corrections, base, attributes } = this;
    await pictures.ready(config);
    const examples = new Examples(pictures, config, attributes);
    const computed = new Map(); // by version
    const features = (version) => {
      if (!computed.has(version)) {
        const onDone = (done, of) => onProgress({ stage: "features", done, of });
        const of = pictures.features(view, { seed: config.seed, version }, onDone);
        computed.set(version, of);
        of.catch(() => computed.delete(version));
      }
      return computed.get(version);
    };
    const graph = `${base}onnx/head-step.onnx?optimizer=${config.optimizer}`;
    const { dim } = view;
    const known = { name, config, attributes, bins: about.bins, dim, examples, features };
    return { ...known, graph, runtime, corrections, tell: onProgress, signal: this.signal };
  }

  /** The view of pictures that a run's server has, if this page's own code makes the same of it. */
  async #view(told, config) {
    const keys = ["backbone", "weights", "features", "image-size"];
    const query = new URLSearchParams(keys.map((key) => [key, config[key]]));
    const response = await fetch(`${this.base}onnx/view.json?${query}`);
    const said = await response.json();
    if (!response.ok) throw new ToldInputError(said.error);
    if (!told.weights || said.preprocessing !== told.preprocessing) {
      throw new ToldInputError(
        "this client prepares images in another way than the server (another version of the " +
          "app?); heads on different features must not be averaged",
      );
    }
    const { backbone, features, image_size: imageSize, dim } = said;
    return { backbone, weights: told.weights, features, imageSize, dim };
  }
}
