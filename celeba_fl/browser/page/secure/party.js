/**
 * A client's side of the protocol, as celeba_fl/privacy/party.py describes it: to share, to mask
 * and to unmask once each in an exchange, and what it refuses. What it remembers is in its fields,
 * in memory alone: a tab that is reloaded has no keys of the run any more, as a SuperNode that is
 * started again. What it is asked is JSON, parsed; what it says are Maps.
 */
import { ToldInputError } from "../fleet/errors.js";
import * as bytes from "./bytes.js";
import { COMPLETE, SHARE, least, plan } from "./graph.js";
import { LENGTH, agree, derive, privateKey, publicKey, seal, unseal } from "./keys.js";
import { addMask } from "./masks.js";
import { split } from "./shamir.js";

const { dumped, hex, joined, sorted, unhex } = bytes;
const OPEN = 8; // exchanges that a client remembers that were begun and not ended
const MOST = 30_000; // clients in an exchange: to plan one of more would take a tab seconds

export class Party {
  /**
   * @param {string} run the run's number, to which all keys are bound
   * @param {string} name the client's own
   * @param {object} options `fewest` clients in a total, see `least`; `identity` as roster.js makes
   *   it, or null: then the server is trusted to hand out keys; `random(size)` bytes
   */
  constructor(run, name, { fewest = 0, identity = null, random = bytes.random } = {}) {
    Object.assign(this, { run, name, fewest, identity, random });
    this.forget();
  }

  /** Delete all keys, at the end of a run. */
  forget() {
    this.channel = null; // the private key of the run, and the public one
    this.key = "";
    this.last = 0;
    this.peers = new Map(); // public keys by name
    this.sums = new Map(); // by serial: {number, near, secrets, held}
  }

  /** Begin a run with new keys; the public one, signed if there is an identity. */
  async advertise() {
    this.forget();
    this.channel = await privateKey(this.random(LENGTH));
    const key = await publicKey(this.channel);
    this.key = hex(key);
    const signature = await this.identity?.sign(this.payload(this.name, "channel", 0, key));
    return new Map([["key", this.key], ...(signature ? [["signature", hex(signature)]] : [])]);
  }

  /** Make the secrets of an exchange of so many clients, and seal shares of them for `peers`. */
  async share({ serial, number, peers }) {
    this.checkKeys();
    if (!Number.isSafeInteger(serial) || !(serial > this.last)) {
      refuse(serial, "it was begun before");
    }
    if (!(Number.isSafeInteger(number) && number <= MOST)) {
      refuse(serial, `it should be of ${MOST} clients at most`);
    }
    this.checkEnough(serial, number, number);
    const { degree, threshold } = plan(number);
    const near = sorted(Object.keys(peers));
    if (near.length !== degree + 1 || !near.includes(this.name)) {
      refuse(
        serial,
        `${near.length} hold shares, of ${number} clients should ${degree + 1}, ` +
          `among them ${this.name}`,
      );
    }
    for (const [name, said] of Object.entries(peers)) await this.meet(name, said);
    const secrets = [this.random(LENGTH), this.random(LENGTH)];
    const masks = await privateKey(secrets[1]);
    const key = await publicKey(masks);
    const shares = secrets.map((one) => split(one, threshold, near.length, this.random));
    const sealed = new Map();
    for (const [i, name] of near.entries()) {
      const its = unhex(this.peers.get(name));
      const agreed = joined(await agree(this.channel, its), await agree(masks, its));
      const seals = await derive(agreed, this.run, "shares", serial, this.name, name);
      const both = joined(shares[0][i], shares[1][i]);
      const bound = this.payload(this.name, "masks", serial, key);
      sealed.set(name, hex(await seal(seals, both, bound, this.random)));
    }
    this.last = serial;
    this.sums.set(serial, { number, near, secrets, held: null });
    if (this.sums.size > OPEN) this.sums.delete(Math.min(...this.sums.keys()));
    const digest = await crypto.subtle.digest("SHA-256", joined(PROOF, secrets[0]));
    return new Map(Object.entries({ key: hex(key), sealed, proof: hex(new Uint8Array(digest)) }));
  }

