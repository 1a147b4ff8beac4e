// The errors that this page tells apart.

/** An error whose words the server may read; of any other it learns the kind and the place. */
export class ToldInputError extends Error {
  name = "ToldInputError";
}

/** The SuperLink cannot be reached now; the node tries again by itself. */
export class OfflineError extends Error {
  name = "OfflineError";
}

/** The SuperLink and this page cannot work together until somebody changes something. */
export class RefusedError extends Error {
  name = "RefusedError";
}

/** What comes from the SuperLink is not what Flower sends, or larger than a tab can take. */
export class ForeignDataError extends Error {
  name = "ForeignDataError";
}

/** What the server may read of an error: its words if it is told, or else its kind and place. */
export function wordsOf(error) {
  const told = error instanceof ToldInputError || error instanceof ForeignDataError;
  return told ? error.message : `${kindOf(error)}${placeOf(error)}`;
}

/**
 * An error in the form in which a Python SuperNode sends what its ClientApp raised:
 * `<class 'module.Kind'>:<'words'>`.
 *
 * @param {unknown} error What the handler threw.
 * @param {string} whose What stands before the words: in the roll call, which client this is.
 */
export const reasonOf = (error, whose = "") =>
  `<class 'celeba_fl.client_app.ToldInputError'>:<'${whose}${wordsOf(error)}'>`;

const kindOf = (error) => (error instanceof Error ? error.name : "Error");

/** The place in the page's code where an error came from; its message may name a picture. */
function placeOf(error) {
  const found = /([\w.-]+\.m?js)[^\s)]*?:(\d+):\d+/.exec(String(error?.stack ?? ""));
  return found ? ` in ${found[1]}, line ${found[2]} of the page` : " in the page";
}
