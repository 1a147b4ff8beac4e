// The calls of Flower's Fleet API: protobuf over HTTP, each signed with the node's key.

import { ForeignDataError, OfflineError, RefusedError } from "./errors.js";
import { base64 } from "./identity.js";
import { CALLS } from "./messages.js";
import { concat, decode, encode } from "./protobuf.js";

const PROTOBUF = "application/protobuf";
const TIMEOUT = 60_000; // ms
const MOST = 64 << 10; // bytes of an answer, where the call says nothing else
const MOST_DRIFT = 600_000; // ms by which a clock may be off; a signature holds for five minutes
const GATEWAY = new Set([429, 502, 503, 504]); // something between here and the SuperLink
const VERSIONS_DIFFER = 1001;

/** The SuperLink says no to a call; `code` is Flower's own, where it tells one. */
export class CallError extends Error {
  name = "CallError";

  constructor(call, status, { code, detail } = {}) {
    super(`the SuperLink refuses ${call}: ${detail ?? `HTTP status ${status}`}`);
    Object.assign(this, { status, code });
  }
}

/** The Fleet API at an address, for one node. */
export class FleetApi {
  bytesIn = 0;
  bytesOut = 0;
  #drift = 0; // ms that the SuperLink's clock is ahead of this one

  /**
   * @param {object} options
   * @param {string} options.base The address before `/v1/fleet/`; empty in a page that is served.
   * @param {import("./identity.js").Identity} options.identity
   * @param {string} options.flower The version of Flower that this node tells the SuperLink.
   */
  constructor({ base, identity, flower }) {
    Object.assign(this, { base, identity, flower });
  }

  /** Seconds since 1970 by the SuperLink's clock, as far as it is known. */
  now() {
    return (Date.now() + this.#drift) / 1000;
  }

  /** What `fetch` needs for a call, signed now: the SuperLink takes it for five minutes. */
  async signed(call, request) {
    const timestamp = new Date(this.now() * 1000).toISOString().replace("Z", "000+00:00");
    const signature = await this.identity.sign(new TextEncoder().encode(timestamp));
    const headers = {
      accept: PROTOBUF,
      "content-type": PROTOBUF,
      "flwr-public-key": btoa(this.identity.pem),
      "flwr-timestamp": timestamp,
      "flwr-signature": base64(signature),
      "flwr-package-name": "flwr",
      "flwr-package-version": this.flower,
      "flwr-component-name": "SuperNode",
    };
    const body = encode(CALLS[call].request, request);
    return { url: `${this.base}/v1/fleet/${call}`, headers, body };
  }

  /**
   * Make a call.
   *
   * @param {keyof typeof CALLS} call
   * @param {object} request With the fields of the call's request.
   * @param {AbortSignal} [signal]
   * @param {number} [timeout] In ms.
   * @returns {Promise<object>} The fields of its response.
   * @throws {OfflineError} If nobody answers, or something else than a SuperLink.
   * @throws {CallError} If the SuperLink says no.
   */
  async call(call, request, signal, timeout = TIMEOUT) {
    const { url, headers, body } = await this.signed(call, request);
    const ends = [AbortSignal.timeout(timeout), ...(signal ? [signal] : [])];
    let answer;
    let data;
    try {
      answer = await fetch(url, {
        method: "POST",
        headers,
        body,
        signal: AbortSignal.any(ends),
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        referrerPolicy: "no-referrer",
      });
      this.bytesOut += body.length;
      data = await readBody(answer, answer.ok ? (CALLS[call].most ?? MOST) : MOST);
    } catch (error) {
      if (error instanceof ForeignDataError) throw error;
      signal?.throwIfAborted();
      throw new OfflineError(`the SuperLink cannot be reached (${error.message})`);
    }
    this.bytesIn += data.length;
    if (!answer.ok) this.#refuse(call, answer, data);
    if (answer.headers.get("content-type")?.split(";")[0] !== PROTOBUF)
      throw new OfflineError("something else than a SuperLink answers");
    return decode(CALLS[call].response, data);
  }

  #refuse(call, answer, data) {
    if (GATEWAY.has(answer.status))
      throw new OfflineError(`the SuperLink cannot be reached (HTTP status ${answer.status})`);
    const told = readError(data);
    if (told.code === VERSIONS_DIFFER) throw new RefusedError(told.extra ?? told.detail);
    if (answer.status === 401) this.#setClock(answer);
    throw new CallError(call, answer.status, told);
  }

  /** Follow the SuperLink's clock, which takes no signature from a clock 5 seconds ahead of it. */
  #setClock(answer) {
    const theirs = Date.parse(answer.headers.get("date") ?? "");
    const drift = theirs - Date.now();
    if (Math.abs(drift) > MOST_DRIFT) {
      const minutes = Math.round(Math.abs(drift) / 60_000);
      throw new OfflineError(`this device's clock is ${minutes} minutes off: set it right`);
    }
    if (Math.abs(drift - this.#drift) > 2_000) this.#drift = drift;
  }
}

/** The body of an answer, of which no more than `most` bytes are read. */
async function readBody(answer, most) {
  const parts = [];
  let length = 0;
  const reader = answer.body?.getReader();
  for (let part = await reader?.read(); part && !part.done; part = await reader.read()) {
    length += part.value.length;
    if (length > most) {
      await reader.cancel();
      throw new ForeignDataError(`an answer of the SuperLink's is longer than ${most} bytes`);
    }
    parts.push(part.value);
  }
  return parts.length === 1 ? parts[0] : concat(parts);
}

function readError(data) {
  try {
    return JSON.parse(new TextDecoder().decode(data)) ?? {};
  } catch {
    return {};
  }
}