  /** Mask words, in place. `peers` have shared, and each has the key of its masks in here. */
  async mask({ serial, peers }, words) {
    const begun = this.begun(serial);
    if (begun.held) refuse(serial, "it was answered before");
    const names = sorted(Object.keys(peers));
    const strangers = names.filter((name) => !begun.near.includes(name));
    if (strangers.length) {
      refuse(serial, `${strangers} were not among those that hold shares`);
    }
    const { threshold } = plan(begun.number);
    if (!names.includes(this.name) || names.length < threshold) {
      refuse(
        serial,
        `${names.length} neighbours are left, and ${threshold} must be, this client ` +
          `among them`,
      );
    }
    const held = new Map();
    for (const name of names) {
      try {
        held.set(name, await this.opened(serial, name, peers[name]));
      } catch (error) {
        refuse(
          serial,
          `the share of ${name} is refused: ${error.message}; the fault is with ` +
            `${name} or on the way, not with ${this.name}: leave ${name} out (clients) if it ` +
            "stays so",
        );
      }
    }
    const [seed, secret] = begun.secrets;
    delete begun.secrets;
    begun.held = held; // from here on it is answered, whatever happens
    const masks = await privateKey(secret);
    for (const name of names.filter((one) => one !== this.name)) {
      const agreed = await agree(masks, unhex(peers[name].key));
      const pair = sorted([this.name, name]);
      const key = await derive(agreed, this.run, "pair", serial, ...pair);
      await addMask(words, key, pair[0] === name);
    }
    await addMask(words, await derive(seed, this.run, "self", serial, this.name));
  }

  /** Shares of `seeds` and of `keys`, by whose they are, once it is known who is in. */
  unmask({ serial, survivors }) {
    const begun = this.begun(serial);
    if (!begun.held) refuse(serial, "this client has not sent any words in it");
    const there = new Set(survivors);
    if (!there.has(this.name)) refuse(serial, "this client's words are said to be missing");
    this.checkEnough(serial, there.size, begun.number);
    const near = begun.near.filter((name) => there.has(name));
    const { threshold } = plan(begun.number);
    if (!near.every((name) => begun.held.has(name)) || near.length < threshold) {
      refuse(serial, `${near.length} neighbours are left, and ${threshold} must be`);
    }
    this.sums.delete(serial); // never again, whoever is said to be in
    const given = new Map([
      ["seeds", new Map()],
      ["keys", new Map()],
    ]);
    for (const [name, both] of begun.held) {
      const half = there.has(name) ? [0, LENGTH] : [LENGTH, 2 * LENGTH];
      given.get(there.has(name) ? "seeds" : "keys").set(name, hex(both.slice(...half)));
    }
    return given;
  }

  /** Of how many clients an exchange is. */
  number(serial) {
    return this.begun(serial).number;
  }

  // ---- what it is held by, and by whom ----------------------------------------------------

  /** The shares of a neighbour's two secrets, which it has sealed for this client. */
  async opened(serial, name, { key, sealed }) {
    const its = unhex(key);
    const agreed = joined(
      await agree(this.channel, unhex(this.peers.get(name))),
      await agree(this.channel, its),
    );
    const opens = await derive(agreed, this.run, "shares", serial, name, this.name);
    const both = await unseal(opens, unhex(sealed), this.payload(name, "masks", serial, its));
    if (both.length !== 2 * LENGTH) throw new ToldInputError("it is of another length");
    return both;
  }

  checkKeys() {
    if (!this.channel) throw new ToldInputError("this client has no keys of this run");
  }

  checkEnough(serial, there, number) {
    const needed = least(this.fewest, number);
    if (there >= needed) return;
    const why = number <= COMPLETE ? "min-cohort" : `min-cohort; ${100 - 100 * SHARE}% of many`;
    refuse(
      serial,
      `a total over ${there} clients, and this one takes part in totals over ` +
        `${needed} at least (${why})`,
    );
  }

  /** Remember a client's public key, which may not change in a run. */
  async meet(name, said) {
    const [key, signature] = [said?.key, said?.signature ?? ""].map((text) => {
      try {
        return unhex(text);
      } catch {
        throw new ToldInputError(`the key of ${name} cannot be read`);
      }
    });
    const [known, its] = [this.peers.get(name), hex(key)];
    if (known === undefined) {
      await this.identity?.check(name, this.payload(name, "channel", 0, key), signature);
      const own = name === this.name && its !== this.key;
      if (own || [...this.peers.values()].includes(its)) {
        throw new ToldInputError(`the key of ${name} is another's`);
      }
      this.peers.set(name, its);
    } else if (known !== its) {
      throw new ToldInputError(`the key of ${name} has changed within the run`);
    }
  }

  begun(serial) {
    this.checkKeys();
    const begun = this.sums.get(serial);
    if (!begun) refuse(serial, "it was not begun, or was answered before");
    return begun;
  }

  /** What a client says of a key of its own: what it is for, whose, and where. */
  payload(name, purpose, serial, key) {
    return dumped(["celeba-fl secure sums: key", this.run, name, purpose, serial, hex(key)]);
  }
}

const PROOF = new TextEncoder().encode("seed");

function refuse(serial, why) {
  throw new ToldInputError(`exchange ${serial}: ${why}`);
}
