/**
 * The page: shows what the Worker says, and tells it what the person does. All of the work, and all
 * that is sent to the federation, is in worker.js.
 *
 * Parameters of the address: `try=k/of` for a part of drawn faces instead of own pictures, `name`,
 * `ticket` by which a try is registered, and `start=1` to begin without a press of a button.
 */

import { at } from "./ui/dom.js";
import { Labeller } from "./ui/labeller.js";
import { Progress } from "./ui/progress.js";
import * as setup from "./ui/setup.js";

const address = new URLSearchParams(location.search);
const [, k, of] = /^(\d+)\/(\d+)$/.exec(address.get("try") ?? "") ?? [];
const part = of ? { k: Number(k), of: Number(of) } : null;

const about = await fetch("/about.json")
  .then((answer) => answer.json())
  .catch((error) => {
    at("faults").textContent =
      `This page's server does not answer (${error.message}). Reload the page once it is there.`;
    throw error;
  });
const worker = new Worker("worker.js", { type: "module" });
const tell = (kind, more = {}) => worker.postMessage({ kind, ...more });
const progress = new Progress(about.attributes);
const labeller = new Labeller(
  about.attributes,
  (place, labels) => tell("label", { at: place, labels }),
  (labels) => (correcting ? correct(labels) : show()),
);
let [site, correcting, farewell, awake] = [null, false, null, null];

const heard = {
  site: (told) => {
    const first = !site;
    site = told;
    at("key").textContent = site.key;
    at("register").textContent = about.register.replace("{key}", site.key);
    if (first && address.get("name")) at("name").value = address.get("name");
    if (first && (site.started || address.get("start") === "1")) {
      start({ name: site.name || at("name").value, cohort: site.cohort, roster: site.roster });
    }
    show();
  },
  choosing: ({ done, of: all }) => {
    at("faults").replaceChildren();
    at("pictures").textContent = `Looking at the pictures: ${done} of ${all}`;
  },
  "left-out": ({ reasons }) => setup.showLeftOut(reasons),
  node: (told) => {
    farewell = told.farewell ?? null;
    progress.node(told);
    keepAwake(told.state === "working");
  },
  progress: ({ event }) => progress.client(event),
  correct: ({ predicted }) => {
    correcting = true;
    progress.correct(predicted);
    labeller.open(site.pictures, predicted);
  },
  fault: ({ text }) => fault(text),
  forgotten: () => {
    progress.state = ""; // nothing is lost by leaving
    location.assign(location.pathname);
  },
};

worker.onmessage = ({ data: { kind, ...told } }) => heard[kind](told);
worker.onerror = ({ message }) => fault(`The page cannot work in this browser: ${message ?? "?"}`);

function show() {
  at("setup").hidden = site.started || !at("labelling").hidden;
  at("running").hidden = !site.started;
  at("again").textContent =
    site.pictures.every(({ blob }) => blob) && (site.keep || part)
      ? ""
      : "Pictures that it has not worked with yet have to be chosen again.";
  setup.show(site, part);
}

function start({ name, cohort, roster }) {
  const ticket = address.get("ticket");
  progress.reset();
  progress.node({ state: "registering" });
  tell("start", { name, cohort, roster, ticket });
  at("faults").replaceChildren();
}

function correct(labels) {
  correcting = false;
  tell("corrected", { labels });
  show();
  at("running-title").focus();
}

function fault(text) {
  const line = document.createElement("p");
  line.textContent = text;
  at("faults").replaceChildren(line);
  if (site) show();
}

/** Keep a phone's screen on while there is work, where the browser can. */
async function keepAwake(working) {
  if (working && !awake && !document.hidden)
    awake = await navigator.wakeLock?.request("screen").catch(() => null);
  else if (!working && awake) awake = void awake.release();
}

setup.listen(
  tell,
  () => {
    at("setup").hidden = true;
    labeller.open(site.pictures, null);
  },
  (chosen) => {
    start(chosen);
    at("running").hidden = false;
    at("running-title").focus();
  },
);
at("stop").addEventListener("click", () => {
  tell("stop");
  [site.started, correcting] = [false, false];
  at("labelling").hidden = true;
  show();
  at("name").focus();
});
at("forget").addEventListener("click", () => tell("forget"));
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(at(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}
addEventListener("beforeunload", (event) => {
  if (progress.state === "working") event.preventDefault();
});
addEventListener("pagehide", () => {
  if (farewell) fetch(farewell.url, { method: "POST", ...farewell, keepalive: true });
});

at("address").textContent = about.address;
at("version").textContent = `celeba_fl ${about.celeba_fl}, Flower ${about.flwr}.`;
setup.showEstimate(about);
tell("open", { about, slot: address.get("name") ?? "site", part });
