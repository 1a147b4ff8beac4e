"""What a report and the dashboard call things: metrics, splits, and differences of groups."""

from collections.abc import Sequence

from celeba_fl.evaluation.metrics import METRICS, RANKED

# The metrics of attributes that are shown first; every other metric of a task follows as it comes.
FIRST = tuple(metric.name for metric in RANKED)
TITLES = {
    **{metric.name: metric.title for metric in METRICS},
    "f1": "F1",
    "tpr": "TPR",
    "fpr": "FPR",
    "generator_loss": "generator loss (nats)",
    "discriminator_loss": "discriminator loss (nats)",
    "frechet_distance": "Fréchet distance",
    "real_frechet_distance": "Fréchet distance, real to real",
}
# The splits by the prefix of their columns in `rounds.csv`.
PARTS = {
    "train": "clients, train",
    "valid": "clients, validation",
    "server_valid": "server, validation",
    "test": "test",
}
# Differences between groups by their columns in `fairness.csv`, in short.
GAPS = {
    "demographic_parity": "parity",
    "equal_opportunity": "opportunity",
    "equalized_odds": "odds",
}


def name_of(metric: str) -> str:
    """A metric for people."""
    metric, at_zero, _ = metric.partition("_at_0")
    return TITLES.get(metric, metric.replace("_", " ")) + (" at 0" if at_zero else "")


def rank(metric: str) -> int:
    """The place of a metric among others, the first ones first."""
    return FIRST.index(metric) if metric in FIRST else len(FIRST)


def first_metrics(names: Sequence[str], number: int) -> list[str]:
    """The metrics to draw: those that people look at first, or a task's own."""
    known = [name for name in FIRST if name in names]
    own = [name for name in names if not name.startswith(("majority", "base_rates", "real"))]
    return (known or own)[:number]
