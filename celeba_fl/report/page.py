"""The report of a run: `report.html` and `plots/*.png` in its directory, made from its files."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from celeba_fl.common.files import write_bytes
from celeba_fl.config import default_values, meanings
from celeba_fl.evaluation.resampling import FEW_IDENTITIES
from celeba_fl.report import plots
from celeba_fl.report.corrections import corrections
from celeba_fl.report.groups import groups
from celeba_fl.report.html import (
    UNKNOWN,
    Block,
    Page,
    Pictures,
    Table,
    build_section,
    figure,
    named,
    sentence,
)
from celeba_fl.report.plots import Album
from celeba_fl.report.reading import Run, floats, name_of, rows_of
from celeba_fl.report.results import results
from celeba_fl.report.samples import samples

FOOTER = (
    "Made by celeba-fl from the files of the run directory alone. Intervals are 95 %, by drawing "
    "the people of the test split, not their images, with replacement; an attribute that is "
    "undefined in a draw does not count in it. They say how much other people would change a "
    "figure, not what another seed would."
)


def write_report(path: Path) -> Path:
    """Write `report.html` and `plots/*.png` of a run directory, whatever state it is in.

    Parameters
    ----------
    path : Path
        The run directory.

    Returns
    -------
    Path
        The HTML file.
    """
    run = Run.read(path)
    album = Album(path / "plots")
    parts: Mapping[str, Callable[[], Sequence[Block]]] = {
        "Results": partial(results, run),
        "Learning curves": partial(curves, run, album),
        "Generated pictures": partial(samples, run, album),
        "Attributes": partial(attributes, run, album),
        "Before and after": partial(corrections, run, album),
        "Who holds which data": partial(partitions, run, album),
        "Groups": partial(groups, run, album),
        "Clients": partial(clients, run, album),
        "Settings": partial(settings, run),
        "What the figures rest on": partial(foundations, run),
    }
    sections = [build_section(title, build) for title, build in parts.items()]
    page = Page(
        title=title_of(run),
        subtitle=_subtitle(run),
        status=run.status,
        notes=notes(run),
        sections=[section for section in sections if section.blocks],
        footer=FOOTER,
    )
    write_bytes(path / "report.html", page.render().encode())
    return path / "report.html"


def title_of(run: Run) -> str:
    """What was learned on which data, dealt how to how many."""
    config = run.info.config
    if not config:
        return run.path.name
    dataset = Path(str(run.info.dataset.get("name", config.get("dataset")))).name
    clients = "" if run.info.num_clients is None else f", {run.info.num_clients} clients"
    return f"{config.get('task')} on {dataset}: {partitioning(config)}{clients}"


def partitioning(config: Mapping[str, Any]) -> str:
    """Who holds what, in a word or two."""
    alpha = f" (alpha {config.get('dirichlet-alpha')})"
    partitioner = str(config.get("partitioner"))
    return partitioner + (alpha if partitioner == "dirichlet" else "")


def notes(run: Run) -> list[str]:
    """What a reader must know before the first figure."""
    found = [f"{problem}." for problem in run.problems]
    if run.info.status not in ("completed", "stopped"):
        found.append(f"This run is {run.status}. What follows is what it has left so far.")
    drawn = {"dataset": "the faces are drawn", "weights": "the backbone knows only drawn faces"}
    what = [said for key, said in drawn.items() if getattr(run.info, key).get("name") == "drawn"]
    if what:
        who = sentence(" and ".join(what))
        found.append(f"{who}: these figures say nothing about photographs of people.")
    if run.scores and run.scores.num_identities < FEW_IDENTITIES:
        found.append(
            f"The test split shows {run.scores.num_identities} people. No claim about demographic "
            f"groups rests on so few, whatever the figures below are."
        )
    return found


def _subtitle(run: Run) -> str:
    config, started = run.info.config, run.info.started
    parts = [run.path.name]
    with suppress(ValueError):
        parts.append(f"started {datetime.fromisoformat(started):%Y-%m-%d %H:%M} UTC")
    if run.rounds:
        one = config.get("strategy") == "closed-form"
        rounds = 1 if one else config.get("num-server-rounds", "?")
        parts.append(f"{run.last_round} of {rounds} rounds")
    if run.info.seconds is not None:
        parts.append(seconds(run.info.seconds))
    return " · ".join(parts)


# ---- sections -----------------------------------------------------------------------------


def curves(run: Run, album: Album) -> list[Block]:
    """Each metric by round, and what the rounds cost."""
    if not run.rounds:
        return ["No round has been done yet."]
    metrics = plots.first_metrics(run.metric_names(), 6)
    chosen = [name for name in metrics if name != "average_precision"][:4]
    central = run.reference("central")
    pictures = []
    for name in chosen:
        lines = {"central model, test": central[name]} if name in central else {}
        majority = floats(run.rounds[-1:], "test_majority_accuracy")[0]
        if name == "accuracy" and majority == majority:
            lines["majority's answer, test"] = majority
        real = floats(run.rounds[-1:], f"test_real_{name}")[0]
        if real == real:
            lines["real to real, test to validation"] = real
        last = run.rounds[-1]
        ends = [
            f"{part} {figure(value)}"
            for part in ("train", "valid", "test")
            if (value := floats([last], f"{part}_{name}")[0]) == value
        ]
        pictures.append(
            album.add(
                f"rounds_{name}",
                f"Line chart of {name_of(name)} over {run.last_round} rounds; at the end "
                f"{', '.join(ends) or 'nothing'}.",
                f"{sentence(name_of(name))} by round; 0 is before training.",
                partial(plots.rounds, run.rounds, name, lines),
            )
        )
    return [Pictures(pictures), _cost(run)]


def _cost(run: Run) -> str:
    trained = [row for row in run.rounds if row["round"] != "0"]
    up, down = (floats(run.rounds, f"bytes_{way}").sum() / 1e6 for way in ("up", "down"))
    failures = np.nansum(floats(run.rounds, "failures"))
    time = np.median(floats(trained, "seconds")) if trained else float("nan")
    return (
        f"Over all rounds the clients sent {up:,.1f} MB and received {down:,.1f} MB; a round took "
        f"{time:.1f} s in the median; {failures:.0f} answers were left out as failed."
    )


def attributes(run: Run, album: Album) -> list[Block]:
    """Every attribute of the test split against what the majority's answer scores."""
    split = "test" if rows_of(run.attributes) else "valid"
    rows = plots.by_prevalence(rows_of(run.attributes, split))
    if not rows or not {"attribute", "accuracy", "balanced_accuracy"} <= rows[0].keys():
        return []
    accuracy, majority = floats(rows, "accuracy"), floats(rows, "majority_accuracy")
    balanced = floats(rows, "balanced_accuracy")
    better, blind = np.sum(accuracy > majority), np.sum(balanced < 0.55)
    text = (
        f"On the {split} split, accuracy is above the majority's for {better} of {len(rows)} "
        f"attributes; for {blind} balanced accuracy is below 0.55, so the model hardly tells "
        f"those with the attribute from those without. The most frequent attributes come first."
    )
    pictures = [
        album.add(
            "attributes",
            f"Bars of accuracy from the majority's accuracy for {len(rows)} attributes; {better} "
            f"are above it. The numbers are in the table below.",
            "Accuracy of each attribute, as a bar from the majority's answer.",
            partial(plots.attributes, rows),
        ),
        album.add(
            "attributes_balanced",
            f"Balanced accuracy and AUROC of {len(rows)} attributes against chance, 0.5; "
            f"{blind} have a balanced accuracy below 0.55. The numbers are in the table below.",
            "Balanced accuracy as a bar from 0.5, and AUROC as a diamond.",
            partial(plots.ranking, rows),
        ),
    ]
    measures = ("accuracy", "majority_accuracy", "balanced_accuracy", "f1", "auroc")
    columns = [key for key in (*measures, "average_precision") if key in rows[0]]
    table = Table(
        f"All figures of the {split} split",
        ("attribute", "images", "with it", *map(name_of, columns)),
        [
            (
                named(row["attribute"]),
                row["n"],
                row["positives"],
                *(figure(floats([row], key)[0]) for key in columns),
            )
            for row in rows
        ],
        folded=True,
    )
    return [text, Pictures(pictures), table]


