// What a node receives: the objects of a message, and what is known of its run.

import { ForeignDataError } from "./errors.js";
import { MAX_BYTES, idsOf, inflate, sha256 } from "./objects.js";
import { valueOf } from "./records.js";

const PAUSE = 1_000; // ms until an object is asked for again that its sender still uploads
const TRIES = 300;
const AT_ONCE = 4; // objects
const RUNS_KEPT = 4;

/** Messages and runs, from the calls of the Fleet API. */
export class Inbox {
  #runs = new Map();

  /**
   * @param {(call: string, request: object) => Promise<object>} call Makes a call.
   * @param {(milliseconds: number) => Promise<void>} pause Waits.
   */
  constructor(call, pause) {
    Object.assign(this, { call, pause });
  }

  /**
   * The content of a message, its objects checked against their hashes.
   *
   * @throws {ForeignDataError} If it is none, or larger than a tab should hold.
   */
  async content({ runId, messageId }, tree, node) {
    const ids = idsOf(tree ?? { objectId: "", children: [] });
    if (tree.objectId !== messageId) throw new ForeignDataError("a message has another's objects");
    const contents = new Map();
    let length = 0;
    const pullNext = async () => {
      for (let objectId = ids.pop(); objectId; objectId = ids.pop()) {
        const content = await this.#object({ node, runId, objectId });
        length += content.length;
        if (length > MAX_BYTES)
          throw new ForeignDataError(`a message is larger than ${MAX_BYTES} bytes`);
        if ((await sha256(content)) !== objectId)
          throw new ForeignDataError("an object of a message is not the one that it should be");
        contents.set(objectId, content);
      }
    };
    const pulls = Array.from({ length: AT_ONCE }, pullNext);
    await Promise.all(pulls).finally(() => ids.splice(0));
    await this.call("confirm-message-received", { node, runId, messageObjectId: messageId });
    const { content } = inflate(messageId, contents);
    if (!content) throw new ForeignDataError("a message has no content");
    return content;
  }

  async #object(request) {
    for (let tries = 0; tries < TRIES; tries++) {
      const answer = await this.call("pull-object", request);
      if (!answer.objectFound) break;
      if (answer.objectAvailable) return answer.objectContent;
      await this.pause(PAUSE);
    }
    throw new ForeignDataError("the SuperLink does not have an object of its message");
  }

  /** What is known of a run, of which the last few are kept; `fab()` gives the app's bundle. */
  async run(runId, node) {
    if (!this.#runs.has(runId)) {
      const { run } = await this.call("get-run", { node, runId });
      const { fabId, fabVersion, fabHash, overrideConfig } = run;
      const overrides = new Map(overrideConfig.map(({ key, value }) => [key, valueOf(value)]));
      const fab = once(() => this.#fab({ node, runId, hashStr: fabHash }));
      this.#runs.set(runId, { runId, fabId, fabVersion, fabHash, overrides, fab });
      if (this.#runs.size > RUNS_KEPT) this.#runs.delete(this.#runs.keys().next().value);
    }
    return this.#runs.get(runId);
  }

  async #fab(request) {
    const { fab } = await this.call("get-fab", request);
    if (!fab || (await sha256(fab.content)) !== request.hashStr)
      throw new ForeignDataError("the app that the SuperLink sends is not the one of the run");
    return fab.content;
  }
}

/** What a promise gives, asked for once; again, where it failed. */
function once(ask) {
  let asked;
  const forget = (error) => {
    asked = undefined;
    throw error;
  };
  return () => (asked ??= ask().catch(forget));
}
