"""Who holds which data."""

import numpy as np

from celeba_fl.report.html import Block, Picture, Pictures
from celeba_fl.report.pictures import clients as pictures
from celeba_fl.report.reading import Run, floats


def partitions(run: Run) -> list[Block]:
    """How many examples each client holds, and of which groups."""
    rows = run.partitions
    if not rows:
        return ["The clients have not reported yet what they hold."]
    sizes = floats(rows, "num_examples")
    text = (
        f"{len(rows)} clients hold {sizes.sum():,.0f} train examples: the smallest "
        f"{sizes.min():.0f}, the median {np.median(sizes):.0f}, the largest {sizes.max():.0f}."
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
            f" For every client to have the same mix of groups as all clients together, "
            f"{100 * moved:.0f} % of the examples would have to change their group. "
            f"{np.sum(shares.max(axis=1) == 1)} clients hold one group only."
        )
    shown = [
        Picture(
            "partitions",
            f"Bar chart of the train examples of {len(rows)} clients"
            + (f", stacked by {len(names)} groups" if names else "")
            + f", from {sizes.min():.0f} to {sizes.max():.0f}.",
            "Train examples of each client" + (" by group." if names else "."),
            pictures.partitions(rows),
        )
    ]
    if names:
        shown.append(
            Picture(
                "partitions_shares",
                f"Bar chart of the share of {len(names)} groups in each of {len(rows)} clients.",
                "Share of each group in a client's train examples.",
                pictures.partitions(rows, shares=True),
            )
        )
    return [text, Pictures(shown)]
