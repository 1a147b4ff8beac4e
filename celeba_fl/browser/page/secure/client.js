/**
 * A tab that answers in masked words alone, as the mod `in_sums` of celeba_fl/client_app.py and
 * celeba_fl/privacy/client.py do it: what the client replies becomes numbers in a sum.
 */
import { split } from "../client/parts.js";
import { ToldInputError } from "../fleet/errors.js";
import { arrays, metrics } from "../fleet/records.js";
import { dumped, random as fromSystem } from "./bytes.js";
import { encode } from "./encoding.js";
import { Party } from "./party.js";
import { introduced, summands } from "./summands.js";

const PARTS = ["query", "train", "sums", "evaluate", "final evaluation"];
const ROLL_CALL = -1; // what a client says in the roll call is of the round before all others
const RUNS = 8; // of which keys are kept, the newest

export class SecureClient {
  #runs = new Map(); // by number: {party, introduction, rounds: by exchange, summed}
  #before = Promise.resolve();

  /**
   * @param {object} site `name`; `minCohort`, how many clients it wants in a total, 0 if it says
   *   nothing of it; `identity` as roster.js makes it, or null; `random(size)` bytes
   */
  constructor({ name, minCohort = 0, identity = null, random = fromSystem }) {
    Object.assign(this, { name, minCohort, identity, random });
  }

  /**
   * Reply to a message: by what `answer(message, run)` says, in a run with secure sums under masks.
   *
   * Messages are answered one after the other. Two at once could both be the first answer in an
   * exchange, and the difference of two answers under the same masks is one without any.
   */
  answer(message, run, config, answer) {
    const reply = this.#before.then(() => this.#answer(message, run, config, answer));
    this.#before = reply.catch(() => {});
    return reply;
  }

  async #answer(message, run, config, answer) {
    if (!config["secure-aggregation"]) {
      if (!this.minCohort) return answer(message, run);
      throw new ToldInputError(
        "this site takes part in secure sums alone (min-cohort): set " +
          "secure-aggregation = true",
      );
    }
    const said = unpacked(message.content);
    const content = new Map(message.content);
    content.delete("secure");
    const call = () => answer({ ...message, content }, run);
    if (said.step === "keys") return this.#introduce(run, config, call);
    const state = this.#runs.get(run.runId);
    if (!state) throw new ToldInputError("this client has no keys of this run");
    if (said.step === "mask") {
      return mask(state, said.sums, content, config.weighting === "uniform", call);
    }
    if (said.step === "share") return reply({ shared: await shared(state.party, said.share) });
    if (said.step !== "unmask") throw new ToldInputError("nobody knows this step of secure sums");
    const unmasked = new Map(said.sums.map((one) => [one.serial, unmask(state, one)]));
    const coming = await shared(state.party, said.share);
    if (said.last) this.#runs.delete(run.runId);
    return reply({ unmasked, shared: coming });
  }

  /** Introduce the client without its numbers, which are kept here, and with new keys. */
  async #introduce(run, config, call) {
    const content = await call();
    if (content.has("sits-out")) return content;
    const fewest = Math.max(Number(config["min-cohort"]), this.minCohort);
    const party = new Party(String(run.runId), this.name, { ...this, fewest });
    this.#runs.delete(run.runId);
    this.#runs.set(run.runId, {
      party,
      introduction: content,
      rounds: new Map(),
      summed: -Infinity,
    });
    if (this.#runs.size > RUNS) this.#runs.delete(this.#runs.keys().next().value);
    const open = ["client", "probe"].filter((name) => content.has(name));
    return new Map([
      ...open.map((name) => [name, content.get(name)]),
      ["metrics", metrics({ "num-examples": 0n, "num-valid": 0n })],
      ["counts", zeros(content.get("counts"))],
      ["sums", zeros(content.get("sums"))],
      ...reply(await party.advertise()),
    ]);
  }
}

/** What the client replies, masked; to a message without parts, how it introduced itself. */
async function mask(state, sums, content, uniform, call) {
  const names = sums.flatMap((one) => one.parts);
  if (!names.every((name) => PARTS.includes(name))) {
    throw new ToldInputError(`nobody knows the parts ${names}`);
  }
  const parts = (of) => (content.has("parts") ? split(of, names) : new Map([[names[0], of]]));
  for (const { serial, parts: own } of sums) {
    const trains = own.find((part) => part === "train" || part === "sums");
    if (!trains && own.length) continue;
    const asked = trains && (parts(content).get(trains) ?? content).get("config").items;
    const round = trains ? Number(asked.get("server-round")) : ROLL_CALL;
    checkNotSummed(state, round);
    state.rounds.set(serial, round);
  }
  const contents = names.length ? parts(await call()) : new Map();
  let seconds = 0;
  for (const one of contents.values()) {
    const failure = one.get("failure");
    if (failure) throw new ToldInputError(failure.items.get("reason"));
    seconds += one.get("metrics").items.get("seconds");
  }
  const [layouts, masked] = [new Map(), {}];
  for (const { serial, peers, parts: own } of sums) {
    const found = own.length
      ? new Map(own.flatMap((part) => [...summands(part, contents.get(part), uniform)]))
      : introduced(state.introduction);
    const { layout, words } = encode(found, state.party.number(serial));
    await state.party.mask({ serial, peers }, words);
    layouts.set(serial, layout);
    const data = new BigUint64Array(words.buffer);
    masked[serial] = { dtype: "uint64", shape: [data.length], data };
  }
  const said = [
    ["masked", arrays(masked)],
    ...reply({ layouts }),
    ["metrics", metrics({ seconds })],
  ];
  return new Map(said);
}

/** Shares of secrets, for each exchange that is to come. */
async function shared(party, asked) {
  const said = new Map();
  for (const one of asked) said.set(one.serial, await party.share(one));
  return said;
}

/** What takes the masks off the words of an exchange. */
function unmask(state, one) {
  const round = state.rounds.get(one.serial);
  state.rounds.delete(one.serial);
  if (round !== undefined) checkNotSummed(state, round);
  const given = state.party.unmask(one);
  if (round !== undefined) state.summed = round;
  return given;
}

/**
 * Two totals of the same models or counts, over others each time, differ by those of single
 * clients: so what a client says in a round is in one total that could be opened.
 */
function checkNotSummed({ summed }, round) {
  if (round > summed) return;
  const which = round === ROLL_CALL ? "the roll call" : `round ${round}`;
  throw new ToldInputError(
    `${which}: what this client said is in a total, and goes into no ` + `second one`,
  );
}

/** What the protocol says in a message; a ToldInputError if there is nothing that can be read. */
function unpacked(content) {
  const packet = content.get("secure")?.items.get("packet");
  if (!packet) {
    throw new ToldInputError(
      "the message is not one of secure sums, and nothing else is answered " + "in this run",
    );
  }
  try {
    return JSON.parse(new TextDecoder().decode(packet.data));
  } catch {
    throw new ToldInputError("the message of secure sums cannot be read");
  }
}

/** What the protocol says, as the record of a reply. */
function reply(said) {
  const data = dumped(said instanceof Map ? said : new Map(Object.entries(said)));
  const packet = { dtype: "uint8", shape: [data.length], data };
  return new Map([["secure", arrays({ packet })]]);
}

/** The record with a zero in place of each number. */
function zeros(record) {
  const blank = ([key, { dtype, shape, data }]) => [
    key,
    { dtype, shape, data: new data.constructor(data.length) },
  ];
  return arrays(Object.fromEntries([...record.items].map(blank)));
}
