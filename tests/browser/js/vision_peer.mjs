// What the page makes of pictures, for tests/browser/test_vision.py: a JSON object in, one out.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

import { alter } from "../../../celeba_fl/browser/page/vision/augmentation.js";
import { hashImage } from "../../../celeba_fl/browser/page/vision/blake2b.js";
import { openExtractor } from "../../../celeba_fl/browser/page/vision/features.js";
import { introduction, probe } from "../../../celeba_fl/browser/page/vision/probe.js";
import { resize } from "../../../celeba_fl/browser/page/vision/resizing.js";
import { loadRuntime } from "../../../celeba_fl/browser/page/vision/runtime.js";

const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const text = ({ buffer, byteOffset, byteLength }) =>
  Buffer.from(buffer, byteOffset, byteLength).toString("base64");
const picture = ({ width, height, data }) => ({ width, height, data: bytes(data) });

const DOES = {
  hashes: (datas) => datas.map((data) => String(hashImage(bytes(data)))),
  resized: (cases) => cases.map(({ image, size }) => text(resize(picture(image), size).data)),
  altered: (cases) =>
    cases.map(({ image, size, encoded, version }) =>
      text(alter(picture(image), size, bytes(encoded), version).data),
    ),
  probe: () => ({ ...probe(), data: text(probe().data) }),
  seen: async ({ onnx, view, images }) => {
    const file = readFileSync(onnx), digest = createHash("sha256").update(file).digest("base64");
    const headers = { "Repr-Digest": `sha-256=:${digest}:` };
    globalThis.fetch = async () => new Response(file, { headers });
    const runtime = await loadRuntime(), { words, arrays } = await introduction(runtime, view);
    const see = await openExtractor(runtime, view, "/"), rows = [];
    for (const image of images) {
      rows.push(text(await see.run(resize(picture(image), view.imageSize))));
    }
    return { words, probe: text(arrays.probe.features.data), rows };
  },
};

const [what, given] = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(await DOES[what](given)), () => process.exit(0));
