/** The few things that all parts of the page need of the document. */

/** @returns {HTMLElement} The element of an id. */
export const at = (id) => document.getElementById(id);

/** Make an element, HTML by default, with attributes, and children that are nodes or text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** The same in SVG. */
export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/**
 * A table whose rows begin with what they are about; on a phone each row is a block if `stacked`.
 *
 * @param {string} caption
 * @param {string[]} head
 * @param {(string|Node)[][]} rows
 */
export function table(caption, head, rows, stacked = false) {
  const cells = (row) =>
    row.map((cell, i) =>
      i ? make("td", { "data-head": head[i] }, cell) : make("th", { scope: "row" }, cell),
    );
  const whole = make(
    "table",
    stacked ? { class: "stack" } : {},
    make("caption", {}, caption),
    make("thead", {}, make("tr", {}, ...head.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells(row)))),
  );
  return make(
    "div",
    { class: "table", tabindex: "0", role: "region", "aria-label": caption },
    whole,
  );
}

/** "1 picture", "2 pictures". */
export const counted = (number, noun) =>
  `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

export const percent = (part, whole) =>
  whole ? `${((100 * part) / whole).toFixed(1)} %` : "\u2013";
