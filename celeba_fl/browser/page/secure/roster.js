/**
 * The roster: whose signing key is whose, as the sites know it and not as the server says; see
 * celeba_fl/privacy/roster.py. A tab's own key is made in the browser and never leaves it; its
 * public half goes to the other sites by another way than the federation.
 */
import { base64 } from "../fleet/identity.js";
import { ToldInputError } from "../fleet/errors.js";
import { nameFault } from "../site/names.js";
import { hex, joined } from "./bytes.js";

const PURPOSE = "celeba_fl.privacy.roster: the keys of a client for secure aggregation\0";
const KIND = "ssh-ed25519";
const ENCODER = new TextEncoder();
// What stands before the 32 bytes of a public key as OpenSSH writes it: its kind, and its length.
const HEAD = joined([0, 0, 0, 11], ENCODER.encode(KIND), [0, 0, 0, 32]);
const { subtle } = crypto;

/** A new pair of keys to sign with, whose private half cannot be exported. */
export const newSigningKeys = () => subtle.generateKey("Ed25519", false, ["sign", "verify"]);

/** The public half as OpenSSH writes it, which the others add to their rosters with the name. */
export async function publicLine({ publicKey }) {
  const key = new Uint8Array(await subtle.exportKey("raw", publicKey));
  return `${KIND} ${base64(joined(HEAD, key))}`;
}

/**
 * Who a site is: `sign(payload)`, and `check(name, payload, signature)`, which throws a
 * ToldInputError unless the owner of a name has signed a payload.
 *
 * @param {object} site its `name`; `roster`, the text of a roster.toml; `keys` of `newSigningKeys`
 * @throws {Error} for the person, if the roster is none, or does not have this site's own key
 */
export async function identityOf({ name, roster, keys }) {
  const owners = read(roster);
  if (!owners.has(name)) {
    throw new Error(
      `The roster has no key of ${name}, this site itself. Have its line added, here ` +
        `and at the other sites.`,
    );
  }
  const own = hex(new Uint8Array(await subtle.exportKey("raw", keys.publicKey)));
  if (hex(owners.get(name)) !== own) {
    throw new Error(
      `The roster has another key for ${name}. Have its line replaced by the one ` +
        `shown here, or correct the name.`,
    );
  }
  const signed = (payload) => joined(ENCODER.encode(PURPOSE), payload);
  return {
    async sign(payload) {
      return new Uint8Array(await subtle.sign("Ed25519", keys.privateKey, signed(payload)));
    },
    async check(other, payload, signature) {
      if (!owners.has(other)) {
        throw new ToldInputError(
          `client ${other} is not in the roster of ${name}: have its public ` +
            `key added to the roster of every site, or leave it out (clients)`,
        );
      }
      if (!signature.length) {
        throw new ToldInputError(
          `client ${other} has not signed its keys, and ${name} has a ` +
            `roster: name roster and signing-key in the node config of ${other}`,
        );
      }
      const key = await subtle.importKey("raw", owners.get(other), "Ed25519", false, ["verify"]);
      if (await subtle.verify("Ed25519", key, signature, signed(payload))) return;
      throw new ToldInputError(
        `the keys that came as those of client ${other} are not signed by ` +
          `the key that the roster of ${name} has for it: if ${other} has a new signing key, ` +
          `renew the rosters; otherwise somebody between the sites has changed them`,
      );
    },
  };
}

/** The public keys of a roster, by name: a TOML file of one table, [keys], of texts on a line. */
function read(roster) {
  const owners = new Map();
  let inside = false;
  for (const [i, line] of roster.split(/\r?\n/).entries()) {
    const where = `Line ${i + 1} of the roster, ${line.trim().slice(0, 80)}:`;
    if (/^\s*(#|$)/.test(line)) continue;
    if (!inside && /^\s*\[\s*keys\s*\]\s*(#|$)/.test(line)) {
      inside = true;
      continue;
    }
    const [, basic, literal, bare, text] =
      /^\s*(?:("(?:[^"\\]|\\.)*")|'([^']*)'|([\w-]+))\s*=\s*["']([^"'\\]*)["']\s*(?:#.*)?$/.exec(
        line,
      ) ?? [];
    const name = basic ? unescaped(basic) : (literal ?? bare);
    const key = bytesOf(text);
    if (!inside || name === undefined || !key) {
      throw new Error(
        `${where} should be a name and a public key as ssh-keygen -t ed25519 writes ` +
          `it, name = "${KIND} AAAA...", after a line [keys].`,
      );
    }
    if (nameFault(name)) throw new Error(`${where} ${nameFault(name)}`);
    if ([...owners].some(([one, its]) => one === name || hex(its) === hex(key))) {
      throw new Error(
        `${where} the name or the key is in another line already; each site needs ` + `its own.`,
      );
    }
    owners.set(name, key);
  }
  return owners;
}

/** A text in quotes, as JSON has it; TOML has few escapes besides, which no name needs. */
function unescaped(basic) {
  try {
    return JSON.parse(basic);
  } catch {
    return undefined;
  }
}

/** The 32 bytes of a public key in a line of OpenSSH; null if there is none in it. */
function bytesOf(text) {
  const [, coded] = new RegExp(`^${KIND} ([A-Za-z0-9+/]{68})( .*)?$`).exec(text ?? "") ?? [];
  const bytes = Uint8Array.from(coded ? atob(coded) : "", (letter) => letter.charCodeAt(0));
  const head = hex(bytes.subarray(0, HEAD.length));
  return head === hex(HEAD) ? bytes.slice(HEAD.length) : null;
}
