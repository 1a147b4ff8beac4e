/**
 * Replies of a client as numbers to be summed, as celeba_fl/privacy/summands.py has them. A reply
 * is a Map of records, see fleet/records.js; names are `part/record/key`.
 */
import { EXACT, MEAN, SMALL, WHOLE } from "./encoding.js";

/** What a client says of itself in the roll call, and nowhere else. */
export function introduced(content) {
  const { items: metrics } = content.get("metrics");
  const found = new Map();
  for (const key of ["num-examples", "num-valid"]) {
    found.set(`query/metrics/${key}`, { kind: WHOLE, tensor: asTensor(metrics.get(key)) });
  }
  const counts = content.get("counts").items.get("counts");
  found.set("query/metrics/counts", { kind: WHOLE, tensor: counts });
  for (const [key, tensor] of content.get("sums")?.items ?? []) {
    found.set(`query/sums/${key}`, { kind: WHOLE, tensor });
  }
  return found;
}

/** The numbers in a reply to a part of a message: all but the seconds. */
export function summands(part, content, uniform) {
  const { items: metrics } = content.get("metrics");
  const examples = Number(metrics.get("num-examples"));
  const weight = uniform ? Math.min(1, examples) : examples;
  const found = new Map();
  for (const [key, value] of metrics) {
    const name = `${part}/metrics/${key}`;
    if (key === "local-loss") {
      found.set(name, { kind: EXACT, tensor: asTensor(value * examples) });
    } else if (key !== "seconds") {
      const tensor = asTensor(value);
      found.set(name, { kind: kindOf(tensor), tensor });
    }
  }
  for (const [record, { kind, items }] of content) {
    for (const [key, tensor] of kind === "arrays" ? items : []) {
      const how = part === "train" ? MEAN : kindOf(tensor);
      found.set(`${part}/${record}/${key}`, { kind: how, tensor, weight });
    }
  }
  if (part === "train") {
    found.set(`${part}/weight/weight`, { kind: WHOLE, tensor: asTensor(BigInt(weight)) });
  }
  return found;
}

function kindOf({ dtype }) {
  if (dtype.startsWith("uint")) return SMALL;
  return dtype === "bool" || dtype.startsWith("int") ? WHOLE : EXACT;
}

/** A value of a metric as NumPy makes an array of it. */
function asTensor(value) {
  const all = [value].flat();
  const shape = Array.isArray(value) ? [all.length] : [];
  if (typeof all[0] === "bigint") return { dtype: "int64", shape, data: BigInt64Array.from(all) };
  return { dtype: "float64", shape, data: Float64Array.from(all) };
}
