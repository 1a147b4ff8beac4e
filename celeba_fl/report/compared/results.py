"""The figures of the runs and of their reference points, as differences to the first run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

import numpy as np

from celeba_fl.config import places
from celeba_fl.evaluation.resampling import Scores, intervals
from celeba_fl.report.html import Block, Cards, Cell, Picture, Pictures, Table
from celeba_fl.report.names import first_metrics, name_of
from celeba_fl.report.pictures.attributes import differences
from celeba_fl.report.reading import Run
from celeba_fl.report.rules import rule_of
from celeba_fl.report.sections.privacy import public_alone
from celeba_fl.report.sections.results import (
    CROSS_VALIDATION,
    gap_intervals,
    no_central_model,
    own_scores,
    paired_intervals,
    reproduced,
)
from celeba_fl.report.words import NONE, between, difference, figure


@dataclass(frozen=True)
class Model:
    """A row of the comparison: the model of a run, or a reference point.

    There are standard deviations (`spread`) where the figures are means over clients, and scores
    of the test images if they give these figures.
    """

    name: str
    values: Mapping[str, float]
    spread: Mapping[str, float]
    scores: Scores | None


@dataclass(frozen=True)
class Figure:
    """A figure of a model, and how it stands to the first run's; NaN where nothing is known.

    The first run's has its 95 % interval; another's has that of the difference.
    """

    value: float
    low: float
    high: float
    spread: float
    difference: float
    difference_low: float
    difference_high: float


def models_of(runs: Mapping[str, Run]) -> list[Model]:
    """The rows of the comparison: the runs, then their reference points."""
    own = [Model(name, run.results().values, {}, own_scores(run)) for name, run in runs.items()]
    return own + _references(runs)


def figures_of(models: Sequence[Model]) -> list[tuple[str, dict[str, Figure]]]:
    """The name of each model, and its figures by metric: those that the first one leads with."""
    first = models[0]
    rows = []
    for model in models:
        own = intervals(first.scores) if model is first and first.scores else {}
        bounds = {} if model is first else paired_intervals(first.scores, model.scores)
        figures = {}
        for metric in first_metrics(list(first.values), 6):
            value = model.values.get(metric, np.nan)
            less = np.nan if model is first else value - first.values[metric]
            spread = model.spread.get(metric, np.nan)
            ends = own.get(metric, NONE), bounds.get(metric, NONE)
            figures[metric] = Figure(value, *ends[0], spread, less, *ends[1])
        rows.append((model.name, figures))
    return rows


def results(runs: Mapping[str, Run]) -> list[Block]:
    """The final figures, with differences to the first run and to its central model."""
    models = models_of(runs)
    figures = figures_of(models)
    metrics = list(figures[0][1])
    if not metrics:
        return ["The first run has no figures yet, so there is nothing to compare."]
    rows = [
        (name, *(_cell(one, name == models[0].name) for one in of.values())) for name, of in figures
    ]
    where = ", ".join(dict.fromkeys(run.results().where for run in runs.values()))
    caption = f"Figures of {where}; below each its difference to A with the 95 % interval"
    blocks: list[Block] = []
    if any(run.baseline for run in runs.values()):
        blocks += _gaps(runs, metrics[0])
    blocks += [Table(caption, ("model", *map(name_of, metrics)), rows), _about_pairs(runs, models)]
    blocks += _rules(runs)
    forest = [
        (name, one.difference, one.difference_low, one.difference_high)
        for name, one in ((name, of[metrics[0]]) for name, of in figures)
        if one.difference == one.difference
    ]
    if forest:
        values = "; ".join(f"{name} {difference(value)}" for name, value, *_ in forest)
        alt = f"Differences in {name_of(metrics[0])} to A: {values}."
        caption = (
            f"Differences to {models[0].name}; bars are 95 % intervals where images are the same."
        )
        chart = differences(forest, metrics[0])
        blocks.append(Pictures([Picture("differences", alt, caption, chart)]))
    return blocks


def _cell(one: Figure, first: bool) -> Cell:
    if first:
        return figure(one.value), between(one.low, one.high)
    spread = "" if one.spread != one.spread else f"± {figure(one.spread)}"
    bounds = between(one.difference_low, one.difference_high, difference)
    return figure(one.value), spread, f"{difference(one.difference)} to A", bounds


def _gaps(runs: Mapping[str, Run], metric: str) -> list[Block]:
    """How far each run is from the head trained centrally, and why some have none."""
    cards, missing = [], []
    for name, run in runs.items():
        central, own = run.reference("central"), run.results().values
        gap = own.get(metric, np.nan) - central.get(metric, np.nan)
        bounds = between(*gap_intervals(run).get(metric, NONE), difference)
        detail = f"{name_of(metric)} less that of the central model {bounds}"
        if central:
            cards.append((name, difference(gap), detail))
        else:
            missing.append(f"{name.partition(':')[0]} {no_central_model(run)[0]}")
    why = [f"The central model is missing: of {'; of '.join(missing)}."] if missing else []
    return [Cards(cards), *why]


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
            Model("public images alone", public_alone(run), {}, None),
        ):
            key = f"{model.name} {model.values}"
            models.setdefault(key, model)
            owners[key] = f"{owners.get(key, '')} {name.partition(':')[0]}"
    return [
        replace(model, name=f"{model.name},{owners[key]}")
        for key, model in models.items()
        if model.values
    ]


def _rules(runs: Mapping[str, Run]) -> list[Block]:
    """At which thresholds the runs are judged; where those differ, figures of all at 0."""
    judged = {name: run for name, run in runs.items() if "auroc" in run.results().values}
    rules: dict[str, str] = {}
    for name, run in judged.items():
        rule = rule_of(run.info.config) if run.info.summary else "at threshold 0"
        rules[rule] = f"{rules.get(rule, '')} {name.partition(':')[0]}"
    if len(rules) < 2:
        return []
    listed = "; ".join(f"{names.strip()} {rule}" for rule, names in rules.items())
    scores = {name: run.scores for name, run in judged.items() if own_scores(run)}
    text = (
        f"The runs are not judged by one rule: {listed}. How they differ in accuracy, balanced "
        f"accuracy and F1 above is a matter of their thresholds too; below, all stand at 0."
    )
    metrics = ("accuracy", "balanced_accuracy", "macro_f1")
    at_zero = [
        (name, *(figure(replace(of, thresholds=None).values[metric]) for metric in metrics))
        for name, of in scores.items()
        if of
    ]
    header = ("run", *map(name_of, metrics))
    return [text, Table("The same models, all at threshold 0", header, at_zero)]


def _about_pairs(runs: Mapping[str, Run], models: Sequence[Model]) -> str:
    """Whether differences are paired, and if not why."""
    first = models[0]
    if first.scores is None:
        return f"{first.name} has no usable test_scores.parquet, so no difference has an interval."
    others = [model for model in models if model.name in runs and model is not first]
    missing = [model.name for model in others if model.scores is None]
    unlike = [m.name for m in others if m.scores and not first.scores.pairs_with(m.scores)]
    text = (
        f"Differences are paired on the same {len(first.scores.image):,} test images of "
        f"{first.scores.num_identities:,} people. One split of people carries no claim about "
        f"methods, for other people may turn it round: that takes {CROSS_VALIDATION}."
    )
    if missing:
        text += f" Without test scores, hence without an interval: {'; '.join(missing)}."
    if unlike:
        text += (
            f" Measured on other test images than A, so that nothing can be paired and the "
            f"difference says little: {'; '.join(unlike)}."
        )
    return text


def seeds(runs: Mapping[str, Run]) -> list[Block]:
    """Mean and standard deviation over runs that differ by the seed only."""
    alike: dict[str, dict[object, list[str]]] = {}
    for name, run in runs.items():
        config = {k: v for k, v in run.info.config.items() if k not in ("seed", *places())}
        if config and run.info.summary:
            of_seed = alike.setdefault(repr(sorted(config.items())), {})
            of_seed.setdefault(run.info.config.get("seed"), []).append(name)
    blocks: list[Block] = [
        # A repeat of a seed is no other seed: it would make the deviation look small.
        f"{_letters(again[1:])} repeat{'s' if len(again) == 2 else ''} {_letters(again[:1])}, with "
        f"the same settings and the same seed, so only {_letters(again[:1])} counts as a seed."
        for of_seed in alike.values()
        for again in of_seed.values()
        if len(again) > 1
    ]
    sets = [[names[0] for names in one.values()] for one in alike.values() if len(one) > 1]
    if not sets:
        return blocks
    metrics = first_metrics(list(runs[sets[0][0]].results().values), 6)
    rows = []
    for members in sets:
        cells: list[Cell] = []
        for metric in metrics:
            values = [runs[name].results().values.get(metric, np.nan) for name in members]
            cells.append((figure(fmean(values)), f"± {figure(stdev(values))}"))
        rows.append((_letters(members), *cells))
    caption = (
        "Mean and sample standard deviation over runs that differ by their seed only: how far the "
        "seed moves a figure, not how far other people would"
    )
    return [Table(caption, ("runs", *map(name_of, metrics)), rows), *blocks]


def _letters(names: Sequence[str]) -> str:
    return ", ".join(name.partition(":")[0] for name in names)