def partitions(run: Run, album: Album) -> list[Block]:
    """How many examples each client holds, and of which groups."""
    rows = run.partitions
    if not rows:
        return ["The clients have not said yet what they hold."]
    sizes = floats(rows, "num_examples")
    text = (
        f"{len(rows)} clients hold {sizes.sum():,.0f} train examples: {sizes.min():.0f} the "
        f"smallest, {np.median(sizes):.0f} the median, {sizes.max():.0f} the largest."
    )
    if not sizes.all():
        text += f" {np.sum(sizes == 0)} hold none."
    names = [key for key in rows[0] if "=" in key]
    if names and sizes.any():
        counts = np.column_stack([floats(rows, name) for name in names])[sizes > 0]
        shares = counts / counts.sum(axis=1, keepdims=True)
        apart = np.abs(shares - counts.sum(axis=0) / counts.sum()).sum(axis=1) / 2
        moved = np.average(apart, weights=counts.sum(axis=1))
        text += (
            f" For every client to have the mix of groups of all together, {100 * moved:.0f} % of "
            f"the examples would have to change their group. {np.sum(shares.max(axis=1) == 1)} "
            f"clients know one group only."
        )
    pictures = [
        album.add(
            "partitions",
            f"Bar chart of the train examples of {len(rows)} clients"
            + (f", stacked by {len(names)} groups" if names else "")
            + f", from {sizes.min():.0f} to {sizes.max():.0f}.",
            "Train examples of each client" + (" by group." if names else "."),
            partial(plots.partitions, rows),
        )
    ]
    if names:
        pictures.append(
            album.add(
                "partitions_shares",
                f"Bar chart of the share of {len(names)} groups in each of {len(rows)} clients.",
                "Share of each group in a client's train examples.",
                partial(plots.partitions, rows, shares=True),
            )
        )
    return [text, Pictures(pictures)]


