"""The tables of a finished run: every attribute on every split, and in every group."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from celeba_fl.common.arrays import Arrays, Floats
from celeba_fl.evaluation import fairness, group_tables
from celeba_fl.evaluation.answers import Answers
from celeba_fl.evaluation.calibration import BANDS, Reliability
from celeba_fl.evaluation.corrections import teacher_rows
from celeba_fl.evaluation.curves import ExactCurves
from celeba_fl.evaluation.intervals import Ends, Estimate, ratio_moments
from celeba_fl.evaluation.metrics import (
    METRICS,
    RANKED,
    Counts,
    Curves,
    Rows,
    means,
    ratio,
    rows_of,
)
from celeba_fl.evaluation.resampling import Scores, attribute_intervals

# What a summary says at threshold 0, too, where thresholds are others.
AT_THRESHOLDS = [
    metric for metric in METRICS if metric.name in ("accuracy", "balanced_accuracy", "macro_f1")
]
# Written even without a row.
FILES = ("attributes.csv", "calibration.csv", "groups.csv", "fairness.csv")


def final_tables(
    clients: Mapping[str, Arrays],
    test: Scores | None,
    answers: Answers,
    base_rates: Floats | float,
    attributes: Sequence[str],
    groupings: Sequence[tuple[str, ...]],
    each: Iterable[Mapping[str, Arrays]] = (),
) -> tuple[dict[str, float], dict[str, Rows]]:
    """Judge a finished model: means of the test metrics by name, and rows by CSV file.

    Where thresholds are not 0, there are figures at 0 besides, such as ``accuracy_at_0``.

    `clients` are the summed counts of clients by part, of scores that are not calibrated yet:
    `Counts`, and if they are there those of `fairness.count_groups` and
    `corrections.count_answers`. `test` has calibrated scores. `base_rates` are those of `Counts`.
    `each` are the counts of every client by part, where nobody is with two clients: then the
    clients show how sure a rate is.
    """
    tables: dict[str, Rows] = {name: [] for name in FILES}
    summary: dict[str, float] = {}

    def add(*rows: Rows) -> None:
        for name, more in zip(FILES, rows, strict=False):
            tables[name] += more

    moments = group_tables.client_moments(each, answers.judge)
    for part, total in clients.items():
        judged = answers.judge(Counts.from_arrays(total, base_rates))
        groups: tuple[Rows, Rows] = ([], [])
        if "group_positives" in total:
            grouped = answers.judge(fairness.grouped_counts(total))
            of_clients = grouped, attributes, groupings, moments.get(part)
            groups = group_tables.compare_clients(part, *of_clients)
        rows = attribute_rows(part, attributes, judged, judged)
        add(rows, calibration_rows(part, attributes, judged.reliability), *groups)
        if "teacher_asked" in total:
            tables["teacher.csv"] = teacher_rows(part, total, attributes)
    if test is not None:
        counts = Counts.of(test.scores, test.labels, answers.thresholds)
        counts = replace(counts, base_rates=base_rates)
        curves = ExactCurves(test.scores, test.labels)
        summary = means(counts, curves, METRICS)
        if answers.thresholds.any():
            at_zero = means(Counts.of(test.scores, test.labels), curves, AT_THRESHOLDS)
            summary |= {f"{name}_at_0": value for name, value in at_zero.items()}
        yes, people = test.scores > answers.thresholds, test.celeb_id
        own = [
            Reliability.of(test.scores[i], test.labels[i], ~test.labels[i])
            for i in (np.flatnonzero(people == person) for person in np.unique(people))
        ]
        values = {metric.name: metric.values(counts, curves) for metric in RANKED}
        sure = attribute_intervals(replace(test, thresholds=answers.thresholds), values)
        add(
            attribute_rows("test", attributes, counts, curves, sure),
            calibration_rows("test", attributes, curves.reliability, own),
            *group_tables.compare_test(yes, test.labels, people, attributes, groupings),
        )
    return summary, tables


def calibration_rows(
    split: str, attributes: Sequence[str], bands: Reliability, people: Sequence[Reliability] = ()
) -> Rows:
    """Rows of `calibration.csv`: for all attributes together, whose name is empty, and for each.

    Bands without examples are left out. There are intervals where each person's are at hand.
    """

    def all_and_each(values: Floats) -> Floats:
        return np.concatenate([values.sum(axis=-2, keepdims=True), values], axis=-2)

    n, positives = all_and_each(bands.n), all_and_each(bands.positives)
    low = high = np.full(n.shape, np.nan)
    if people:
        part, whole = (np.stack([getattr(of, key) for of in people]) for key in ("positives", "n"))
        moments = ratio_moments(all_and_each(part), all_and_each(whole)).sum(axis=0)
        low, high = Estimate.of_ratio(moments).share_interval()
    columns = {
        "predicted": ratio(all_and_each(bands.predicted), n),
        "observed": ratio(positives, n),
        **{"observed_low": low, "observed_high": high},
    }
    return [
        {"split": split, "attribute": name, "band": band / BANDS}
        | {"n": int(n[i, band]), "positives": int(positives[i, band])}
        | {key: column[i, band] for key, column in columns.items()}
        for i, name in enumerate(("", *attributes))
        for band in np.flatnonzero(n[i]).tolist()
    ]


def attribute_rows(
    split: str,
    attributes: Sequence[str],
    counts: Counts,
    curves: Curves,
    intervals: Mapping[str, Ends] | None = None,
) -> Rows:
    """Rows of `attributes.csv` for one split, from counts at the thresholds of the run.

    `curves` are the exact ones, or `counts` where there are only counts; `intervals` are those of
    metrics by name, where people are known.
    """
    unknown = np.full(counts.n.shape, np.nan)
    columns: dict[str, np.ndarray] = {"n": counts.n, "positives": counts.p}
    # The reference comes before what is to be compared with it.
    for metric in sorted(METRICS, key=lambda metric: metric.rank is not None):
        columns[metric.column] = metric.values(counts, curves)
        if metric.error:
            columns[f"{metric.column}_error"] = metric.error(curves)
    columns["threshold"] = counts.thresholds
    for metric in RANKED:
        low, high = (intervals or {}).get(metric.name, (unknown, unknown))
        columns |= {f"{metric.column}_low": low, f"{metric.column}_high": high}
    return rows_of(columns, attributes, split=split)
