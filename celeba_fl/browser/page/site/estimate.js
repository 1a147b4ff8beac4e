/**
 * What will leave the tab, in bytes, before anything starts. Headers of arrays and messages, some
 * 2 kB a message, are not counted; tests/browser compares this with the messages of Python.
 */

const OUTPUTS = 40;
const BINS = 128;

/**
 * @param {number} dim Features of a picture.
 * @param {boolean} valid Whether some pictures validate.
 * @returns {{roll: object, averaging: object, closed: object}} Of each `sent` and, under secure
 *   sums, `masked`: bytes that leave; and `received`, bytes that come.
 */
export function estimate(dim, valid = true) {
  const head = (dim + 1) * OUTPUTS;
  const counts = (valid ? 2 : 1) * 2 * OUTPUTS * BINS; // a byte each while under 256 pictures
  const losses = (valid ? 2 : 1) * OUTPUTS;
  const sums = ((dim + 1) * (dim + 2)) / 2 + head;
  const judging = { sent: counts + 8 * losses, masked: 4 * counts + 48 * losses };
  return {
    roll: { sent: 16 * dim, masked: 32 * dim, received: 0 },
    averaging: {
      sent: 4 * head + judging.sent,
      masked: 8 * head + judging.masked,
      received: 4 * head,
    },
    closed: {
      sent: 8 * sums + judging.sent,
      masked: 8 * sums + judging.masked,
      received: 4 * head,
    },
  };
}

/** A number of bytes for people: "0.4 MB". */
export function bytes(number) {
  if (number < 1000) return `${number} bytes`;
  const [value, unit] = number < 1e6 ? [number / 1e3, "kB"] : [number / 1e6, "MB"];
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value).toLocaleString("en")} ${unit}`;
}
