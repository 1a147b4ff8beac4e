// The settings in a run's app, which whoever starts runs has written.

import assert from "node:assert/strict";
import { test } from "node:test";

import { settings } from "../../../celeba_fl/browser/page/client/fab.js";

/** A ZIP file with one file, not compressed; a reader looks at no more than this. */
function zip(name, text) {
  const [named, body] = [Buffer.from(name), Buffer.from(text)];
  const [local, entry, end] = [30, 46, 22].map((size) => Buffer.alloc(size));
  local.writeUInt16LE(named.length, 26);
  entry.writeUInt32LE(0x02014b50);
  entry.writeUInt32LE(body.length, 20);
  entry.writeUInt16LE(named.length, 28);
  end.writeUInt32LE(0x06054b50);
  end.writeUInt16LE(1, 10);
  end.writeUInt32LE(local.length + named.length + body.length, 16);
  return new Uint8Array(Buffer.concat([local, named, body, entry, named, end]));
}

const read = (line) => settings(zip("pyproject.toml", `[tool.flwr.app.config]\n${line}\n`));

test("a setting has its value, whatever stands around it", async () => {
  for (const line of ["a-b=0.5", '  "a-b"  =  0.5  # half', "a-b = 0.5 \t"])
    assert.deepEqual([...(await read(line))], [["a-b", 0.5]]);
});

test("a line that is made to be read for hours is read at once", { timeout: 20_000 }, async () => {
  const line = `a = "${" ".repeat(500_000)}"`;
  assert.equal((await read(line)).get("a").length, 500_000);
  await assert.rejects(read(`${line} x`), /a tab reads key = value alone/);
});
