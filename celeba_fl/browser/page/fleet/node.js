// A SuperNode in a tab: it joins a SuperLink, waits for messages, has them answered, and comes back
// by itself as the same node after a lost network, a sleep, or a restarted SuperLink.

import { CallError, FleetApi } from "./calls.js";
import {
  ForeignDataError,
  OfflineError,
  RefusedError,
  ToldInputError,
  reasonOf,
} from "./errors.js";
import { Inbox } from "./inbox.js";
import { SUPPORTED_FLOWER } from "./messages.js";
import { deflate } from "./objects.js";

const HEARTBEAT = 30; // seconds; the SuperLink forgets a node that it has not heard of for two
const LOOK_AT_CLOCK = 5_000; // ms; a timer that slept is late
const POLL = 3_000; // ms, as a Python SuperNode
const BUSY_POLL = 500; // ms, while a run is at work: more is waited than computed
const BUSY = 60_000; // ms after a message
const MOST_PAUSE = 30_000; // ms between two tries to reach a SuperLink
const KEY_PAUSE = 5_000; // ms until the SuperLink is asked again whether it knows the key
const MOST_FAILURES = 5; // of a SuperLink in one call: its database may be locked for a while
const RAISED = 2n; // Flower's ErrorCode.CLIENT_APP_RAISED_EXCEPTION
const LEFT = "the tab was reloaded, closed or stopped while it answered";
// Flower's ApiErrorCode.
const KEY_IN_USE = 23;
const REGISTRATION_DISABLED = 2001;
const ACTIVATION_FAILED = 2004;
const RUN_NOT_RUNNING = 2007;

/** The SuperLink does not know the key, and only its owner can tell it. */
class UnregisteredError extends Error {}

/** One node of a federation. */
export class Node {
  farewell = null;
  #api;
  #inbox;
  #answered = new Set();
  #heard = 0; // when the SuperLink heard of this node last; 0: not yet
  #forgotten = false;
  #unregistered = false;
  #last = { state: "", detail: "" };
  #busyUntil = 0;

