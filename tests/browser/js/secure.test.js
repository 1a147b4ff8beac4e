// A tab in secure sums: known answers, what it refuses, and what it forgets. That it says what a
// Python client says is in test_secure.py.
import assert from "node:assert/strict";
import { test } from "node:test";

import {
  arrays,
  config as settings,
  metrics,
} from "../../../celeba_fl/browser/page/fleet/records.js";
import { compare, dumps, hex, unhex } from "../../../celeba_fl/browser/page/secure/bytes.js";
import { SecureClient } from "../../../celeba_fl/browser/page/secure/client.js";
import { agree, privateKey, publicKey } from "../../../celeba_fl/browser/page/secure/keys.js";
import { addMask } from "../../../celeba_fl/browser/page/secure/masks.js";
import { Party } from "../../../celeba_fl/browser/page/secure/party.js";
import {
  identityOf,
  newSigningKeys,
  publicLine,
} from "../../../celeba_fl/browser/page/secure/roster.js";

/** What is said, as it is after the way: plain objects. */
const said = (map) => JSON.parse(dumps(map));
const from = (entries) => Object.fromEntries(entries);

/** Parties who have advertised their keys, and an exchange of all of them. */
class Friends {
  static async of(number, options = () => ({})) {
    const friends = new Friends();
    friends.names = Array.from({ length: number }, (_, i) => `c${i}`);
    friends.parties = friends.names.map((name) => new Party("1", name, options(name)));
    friends.keys = {};
    for (const one of friends.parties) friends.keys[one.name] = said(await one.advertise());
    return friends;
  }

  ask(serial = 1) {
    return { serial, number: this.names.length, peers: structuredClone(this.keys) };
  }

  async share(serial = 1) {
    this.shared = {};
    for (const one of this.parties) this.shared[one.name] = said(await one.share(this.ask(serial)));
  }

  /** What is sent to a party for it to mask. */
  peers(of, serial = 1) {
    const entry = (name) => [name, { ...this.shared[name], sealed: this.shared[name].sealed[of] }];
    return { serial, peers: from(this.names.map(entry)) };
  }

  async masked() {
    await this.share();
    for (const one of this.parties) await one.mask(this.peers(one.name), new Uint32Array(4));
    return this.parties;
  }
}

test("keys agree as in RFC 7748, section 6.1", async () => {
  const secret = unhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
  const alice = unhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
  const bob = await privateKey(secret);
  const agreed = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
  assert.equal(hex(await agree(bob, alice)), agreed);
  const key = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
  assert.equal(hex(await publicKey(bob)), key);
  for (const size of [32, 31]) {
    await assert.rejects(agree(bob, new Uint8Array(size)), /not a public key/);
  }
});

test("a mask is added with all its carries, in blocks, and taken off", async () => {
  const words = new Uint32Array(6);
  await addMask(words, new Uint8Array(32));
  const stream = "dc95c078a2408989ad48a21492842087530f8afbc74536b9"; // AES, see test_primitives.py
  assert.equal(hex(new Uint8Array(words.buffer)), stream);
  const before = new BigUint64Array(150_001).map((_, i) => BigInt.asUintN(64, -BigInt(i)));
  const after = before.slice();
  await addMask(new Uint32Array(after.buffer), new Uint8Array(32));
  const mask = new BigUint64Array(150_001);
  await addMask(new Uint32Array(mask.buffer), new Uint8Array(32));
  assert.deepEqual(
    after,
    before.map((word, i) => word + mask[i]),
  );
  assert.notDeepEqual(mask.subarray(0, 8), mask.subarray(1 << 17, (1 << 17) + 8));
  await addMask(new Uint32Array(after.buffer), new Uint8Array(32), true);
  assert.deepEqual(after, before);
});

test("texts are ordered and written as in Python", () => {
  const names = ["\u{1f3e5}", "\uff21", "a", "ab", "", "a\u{1f3e5}", "a\uff21"];
  assert.deepEqual(names.sort(compare), [
    "",
    "a",
    "ab",
    "a\uff21",
    "a\u{1f3e5}",
    "\uff21",
    "\u{1f3e5}",
  ]);
  const written = '["\\u00e9\\"\\\\\\u007f\\ud83c\\udfe5\\n", 1]';
  assert.equal(dumps(['é"\\\x7f\u{1f3e5}\n', 1]), written);
});

