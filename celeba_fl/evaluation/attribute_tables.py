"""The tables of a finished run: every attribute on every split, and in every group."""

from collections.abc import Mapping, Sequence

import numpy as np

from celeba_fl.common.arrays import Arrays, Floats
from celeba_fl.evaluation import fairness
from celeba_fl.evaluation.corrections import teacher_rows
from celeba_fl.evaluation.curves import ExactCurves
from celeba_fl.evaluation.metrics import METRICS, Counts, Curves, Rows, means, rows_of
from celeba_fl.evaluation.resampling import Scores

# Written even without a row.
FILES = ("attributes.csv", "groups.csv", "fairness.csv")


def final_tables(
    clients: Mapping[str, Arrays],
    test: Scores | None,
    thresholds: Floats,
    attributes: Sequence[str],
    groupings: Sequence[tuple[str, ...]],
) -> tuple[dict[str, float], dict[str, Rows]]:
    """Judge a finished model: means of the test metrics by name, and rows by CSV file.

    `clients` are the summed counts of clients by part: `Counts`, and if they are there those of
    `fairness.count_groups` and `corrections.count_answers`. `thresholds`, (attributes,) out of
    `EDGES`, are scores above which an attribute is predicted.
    """
    tables: dict[str, Rows] = {name: [] for name in FILES}
    summary: dict[str, float] = {}

    def add(rows: Rows, groups: tuple[Rows, Rows] = ([], [])) -> None:
        for name, more in zip(FILES, (rows, *groups), strict=True):
            tables[name] += more

    for part, total in clients.items():
        judged = Counts.from_arrays(total).at(thresholds)
        add(attribute_rows(part, attributes, judged, judged))
        if "group_positives" in total:
            grouped = fairness.grouped_counts(total).at(thresholds)
            add([], fairness.compare_clients(part, grouped, attributes, groupings))
        if "teacher_asked" in total:
            tables["teacher.csv"] = teacher_rows(part, total, attributes)
    if test is not None:
        counts = Counts.of(test.scores, test.labels).at(thresholds)
        curves = ExactCurves(test.scores, test.labels)
        summary = means(counts, curves, METRICS)
        yes, people = test.scores > thresholds, test.celeb_id
        groups = fairness.compare_test(yes, test.labels, people, attributes, groupings)
        add(attribute_rows("test", attributes, counts, curves), groups)
    return summary, tables


def attribute_rows(split: str, attributes: Sequence[str], counts: Counts, curves: Curves) -> Rows:
    """Rows of `attributes.csv` for one split, from counts at the thresholds of the run.

    `curves` are the exact ones, or `counts` where there are only counts.
    """
    columns: dict[str, np.ndarray] = {"n": counts.n, "positives": counts.p}
    # The reference comes before what is to be compared with it.
    for metric in sorted(METRICS, key=lambda metric: metric.rank is not None):
        if metric.each_attribute:
            columns[metric.column] = metric.values(counts, curves)
            if metric.error:
                columns[f"{metric.column}_error"] = metric.error(curves)
    columns["threshold"] = counts.thresholds
    return rows_of(columns, attributes, split=split)
