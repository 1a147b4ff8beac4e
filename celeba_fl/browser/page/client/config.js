// The run config as a tab has it: the app's settings, the run's own on top, by Python's rules.

import { ToldInputError } from "../fleet/errors.js";
import { settings } from "./fab.js";

const TYPES = { bool: "true or false", int: "a whole number", float: "a number", str: "a text" };

/**
 * The settings of a run, by key; whole numbers as numbers, those beyond 2^53 as BigInt.
 *
 * @param {object} run `fab`, and `overrides`, a Map.
 * @param {object} rules Of `about.keys`: type, range, default and meaning of every key.
 * @returns {Promise<Readonly<Record<string, string|number|bigint|boolean>>>}
 * @throws {ToldInputError} If a value is not what Python's clients would take.
 */
export async function runConfig(run, rules) {
  const given = await settings(await run.fab());
  for (const [key, value] of run.overrides) {
    if (!given.has(key)) throw new ToldInputError(`unknown run-config key ${quoted(key)}`);
    given.set(key, value);
  }
  const task = given.get("task") ?? rules.task.default;
  if (task !== "attributes") {
    throw new ToldInputError(
      `task = ${quoted(task)}: a tab of a browser learns attributes of faces alone; set task = ` +
        `'attributes', or take part with a SuperNode`,
    );
  }
  const config = {};
  for (const [key, { default: usual }] of Object.entries(rules)) config[key] = usual;
  for (const [key, value] of given) config[key] = checked(rules, key, value);
  return Object.freeze(config);
}

/** A value as Python's `Key` takes it. */
function checked(rules, key, value) {
  const rule = Object.hasOwn(rules, key) ? rules[key] : undefined;
  if (!rule) throw new ToldInputError(`unknown run-config key ${quoted(key)}`);
  const said = typeof value;
  if (rule.type === "float" && said === "bigint") value = Number(value);
  if (rule.type === "str" && (said === "bigint" || said === "number")) value = pythonic(value);
  const right = {
    bool: typeof value === "boolean",
    int: typeof value === "bigint",
    float: typeof value === "number",
    str: typeof value === "string",
  }[rule.type];
  const size = rule.type === "int" ? Number(value) : value;
  const broken = {
    low: (limit) => !(size >= limit) && `at least ${limit}`,
    above: (limit) => !(size > limit) && `above ${limit}`,
    high: (limit) => !(size <= limit) && `at most ${limit}`,
    below: (limit) => !(size < limit) && `below ${limit}`,
  };
  const limits = Object.keys(broken).filter((name) => (rule[name] ?? null) !== null);
  const { choices = [] } = rule;
  let wrong = "";
  if (!right) wrong = TYPES[rule.type];
  else if (rule.type === "float" && !Number.isFinite(value)) wrong = "finite";
  else if (choices.length && !choices.includes(value)) wrong = `one of ${choices.join(", ")}`;
  else if (value === "" && !rule.empty) wrong = "a text that is not empty";
  else wrong = limits.map((name) => broken[name](rule[name])).find(Boolean) ?? "";
  if (wrong) {
    throw new ToldInputError(`${key} = ${quoted(value)}: must be ${wrong} (${rule.meaning})`);
  }
  return typeof value === "bigint" && Number.isSafeInteger(size) ? size : value;
}

/** A value of TOML or of a message as Python's `str` writes it: a number there is a float. */
const pythonic = (value) => {
  if (typeof value === "boolean") return value ? "True" : "False";
  return typeof value === "number" && Number.isInteger(value) ? value.toFixed(1) : String(value);
};

/** The same for a message, where texts have quotes. */
export const quoted = (value) => (typeof value === "string" ? `'${value}'` : pythonic(value));

/**
 * Refuse what a tab cannot do, in one sentence with key, value and cure.
 *
 * @param {object} config Of `runConfig`.
 * @param {boolean} drawn Whether the tab holds a part of the drawn faces, to try it.
 * @throws {ToldInputError}
 */
export function checkTab(config, drawn) {
  const { dataset, weights, attack, teacher } = config;
  const budget = config["privacy-epsilon"];
  let why = "";
  if (budget) {
    why =
      `privacy-epsilon = ${budget}: a tab keeps no ledger of what it has said, so it takes part ` +
      `in no run under a privacy budget; set it to 0, or take part with a SuperNode`;
  } else if (attack !== "none") {
    why =
      `attack = ${quoted(attack)}: is for simulations alone, and this site has data of its own; ` +
      `set it to none`;
  } else if (drawn && dataset !== "drawn") {
    why =
      `dataset = ${quoted(dataset)}: this tab was given a part of the drawn faces to try it; set ` +
      `dataset = 'drawn', or open the page without a part and choose pictures`;
  } else if (drawn && config.labels === "teacher" && teacher !== "simulated") {
    why =
      `teacher = ${quoted(teacher)}: a tab that tries drawn faces has no file of answers; set ` +
      `teacher = 'simulated'`;
  } else if (!drawn && weights === "drawn" && !config["allow-drawn-weights"]) {
    why =
      `weights = 'drawn': have seen drawn faces only, and the pictures of this site are others; ` +
      `photographs need weights = 'imagenet', as in the experiment celeba-iid, or the path of a ` +
      `file (allow-drawn-weights = true takes the drawn ones all the same)`;
  }
  if (why) throw new ToldInputError(why);
}

/** Names that are separated by commas. */
export const names = (text) => separated(text, ",");

/** The attributes of each grouping in `groupings`. */
export const groupings = (config) => separated(config.groupings, ";").map(names);

const separated = (text, by) =>
  text
    .split(by)
    .map((part) => part.trim())
    .filter(Boolean);

/** The error rate of a simulated teacher for each attribute, from `teacher-error`. */
export function errorRates(text, attributes) {
  const rates = new Map(
    names(text).map((part) => [
      part.split("=").slice(0, -1).join("=").trim(),
      Number(part.split("=").at(-1)),
    ]),
  );
  return attributes.map((name) => rates.get(name) ?? rates.get("") ?? 0);
}
