// The identity of a node: a P-384 key whose private half never leaves the browser.

import { RefusedError } from "./errors.js";
import { sha256 } from "./objects.js";

const CURVE = { name: "ECDSA", namedCurve: "P-384" };
const STORE = "nodes";
const LOCK_WAIT = 5_000; // ms; the worker of a page that was reloaded lives on for a moment

const newKeys = () => crypto.subtle.generateKey(CURVE, false, ["sign", "verify"]);

/** A key pair, the id of the node that it is, once the SuperLink has told it, and what it owes. */
export class Identity {
  nodeId = 0n;
  reply = null; // what is to be pushed for the message in hand, see node.js
  #keys;
  #save = () => {};

  /** Make an identity that lasts as long as this object. */
  static async create() {
    return new Identity().#of(await newKeys());
  }

  /**
   * The identity of a slot in this browser's store; made at the first call.
   *
   * @param {string} slot Two nodes in one browser have two slots.
   * @throws {RefusedError} If another tab has it: two tabs cannot be the same node.
   */
  static async load(slot) {
    await claim(slot);
    const database = await open();
    let row = await ask(database, "readonly", (store) => store.get(slot));
    if (!row) {
      row = { keys: await newKeys(), nodeId: 0n };
      await ask(database, "readwrite", (store) => store.put(row, slot));
    }
    const { keys, ...known } = row;
    const identity = Object.assign(await new Identity().#of(keys), known);
    identity.#save = (news) =>
      ask(database, "readwrite", (store) => {
        return news ? store.put({ ...news, keys }, slot) : store.delete(slot);
      });
    return identity;
  }

  async #of(keys) {
    this.#keys = keys;
    const spki = new Uint8Array(await crypto.subtle.exportKey("spki", keys.publicKey));
    const point = new Uint8Array(await crypto.subtle.exportKey("raw", keys.publicKey));
    const lines = base64(spki).match(/.{1,64}/g);
    /** The public key as PEM, with which Flower's calls tell who they come from. */
    this.pem = ["-----BEGIN PUBLIC KEY-----", ...lines, "-----END PUBLIC KEY-----", ""].join("\n");
    /** The public key as OpenSSH has it in a `.pub` file, which `flwr supernode register` takes. */
    this.openssh = openSsh(point);
    /** A short name of the key: the first 16 digits of its SHA-256. */
    this.fingerprint = (await sha256(spki)).slice(0, 16);
    return this;
  }

  /** The signature of bytes as Flower's Python makes it: ECDSA with SHA-256, in DER. */
  async sign(data) {
    const algorithm = { name: "ECDSA", hash: "SHA-256" };
    return toDer(new Uint8Array(await crypto.subtle.sign(algorithm, this.#keys.privateKey, data)));
  }

  /** Keep the id of the node that this key is, or its `reply`, over a reload of the page. */
  async remember(news) {
    Object.assign(this, news);
    await this.#save({ nodeId: this.nodeId, reply: this.reply });
  }

  /** Have nothing kept of it any longer; the next one of its slot is another node. */
  async forget() {
    await this.#save(null);
    this.#save = () => {};
  }
}

/** A signature of WebCrypto's, r and s one after the other, in DER: a sequence of two integers. */
export function toDer(signature) {
  const half = signature.length / 2;
  const integers = [signature.subarray(0, half), signature.subarray(half)].map((bytes) => {
    let start = 0;
    while (start < half - 1 && bytes[start] === 0) start += 1;
    const digits = [...bytes.subarray(start)];
    if (digits[0] >= 0x80) digits.unshift(0); // or it would be negative
    return [0x02, digits.length, ...digits];
  });
  const body = integers.flat();
  return Uint8Array.from([0x30, body.length, ...body]);
}

/** Bytes in base64. */
export function base64(data) {
  let text = "";
  for (const byte of data) text += String.fromCharCode(byte);
  return btoa(text);
}

function openSsh(point) {
  const text = (word) => [...word].map((letter) => letter.charCodeAt(0));
  const field = (bytes) => [0, 0, 0, bytes.length, ...bytes];
  const kind = "ecdsa-sha2-nistp384";
  const blob = [...field(text(kind)), ...field(text("nistp384")), ...field([...point])];
  return `${kind} ${base64(Uint8Array.from(blob))}`;
}

/** Take a slot for this worker, until it ends. */
async function claim(slot) {
  const signal = AbortSignal.timeout(LOCK_WAIT);
  await new Promise((resolve, reject) => {
    const hold = () => {
      resolve();
      return new Promise(() => {}); // for as long as the worker lives
    };
    navigator.locks
      .request(`celeba-fl node ${slot}`, { signal }, hold)
      .catch(() => reject(new RefusedError(`node ${slot} is open in another tab of this browser`)));
  });
}

function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("celeba-fl-nodes", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function ask(database, mode, question) {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(STORE, mode);
    const request = question(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error);
  });
}
