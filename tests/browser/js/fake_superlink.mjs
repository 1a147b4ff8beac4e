// A SuperLink of one node, in this process: it answers the Fleet API's calls, and can misbehave.

import { createServer } from "node:http";

import { CALLS } from "../../../celeba_fl/browser/page/fleet/messages.js";
import { decode, encode } from "../../../celeba_fl/browser/page/fleet/protobuf.js";
import { deflate } from "../../../celeba_fl/browser/page/fleet/objects.js";

const PROTOBUF = { "content-type": "application/protobuf" };
export const RUN = { runId: 7n, fabId: "a/b", fabVersion: "1.0.0", fabHash: "", overrideConfig: [] };

/** How a test makes a call fail: an HTTP status and Flower's code. */
export class Refusal {
  constructor(status, code) {
    Object.assign(this, { status, code });
  }
}

export class FakeSuperLink {
  calls = []; // [name, request]
  nodes = new Map(); // PEM to id
  online = new Set();
  waiting = []; // messages to be pulled
  objects = new Map();
  replies = [];
  pushed = new Map();
  before = {}; // of a call: what answers in its place; nothing, and the call goes on

  async start() {
    this.server = createServer((request, response) => this.#answer(request, response));
    await new Promise((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    this.base = `http://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  stop() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }

  /** Have a message wait for the node. */
  async send(content, more = {}) {
    const metadata = {
      runId: RUN.runId,
      srcNodeId: 1n,
      dstNodeId: 2n,
      groupId: String(this.calls.length),
      ttl: 3600,
      messageType: "train",
      createdAt: Date.now() / 1000,
      srcTaskId: 3n,
      ...more,
    };
    const { id, tree, contents } = await deflate({ metadata, content });
    for (const [key, object] of contents) this.objects.set(key, object);
    const message = { metadata: { ...metadata, messageId: id }, content: {} };
    this.waiting.push({ message, tree });
    return id;
  }

  async #answer(request, response) {
    const parts = [];
    for await (const part of request) parts.push(part);
    const name = request.url.split("/").pop();
    const asked = decode(CALLS[name].request, new Uint8Array(Buffer.concat(parts)));
    this.calls.push([name, asked]);
    const key = atob(request.headers["flwr-public-key"]);
    const said = (await this.before[name]?.(asked)) ?? this[name.replaceAll("-", "_")](asked, key);
    if (said === "hang up") return response.destroy();
    if (said instanceof Refusal) {
      response.writeHead(said.status, { "content-type": "application/json" });
      return response.end(JSON.stringify({ code: said.code, detail: "no" }));
    }
    response.writeHead(200, PROTOBUF);
    return response.end(said instanceof Uint8Array ? said : encode(CALLS[name].response, said));
  }

  register_node(_, key) {
    if (this.nodes.has(key)) return new Refusal(409, 23);
    this.nodes.set(key, BigInt(this.nodes.size + 2));
    return {};
  }

  activate_node(_, key) {
    const nodeId = this.nodes.get(key);
    if (!nodeId || this.online.has(nodeId)) return new Refusal(412, 2004);
    this.online.add(nodeId);
    return { nodeId };
  }

  send_node_heartbeat({ node }, key) {
    if (this.nodes.get(key) !== node.nodeId) return new Refusal(401);
    this.online.add(node.nodeId);
    return { success: true };
  }

  deactivate_node({ nodeId }) {
    this.online.delete(nodeId);
    return {};
  }

  pull_messages({ node }, key) {
    if (this.nodes.get(key) !== node.nodeId) return new Refusal(401);
    const [one] = this.waiting.splice(0, 1);
    return one ? { messagesList: [one.message], messageObjectTrees: [one.tree] } : {};
  }

  pull_object({ objectId }) {
    const objectContent = this.objects.get(objectId);
    return { objectFound: !!objectContent, objectAvailable: !!objectContent, objectContent };
  }

  confirm_message_received() {
    return {};
  }

  get_run() {
    return { run: RUN };
  }

  push_messages({ messagesList, messageObjectTrees }) {
    const ids = [];
    const visit = ({ objectId, children }) => (children.forEach(visit), ids.push(objectId));
    visit(messageObjectTrees[0]);
    const { messageId, replyToMessageId } = messagesList[0].metadata;
    const first = this.replies.find(({ metadata }) => metadata.replyToMessageId === replyToMessageId);
    if (first && first.metadata.messageId !== messageId) return {}; // as Flower does, without a word
    this.replies.push(messagesList[0]);
    return { objectsToPush: ids.filter((id) => !this.pushed.has(id)), sessionId: "s" };
  }

  push_object({ objectId, objectContent }) {
    this.pushed.set(objectId, objectContent);
    return { stored: true };
  }
}
