// A run's app as Flower sends it, a ZIP file: of it a tab reads the settings, and runs nothing.

import { ToldInputError } from "../fleet/errors.js";

const FILE = "pyproject.toml";
const SECTION = "[tool.flwr.app.config]";
const MOST = 2 ** 20; // bytes of that file
const ENTRY = 0x02014b50;
const END = 0x06054b50;

/** The settings in `[tool.flwr.app.config]`, by key: a BigInt is a whole number. */
export async function settings(fab) {
  return parse(new TextDecoder().decode(await unzipped(fab, FILE)));
}

/** The bytes of a file in a ZIP file. */
async function unzipped(zip, wanted) {
  const view = new DataView(zip.buffer, zip.byteOffset, zip.byteLength);
  const u16 = (at) => view.getUint16(at, true);
  const u32 = (at) => view.getUint32(at, true);
  try {
    let end = zip.length - 22;
    while (u32(end) !== END) end--;
    let at = u32(end + 16);
    for (let left = u16(end + 10); left > 0 && u32(at) === ENTRY; left--) {
      const name = new TextDecoder().decode(zip.subarray(at + 46, at + 46 + u16(at + 28)));
      if (name === wanted) {
        const local = u32(at + 42);
        const start = local + 30 + u16(local + 26) + u16(local + 28);
        return await inflated(zip.slice(start, start + u32(at + 20)), u16(at + 10));
      }
      at += 46 + u16(at + 28) + u16(at + 30) + u16(at + 32);
    }
  } catch (error) {
    if (!(error instanceof RangeError || error instanceof TypeError)) throw error;
  }
  throw new ToldInputError(`the run's app has no ${wanted} that can be read; submit the run again`);
}

async function inflated(bytes, method) {
  if (method !== 0 && method !== 8) throw new TypeError(`compressed by method ${method}`);
  const raw = new Blob([bytes]).stream();
  const parts = [];
  let size = 0;
  for await (const part of method ? raw.pipeThrough(new DecompressionStream("deflate-raw")) : raw) {
    parts.push(part);
    if ((size += part.length) > MOST) throw new RangeError(`more than ${MOST} bytes`);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** The keys of the one section, of the forms that Flower takes: texts, numbers, true and false. */
function parse(toml) {
  const found = new Map();
  let inside = false;
  for (const line of toml.split(/\r?\n/)) {
    if (/^\s*\[/.test(line)) inside = line.replace(/#.*/, "").trim() === SECTION;
    if (!inside || /^\s*(#|\[|$)/.test(line)) continue;
    const [, key, text] = /^([\w-]+|"[^"\\]*")\s*=\s*(.*)$/.exec(line.trim()) ?? [];
    const value = key && valueOf(text);
    if (value === undefined) {
      const where = `${FILE} of the run's app, in ${SECTION}`;
      throw new ToldInputError(
        `${where}: ${line.trim().slice(0, 80)}: a tab reads key = value alone, the value a text ` +
          `on one line, a number, true or false`,
      );
    }
    found.set(key.replaceAll('"', ""), value);
  }
  return found;
}

function valueOf(text) {
  const [, basic, literal, word] =
    /^(?:("(?:[^"\\]|\\.)*")|'([^']*)'|([^\s#"']+))\s*(?:#.*)?$/.exec(text) ?? [];
  if (literal !== undefined) return literal;
  if (basic !== undefined) return unescaped(basic);
  if (word === "true" || word === "false") return word === "true";
  const plain = word?.replaceAll(/(?<=\d)_(?=\d)/g, "");
  if (/^[+-]?\d+$/.test(plain)) return BigInt(plain.replace("+", ""));
  return /^[+-]?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(plain) ? Number(plain) : undefined;
}

/** A text in quotes; what TOML escapes as JSON does not is none that a setting has. */
function unescaped(basic) {
  try {
    return JSON.parse(basic);
  } catch {
    return undefined;
  }
}
