// Several requests in one message, answered in one reply: `celeba_fl/rounds/parts.py`.

const PARTS = "parts";

/** The contents that are in one, by these names; records by no name are everyone's. */
export function split(content, names) {
  const contents = new Map([...names].map((name) => [name, new Map()]));
  for (const [key, record] of content) {
    const [, name, own] = /^([^/]*)\/?(.*)$/s.exec(key);
    if (contents.has(name)) contents.get(name).set(own, record);
    else if (key !== PARTS) contents.forEach((each) => each.set(key, record));
  }
  return contents;
}

/** One content of several, by name. */
export function joined(contents) {
  const content = new Map();
  for (const [name, records] of contents) {
    for (const [key, record] of records) content.set(`${name}/${key}`, record);
  }
  return content;
}
