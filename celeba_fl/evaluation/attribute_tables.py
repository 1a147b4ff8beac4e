"""Rows of `attributes.csv`: every metric of every attribute on every split."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from celeba_fl.evaluation.curves import Curves
from celeba_fl.evaluation.metrics import METRICS, Counts


def attribute_rows(
    split: str, attributes: Sequence[str], counts: Counts, curves: Curves
) -> list[dict[str, Any]]:
    """Rows of one split.

    Parameters
    ----------
    split : str
        Its name.
    attributes : Sequence[str]
        Their names.
    counts : Counts
        Of its examples, at the thresholds of the run.
    curves : Curves
        The exact curves, or `counts` where there are but counts.
    """
    columns: dict[str, np.ndarray] = {"n": counts.n, "positives": counts.p}
    # The reference comes before what is to be compared with it.
    for metric in sorted(METRICS, key=lambda metric: metric.rank is not None):
        if metric.each_attribute:
            columns[metric.column] = metric.values(counts, curves)
            if metric.error:
                columns[f"{metric.column}_error"] = metric.error(curves)
    columns["threshold"] = counts.thresholds
    return [
        {"split": split, "attribute": name, **{key: col[i] for key, col in columns.items()}}
        for i, name in enumerate(attributes)
    ]
