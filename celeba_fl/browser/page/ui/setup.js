/** The first four steps: a name, pictures, labels, and what will leave the tab. */

import { bytes, estimate } from "../site/estimate.js";
import { nameFault } from "../site/names.js";
import { at, counted, make, table } from "./dom.js";

const SHOWN = 60; // pictures as thumbnails

/** Listen to what the person does; `tell` speaks to the Worker, `label` opens the labelling. */
export function listen(tell, label, started) {
  at("folder-choice").hidden = !("webkitdirectory" in at("folder"));
  for (const id of ["files", "folder"]) {
    at(id).addEventListener("change", ({ target }) => {
      const chosen = [...target.files].map((file) => ({ path: below(file), file }));
      if (chosen.length) tell("choose", { chosen, keep: at("keep").checked });
      target.value = ""; // so that the same choice counts again
    });
  }
  at("name").addEventListener("input", () => {
    showNameFault("");
    showLine();
  });
  at("label").addEventListener("click", label);
  at("cohort").addEventListener("input", () => (at("sums").checked = true));
  at("setup").addEventListener("submit", (event) => {
    event.preventDefault();
    const [name, cohort] = [at("name").value, Number(at("cohort").value)];
    const wrong = nameFault(name);
    showNameFault(wrong);
    if (wrong) return at("name").focus();
    const least = at("sums").checked;
    if (least && !(Number.isInteger(cohort) && cohort > 1)) {
      at("start-fault").textContent = "The number of sites should be 2 or more.";
      return at("cohort").focus();
    }
    started({ name, cohort: least ? cohort : 0, roster: at("roster").value.trim() });
  });
}

function showNameFault(wrong) {
  at("name-fault").textContent = wrong;
  at("name").setAttribute("aria-invalid", Boolean(wrong));
}

/** Show the site as the Worker has it. */
export function show(site, part) {
  const { pictures } = site;
  const labelled = pictures.filter(({ labels }) => labels).length;
  const lacking = pictures.filter(({ blob }) => !blob).length;
  at("own").hidden = Boolean(part);
  at("keep").checked ||= site.keep;
  at("labels").hidden = !pictures.length || Boolean(part);
  at("leaves").hidden = !pictures.length && !part;
  if (!at("name").value) at("name").value = site.name;
  if (!at("roster").value) at("roster").value = site.roster;
  at("roster-details").hidden = !site.signing;
  at("signing").dataset.key = site.signing;
  showLine();
  at("pictures").textContent = part
    ? `This is a try: the tab is handed part ${part.k + 1} of ${part.of} of drawn faces, which ` +
      "show nobody, as soon as a run begins."
    : lacking
      ? `${counted(pictures.length, "picture")} of last time. Their labels are kept, the ` +
        "pictures are not: choose them again, unless this site has already worked with them."
      : pictures.length
        ? `${counted(pictures.length, "picture")} chosen.`
        : "None chosen yet.";
  at("labels-state").textContent =
    labelled === pictures.length
      ? `All ${counted(labelled, "picture")} are labelled.`
      : `${labelled} of ${counted(pictures.length, "picture")} are labelled. You can label them ` +
        "now; or start at once, and if the federation asks for corrections, its model makes a " +
        "first guess for each picture and you only mend what is wrong. Where it does not ask, " +
        "only labelled pictures take part.";
  at("label").textContent = labelled ? "Go through the labels" : "Label the pictures";
  at("label").disabled = lacking > 0;
  thumbnails(pictures);
}

/** The line of this site in a roster. */
function showLine() {
  const name = JSON.stringify(at("name").value || "the name of this site");
  at("signing").textContent = `${name} = "${at("signing").dataset.key}"`;
}

/** Why some of the chosen files are not used. */
export function showLeftOut(reasons) {
  const details = at("left-out");
  details.hidden = !reasons.length;
  details.firstElementChild.textContent = `${counted(reasons.length, "file")} left out`;
  const items = reasons.slice(0, 200).map((why) => make("li", {}, why));
  details.lastElementChild.replaceChildren(...items);
}

/** What leaves the tab, to whom, by the way in which the federation learns. */
export function showEstimate({ view, keys, address }) {
  const { roll, averaging, closed, end } = estimate(view.dim, keys.groupings.default);
  const row = (what, detail, { sent, masked }) => {
    const about = make("span", {}, what, make("small", {}, detail));
    return [about, bytes(sent), bytes(masked)];
  };
  at("estimate").replaceChildren(
    make(
      "p",
      {},
      "No picture leaves the tab, nor the name of a file. What does goes to ",
      make("strong", {}, address),
      ", and is made of your pictures:",
    ),
    table(
      "Bytes that this tab sends",
      ["What", "As it is", "Hidden in a sum"],
      [
        row(
          "When a run begins",
          "this site\u2019s name, how many pictures show each attribute, and " +
            "sums of their features",
          roll,
        ),
        row(
          "Each round, if it averages",
          "the trained numbers of one layer, their loss, and how " + "many pictures score how high",
          averaging,
        ),
        row(
          "Or once, if it solves",
          "sums of products of features and labels, and how many " + "pictures score how high",
          closed,
        ),
        row("When a run ends", "how many pictures of each group of people score how high", end),
      ],
      true,
    ),
    make(
      "p",
      {},
      "From the numbers of few pictures, whoever runs the federation could learn what " +
        "these are like. Hidden in a sum, they read only what several sites have together. " +
        "Which way a run goes is shown here as soon as it begins.",
    ),
  );
}

/** The path of a file below the folder that was chosen; its name if it was chosen by itself. */
function below(file) {
  return file.webkitRelativePath.split("/").slice(1).join("/") || file.name;
}

const urls = new Map(); // an address for each Blob that is shown

/** The address under which an <img> shows a Blob. */
export function address(blob) {
  if (!urls.has(blob)) urls.set(blob, URL.createObjectURL(blob));
  return urls.get(blob);
}

function thumbnails(pictures) {
  const kept = new Set(pictures.map(({ blob }) => blob));
  for (const [blob, url] of urls) {
    if (!kept.has(blob)) {
      URL.revokeObjectURL(url);
      urls.delete(blob);
    }
  }
  const shown = pictures.filter(({ blob }) => blob).slice(0, SHOWN);
  at("thumbnails").replaceChildren(
    ...shown.map(({ file, labels, blob }) => {
      const alt = `${file}, ${labels ? "labelled" : "not labelled"}`;
      return make("li", labels ? { class: "done" } : {}, make("img", { src: address(blob), alt }));
    }),
  );
}
