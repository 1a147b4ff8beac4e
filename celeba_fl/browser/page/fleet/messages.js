// The messages of Flower's Fleet API: `flwr.proto` of 1.41 and 1.42, as far as a node needs it.

/** The versions of Flower, without their patch, whose Fleet API this page was compared with. */
export const SUPPORTED_FLOWER = ["1.41", "1.42"];

const Node = { nodeId: [1, "uint64"] };

const ObjectTree = { objectId: [1, "string"] };
ObjectTree.children = [2, ObjectTree, "repeated"];

export const Metadata = {
  runId: [1, "uint64"],
  messageId: [2, "string"],
  srcNodeId: [3, "uint64"],
  dstNodeId: [4, "uint64"],
  replyToMessageId: [5, "string"],
  groupId: [6, "string"],
  ttl: [7, "double"],
  messageType: [8, "string"],
  createdAt: [9, "double"],
  srcTaskId: [10, "uint64", "optional"],
  dstTaskId: [11, "uint64", "optional"],
};

/** A message; its content is only marked as there, for its records travel as objects. */
export const Message = {
  metadata: [1, Metadata],
  content: [2, {}],
  error: [3, { code: [1, "sint64"], reason: [2, "string"] }],
};

const DoubleList = { vals: [1, "double", "repeated"] };
const SintList = { vals: [1, "sint64", "repeated"] };
const UintList = { vals: [1, "uint64", "repeated"] };
const numbers = {
  double: [1, "double", "optional"],
  sint64: [2, "sint64", "optional"],
  uint64: [3, "uint64", "optional"],
  doubleList: [21, DoubleList, "optional"],
  sintList: [22, SintList, "optional"],
  uintList: [23, UintList, "optional"],
};
const recordOf = (value) => ({
  items: [1, { key: [1, "string"], value: [2, value] }, "repeated"],
});

export const MetricRecord = recordOf(numbers);
export const ConfigRecord = recordOf({
  ...numbers,
  bool: [4, "bool", "optional"],
  string: [5, "string", "optional"],
  bytes: [6, "bytes", "optional"],
  boolList: [24, { vals: [1, "bool", "repeated"] }, "optional"],
  stringList: [25, { vals: [1, "string", "repeated"] }, "optional"],
  bytesList: [26, { vals: [1, "bytes", "repeated"] }, "optional"],
});

const Scalar = {
  double: [1, "double", "optional"],
  uint64: [6, "uint64", "optional"],
  sint64: [8, "sint64", "optional"],
  bool: [13, "bool", "optional"],
  string: [14, "string", "optional"],
  bytes: [15, "bytes", "optional"],
};

const Run = {
  runId: [1, "uint64"],
  fabId: [2, "string"],
  fabVersion: [3, "string"],
  overrideConfig: [4, { key: [1, "string"], value: [2, Scalar] }, "repeated"],
  fabHash: [5, "string"],
  federation: [12, "string"],
};

const ofObject = { node: [1, Node], runId: [2, "uint64"], objectId: [3, "string"] };

/** The calls of `/v1/fleet/`: what each asks, what it answers, and how long an answer may be. */
export const CALLS = {
  "register-node": {
    request: { publicKey: [1, "bytes"] },
    response: { nodeId: [1, "uint64"] },
  },
  "activate-node": {
    request: { publicKey: [1, "bytes"], heartbeatInterval: [2, "double"] },
    response: { nodeId: [1, "uint64"] },
  },
  "deactivate-node": { request: { nodeId: [1, "uint64"] }, response: {} },
  "send-node-heartbeat": {
    request: { node: [1, Node], heartbeatInterval: [2, "double"] },
    response: { success: [1, "bool"] },
  },
  "pull-messages": {
    request: { node: [1, Node] },
    response: {
      messagesList: [2, Message, "repeated"],
      messageObjectTrees: [3, ObjectTree, "repeated"],
    },
    most: 4 << 20,
  },
  "push-messages": {
    request: {
      node: [1, Node],
      messagesList: [2, Message, "repeated"],
      messageObjectTrees: [3, ObjectTree, "repeated"],
      clientappRuntimeList: [4, "double", "repeated"],
    },
    response: { objectsToPush: [3, "string", "repeated"], sessionId: [4, "string"] },
    most: 4 << 20,
  },
  "pull-object": {
    request: ofObject,
    response: {
      objectFound: [1, "bool"],
      objectAvailable: [2, "bool"],
      objectContent: [3, "bytes"],
    },
    most: 64 << 20,
  },
  "push-object": {
    request: { ...ofObject, objectContent: [4, "bytes"], sessionId: [5, "string"] },
    response: { stored: [1, "bool"] },
  },
  "confirm-message-received": {
    request: { node: [1, Node], runId: [2, "uint64"], messageObjectId: [3, "string"] },
    response: {},
  },
  "get-run": {
    request: { node: [1, Node], runId: [2, "uint64"] },
    response: { run: [1, Run] },
    most: 4 << 20,
  },
  "get-fab": {
    request: { node: [1, Node], hashStr: [2, "string"], runId: [3, "uint64"] },
    response: { fab: [1, { hashStr: [1, "string"], content: [2, "bytes"] }] },
    most: 32 << 20,
  },
};
