/**
 * Tables of text that others have written, read as celeba_fl/data/text.py reads them: UTF-8, or
 * UTF-16 with its mark; cells end at commas, semicolons or tabs, whichever the first line has most
 * of.
 */

const DELIMITERS = [",", ";", "\t"];
// What people call a column that is known here by another name.
const SYNONYMS = {
  split: ["partition", "evalpartition", "set", "subset", "fold", "phase", "usage"],
  celeb_id: ["identity", "person", "personid", "subject", "subjectid", "patientid", "patient"],
};

/** What is wrong with the person's own files; for the person alone, never for the server. */
export class FileError extends Error {}

/**
 * @param {Uint8Array} bytes
 * @param {string} name Of the file.
 * @returns {string} Its text without a byte order mark.
 */
export function readText(bytes, name) {
  const mark = (bytes[0] << 8) | bytes[1];
  const encoding = { 0xfffe: "utf-16le", 0xfeff: "utf-16be" }[mark] ?? "utf-8";
  try {
    const text = new TextDecoder(encoding, { fatal: true }).decode(bytes);
    if (!text.includes("\0")) return text;
  } catch {
    // Told below.
  }
  throw new FileError(`${name} is not in the encoding ${encoding.toUpperCase()}; save it as UTF-8`);
}

/**
 * @param {string} text
 * @param {string} name Of the file.
 * @returns {{columns: string[], rows: string[][], lines: number[]}} Names of the columns, rows of
 *   as many cells each, and the lines that they end on.
 */
export function readCells(text, name) {
  const first = text.split("\n", 1)[0];
  const times = DELIMITERS.map((one) => first.split(one).length);
  const delimiter = DELIMITERS[times.indexOf(Math.max(...times))];
  const [header = { cells: [] }, ...rest] = [...split(text, delimiter)];
  const columns = header.cells.map((cell) => cell.trim());
  for (const column of columns) {
    const number = columns.filter((other) => other === column).length;
    if (number > 1) {
      throw new FileError(`${name}, line 1: names the column '${column}' ${number} times`);
    }
  }
  const rows = rest.filter(({ cells }) => cells.length);
  for (const { cells, line } of rows) {
    if (cells.length !== columns.length) {
      throw new FileError(
        `${name}, line ${line}: has ${cells.length} cells; there should be ${columns.length}, ` +
          "as there are columns in line 1",
      );
    }
  }
  return {
    columns,
    rows: rows.map(({ cells }) => cells.map((cell) => cell.trim())),
    lines: rows.map(({ line }) => line),
  };
}

/** Refuse a table that lacks a needed column, or has one that seems to mean a known one. */
export function checkColumns(columns, name, needed, known) {
  for (const column of columns) {
    const meant = meantBy(column, [...needed, ...known]);
    if (meant && meant !== column) {
      throw new FileError(
        `${name}, line 1: column '${column}' seems to mean '${meant}', and would not be read; ` +
          "rename it to that, or to what is unlike any column known here",
      );
    }
  }
  const missing = needed.filter((one) => !columns.includes(one));
  if (missing.length) throw new FileError(`${name} lacks the columns ${missing.join(", ")}`);
}

/** Rows as Python's csv module reads them, with the number of the line on which each ends. */
function* split(text, delimiter) {
  let [cells, cell, quoted, begun, line] = [[], "", false, false, 1];
  for (let at = 0; at < text.length; at++) {
    const one = text[at];
    const newline = one === "\n" || one === "\r";
    if (newline && one === "\r" && text[at + 1] === "\n") at++;
    if (quoted) {
      if (one === '"' && text[at + 1] === '"') cell += text[at++];
      else if (one === '"') quoted = false;
      else cell += newline ? "\n" : one;
      if (newline) line++;
    } else if (newline) {
      yield { cells: begun ? [...cells, cell] : [], line: line++ };
      [cells, cell, begun] = [[], "", false];
    } else if (one === '"' && !cell) {
      quoted = begun = true;
    } else {
      begun = true;
      if (one === delimiter) [cells, cell] = [[...cells, cell], ""];
      else cell += one;
    }
  }
  if (begun) yield { cells: [...cells, cell], line };
}

/** The known name that a column's name is, or nearly is; null if it is unlike all of them. */
function meantBy(column, known) {
  if (known.includes(column)) return column;
  const plainly = (name) => name.toLowerCase().replace(/[^a-z0-9]/g, "");
  const plain = new Map(known.map((name) => [plainly(name), name]));
  for (const name of known) for (const other of SYNONYMS[name] ?? []) plain.set(other, name);
  const ranked = [...plain.keys()]
    .map((word) => [likeness(word, plainly(column)), word])
    .sort(([a, first], [b, second]) => b - a || (first < second ? 1 : -1));
  return ranked[0][0] >= 0.8 ? plain.get(ranked[0][1]) : null;
}

/** How alike two words are, 0 to 1, as difflib's SequenceMatcher has it. */
function likeness(a, b) {
  return a.length + b.length ? (2 * matches(a, b)) / (a.length + b.length) : 1;
}

/** Characters in common: the longest block of both, and those on its left and on its right. */
function matches(a, b) {
  let [most, i, j] = [0, 0, 0];
  for (let x = 0; x < a.length; x++) {
    for (let y = 0; y < b.length; y++) {
      let length = 0;
      while (x + length < a.length && a[x + length] === b[y + length]) length++;
      if (length > most) [most, i, j] = [length, x, y];
    }
  }
  if (!most) return 0;
  return (
    most + matches(a.slice(0, i), b.slice(0, j)) + matches(a.slice(i + most), b.slice(j + most))
  );
}
