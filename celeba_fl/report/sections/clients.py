"""What the clients hold, and how they are served."""

import numpy as np

from celeba_fl.report.html import Block, Picture, Pictures
from celeba_fl.report.pictures import clients as pictures
from celeba_fl.report.pictures.curves import client_spread
from celeba_fl.report.reading import Rows, Run, floats, sampled
from celeba_fl.report.words import figure


def partitions(run: Run) -> list[Block]:
    """How many examples each client holds, and of which groups; and who computes otherwise."""
    return [*_held(run), *_runtimes(run)]


def _runtimes(run: Run) -> list[Block]:
    """Clients whose features come from another runtime than the server's, such as a browser's."""
    others: dict[str, dict[str, float]] = run.info.runtimes.get("others", {})
    if not others:
        return []
    named = ", ".join(f"{one['clients']} in {name}" for name, one in others.items())
    farthest = max(one["distance"] for one in others.values())
    return [
        f"Clients that compute features in another runtime than the server: {named}. Of one "
        f"picture that all see, 1 - cosine of theirs and the server's is {farthest:.2g} at most; "
        f"clients above {run.info.runtimes['tolerance']:g} are refused."
    ]


def _held(run: Run) -> list[Block]:
    rows = run.partitions
    if run.privacy:
        return [
            f"{run.info.num_clients} clients take part. What they hold is not known here, nor how "
            f"many images there are: that would be on the ledger of the privacy budget."
        ]
    if not rows:
        return ["The clients have not reported yet what they hold."]
    sizes = floats(rows, "num_examples")
    if run.info.config.get("secure-aggregation"):
        number = run.info.num_clients
        return [
            f"{number} clients hold {sizes.sum():,.0f} train examples together. What each of them "
            f"holds is not known here: only sums leave a client (secure-aggregation)."
        ]
    text = (
        f"{len(rows)} clients hold {sizes.sum():,.0f} train examples: the smallest "
        f"{sizes.min():.0f}, the median {np.median(sizes):.0f}, the largest {sizes.max():.0f}."
    )
    if not sizes.all():
        text += f" {np.sum(sizes == 0)} hold none."
    names = [key for key in rows[0] if "=" in key]
    if not any(floats(rows, name).any() for name in names):  # pictures without labels
        rows, names = [{"client": r["client"], "num_examples": r["num_examples"]} for r in rows], []
    if names:
        counts = np.column_stack([floats(rows, name) for name in names])
        counts = counts[counts.sum(axis=1) > 0]
        shares = counts / counts.sum(axis=1, keepdims=True)
        apart = np.abs(shares - counts.sum(axis=0) / counts.sum()).sum(axis=1) / 2
        moved = np.average(apart, weights=counts.sum(axis=1))
        text += (
            f" For every client to have the same mix of groups as all clients together, "
            f"{100 * moved:.1f} % of the examples would have to change their group; dealt at "
            f"random to clients of the same sizes, {100 * _moved_by_chance(counts):.1f} %. "
            f"{_number_of(int(np.sum(shares.max(axis=1) == 1)))} one group only."
        )
    drawn = sampled(rows, "num_examples")
    which = _which(drawn, rows, "the smallest to the largest")
    shown = [
        Picture(
            "partitions",
            f"Bar chart of the train examples of {len(drawn)} clients"
            + (f", stacked by {len(names)} groups" if names else "")
            + f", from {sizes.min():.0f} to {sizes.max():.0f}.",
            f"Train examples of {which}" + (" by group, as annotated." if names else "."),
            pictures.partitions(drawn),
        )
    ]
    if names:
        shown.append(
            Picture(
                "partitions_shares",
                f"Bar chart of the share of {len(names)} groups in each of {len(drawn)} clients.",
                f"Share of each group, as annotated, in the train examples of {which}.",
                pictures.partitions(drawn, shares=True),
            )
        )
    return [text, Pictures(shown)]


def _moved_by_chance(counts: np.ndarray) -> float:
    """The share that would have to change its group, (clients, groups), if chance had dealt."""
    sizes, number = np.unique(counts.sum(axis=1).astype(np.int64), return_counts=True)
    rng, together = np.random.default_rng(0), counts.sum(axis=0).astype(np.int64)
    moved = [
        np.abs(rng.multivariate_hypergeometric(together, n, 200) - n * together / together.sum())
        for n in sizes
    ]
    apart = np.array([deals.sum(axis=1).mean() / 2 for deals in moved])
    return float(number @ apart / together.sum())


def _number_of(clients: int) -> str:
    return {0: "No client holds", 1: "One client holds"}.get(clients, f"{clients} clients hold")


def _which(drawn: Rows, rows: Rows, order: str) -> str:
    """The clients that a picture shows, in words."""
    if len(drawn) == len(rows):
        return "each client"
    return f"{len(drawn)} of the {len(rows):,} clients, evenly spaced from {order},"


def _whose(run: Run) -> str:
    """Whether clients validate on people whom they train on, where examples are of people."""
    config = run.info.config
    if config.get("task") != "attributes":
        return ""
    if config.get("valid-by") == "identity":
        return ", of people whom nobody trains on"
    return ", other images of the people whom they train on, so that strangers are served worse"


def clients(run: Run) -> list[Block]:
    """How the last round served each client."""
    metric = "accuracy" if any(row.get("valid_accuracy") for row in run.clients) else "loss"
    known = [row for row in run.clients if row.get(f"valid_{metric}")]
    if not known and run.clients and run.info.config.get("secure-aggregation"):
        return [
            "How well each client is served is not known here: only sums leave a client "
            "(secure-aggregation)."
        ]
    if not known:
        return []
    number = max(int(row["round"]) for row in known)
    rows = [row for row in known if int(row["round"]) == number]
    values = floats(rows, f"valid_{metric}")
    low, median, high = np.quantile(values, (0.1, 0.5, 0.9))
    worst = rows[int(values.argmin() if metric == "accuracy" else values.argmax())]
    worst_value = float(worst[f"valid_{metric}"])
    when = f"After round {number}" if number else "Before training"
    text = (
        f"{when}, {len(rows)} clients evaluated the model on their own validation "
        f"examples{_whose(run)}: the median {metric} is {figure(median)}, and the middle 80 % of "
        f"the clients lie between {figure(low)} and {figure(high)}. Client {worst['client']} is "
        f"served worst: {figure(worst_value)}, with {worst['num_examples']} train examples. Small "
        f"clients validate on few examples, so part of the spread is chance."
    )
    drawn = sampled(rows, f"valid_{metric}")
    which = _which(drawn, rows, f"the lowest {metric} to the highest")
    shown = [
        Picture(
            "clients",
            f"Scatter plot of validation {metric} over train examples of {len(drawn)} clients, "
            f"from {figure(values.min())} to {figure(values.max())}.",
            f"Validation {metric} of {which} {when[0].lower()}{when[1:]}, over its size.",
            pictures.clients(drawn, metric),
        ),
        Picture(
            "clients_rounds",
            f"Median, middle half and middle 80 % of the clients' validation {metric} by round; at "
            f"the end {figure(median)}, and {figure(low)} to {figure(high)}.",
            f"Validation {metric} over the clients by round.",
            client_spread(known, metric),
        ),
    ]
    return [text, Pictures(shown if number else shown[:1])]
