// A node against a SuperLink that misbehaves, and in a tab that ends at any time.

import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { ToldInputError } from "../../../celeba_fl/browser/page/fleet/errors.js";
import { Identity } from "../../../celeba_fl/browser/page/fleet/identity.js";
import { Node } from "../../../celeba_fl/browser/page/fleet/node.js";
import { inflate } from "../../../celeba_fl/browser/page/fleet/objects.js";
import { config, metrics } from "../../../celeba_fl/browser/page/fleet/records.js";
import { FakeSuperLink, Refusal } from "./fake_superlink.mjs";

const ASKED = new Map([["config", config({ n: 1n })]]);
const ANSWER = new Map([["metrics", metrics({ n: 2n })]]);
const answered = async () => ANSWER;

// A node waits up to 30 seconds between two tries; that the network is back cuts it short.
const network = new EventTarget();
globalThis.addEventListener = network.addEventListener.bind(network);
globalThis.removeEventListener = network.removeEventListener.bind(network);

/** Run a node until it has answered; what it said, and the SuperLink. */
async function play({ superlink, identity, handler = answered, until, flower = "1.42.0" } = {}) {
  superlink ??= await new FakeSuperLink().start();
  identity ??= await Identity.create();
  const end = new AbortController();
  const states = [];
  const { base } = superlink;
  const onState = (state) => states.push(state);
  const options = { base, identity, flower, name: "site", signal: end.signal, onState };
  const running = new Node(options).run(handler);
  running.catch(() => {});
  const deadline = performance.now() + 10_000;
  try {
    while (!until({ superlink, states })) {
      const said = states.map(({ detail }) => detail);
      assert.ok(performance.now() < deadline, `too late: ${said.join("; ")}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
      network.dispatchEvent(new Event("online"));
    }
  } finally {
    end.abort();
    await running;
    await superlink.stop();
  }
  return { superlink, identity, states };
}

const hasReplied = (number) => ({ superlink }) => superlink.pushed.size >= number;
const named = (superlink, name) => superlink.calls.filter(([call]) => call === name);
const reasonIn = ({ superlink }) => superlink.replies.at(-1).error?.reason;

test("a node joins, answers a message, and leaves", async () => {
  const superlink = await new FakeSuperLink().start();
  const id = await superlink.send(ASKED);
  const seen = [];
  const handler = async (message, run) => (seen.push(message, run), ANSWER);
  const { identity } = await play({ superlink, handler, until: hasReplied(3) });
  assert.equal(seen[0].metadata.messageId, id);
  assert.deepEqual(seen[0].content, ASKED);
  assert.equal(seen[1].runId, 7n);
  const { metadata } = superlink.replies[0];
  assert.equal(metadata.replyToMessageId, id);
  assert.equal(metadata.srcNodeId, identity.nodeId);
  assert.equal(metadata.dstTaskId, 3n);
  assert.deepEqual(inflate(metadata.messageId, superlink.pushed).content, ANSWER);
  assert.equal(superlink.online.size, 0);
});

test("after a reload the same key is the same node, though it never left", async () => {
  const first = await new FakeSuperLink().start();
  const { identity } = await play({ superlink: first, until: hasWaited });
  const superlink = await new FakeSuperLink().start();
  Object.assign(superlink, { nodes: first.nodes, online: new Set([identity.nodeId]) });
  await play({ superlink, identity, until: hasWaited });
  assert.equal(named(superlink, "register-node").length, 0);
});

const hasWaited = ({ states }) => states.some(({ state }) => state === "waiting");

test("a SuperLink that forgot the node gets it anew", async () => {
  const { identity } = await play({ until: hasWaited });
  const superlink = await new FakeSuperLink().start();
  await superlink.send(ASKED);
  await play({ superlink, identity, until: hasReplied(3) });
  assert.equal(superlink.nodes.size, 1);
});

test("a SuperLink that is restarted in the middle gets the node back", async () => {
  const superlink = await new FakeSuperLink().start();
  await superlink.send(ASKED);
  const until = ({ superlink: { nodes, waiting, pushed } }) => {
    if (pushed.size === 3 && nodes.size === 1 && !superlink.restarted) {
      superlink.restarted = true;
      nodes.clear();
      superlink.online.clear();
      superlink.send(new Map([["config", config({ n: 5n })]]));
    }
    return superlink.restarted && waiting.length === 0 && superlink.replies.length === 2;
  };
  await play({ superlink, until });
  assert.equal(named(superlink, "register-node").length, 2);
});

test("a key that is not registered waits until it is", async () => {
  const superlink = await new FakeSuperLink().start();
  const closed = () => new Refusal(412, 2001);
  superlink.before["register-node"] = closed;
  const { states } = await play({ superlink, until: ({ states: all }) => {
    if (all.some(({ state }) => state === "unregistered")) superlink.before = {};
    return hasWaited({ states: all });
  } });
  assert.deepEqual([...new Set(states.map(({ state }) => state))].slice(0, 3), [
    "registering",
    "unregistered",
    "waiting",
  ]);
});

test("an answer outlasts a SuperLink that fails for a while", async () => {
  const superlink = await new FakeSuperLink().start();
  await superlink.send(ASKED);
  let failed = 0;
  superlink.before["push-messages"] = () => (failed++ < 3 ? new Refusal(500) : undefined);
  const { states } = await play({ superlink, until: hasReplied(3) });
  assert.equal(superlink.replies.length, 1);
  assert.ok(states.some(({ state }) => state === "offline"));
});

test("an answer that got lost on its way is pushed again, and is the same", async () => {
  const superlink = await new FakeSuperLink().start();
  await superlink.send(ASKED);
  let lost = 0;
  let worked = 0;
  superlink.before["push-messages"] = (asked) => {
    if (lost++ < 2) return superlink.push_messages(asked) && "hang up";
    return undefined;
  };
  const handler = async () => (worked++, ANSWER);
  const { states } = await play({ superlink, handler, until: hasReplied(3) });
  const ids = superlink.replies.map(({ metadata }) => metadata.messageId);
  assert.equal(ids.length, 3);
  assert.equal(new Set(ids).size, 1);
  assert.equal(worked, 1);
  assert.ok(states.some(({ state }) => state === "offline"));
});

test("a message that comes twice is answered once", async () => {
  const superlink = await new FakeSuperLink().start();
  await superlink.send(ASKED);
  superlink.waiting.push(superlink.waiting[0]);
  let worked = 0;
  const handler = async () => (worked++, ANSWER);
  await play({ superlink, handler, until: () => named(superlink, "pull-messages").length > 3 });
  assert.equal(worked, 1);
  assert.equal(superlink.replies.length, 1);
});

test("a push that was replaced is made again", async () => {
  const superlink = await new FakeSuperLink().start();
  await superlink.send(ASKED);
  let refused = 0;
  superlink.before["push-object"] = () => (refused++ ? undefined : { stored: false });
  await play({ superlink, until: hasReplied(3) });
  assert.equal(superlink.replies.length, 2);
});

test("a reply to a run that has ended is dropped", async () => {
  const superlink = await new FakeSuperLink().start();
  await superlink.send(ASKED);
  superlink.before["push-messages"] = () => new Refusal(403, 2007);
  const { states } = await play({
    superlink,
    until: () => named(superlink, "pull-messages").length > 2,
  });
  assert.equal(superlink.replies.length, 0);
  assert.ok(states.every(({ error }) => !error));
});

/** A SuperLink, and an identity in whose store there is what a tab leaves that ends at `until`. */
async function left({ until, before = {} }) {
  const superlink = await new FakeSuperLink().start();
  await superlink.send(ASKED);
  Object.assign(superlink, { before });
  const slow = () => new Promise((resolve) => setTimeout(() => resolve(ANSWER), 50));
  const { identity } = await play({ superlink, handler: slow, until });
  identity.reply = structuredClone(identity.reply); // as IndexedDB does
  superlink.before = {};
  return { superlink: await superlink.start(), identity };
}

test("a tab that is reloaded while it works tells that its message is lost, once", async () => {
  const isWorking = ({ superlink }) => named(superlink, "get-run").length > 0;
  const { superlink, identity } = await left({ until: isWorking });
  assert.equal(superlink.replies.length, 0);
  const pulls = () => named(superlink, "pull-messages").length;
  const played = await play({ superlink, identity, until: () => pulls() > 3 });
  assert.match(reasonIn(played), /ToldInputError'>:<'the tab was reloaded/);
  assert.equal(superlink.replies.length, 1);
  assert.equal(superlink.pushed.size, 1);
});

test("a tab that is reloaded while it pushes a reply pushes the same again", async () => {
  const before = { "push-object": () => "hang up" };
  const isPushing = ({ superlink }) => named(superlink, "push-object").length > 0;
  const { superlink, identity } = await left({ until: isPushing, before });
  await play({ superlink, identity, until: hasReplied(3) });
  assert.equal(new Set(superlink.replies.map(({ metadata }) => metadata.messageId)).size, 1);
  assert.deepEqual(superlink.replies.map(({ error }) => error), [undefined, undefined]);
});

test("a tab that is reloaded after a reply, or after its run, owes nothing", async () => {
  const over = { "push-messages": () => new Refusal(403, 2007) };
  const hasPushed = ({ superlink }) => named(superlink, "pull-messages").length > 1;
  for (const before of [{}, over]) {
    const { superlink, identity } = await left({ until: hasPushed, before });
    assert.equal(identity.reply, null);
    const { length } = named(superlink, "push-messages");
    await play({ superlink, identity, until: hasWaited });
    assert.equal(named(superlink, "push-messages").length, length);
  }
});

test("a reply is not pushed to a SuperLink that has forgotten who was asked", async () => {
  const isWorking = ({ superlink }) => named(superlink, "get-run").length > 0;
  const { superlink, identity } = await left({ until: isWorking });
  superlink.nodes = new Map([["another", 2n]]);
  await play({ superlink, identity, until: () => named(superlink, "pull-messages").length > 2 });
  assert.equal(identity.reply, null);
  assert.equal(superlink.replies.length, 0);
});

test("heartbeats go on, and the page's farewell stays fresh, while a message is worked on", async () => {
  const superlink = await new FakeSuperLink().start();
  await superlink.send(ASKED);
  mock.timers.enable({ apis: ["setInterval", "Date"], now: Date.now() });
  let finish;
  const handler = () => new Promise((resolve) => (finish = () => resolve(ANSWER)));
  const until = () => {
    if (finish) mock.timers.tick(2_000);
    const beats = named(superlink, "send-node-heartbeat").length;
    if (beats >= 3) finish();
    return superlink.pushed.size >= 3;
  };
  try {
    const { states } = await play({ superlink, handler, until });
    const working = states.filter(({ state }) => state === "working");
    assert.ok(new Set(working.map(({ farewell }) => farewell.headers["flwr-timestamp"])).size > 2);
  } finally {
    mock.timers.reset();
  }
});

test("what a handler throws goes to the server as a Python client's would", async () => {
  const cases = [
    [new ToldInputError("a key is at fault"), /ToldInputError'>:<'client site: a key is at fault'>$/],
    [new TypeError("in anna.jpg"), /<'client site: TypeError in fleet.test.js, line \d+ of the page'>/],
  ];
  for (const [error, pattern] of cases) {
    const superlink = await new FakeSuperLink().start();
    await superlink.send(ASKED, { messageType: "query" });
    const handler = () => Promise.reject(error);
    const played = await play({ superlink, handler, until: hasReplied(1) });
    assert.match(reasonIn(played), pattern);
    assert.equal(superlink.replies[0].error.code, 2n);
    assert.ok(played.states.some((state) => state.error === error && state.declined));
  }
});

test("an object that is not the one of its hash is told to the server, and not used", async () => {
  const superlink = await new FakeSuperLink().start();
  await superlink.send(ASKED);
  const [first] = superlink.objects.keys();
  superlink.objects.set(first, new TextEncoder().encode("ConfigRecord  0\0"));
  let worked = 0;
  const handler = async () => (worked++, ANSWER);
  const played = await play({ superlink, handler, until: hasReplied(1) });
  assert.match(reasonIn(played), /not the one that it should be/);
  assert.equal(worked, 0);
});

test("an answer that is too long is not read to its end", async () => {
  const superlink = await new FakeSuperLink().start();
  await superlink.send(ASKED);
  superlink.before["get-run"] = () => new Uint8Array(5 << 20);
  const played = await play({ superlink, until: hasReplied(1) });
  assert.match(reasonIn(played), /longer than/);
});

test("a version of Flower that the page does not know is refused", async () => {
  for (const flower of ["1.43.0", "2.0", "1.420.0", ""]) {
    const end = new AbortController();
    const states = [];
    const onState = (state) => states.push(state);
    const identity = await Identity.create();
    const node = new Node({ base: "http://127.0.0.1:9", identity, flower, signal: end.signal, onState });
    await assert.rejects(node.run(answered), /this page knows 1\.41 and 1\.42/);
    assert.equal(states.at(-1).state, "refused");
  }
});