test("each step is answered once", async () => {
  const friends = await Friends.of(4);
  const [, one] = await friends.masked();
  await assert.rejects(one.share(friends.ask()), /exchange 1: it was begun before/);
  const again = () => one.mask(friends.peers("c1"), new Uint32Array(4));
  await assert.rejects(again(), /answered before/);
  const given = said(one.unmask({ serial: 1, survivors: ["c1", "c2", "c3"] }));
  assert.deepEqual(Object.keys(given.seeds), ["c1", "c2", "c3"]);
  assert.deepEqual(Object.keys(given.keys), ["c0"]); // never both of one
  const refused = /not begun, or was answered/;
  assert.throws(() => one.unmask({ serial: 1, survivors: friends.names }), refused);
  await assert.rejects(again(), refused);
});

test("survivors that cannot be are refused", async () => {
  const [, one] = await (await Friends.of(4)).masked();
  const refuses = (survivors, why) =>
    assert.throws(() => one.unmask({ serial: 1, survivors }), why);
  refuses(["c1", "c2"], /a total over 2 clients, and this one takes part in totals over 3/);
  refuses(["c0", "c2", "c3"], /this client's words are said to be missing/);
  refuses(["c1", "x", "y"], /1 neighbours are left, and 3 must be/);
  one.fewest = 4;
  refuses(["c1", "c2", "c3"], /over 4 at least \(min-cohort\)/);
});

test("shares that were tampered with are refused, and nothing is masked", async () => {
  const friends = await Friends.of(3);
  await friends.share();
  const words = new Uint32Array(4);
  for (const field of ["sealed", "key"]) {
    const asked = friends.peers("c1");
    const text = asked.peers.c2[field];
    asked.peers.c2[field] = (text.startsWith("00") ? "01" : "00") + text.slice(2);
    const why = /share of c2 is refused: it was changed on the way; the fault is with c2/;
    await assert.rejects(friends.parties[1].mask(asked, words), why);
  }
  assert.deepEqual(words, new Uint32Array(4));
});

test("keys that cannot be are refused, and too few clients or too many", async () => {
  const [friends, others] = [await Friends.of(3), await Friends.of(3)];
  await friends.share();
  const one = friends.parties[1];
  const refuses = (changed, why) => {
    const asked = friends.ask(2);
    const peers = { ...asked.peers, ...changed.peers };
    return assert.rejects(one.share({ ...asked, ...changed, peers }), why);
  };
  await refuses({ peers: { c2: others.keys.c2 } }, /the key of c2 has changed within the run/);
  for (const [peers, why] of [
    [{ c1: others.keys.c1 }, /the key of c1 is another's/],
    [{ c2: friends.keys.c0 }, /the key of c2 is another's/],
    [{ c2: { key: "?" } }, /the key of c2 cannot be read/],
    [{ c2: { key: "00".repeat(32) } }, /not a public key/],
  ]) {
    one.peers.clear();
    await refuses({ peers }, why);
  }
  await refuses({ peers: { c3: others.keys.c0 } }, /4 hold shares, of 3 clients should 3/);
  await refuses({ serial: 1.5 }, /begun before/);
  await refuses({ number: 2 }, /a total over 2 clients/);
  await refuses({ number: 1e9 }, /30000 clients at most/);
});

test("what a client remembers after its answer unmasks nothing", async () => {
  const friends = await Friends.of(3);
  await friends.share();
  const [one] = friends.parties;
  const secrets = one.sums.get(1).secrets;
  assert.equal(hex(await publicKey(await privateKey(secrets[1]))), friends.shared.c0.key);
  assert.equal(one.channel.extractable, false);
  await one.mask(friends.peers("c0"), new Uint32Array(4));
  assert.deepEqual(Object.keys(one.sums.get(1)).sort(), ["held", "near", "number"]);
  one.unmask({ serial: 1, survivors: friends.names });
  assert.equal(one.sums.size, 0);
  one.forget();
  await assert.rejects(one.share(friends.ask(2)), /no keys of this run/);
});

test("keys must be signed by their owners where there is a roster", async () => {
  const names = ["c0", "c1", "c2"];
  const keys = from(await Promise.all(names.map(async (name) => [name, await newSigningKeys()])));
  const line = async (name) => `"${name}" = "${await publicLine(keys[name])}"`;
  const lines = await Promise.all(names.map(line));
  const roster = ["# ours", "[keys]", ...lines].join("\n");
  const identities = {};
  for (const name of names) identities[name] = await identityOf({ name, roster, keys: keys[name] });
  const friends = await Friends.of(3, (name) => ({ identity: identities[name] }));
  await friends.masked();
  const [one] = friends.parties;
  const refuses = (c2, why) => {
    one.peers.clear();
    return assert.rejects(one.share({ ...friends.ask(2), peers: { ...friends.keys, c2 } }), why);
  };
  const { key, signature } = friends.keys.c2;
  await refuses({ key: friends.keys.c1.key, signature }, /not signed by the key that the roster/);
  await refuses({ key, signature: friends.keys.c1.signature }, /not signed by the key/);
  await refuses({ key }, /client c2 has not signed its keys, and c0 has a roster/);
  one.peers.clear();
  const without = await identityOf({
    name: "c0",
    roster: roster.replace(lines[2], ""),
    keys: keys.c0,
  });
  one.identity = without;
  await assert.rejects(one.share(friends.ask(2)), /client c2 is not in the roster of c0/);

  const of = (text, name = "c0") => identityOf({ name, roster: text, keys: keys.c0 });
  await assert.rejects(of(roster, "x"), /has no key of x, this site itself/);
  await assert.rejects(of(roster, "c1"), /has another key for c1/);
  await assert.rejects(of(lines[0]), /after a line \[keys\]/);
  await assert.rejects(of(`${roster}\n${lines[0].replace("c0", "c3")}`), /in another line already/);
  await assert.rejects(of(`[keys]\n"a,b"${lines[0].slice(4)}`), /no comma in it/);
  await assert.rejects(
    of(`[keys]\n${lines[0].replace("AAAAC3", "AAAAC4")}`),
    /should be a name and/,
  );
});

// ---- the client ----------------------------------------------------------------------------

const SECURE = { "secure-aggregation": true, "min-cohort": 0, weighting: "examples" };
const RUN = { runId: 1n };

const packet = (what) => {
  const data = new TextEncoder().encode(JSON.stringify(what));
  return ["secure", arrays({ packet: { dtype: "uint8", shape: [data.length], data } })];
};
const unpack = (content) =>
  JSON.parse(new TextDecoder().decode(content.get("secure").items.get("packet").data));
const tensor = (...data) => ({
  dtype: "int64",
  shape: [data.length],
  data: BigInt64Array.from(data),
});
const introduction = () =>
  new Map([
    ["client", settings({ name: "c0" })],
    ["metrics", metrics({ "num-examples": 7n, "num-valid": 2n })],
    ["counts", arrays({ counts: tensor(3n, 4n) })],
    ["sums", arrays({ n: tensor(7n) })],
    ["more", arrays({ secret: tensor(9n) })],
  ]);
const trained = () => new Map([["metrics", metrics({ "num-examples": 7n, seconds: 0.5 })]]);

/** A client among three that has shared for an exchange, and what asks it for words. */
async function begun() {
  const client = new SecureClient({ name: "c0" });
  const friends = await Friends.of(3);
  const call = (what, answer = trained, extra = []) =>
    client.answer(
      { metadata: {}, content: new Map([...extra, packet(what)]) },
      RUN,
      SECURE,
      answer,
    );
  const shown = await call({ step: "keys" }, introduction);
  friends.keys.c0 = { key: unpack(shown).key };
  const share = async (serial) => {
    friends.shared = from(
      await Promise.all(
        friends.parties
          .slice(1)
          .map(async (one) => [one.name, said(await one.share(friends.ask(serial)))]),
      ),
    );
    const own = unpack(await call({ step: "share", share: [friends.ask(serial)] }));
    friends.shared.c0 = own.shared[serial];
    return friends.peers("c0", serial);
  };
  return { client, call, shown, share };
}
const round = (number) => [["config", settings({ "server-round": number })]];
const plain = new Map();

test("a client introduces itself without its numbers, and nothing else is passed on", async () => {
  const { shown } = await begun();
  assert.deepEqual([...shown.keys()], ["client", "metrics", "counts", "sums", "secure"]);
  assert.deepEqual([...shown.get("metrics").items.values()], [0n, 0n]);
  assert.deepEqual(shown.get("counts").items.get("counts").data, new BigInt64Array(2));
  assert.deepEqual(shown.get("sums").items.get("n").data, new BigInt64Array(1));
});

test("only masked words leave a client, whatever is asked for", async () => {
  const { client, call, share } = await begun();
  const asked = await share(1);
  const content = await call(
    { step: "mask", sums: [{ ...asked, parts: ["train"] }] },
    trained,
    round(1n),
  );
  assert.deepEqual([...content.keys()], ["masked", "secure", "metrics"]);
  assert.deepEqual([...content.get("metrics").items], [["seconds", 0.5]]);
  const layout =
    '[["train/metrics/num-examples", "whole", []], ["train/weight/weight", "whole", []]]';
  assert.deepEqual(unpack(content), { layouts: { 1: layout } });
  const words = content.get("masked").items.get("1").data;
  assert.equal(words.length, 2);
  assert.ok(words.every((word) => word > 2n ** 32n));
  const none = { metadata: {}, content: new Map(round(1n)) };
  await assert.rejects(client.answer(none, RUN, SECURE, trained), /nothing else is answered/);
  await assert.rejects(call({ step: "give" }), /nobody knows this step/);
  const parts = [{ ...asked, parts: ["secrets"] }];
  await assert.rejects(call({ step: "mask", sums: parts }), /nobody knows the parts secrets/);
});

test("of two questions at once one alone is the first", async () => {
  const { call, share } = await begun();
  const what = { step: "mask", sums: [{ ...(await share(1)), parts: ["train"] }] };
  const answers = [1, 2].map(() => call(what, trained, round(1n)));
  const [one, other] = await Promise.allSettled(answers);
  assert.equal(one.status, "fulfilled");
  assert.match(other.reason.message, /exchange 1: it was answered before/);
});

test("what a client trained in a round is in one total", async () => {
  const { call, share } = await begun();
  const mask = async (serial, number) =>
    call(
      { step: "mask", sums: [{ ...(await share(serial)), parts: ["train"] }] },
      trained,
      round(number),
    );
  const open = (serial, last = false) => {
    const sums = [{ serial, survivors: ["c0", "c1", "c2"] }];
    return call({ step: "unmask", sums, share: [], last });
  };
  await mask(1, 1n);
  await mask(2, 1n);
  await open(1);
  const why = /round 1: what this client said is in a total, and goes into no second one/;
  await assert.rejects(open(2), why);
  await assert.rejects(mask(3, 1n), why);
  await mask(4, 2n);
  await open(4, true);
  await assert.rejects(open(4), /no keys of this run/);
});

test("the reason of a failure is told, and without secure sums a client may refuse", async () => {
  const { call, share } = await begun();
  const failed = () => new Map([["failure", settings({ reason: "no pictures" })]]);
  const sums = [{ ...(await share(1)), parts: ["train"] }];
  await assert.rejects(
    call({ step: "mask", sums }, failed, round(1n)),
    /^ToldInputError: no pictures$/,
  );
  const message = { metadata: {}, content: plain };
  const [open, shy] = [0, 3].map((minCohort) => new SecureClient({ name: "c0", minCohort }));
  assert.equal(await open.answer(message, RUN, {}, async () => plain), plain);
  await assert.rejects(
    shy.answer(message, RUN, {}, async () => plain),
    /in secure sums alone/,
  );
});
