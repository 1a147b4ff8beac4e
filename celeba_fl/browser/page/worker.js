/**
 * The Worker in which a site lives: its node, client, pictures and features. Timers of a page in
 * the background are slowed down, those of a Worker are not; so the page only shows and asks.
 *
 * ==============  ============================  ==================================================
 * page to Worker  with                          meaning
 * ==============  ============================  ==================================================
 * `open`          about, slot, part             first of all; `part` {k, of} of drawn faces or null
 * `choose`        chosen [{path, file}], keep   take these pictures; keep copies in this browser?
 * `label`         at, labels                    the labels of a picture
 * `corrected`     labels (count * 40)           the answer to `correct`
 * `start`         name, cohort, roster, ticket  take part; at least so many in a sum (0: any run)
 * `stop`                                        take part no longer
 * `forget`                                      delete all that this browser keeps of the site
 * ==============  ============================  ==================================================
 *
 * ==============  ============================  ==================================================
 * Worker to page  with                          meaning
 * ==============  ============================  ==================================================
 * `site`          name, started, cohort, key,   what the site is now; pictures [{file, labels,
 *                 roster, signing, keep,        blob or null}]; `signing` is the line of its key
 *                 pictures                      for rosters, "" where the browser can make none
 * `choosing`      done, of                      pictures that have been looked at
 * `left-out`      reasons                       a sentence for each chosen file that is not used
 * `node`          state, detail, error, ...     what fleet/node.js says
 * `progress`      event                         what client/client.js says
 * `correct`       predicted (count * 40)        please show them, and answer with `corrected`
 * `fault`         text                          what went wrong, for the person
 * `forgotten`                                   that is done; the page should be opened anew
 * ==============  ============================  ==================================================
 */

import { Client } from "./client/client.js";
import { Identity } from "./fleet/identity.js";
import { Node } from "./fleet/node.js";
import { identityOf, newSigningKeys, publicLine } from "./secure/roster.js";
import { Pictures } from "./site/pictures.js";
import { Store } from "./site/store.js";
import { loadRuntime } from "./vision/runtime.js";

const tell = (kind, more = {}) => postMessage({ kind, ...more });
const site = { name: "", started: false, cohort: 0, roster: "", keep: false, signing: null };
let [about, store, pictures, identity, runtime] = [];
let stopping = null; // an AbortController while the site takes part
let ended = null; // when it does so no longer
let corrected = null; // resolves what the client waits for

const answers = { open, choose, label, start, stop, forget, corrected: (said) => correct(said) };

// One after the other: a second choice waits for the first.
let last = Promise.resolve();
onmessage = ({ data: { kind, ...more } }) => {
  last = last
    .then(() => answers[kind](more))
    .catch((error) => tell("fault", { text: error.message }));
};

async function open({ about: told, slot, part }) {
  about = told;
  identity = await Identity.load(slot);
  store = await Store.open(slot);
  runtime = await loadRuntime();
  pictures = new Pictures(store, about, part, runtime);
  const { pictures: kept = [], identified = false, ...rest } = (await store.site()) ?? {};
  Object.assign(site, rest);
  site.signing ??= await newSigningKeys().catch(() => null); // an older browser
  Object.assign(pictures, { all: kept, identified });
  await save();
}

async function choose({ chosen, keep }) {
  site.keep = keep;
  const leftOut = await pictures.choose(chosen, (done, of) => tell("choosing", { done, of }));
  tell("left-out", { reasons: leftOut });
  await save();
}

async function label({ at, labels }) {
  pictures.all[at].labels = labels;
  await save();
}

async function correct({ labels }) {
  pictures.all.forEach((one, at) => (one.labels = labels.slice(at * 40, (at + 1) * 40)));
  await save();
  corrected?.(labels);
}

async function start({ name, cohort, roster, ticket }) {
  await ended; // the node that it was before leaves first
  const own = roster ? await identityOf({ name, roster, keys: site.signing }) : null;
  if (ticket) await redeem(ticket);
  Object.assign(site, { name, cohort, roster, started: true });
  await save();
  stopping = new AbortController();
  const { signal } = stopping;
  const corrections = (predicted) => {
    tell("correct", { predicted });
    return new Promise((resolve, reject) => {
      corrected = resolve;
      signal.addEventListener("abort", () => reject(signal.reason));
    });
  };
  const onProgress = (event) => {
    signal.throwIfAborted(); // work ends where it would tell of itself
    tell("progress", { event });
  };
  const node = { minCohort: cohort, identity: own };
  const given = { name, pictures, runtime, about, corrections, onProgress, node, signal };
  const client = new Client(given);
  const onState = ({ error, ...state }) => tell("node", { ...state, error: error?.message });
  ended = new Node({ identity, flower: about.flwr, name, signal, onState })
    .run(async (message, run) => {
      const answer = await client.answer(message, run);
      if (pictures.part) show(); // those of this run
      return answer;
    })
    .catch(() => {}); // told as the node's last state
}

async function stop() {
  stopping?.abort();
  site.started = false;
  await save();
}

async function forget() {
  stopping?.abort();
  await ended;
  await Promise.all([identity.forget(), store.clear(), caches.delete("backbones")]);
  tell("forgotten");
}

/** Register this tab's key by a ticket, as `celeba-fl deploy local --browsers` gives one. */
async function redeem(ticket) {
  const body = JSON.stringify({ ticket, key: identity.openssh });
  const headers = { "Content-Type": "application/json" };
  const response = await fetch("/try/node", { method: "POST", headers, body });
  if (!response.ok) throw new Error((await response.json()).error);
}

/** Keep all but drawn faces, which are dealt anew, and pictures that are not to be kept. */
async function save() {
  const kept = pictures.part ? [] : pictures.all;
  const all = kept.map((one) => (site.keep ? one : { ...one, blob: null }));
  await store.save({ ...site, pictures: all, identified: pictures.identified });
  await show();
}

async function show() {
  const signing = site.signing ? await publicLine(site.signing) : "";
  const shown = pictures.all.map(({ file, labels, blob }) => ({ file, labels, blob }));
  tell("site", { ...site, signing, key: identity.openssh, pictures: shown });
}
