"""How the clients are served."""

import numpy as np

from celeba_fl.report.html import Block, Picture, Pictures
from celeba_fl.report.pictures import clients as pictures
from celeba_fl.report.pictures.curves import client_spread
from celeba_fl.report.reading import Run, floats
from celeba_fl.report.words import figure


def clients(run: Run) -> list[Block]:
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
        f"After round {number}, {len(rows)} clients evaluated the model on their own validation "
        f"examples: the median {metric} is {figure(median)}, and the middle 80 % of the clients "
        f"lie between {figure(low)} and {figure(high)}. Client {worst['client']} is served worst: "
        f"{figure(worst_value)}, with {worst['num_examples']} train examples. Small clients "
        f"validate on few examples, so part of the spread is chance."
    )
    shown = [
        Picture(
            "clients",
            f"Scatter plot of validation {metric} over train examples of {len(rows)} clients, from "
            f"{figure(values.min())} to {figure(values.max())}.",
            f"Validation {metric} of each client after round {number}, over its size.",
            pictures.clients(rows, metric),
        ),
        Picture(
            "clients_rounds",
            f"Median, middle half and middle 80 % of the clients' validation {metric} by round; at "
            f"the end {figure(median)}, and {figure(low)} to {figure(high)}.",
            f"Validation {metric} over the clients by round.",
            client_spread(known, metric),
        ),
    ]
    return [text, Pictures(shown)]
