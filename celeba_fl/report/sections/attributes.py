"""Every attribute against what the majority's answer scores."""

from collections.abc import Mapping

import numpy as np

from celeba_fl.evaluation.metrics import METRICS
from celeba_fl.report.html import Block, Cell, Picture, Pictures, Table
from celeba_fl.report.names import name_of
from celeba_fl.report.pictures import attributes as pictures
from celeba_fl.report.reading import Rows, Run, by_prevalence, floats, number, rows_of
from celeba_fl.report.words import figure, named

CLIENTS = {"valid": "the clients' validation split", "train": "the clients' train split"}
MEASURES = (*(metric.column for metric in METRICS), "threshold")


def attributes(run: Run) -> list[Block]:
    """Every attribute of the test split against what the majority's answer scores."""
    split = "test" if rows_of(run.attributes) else "valid"
    rows = by_prevalence(rows_of(run.attributes, split))
    if not rows or not {"attribute", "accuracy", "balanced_accuracy"} <= rows[0].keys():
        return []
    accuracy, majority = floats(rows, "accuracy"), floats(rows, "majority_accuracy")
    balanced = floats(rows, "balanced_accuracy")
    better, blind = np.sum(accuracy > majority), np.sum(balanced < 0.55)
    text = (
        f"On the {split} split, accuracy is above the majority's for {better} of {len(rows)} "
        f"attributes. For {blind}, balanced accuracy is below 0.55: the model hardly tells images "
        f"with the attribute from images without it. The most frequent attributes come first."
    )
    shown = [
        Picture(
            "attributes",
            f"Bars of accuracy from the majority's accuracy for {len(rows)} attributes; {better} "
            f"are above it. The numbers are in the table below.",
            "Accuracy of each attribute, as a bar from the majority's answer.",
            pictures.attributes(rows),
        ),
        Picture(
            "attributes_balanced",
            f"Balanced accuracy and AUROC of {len(rows)} attributes against chance, 0.5; "
            f"{blind} have a balanced accuracy below 0.55. The numbers are in the table below.",
            "Balanced accuracy as a bar from 0.5, and AUROC as a diamond.",
            pictures.ranking(rows),
        ),
    ]
    tables = [_table(f"All figures of the {split} split", rows)]
    for of_clients, name in CLIENTS.items():
        others = [row for row in rows_of(run.attributes, of_clients) if row["n"] != "0"]
        if others and of_clients != split:
            caption = f"All figures of {name}; AUROC and average precision come from bins"
            tables.append(_table(caption, by_prevalence(others)))
    return [text, Pictures(shown), *tables]


def _table(caption: str, rows: Rows) -> Table:
    columns = [key for key in MEASURES if key in rows[0]]
    return Table(
        caption,
        ("attribute", "images", "with it", *map(name_of, columns)),
        [
            (named(row["attribute"]), row["n"], row["positives"], *(_cell(row, c) for c in columns))
            for row in rows
        ],
        folded=True,
    )


def _cell(row: Mapping[str, str], key: str) -> Cell:
    """A figure, and by how much it may be off where it comes from bins."""
    value, error = number(row, key), number(row, f"{key}_error")
    return (figure(value), f"± {error:.4f}") if error > 0 else figure(value)