  /**
   * @param {object} options
   * @param {string} [options.base] The address before `/v1/fleet/`; empty: the page's own origin.
   * @param {import("./identity.js").Identity} options.identity
   * @param {string} options.flower The SuperLink's version of Flower, as `/about.json` has it.
   * @param {string} [options.name] The site's name, to stand before an error in the roll call.
   * @param {AbortSignal} options.signal Ends the node.
   * @param {(state: object) => void} [options.onState] Hears of every change: `{state, detail,
   *   nodeId, bytesIn, bytesOut, farewell, error, declined}`; `declined`: it takes no part in
   *   a run, for the reason in `error`.
   */
  constructor({ base = "", identity, flower, name = "", signal, onState = () => {} }) {
    Object.assign(this, { identity, flower, name, signal, onState });
    this.#api = new FleetApi({ base, identity, flower });
    this.#inbox = new Inbox(
      (call, request) => this.#call(call, request),
      (milliseconds) => this.#pause(milliseconds),
    );
  }

  /**
   * Be a node until the signal.
   *
   * @param {(message: object, run: object) => Promise<Map>} handler Gives the reply's content; what
   *   it throws goes to the server as a Python ClientApp's exception does.
   * @throws {RefusedError} If this page cannot work with the SuperLink.
   */
  async run(handler) {
    const timer = setInterval(() => this.#beatWhenDue(), LOOK_AT_CLOCK);
    try {
      this.#checkVersion();
      for (let tries = 0; !this.signal.aborted; tries++) {
        try {
          await this.#join();
          tries = 0;
          await this.#serve(handler);
        } catch (error) {
          if (error instanceof RefusedError) throw error;
          if (!this.signal.aborted) await this.#waitAfter(error, tries);
        }
      }
    } catch (error) {
      this.#tell("refused", error.message);
      throw error;
    } finally {
      clearInterval(timer);
      await this.#leave();
    }
  }

  #checkVersion() {
    const [release] = /^\d+\.\d+(?=\.|$)/.exec(this.flower) ?? [];
    if (!SUPPORTED_FLOWER.includes(release))
      throw new RefusedError(
        `the SuperLink runs Flower ${this.flower}, this page knows ` +
          `${SUPPORTED_FLOWER.join(" and ")}: open the page of a newer celeba-fl`,
      );
  }

  async #waitAfter(error, tries) {
    if (error instanceof UnregisteredError) {
      this.#tell("unregistered", error.message);
      return this.#pause(KEY_PAUSE);
    }
    this.#tell("offline", error.message, error);
    return this.#pause(backoff(tries));
  }

  /** Be online: as the node that this key was before, or else as a new one. */
  async #join() {
    if (!this.#unregistered) this.#tell("registering", "joining the SuperLink");
    if (await this.#isKnown()) return;
    const key = new TextEncoder().encode(this.identity.pem);
    const request = { publicKey: key, heartbeatInterval: HEARTBEAT };
    const activate = () => this.#api.call("activate-node", request, this.signal);
    let answer;
    try {
      answer = await activate();
    } catch (error) {
      if (error.code !== ACTIVATION_FAILED) throw error;
      await this.#register(key);
      answer = await activate();
    }
    await this.identity.remember({ nodeId: answer.nodeId });
    this.#unregistered = false;
    this.#heard = Date.now();
    await this.#sayFarewellAhead();
  }

  async #isKnown() {
    if (!this.identity.nodeId) return false;
    try {
      return await this.#beat();
    } catch (error) {
      if (error.status === 401) return false; // another SuperLink, or one that forgot
      throw error;
    }
  }

  async #register(publicKey) {
    try {
      await this.#api.call("register-node", { publicKey }, this.signal);
    } catch (error) {
      // A front before the SuperLink does not even pass the call on.
      this.#unregistered = error.code === REGISTRATION_DISABLED || error.status === 404;
      if (this.#unregistered)
        throw new UnregisteredError("the SuperLink does not know this node's key yet");
      if (error.code === KEY_IN_USE)
        throw new OfflineError("the SuperLink still takes this node for online: wait a minute");
      throw error;
    }
  }

  /** Tell the SuperLink that this node is there; false if it does not know it. */
  async #beat() {
    this.#heard = Date.now();
    const request = { node: { nodeId: this.identity.nodeId }, heartbeatInterval: HEARTBEAT };
    const { success } = await this.#api.call("send-node-heartbeat", request, this.signal, 10_000);
    if (success) await this.#sayFarewellAhead();
    if (success) this.#show(); // the page needs a farewell that is fresh
    return success;
  }

  /** A heartbeat, also while a message is worked on, and at once after a sleep. */
  #beatWhenDue() {
    if (this.#heard && Date.now() - this.#heard > HEARTBEAT * 800)
      this.#beat().then(
        (known) => (this.#forgotten ||= !known),
        () => {}, // the next call of the loop meets the same trouble, and tells it
      );
  }

  /** Sign now what a page can send when it is closed, for then there is no time for it. */
  async #sayFarewellAhead() {
    const { nodeId } = this.identity;
    this.farewell = await this.#api.signed("deactivate-node", { nodeId });
  }

  async #leave() {
    if (!this.#heard) return;
    this.#heard = 0;
    const { nodeId } = this.identity;
    await this.#api.call("deactivate-node", { nodeId }, undefined, 3_000).catch(() => {});
  }

  async #serve(handler) {
    this.#forgotten = false;
    while (!this.signal.aborted && !this.#forgotten) {
      if (this.identity.reply) await this.#push(this.identity.reply);
      this.#tell("waiting", "waiting for the next message");
      const node = { nodeId: this.identity.nodeId };
      const pulled = await this.#call("pull-messages", { node });
      const [message] = pulled.messagesList;
      if (!message) await this.#pause(Date.now() < this.#busyUntil ? BUSY_POLL : POLL);
      else await this.#take(message.metadata ?? {}, pulled.messageObjectTrees[0], handler);
    }
  }

  /** A call that is made until somebody answers it. */
  async #call(call, request) {
    const { state, detail } = this.#last;
    for (let tries = 0; ; tries++) {
      try {
        const answer = await this.#api.call(call, request, this.signal);
        if (tries) this.#tell(state, detail);
        return answer;
      } catch (error) {
        const failed = error.status === 500 && tries < MOST_FAILURES;
        if (!(error instanceof OfflineError || failed)) throw error;
        this.#tell("offline", error.message, error);
        await this.#pause(backoff(tries));
        this.signal.throwIfAborted();
      }
    }
  }

  /**
   * Have a message answered, unless it was already; the reply is pushed by the loop. A
   * node that is back at once has not failed, to the SuperLink, and a run would wait for it long.
   * So there is a reply from the beginning, which outlives the page: an error, until the handler
   * gives another.
   */
  async #take(metadata, tree, handler) {
    const { messageId, messageType } = metadata;
    if (this.#answered.has(messageId)) return;
    this.#tell("working", `answering a message (${messageType})`);
    const keep = async (answer, seconds = 0) =>
      this.identity.remember({ reply: await this.#prepare(metadata, answer, seconds) });
    await keep({ error: { code: RAISED, reason: reasonOf(new ToldInputError(LEFT)) } });
    try {
      const node = { nodeId: this.identity.nodeId };
      const content = await this.#inbox.content(metadata, tree, node);
      const run = await this.#inbox.run(metadata.runId, node);
      const start = performance.now();
      const answer = await handler({ metadata, content }, run).then(
        (reply) => ({ content: reply }),
        (error) => this.#excuse(metadata, content, error),
      );
      this.signal.throwIfAborted();
      await keep(answer, (performance.now() - start) / 1000);
    } catch (error) {
      const theirs = error instanceof CallError || this.signal.aborted;
      if (error.code === RUN_NOT_RUNNING) return this.identity.remember({ reply: null });
      if (theirs) throw error;
      await keep(this.#excuse(metadata, undefined, error));
    }
    this.#busyUntil = Date.now() + BUSY;
    this.#answered.add(messageId);
    if (this.#answered.size > 1000) this.#answered.delete(this.#answered.values().next().value);
  }

  /** The error that goes to the server; the page hears the whole of it. */
  #excuse({ messageType }, content, error) {
    const rollCall = messageType === "query" && Boolean(content?.has("config"));
    this.#tell("working", `failed: ${error?.message ?? error}`, error, rollCall);
    const whose = rollCall && this.name ? `client ${this.name}: ` : "";
    return { error: { code: RAISED, reason: reasonOf(error, whose) } };
  }

  /** A reply, ready to be pushed; as often as it takes, for it stays the same. */
  async #prepare(asked, { content, error }, seconds) {
    const createdAt = this.#api.now();
    const metadata = {
      runId: asked.runId,
      srcNodeId: this.identity.nodeId,
      dstNodeId: asked.srcNodeId,
      replyToMessageId: asked.messageId,
      groupId: asked.groupId,
      ttl: asked.createdAt + asked.ttl - createdAt,
      messageType: asked.messageType,
      createdAt,
      srcTaskId: asked.dstTaskId,
      dstTaskId: asked.srcTaskId,
    };
    const { id, tree, contents } = await deflate({ metadata, content, error });
    const message = { metadata: { ...metadata, messageId: id }, content: content && {}, error };
    return { message, tree, contents, seconds };
  }

  async #push({ message, tree, contents, seconds }) {
    const { runId, srcNodeId } = message.metadata;
    const node = { nodeId: this.identity.nodeId };
    const isMine = srcNodeId === node.nodeId; // else the SuperLink has forgotten who was asked
    try {
      for (let stored = !isMine, tries = 0; !stored && tries < 3; tries++) {
        const { objectsToPush, sessionId } = await this.#call("push-messages", {
          node,
          messagesList: [message],
          messageObjectTrees: [tree],
          clientappRuntimeList: [seconds],
        });
        stored = true;
        for (const objectId of objectsToPush) {
          const objectContent = contents.get(objectId);
          if (!objectContent) throw new ForeignDataError("the SuperLink asks for a foreign object");
          const request = { node, runId, objectId, objectContent, sessionId };
          stored &&= (await this.#call("push-object", request)).stored;
        }
      }
    } catch (error) {
      if (this.signal.aborted || error.status === 401) throw error; // it is pushed once back
      if (error.code !== RUN_NOT_RUNNING) this.#tell("waiting", error.message, error);
    }
    await this.identity.remember({ reply: null });
  }

  #tell(state, detail, error, declined = false) {
    const changed = state !== this.#last.state || detail !== this.#last.detail;
    this.#last = { state, detail };
    if (changed || error) this.#show({ error, declined });
  }

  #show(trouble) {
    const { bytesIn, bytesOut } = this.#api;
    const { farewell, identity } = this;
    const known = { nodeId: identity.nodeId, bytesIn, bytesOut, farewell };
    this.onState({ ...this.#last, ...known, ...trouble });
  }

  /** Wait; the network's coming back or the node's end cut it short. */
  #pause(milliseconds) {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        globalThis.removeEventListener?.("online", end);
        this.signal.removeEventListener("abort", end);
        resolve();
      };
      const timer = setTimeout(end, milliseconds);
      globalThis.addEventListener?.("online", end);
      this.signal.addEventListener("abort", end);
      if (this.signal.aborted) end();
    });
  }
}

/** How long to wait after some tries: twice as long each time, and not all tabs at once. */
function backoff(tries) {
  return Math.min(1000 * 2 ** Math.min(tries, 10), MOST_PAUSE) * (0.8 + 0.4 * Math.random());
}
