/**
 * Keys of one run, and what follows from them, as celeba_fl/privacy/keys.py has them: X25519, HKDF
 * with SHA-256 and AES-256-GCM, all of them WebCrypto's own. Private keys cannot be exported.
 */
import { ToldInputError } from "../fleet/errors.js";
import { dumped, joined } from "./bytes.js";

export const LENGTH = 32;
const NONCE = 12;
// What stands before the 32 bytes of a private key of X25519 in PKCS #8 (RFC 8410).
const PKCS8 = Uint8Array.of(48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 110, 4, 34, 4, 32);
// The public key of which any agreement is the private one's own public key (RFC 7748).
const BASE = Uint8Array.of(9, ...new Uint8Array(LENGTH - 1));
const { subtle } = crypto;

/** A secret of 32 bytes for one purpose, which the context tells apart from all others. */
export async function derive(secret, ...context) {
  const info = dumped(["celeba-fl secure sums 1", ...context.map(String)]);
  const key = await subtle.importKey("raw", secret, "HKDF", false, ["deriveBits"]);
  const form = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(LENGTH), info };
  return new Uint8Array(await subtle.deriveBits(form, key, 8 * LENGTH));
}

/** The private key that a secret of 32 bytes makes. */
export const privateKey = (secret) =>
  subtle.importKey("pkcs8", joined(PKCS8, secret), "X25519", false, ["deriveBits"]);

/** The public key of a private one, 32 bytes. */
export const publicKey = (own) => agree(own, BASE);

/**
 * The secret that two share, each by its own private key and the other's public one.
 *
 * A ToldInputError says that the public one is no key, or one that makes the secret known to all.
 */
export async function agree(own, its) {
  try {
    const key = await subtle.importKey("raw", its, "X25519", false, []);
    const secret = await subtle.deriveBits({ name: "X25519", public: key }, own, 8 * LENGTH);
    return new Uint8Array(secret);
  } catch (error) {
    throw new ToldInputError(`not a public key: ${error.name}`);
  }
}

/** Content for whoever has the key, 28 bytes longer, along with what it is `bound` to. */
export async function seal(key, content, bound, random) {
  const iv = random(NONCE);
  const aes = await subtle.importKey("raw", key, "AES-GCM", false, ["encrypt"]);
  const form = { name: "AES-GCM", iv, additionalData: bound };
  return joined(iv, new Uint8Array(await subtle.encrypt(form, aes, content)));
}

/** Undo `seal`; a ToldInputError if it was sealed otherwise, or changed on the way. */
export async function unseal(key, sealed, bound) {
  const aes = await subtle.importKey("raw", key, "AES-GCM", false, ["decrypt"]);
  const form = { name: "AES-GCM", iv: sealed.slice(0, NONCE), additionalData: bound };
  try {
    return new Uint8Array(await subtle.decrypt(form, aes, sealed.slice(NONCE)));
  } catch {
    throw new ToldInputError("it was changed on the way");
  }
}
