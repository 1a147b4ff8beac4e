"""Several runs on one page: differences to the first, paired on the same test images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from celeba_fl.common.files import write_bytes
from celeba_fl.evaluation.resampling import Scores, difference_intervals, intervals
from celeba_fl.report import plots
from celeba_fl.report.html import (
    NONE,
    UNKNOWN,
    Block,
    Cards,
    Cell,
    Page,
    Pictures,
    Table,
    between,
    build_section,
    difference,
    figure,
    named,
    sentence,
)
from celeba_fl.report.page import FOOTER, notes, title_of, written
from celeba_fl.report.plots import Album
from celeba_fl.report.reading import PARTS, Rows, Run, floats, name_of, rows_of
from celeba_fl.report.results import (
    gap_intervals,
    no_central_model,
    own_scores,
    reproduced,
)

# Keys that say where a run was, not what it was.
PLACES = ("home", "results-dir", "resume")


@dataclass(frozen=True)
class Model:
    """A column of the comparison: the model of a run, or a reference point.

    Parameters
    ----------
    name : str
        For people.
    values : Mapping[str, float]
        Its figures by metric.
    spread : Mapping[str, float]
        Standard deviations, where the figures are means over clients.
    scores : Scores or None
        On the test images, if they give these figures.
    """

    name: str
    values: Mapping[str, float]
    spread: Mapping[str, float]
    scores: Scores | None


def write_comparison(paths: Sequence[Path], out: Path) -> Path:
    """Write the page of several runs.

    Parameters
    ----------
    paths : Sequence[Path]
        Run directories; the others are compared to the first.
    out : Path
        The HTML file.

    Returns
    -------
    Path
        The HTML file.
    """
    runs = name_runs([Run.read(path) for path in paths])
    album = Album()
    parts: Mapping[str, Callable[[], Sequence[Block]]] = {
        "Runs": partial(overview, runs),
        "Results": partial(results, runs, album),
        "Seeds": partial(seeds, runs),
        "Learning curves": partial(curves, runs, album),
        "Attributes": partial(attributes, runs, album),
        "Groups": partial(groups, runs),
        "Clients": partial(clients, runs),
    }
    sections = [build_section(title, build) for title, build in parts.items()]
    page = Page(
        title=f"{len(runs)} runs compared",
        subtitle=f"Differences are to A, {title_of(next(iter(runs.values())))}",
        notes=_notes(runs),
        sections=[section for section in sections if section.blocks],
        footer=FOOTER,
    )
    write_bytes(out, page.render().encode())
    return out


def name_runs(runs: Sequence[Run]) -> dict[str, Run]:
    """A letter for each run, and what is special about it."""
    differing = differing_keys(runs)
    names = {}
    for i, run in enumerate(runs):
        config = run.info.config
        special = [_special(key, config[key]) for key in differing if key in config]
        letter = chr(ord("A") + i) if len(runs) <= 26 else str(i + 1)
        names[f"{letter}: {', '.join(special[:2]) or run.path.name[:19]}"] = run
    return names


def differing_keys(runs: Sequence[Run]) -> list[str]:
    """The run-config keys whose values are not the same in all runs."""
    configs = [run.info.config for run in runs]
    keys = dict.fromkeys(key for config in configs for key in config)
    return [
        key
        for key in keys
        if key not in PLACES and len({written(config.get(key)) for config in configs}) > 1
    ]


# ---- sections -----------------------------------------------------------------------------


def overview(runs: Mapping[str, Run]) -> list[Block]:
    """Which runs these are, and in what they differ."""
    header = ("", *runs)
    facts: list[tuple[str, Callable[[Run], str]]] = [
        ("folder", lambda run: run.path.name),
        ("status", lambda run: run.status),
        ("rounds", lambda run: str(max(run.last_round, 0))),
        ("clients", lambda run: str(run.info.num_clients or UNKNOWN)),
        ("dataset fingerprint", lambda run: str(run.info.dataset.get("fingerprint"))[:12]),
        ("weights sha256", lambda run: str(run.info.weights.get("sha256"))[:12]),
        ("code sha256", lambda run: str(run.info.code.get("sha256"))[:12]),
    ]
    rows = [(name, *(fact(run) for run in runs.values())) for name, fact in facts]
    keys = differing_keys(list(runs.values()))
    settings = [
        (key, *(written(run.info.config.get(key, UNKNOWN)) for run in runs.values()))
        for key in keys
    ]
    return [
        Table("Settings that differ", header, settings, words=True)
        if settings
        else "All settings are the same.",
        Table("The runs", header, rows, words=True),
    ]


def results(runs: Mapping[str, Run], album: Album) -> list[Block]:
    """The final figures, with differences to the first run and to its central model."""
    models = [*(_model(name, run) for name, run in runs.items()), *_references(runs)]
    first, metrics = models[0], plots.first_metrics(list(models[0].values), 6)
    if not metrics:
        return ["The first run has measured nothing yet, so there is nothing to compare."]
    rows = []
    forest: list[tuple[str, float, float, float]] = []
    for model in models:
        paired = _paired(first, model)
        cells: list[Cell] = []
        for metric in metrics:
            value = model.values.get(metric, float("nan"))
            less = value - first.values[metric]
            if model is first:
                own = intervals(first.scores.draws) if first.scores else {}
                cells.append((figure(value), between(*own.get(metric, NONE))))
            else:
                spread = f"± {figure(model.spread[metric])}" if metric in model.spread else ""
                bounds = between(*paired.get(metric, NONE), difference)
                cells.append((figure(value), spread, f"{difference(less)} to A", bounds))
        rows.append((model.name, *cells))
        if model is not first and metrics[0] in model.values:
            less = model.values[metrics[0]] - first.values[metrics[0]]
            forest.append((model.name, less, *paired.get(metrics[0], NONE)))
    where = ", ".join(dict.fromkeys(run.results().where for run in runs.values()))
    caption = f"Figures of {where}; below each its difference to A with the 95 % interval"
    blocks: list[Block] = (
        [_gaps(runs, metrics[0])] if any(r.baseline for r in runs.values()) else []
    )
    blocks += [Table(caption, ("model", *map(name_of, metrics)), rows)]
    blocks.append(_about_pairs(runs, models))
    if forest:
        said = "; ".join(f"{name} {difference(value)}" for name, value, *_ in forest)
        alt = f"Differences in {name_of(metrics[0])} to A: {said}."
        caption = f"Differences to {first.name}; bars are 95 % intervals where images are the same."
        draw = partial(plots.differences, forest, metrics[0])
        blocks.append(Pictures([album.add("differences", alt, caption, draw)]))
    return blocks


def _gaps(runs: Mapping[str, Run], metric: str) -> Cards:
    """How far each run is from the head trained centrally."""
    cards = []
    for name, run in runs.items():
        nothing = float("nan")
        central, own = run.reference("central"), run.results().values
        gap = own.get(metric, nothing) - central.get(metric, nothing)
        bounds = between(*gap_intervals(run).get(metric, NONE), difference)
        detail = f"{name_of(metric)} less that of the central model {bounds}"
        cards.append((name, difference(gap), detail if central else no_central_model(run)[0]))
    return Cards(cards)


def _model(name: str, run: Run) -> Model:
    return Model(name, run.results().values, {}, own_scores(run))


def _references(runs: Mapping[str, Run]) -> list[Model]:
    """The reference points of the runs; one that several have in common is shown once."""
    models: dict[str, Model] = {}
    owners: dict[str, str] = {}
    for name, run in runs.items():
        central, alone = run.reference("central"), run.reference("local", "mean")
        spread = run.reference("local", "std")
        for model in (
            Model("central model", central, {}, reproduced(run.central, central)),
            Model("each client alone", alone, spread, None),
        ):
            key = f"{model.name} {model.values}"
            models.setdefault(key, model)
            owners[key] = f"{owners.get(key, '')} {name.partition(':')[0]}"
    return [
        replace(model, name=f"{model.name},{owners[key]}")
        for key, model in models.items()
        if model.values
    ]


def _paired(first: Model, model: Model) -> dict[str, tuple[float, float]]:
    if not first.scores or not model.scores or not first.scores.pairs_with(model.scores):
        return {}
    return difference_intervals(first.scores, model.scores)


def _about_pairs(runs: Mapping[str, Run], models: Sequence[Model]) -> str:
    """Whether differences are paired, and if not why."""
    first = models[0]
    if first.scores is None:
        return f"{first.name} has no usable test_scores.parquet, so no difference has an interval."
    others = [model for model in models if model.name in runs and model is not first]
    missing = [model.name for model in others if model.scores is None]
    unlike = [m.name for m in others if m.scores and not first.scores.pairs_with(m.scores)]
    said = [
        f"Differences are paired on the same {len(first.scores.image):,} test images of "
        f"{first.scores.num_identities:,} people."
    ]
    if missing:
        said.append(f"Without test scores, thus without an interval: {'; '.join(missing)}.")
    if unlike:
        said.append(
            f"Judged on other test images than A, so that nothing can be paired and the difference "
            f"says little: {'; '.join(unlike)}."
        )
    return " ".join(said)


def seeds(runs: Mapping[str, Run]) -> list[Block]:
    """Mean and deviation over runs that differ by nothing but the seed."""
    alike: dict[str, list[tuple[str, Run]]] = {}
    for name, run in runs.items():
        config = {k: v for k, v in run.info.config.items() if k not in ("seed", *PLACES)}
        if config and run.info.summary:
            alike.setdefault(repr(sorted(config.items())), []).append((name, run))
    sets = [members for members in alike.values() if len(members) > 1]
    if not sets:
        return []
    metrics = plots.first_metrics(list(sets[0][0][1].results().values), 6)
    rows = []
    for members in sets:
        cells: list[Cell] = []
        for metric in metrics:
            found = [run.results().values.get(metric, float("nan")) for _, run in members]
            cells.append((figure(fmean(found)), f"± {figure(stdev(found))}"))
        rows.append((", ".join(name.partition(":")[0] for name, _ in members), *cells))
    caption = "Mean and sample standard deviation over runs that differ by their seed only"
    return [Table(caption, ("runs", *map(name_of, metrics)), rows)]


def curves(runs: Mapping[str, Run], album: Album) -> list[Block]:
    """Each metric by round, the runs laid over each other."""
    begun = {name: run for name, run in runs.items() if run.rounds}
    if not begun:
        return []
    names = dict.fromkeys(name for run in begun.values() for name in run.metric_names())
    chosen = [n for n in plots.first_metrics(list(names), 6) if n != "average_precision"][:4]
    pictures = []
    for metric in chosen:
        measured = any(row.get(f"test_{metric}") for run in begun.values() for row in run.rounds)
        part = "test" if measured else "valid"
        rows = {name: run.rounds for name, run in begun.items()}
        ends = [
            f"{name} {figure(floats(run.rounds[-1:], f'{part}_{metric}')[0])}"
            for name, run in begun.items()
        ]
        pictures.append(
            album.add(
                metric,
                f"Line chart of {name_of(metric)} by round; at the end {'; '.join(ends)}.",
                f"{sentence(name_of(metric))} by round, {PARTS[part]}.",
                partial(plots.compared_rounds, rows, part, metric),
            )
        )
    return [Pictures(pictures)]


def attributes(runs: Mapping[str, Run], album: Album) -> list[Block]:
    """Balanced accuracy and AUROC of every attribute, and what differs by how much."""
    rows = {name: rows_of(run.attributes) for name, run in runs.items()}
    known = {name: plots.by_prevalence(found) for name, found in rows.items() if found}
    if len(known) < 2:
        return []
    pictures = [
        album.add(
            metric,
            f"{sentence(name_of(metric))} of each attribute, one mark a run; the balanced "
            f"accuracies are in the table below.",
            f"{sentence(name_of(metric))} of each attribute on test, the most frequent first.",
            partial(plots.compared_attributes, known, metric),
        )
        for metric in ("balanced_accuracy", "auroc")
    ]
    return [Pictures(pictures), _attribute_table(runs, known)]


def _attribute_table(runs: Mapping[str, Run], known: Mapping[str, Rows]) -> Table:
    """Balanced accuracy by attribute, with the interval of the difference."""
    names = [row["attribute"] for row in next(iter(known.values()))]
    first = next(iter(known))
    cells: dict[str, list[Cell]] = {name: [] for name in names}
    for label, rows in known.items():
        values = dict(zip((r["attribute"] for r in rows), _balanced(rows), strict=True))
        bounds = {} if label == first else _attribute_bounds(runs[first], runs[label])
        base = dict(zip(names, _balanced(known[first]), strict=True))
        for name in names:
            value = values.get(name, float("nan"))
            small = "" if label == first else difference(value - base[name])
            small += f" {between(*bounds.get(name, NONE), difference)}"
            cells[name].append((figure(value), small.strip()))
    return Table(
        "Balanced accuracy of each attribute, and its difference to the first",
        ("attribute", *known),
        [(named(name), *row) for name, row in cells.items()],
        folded=True,
    )


def _attribute_bounds(one: Run, other: Run) -> dict[str, tuple[float, float]]:
    """Intervals of the differences in balanced accuracy, by attribute."""
    mine, theirs = own_scores(one), own_scores(other)
    if mine is None or theirs is None or not mine.pairs_with(theirs):
        return {}
    before, after = (scores.attribute_draws["balanced_accuracy"] for scores in (mine, theirs))
    return intervals(dict(zip(mine.attributes, (after - before).T, strict=True)))


def groups(runs: Mapping[str, Run]) -> list[Block]:
    """Rates of the groups side by side, then how far they are apart."""
    rates = {name: rows_of(run.groups) for name, run in runs.items() if rows_of(run.groups)}
    gaps = {name: rows_of(run.fairness) for name, run in runs.items() if rows_of(run.fairness)}
    blocks: list[Block] = []
    for rate in ("accuracy", "tpr"):
        names = dict.fromkeys(row["group"] for rows in rates.values() for row in rows)
        table = [
            (named(group), *(_mean_of(rows, "group", group, rate) for rows in rates.values()))
            for group in names
        ]
        if table:
            caption = f"{sentence(name_of(rate))} of each group on test, mean over the attributes"
            blocks.append(Table(caption, ("group", *rates), table))
    groupings = dict.fromkeys(row["grouping"] for rows in gaps.values() for row in rows)
    for gap in plots.GAPS if gaps else ():
        column = f"{gap}_difference"
        table = [
            (
                named(grouping),
                *(_mean_of(rows, "grouping", grouping, column) for rows in gaps.values()),
            )
            for grouping in groupings
        ]
        caption = (
            f"{sentence(name_of(column))} on test: mean over the attributes, below it the largest"
        )
        blocks.append(Table(caption, ("grouping", *gaps), table))
    return blocks


def clients(runs: Mapping[str, Run]) -> list[Block]:
    """How evenly the clients are served after the last round."""
    rows = []
    for name, run in runs.items():
        known = [row for row in run.clients if row.get("valid_loss")]
        last = max((int(row["round"]) for row in known), default=-1)
        ended = [row for row in known if int(row["round"]) == last]
        metric = "accuracy" if any(row.get("valid_accuracy") for row in ended) else "loss"
        values = floats(ended, f"valid_{metric}")
        values = values[~np.isnan(values)]
        if len(values):
            spread = np.quantile(values, (0, 0.1, 0.5, 0.9, 1))
            rows.append((name, name_of(metric), str(len(values)), *map(figure, spread)))
    header = ("run", "metric", "clients", "lowest", "10 %", "median", "90 %", "highest")
    caption = "Spread over the clients, on their own validation examples, after the last round"
    return [Table(caption, header, rows)] if rows else []


# ---- words --------------------------------------------------------------------------------


def _mean_of(rows: Rows, key: str, value: str, column: str) -> Cell:
    """Mean of a column over the attributes, and for differences the largest."""
    these = [row for row in rows if row[key] == value]
    values = floats(these, column)
    if np.isnan(values).all():
        return UNKNOWN
    mean = figure(float(np.nanmean(values)))
    if key == "group":
        return mean
    worst = these[int(np.nanargmax(values))]["attribute"]
    return mean, f"{figure(np.nanmax(values))} {named(worst)}"


def _balanced(rows: Rows) -> list[float]:
    return floats(rows, "balanced_accuracy").tolist()


def _notes(runs: Mapping[str, Run]) -> list[str]:
    """What holds for several runs is said once."""
    letters: dict[str, list[str]] = {}
    for name, run in runs.items():
        for note in notes(run):
            letters.setdefault(note, []).append(name.partition(":")[0])
    return [f"{', '.join(who)}: {note}" for note, who in letters.items()]


def _special(key: str, value: Any) -> str:
    """A setting in a name: a word speaks for itself, a number does not."""
    if isinstance(value, str) and value:
        return Path(value).name
    return f"{key}={written(value)}"
