/**
 * Pictures with a `metadata.csv`, by the rules of celeba_fl/data/imagefolder.py: a row a picture,
 * its name in `file_name`, a column of 1 and 0 (or -1) an attribute, perhaps `celeb_id`, `split`.
 */

import { PRINTABLE } from "./names.js";
import { FileError, checkColumns, readCells, readText } from "./table.js";

export const METADATA = "metadata.csv";
const SPLITS = ["train", "valid", "test", "pretrain"];
const VALUES = { 1: 1, 0: 0, "-1": 0 };

/**
 * @param {Uint8Array} bytes Of the file.
 * @param {Iterable<string>} files Names of the files that are there, relative to the folder.
 * @param {string[]} attributes Names of the columns of labels, in order.
 * @returns {{file: string, labels: Uint8Array, identity: number, split: string}[]} A row a picture;
 *   without `celeb_id` each is of another person, without `split` all are of train.
 */
export function readMetadata(bytes, files, attributes) {
  const { columns, rows, lines } = readCells(readText(bytes, METADATA), METADATA);
  checkColumns(columns, METADATA, ["file_name", ...attributes], ["celeb_id", "split"]);
  const place = Object.fromEntries(columns.map((column, at) => [column, at]));
  const names = fileNames(
    rows.map((row) => row[place.file_name]),
    lines,
    new Set(files),
  );
  const choice = (at, column, values) => {
    const cell = rows[at][place[column]];
    if (Object.hasOwn(values, cell)) return values[cell];
    throw new FileError(
      `${METADATA}, line ${lines[at]}: ${column} of ${names[at]} is '${cell}', and should be one ` +
        `of ${Object.keys(values).join(", ")}`,
    );
  };
  const splits = Object.fromEntries(SPLITS.map((split) => [split, split]));
  return names.map((file, at) => ({
    file,
    labels: Uint8Array.from(attributes, (name) => choice(at, name, VALUES)),
    identity: "celeb_id" in place ? wholeNumber(rows[at][place.celeb_id], lines[at]) : at,
    split: "split" in place ? choice(at, "split", splits) : SPLITS[0],
  }));
}

/** Names as paths below the folder, each of a file that is there and has one row. */
function fileNames(names, lines, files) {
  if (!names.length)
    throw new FileError(`${METADATA} names no picture; there should be a row each`);
  const seen = new Map();
  const paths = names.map((name, at) => {
    const [path, where] = [inside(name), `${METADATA}, line ${lines[at]}`];
    if (path === null) {
      throw new FileError(`${where}: '${name}' cannot be the name of a picture in the folder`);
    }
    if (seen.has(path)) {
      throw new FileError(
        `${where}: names a picture that line ${seen.get(path)} names too, ${name}`,
      );
    }
    seen.set(path, lines[at]);
    return path;
  });
  const lost = paths.filter((path) => !files.has(path));
  if (lost.length) {
    throw new FileError(
      `${METADATA} names ${lost.length} pictures that were not chosen, such as ` +
        `${lost.slice(0, 3).join(", ")}; choose them too, or take their rows out`,
    );
  }
  return paths;
}

/** A relative path without `.` and `..`; null where it leads out of the folder. */
function inside(name) {
  if (!PRINTABLE.test(name) || name.startsWith("/")) return null;
  const path = [];
  for (const part of name.split("/")) {
    if (part === ".." && !path.length) return null;
    if (part === "..") path.pop();
    else if (part && part !== ".") path.push(part);
  }
  return path.length ? path.join("/") : null;
}

function wholeNumber(cell, line) {
  const number = /^-?[0-9]{1,10}$/.test(cell) ? Number(cell) : NaN;
  if ((number | 0) === number) return number | 0; // not -0
  throw new FileError(
    `${METADATA}, line ${line}: celeb_id should be whole numbers of 32 bits, and is '${cell}'`,
  );
}
