// A node that runs in node, for `test_fleet_node.py`: it tells every state as a line of JSON.

import { Identity } from "../../../celeba_fl/browser/page/fleet/identity.js";
import { ToldInputError } from "../../../celeba_fl/browser/page/fleet/errors.js";
import { Node } from "../../../celeba_fl/browser/page/fleet/node.js";
import { arrays, config, metrics, tensor } from "../../../celeba_fl/browser/page/fleet/records.js";

const [base, flower, name] = process.argv.slice(2);
const identity = await Identity.create();
const say = (told) =>
  process.stdout.write(
    `${JSON.stringify(told, (_, value) => (typeof value === "bigint" ? String(value) : value))}\n`,
  );
say({ openssh: identity.openssh });

/** Twice the model, and what the message and the run say; or an error, where one is asked for. */
async function answer({ metadata, content }, run) {
  const asked = content.get("config").items;
  if (asked.get("fails") === "told") throw new ToldInputError("a key is at fault");
  if (asked.get("fails") === "bug") throw new TypeError("what is in /home/anna/face.jpg");
  if (asked.get("fails") === "reply") return new Map([["metrics", metrics({ n: "a word" })]]);
  const { dtype, shape, data } = content.get("arrays").items.get("model");
  const fab = await run.fab();
  const about = { type: metadata.messageType, group: metadata.groupId, name, fab: fab.length };
  return new Map([
    ["arrays", arrays({ model: tensor(dtype, shape, data.map((value) => value * 2)) })],
    ["metrics", metrics({ n: BigInt(data.length), loss: 0.5 })],
    ["about", config({ ...about, fab: BigInt(fab.length), lr: run.overrides.get("lr") })],
  ]);
}

const end = new AbortController();
process.on("SIGTERM", () => end.abort());
const onState = ({ error, farewell, ...told }) => say({ ...told, error: error?.message });
await new Node({ base, identity, flower, name, signal: end.signal, onState }).run(answer);
say({ state: "ended" });
