/** The names of sites: the one rule of celeba_fl/common/names.py. */

const NAME_LENGTH = 100;
// Python's `isprintable`: no control or format characters, and of the spaces only the plain one.
export const PRINTABLE = /^(?:[^\p{C}\p{Z}]| )*$/u;

/**
 * @param {string} name
 * @returns {string} What is wrong with it, as a sentence for the person; empty if nothing is.
 */
export function nameFault(name) {
  if (!name) return "Please give this site a name.";
  if ([...name].length > NAME_LENGTH) return `A name has at most ${NAME_LENGTH} characters.`;
  if (!PRINTABLE.test(name)) return "A name is one line without invisible characters.";
  if (name.trim() !== name) return "A name neither begins nor ends with a space.";
  if (name.includes(",")) return "A name has no comma in it, since commas part names in a list.";
  if ("=+-@".includes(name[0]))
    return "A name does not begin with =, +, - or @, as a formula does.";
  return "";
}
