// What the page knows without a document: names, a metadata.csv, ticks, and bytes for people.

import assert from "node:assert/strict";
import { test } from "node:test";

import { bytes, estimate } from "../../../celeba_fl/browser/page/site/estimate.js";
import { Marks, compare } from "../../../celeba_fl/browser/page/site/marks.js";
import { readMetadata } from "../../../celeba_fl/browser/page/site/metadata.js";
import { nameFault } from "../../../celeba_fl/browser/page/site/names.js";
import { readText } from "../../../celeba_fl/browser/page/site/table.js";

const NAMES = ["Male", "Young"];
const FILES = ["a.jpg", "sub/b.jpg"];
const read = (text) => readMetadata(new TextEncoder().encode(text), FILES, NAMES);

test("a name is refused with a reason, or taken", () => {
  for (const right of ["7", "Practice Keller", "клиника 3", "a".repeat(100)])
    assert.equal(nameFault(right), "");
  for (const wrong of ["", " a", "a,b", "=1", "a\nb", "a\u00a0b", "a".repeat(101)])
    assert.match(nameFault(wrong), /\.$/);
});

test("rows have labels, identities and splits", () => {
  const rows = read(
    "file_name;Young;Male;celeb_id;split\nsub/../a.jpg;1;-1;7;train\nsub/b.jpg;0;1;7;test\n",
  );
  assert.deepEqual(
    rows.map(({ file, labels, identity, split }) => [file, [...labels], identity, split]),
    [
      ["a.jpg", [0, 1], 7, "train"],
      ["sub/b.jpg", [1, 0], 7, "test"],
    ],
  );
});

test("without identities each picture shows another person, and all are of train", () => {
  const rows = read('\ufefffile_name,Male,Young\r\n"a.jpg",1,0\r\n\r\nsub/b.jpg,0,0');
  assert.deepEqual(
    rows.map(({ identity, split }) => [identity, split]),
    [
      [0, "train"],
      [1, "train"],
    ],
  );
});

const REFUSED = {
  "lacks the columns Young": "file_name,Male\na.jpg,1\n",
  "line 3: Young of sub/b.jpg is ''": "file_name,Male,Young\na.jpg,1,1\nsub/b.jpg,1,\n",
  "line 2: has 2 cells": "file_name,Male,Young\na.jpg,1\n",
  "line 2: '../a.jpg' cannot be": "file_name,Male,Young\n../a.jpg,1,1\n",
  "line 3: names a picture that line 2 names": "file_name,Male,Young\na.jpg,1,1\n./a.jpg,1,1\n",
  "1 pictures that were not chosen, such as c.jpg": "file_name,Male,Young\nc.jpg,1,1\n",
  "column 'partition' seems to mean 'split'": "file_name,Male,Young,partition\na.jpg,1,1,0\n",
  "celeb_id should be whole numbers": "file_name,Male,Young,celeb_id\na.jpg,1,1,4294967296\n",
  "names the column 'Male' 2 times": "file_name,Male,Male,Young\na.jpg,1,1,1\n",
  "names no picture": "file_name,Male,Young\n",
};
for (const [words, text] of Object.entries(REFUSED)) {
  test(`refused: ${words}`, () => assert.throws(() => read(text), { message: new RegExp(words) }));
}

test("text may be UTF-16 with its mark, and is refused in other encodings", () => {
  const wide = new Uint8Array([0xff, 0xfe, 0x61, 0, 0xe9, 0]);
  assert.equal(readText(wide, "metadata.csv"), "aé");
  for (const wrong of [
    [0x61, 0xe9],
    [0x61, 0],
  ])
    assert.throws(() => readText(new Uint8Array(wrong), "metadata.csv"), /save it as UTF-8/);
});

test("a model's guesses are changed, and what the person has said stays", () => {
  const marks = new Marks([Uint8Array.of(1, 0), null, null], 2);
  marks.begin(Uint8Array.of(0, 0, 1, 1, 0, 1));
  assert.deepEqual(
    marks.ticks.map((ticks) => [...ticks]),
    [
      [1, 0],
      [1, 1],
      [0, 1],
    ],
  );
  marks.toggle(2, 0);
  assert.deepEqual(
    [0, 1, 2].map((at) => marks.changed(at)),
    [1, 0, 1],
  );
  assert.equal(marks.next(2), 2);
  marks.done[2] = true;
  assert.equal(marks.next(2), 1);
  marks.done[1] = true;
  assert.equal(marks.next(0), -1);
});

test("the base model against the updated one, on the pictures that count", () => {
  const [base, updated, labels] = [
    [0, 1, 1, 1],
    [1, 1, 0, 1],
    [1, 0, 1, 1],
  ].map((one) => Uint8Array.from(one));
  const found = compare(base, updated, labels, Uint8Array.of(1, 0), 2);
  assert.deepEqual(found, { answers: 2, before: 0, after: 1, fixed: [1, 0], broken: [0, 0] });
});

test("bytes are written for people", () => {
  assert.deepEqual([999, 1500, 226000, 6.97e6].map(bytes), [
    "999 bytes",
    "1.5 kB",
    "226 kB",
    "7.0 MB",
  ]);
  const { averaging, closed } = estimate(1280, "Male; Young; Male,Young");
  assert.ok(averaging.masked > averaging.sent && closed.sent > averaging.masked);
});
