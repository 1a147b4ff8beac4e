/**
 * What will leave the tab, in bytes, before anything starts. Headers of arrays and messages, some
 * 2 kB a message, are not counted; tests/browser compares this with the messages of Python.
 */

const OUTPUTS = 40;
const BINS = 128;

/**
 * @param {number} dim Features of a picture.
 * @param {string} groupings As in the run config: "Male;Young;Male,Young".
 * @returns {Record<"roll"|"averaging"|"closed"|"end", {sent: number, masked: number}>} Bytes that
 *   leave as they are, and hidden in sums: in the roll call, in a round that averages, in the one
 *   that solves, and when the final model is judged. A tab with pictures that validate sends most.
 */
export function estimate(dim, groupings) {
  const head = (dim + 1) * OUTPUTS;
  const counts = 2 * 2 * OUTPUTS * BINS; // of both parts; a byte each while under 256 pictures
  const losses = 2 * OUTPUTS;
  const judged = (times) => ({
    sent: times * counts + 8 * losses,
    masked: 4 * times * counts + 48 * losses,
  });
  const sums = ((dim + 1) * (dim + 2)) / 2 + head;
  const groups = groupings.split(";").filter((one) => one.trim());
  const [round, end] = [
    judged(1),
    judged(1 + groups.reduce((sum, one) => sum + 2 ** one.split(",").length, 0)),
  ];
  return {
    roll: { sent: 20 * dim, masked: 36 * dim },
    averaging: { sent: 4 * head + round.sent, masked: 8 * head + round.masked },
    closed: { sent: 8 * sums + round.sent, masked: 8 * sums + round.masked },
    end,
  };
}

/** A number of bytes for people: "0.4 MB". */
export function bytes(number) {
  if (number < 1000) return `${number} bytes`;
  const [value, unit] = number < 1e6 ? [number / 1e3, "kB"] : [number / 1e6, "MB"];
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value).toLocaleString("en")} ${unit}`;
}