def clients(run: Run, album: Album) -> list[Block]:
    """How the last round served each client."""
    metric = "accuracy" if any(row.get("valid_accuracy") for row in run.clients) else "loss"
    known = [row for row in run.clients if row.get(f"valid_{metric}")]
    if not known:
        return []
    number = max(int(row["round"]) for row in known)
    rows = [row for row in known if int(row["round"]) == number]
    values = floats(rows, f"valid_{metric}")
    low, median, high = np.quantile(values, (0.1, 0.5, 0.9))
    worst = rows[int(values.argmin() if metric == "accuracy" else values.argmax())]
    worst_value = float(worst[f"valid_{metric}"])
    text = (
        f"After round {number}, on the own validation examples of {len(rows)} clients, "
        f"{metric} is {figure(median)} in the median, and between {figure(low)} and {figure(high)} "
        f"for the middle 80 %. Client {worst['client']} is served worst: {figure(worst_value)}, "
        f"with {worst['num_examples']} train examples. Small clients validate on few examples, "
        f"so part of the spread is chance."
    )
    pictures = [
        album.add(
            "clients",
            f"Scatter plot of validation {metric} over train examples of {len(rows)} clients, from "
            f"{figure(values.min())} to {figure(values.max())}.",
            f"Validation {metric} of each client after round {number}, over its size.",
            partial(plots.clients, rows, metric),
        ),
        album.add(
            "clients_rounds",
            f"Median, middle half and middle 80 % of the clients' validation {metric} by round; at "
            f"the end {figure(median)}, and {figure(low)} to {figure(high)}.",
            f"Validation {metric} over the clients by round.",
            partial(plots.client_spread, known, metric),
        ),
    ]
    return [text, Pictures(pictures)]


def settings(run: Run) -> list[Block]:
    """All run-config keys as used."""
    config = run.info.config
    if not config:
        return []
    defaults, explained = default_values(), meanings()
    changed = [key for key, value in config.items() if defaults.get(key) != value]
    rows = [(key, written(config[key]), explained.get(key, "")) for key in changed]
    same = [(k, written(v), explained.get(k, "")) for k, v in config.items() if k not in changed]
    header = ("key", "value", "meaning")
    return [
        Table("Settings that are not the defaults", header, rows, words=True),
        Table("Settings that are the defaults", header, same, folded=True, words=True),
    ]


def foundations(run: Run) -> list[Block]:
    """Data, weights, seed and versions."""
    dataset, weights = run.info.dataset, run.info.weights
    code, splits = run.info.code, dataset.get("splits")
    sizes = splits.items() if isinstance(splits, dict) else ()
    rows = [
        ("dataset", str(dataset.get("name", UNKNOWN))),
        ("fingerprint", str(dataset.get("fingerprint", UNKNOWN))),
        ("examples", ", ".join(f"{name} {size:,}" for name, size in sizes) or UNKNOWN),
        ("people in test", str(run.scores.num_identities) if run.scores else UNKNOWN),
        ("backbone weights", str(weights.get("name", UNKNOWN))),
        ("their sha256", str(weights.get("sha256", UNKNOWN))),
        ("seed", str(UNKNOWN if run.info.seed is None else run.info.seed)),
        ("code", f"{code.get('version', UNKNOWN)}, sha256 {code.get('sha256', UNKNOWN)}"),
        ("versions", ", ".join(f"{k} {v}" for k, v in run.info.packages.items())),
        ("run directory", str(run.path)),
    ]
    return [Table("Where the figures come from", ("what", "which"), rows, words=True)]


# ---- words --------------------------------------------------------------------------------


def seconds(value: float) -> str:
    """A duration for people."""
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


def written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "empty" if value == "" else str(value)
