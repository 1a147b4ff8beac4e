"""What a budget of differential privacy costs the closed form, over people. Two tables.

python tests/benchmarks/epsilon.py dataset=/data/celeba weights=/data/mobilenet_v2.pt \
        [features=last image-size=224] [--folds 8] [--draws 5] [--jobs 2] \
        [--whole | --averaging | --audit]

Cross-validated as people.py says, but in 8 folds: the next fold's people are the public ones, about
20 of them with 600 images, as many as in the official validation split; the others are dealt into
50 clients, whose sums are made by the app's own functions, in the whole numbers of secure sums. The
noise is that of all their parts, for a round in which 45 of them must stay, drawn as one, and the
masks, which cancel to the last bit, are left out; `--whole` has both. `A ± b` is the mean over
folds, each of which is the mean of 5 draws of the noise, and half of its 95 % interval.

"Noise as at full size" is that of 162,770 images, CelebA's train split: its deviation times the
share of them that are here. So it shows what noise would cost there, and not what more images would
bring.

`--whole` runs the app itself, inline, with secure sums, once a fold and epsilon. `--averaging` runs
FedAvg without privacy, and with Flower's client-level privacy. `--audit` attacks sums, by
tests/support/canaries.py: what guesses of 20 runs show at least of epsilon, beside what is claimed.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from people import METRICS, Settings, cross_validate, head, line, mean_and_half, measure, workers

from celeba_fl.common.arrays import Arrays, Ints, add_exactly
from celeba_fl.config import RunConfig
from celeba_fl.data.sources import load
from celeba_fl.evaluation.curves import ExactCurves
from celeba_fl.evaluation.metrics import EACH_ROUND, Counts, means
from celeba_fl.launch.experiments import parse_pair
from celeba_fl.models import private_ridge, private_rows, ridge, scaling
from celeba_fl.models.private_rows import Public, Release
from celeba_fl.privacy.noise import noise_multiplier, noisy
from celeba_fl.tasks.examples import Examples, FeatureStores, backbone_weights

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from canaries import Canaries, lower_bound

CLIENTS, PARTS, FULL_SIZE = 50, 45, 162_770
EPSILONS = (1.0, 2.0, 4.0, 8.0, 0.0)  # 0: no noise
# Each below 1 / the number of those protected, which at full size is that of all images.
DELTA, FULL_SIZE_DELTA = 1e-5, 1e-6
CANARIES, RUNS, GUESSES, SUREST = 500, 20, 100, 20
# What a budget demands of a run of the app, besides the epsilon.
LEAN: Settings = {"init": "public", "scaling": "none", "fraction-evaluate": 0.0}
CLOSED_FORM: Settings = {
    **LEAN,
    "strategy": "closed-form",
    "partitioner": "natural",
    "valid-fraction": 0.0,
    "secure-aggregation": True,
    "min-cohort": PARTS,
}
AVERAGING: Settings = {
    **LEAN,
    "strategy": "fedavg",
    "privacy-unit": "client",
    "privacy-noise": "server",
    "weighting": "uniform",
    "clipping-norm": 0.1,
}

Figures = dict[str, float]  # by metric


class Setup(NamedTuple):
    """A row of the table."""

    name: str
    unit: str
    dim: int
    full_size: bool
    most: int = 10  # images of a person


SETUPS = (
    Setup("image", "image", 128, False),
    Setup("image, noise as at full size", "image", 256, True),
    Setup("person, at most 10 images each, noise as at full size", "person", 128, True),
    Setup("person, at most 30 images each", "person", 128, False, 30),
)
ALONE, EXACT = "public images alone", "exact head"


class Fold:
    """A fold's public, private and test images with their features."""

    def __init__(self, settings: Settings) -> None:
        config = RunConfig.load(settings)
        stores, weights = FeatureStores(config), backbone_weights(config)
        table = load(config.dataset, config.home_dir)
        self.private, self.public, self.test = (
            stores.compute(table, weights, table.rows(split))
            for split in ("train", "valid", "test")
        )

    def judge(self, model: Arrays) -> Figures:
        """Metrics of a head on test images."""
        scores = self.test.features[:] @ model["weight"].T.astype(np.float64) + model["bias"]
        labels = self.test.labels
        return means(Counts.of(scores, labels), ExactCurves(scores, labels), EACH_ROUND)

    def learn(self, setup: Setup) -> tuple[Public, list[Ints]]:
        """Public statistics, and the units of public images."""
        units = units_of(self.public, np.arange(len(self.public)), setup)
        images = self.public
        return private_ridge.learn(images.features, images.labels, units, setup.dim), units

    def alone(self, setup: Setup) -> Figures:
        """The head of public images alone."""
        of, (public, _) = self.public, self.learn(setup)
        return self.judge(private_ridge.public_alone(of.features, of.labels, of.celeb_id, public))

    def exact(self) -> Figures:
        """The head of exact sums, which tells lambda and calibrates by the public images."""
        sums = [
            ridge.sums_of(of.features, of.labels, np.ones(len(of)))
            for of in (self.private, self.public)
        ]
        scale = scaling.Scaling.of_sums(scaling.sums_of(self.public.features))
        model, _ = ridge.solve(sums[0], sums[1], scale.factor.astype(np.float64))
        return self.judge(model)

    def private_heads(self, setup: Setup, draws: int) -> Iterator[tuple[float, Figures]]:
        """Figures of heads, by epsilon."""
        public, units = self.learn(setup)
        total = self.sums(setup, public)
        share = len(self.private) / FULL_SIZE if setup.full_size else 1.0
        share *= (CLIENTS / PARTS) ** 0.5
        of = self.public
        delta = FULL_SIZE_DELTA if setup.full_size else DELTA
        for epsilon in EPSILONS:
            sigma = noise_multiplier(epsilon, delta) * public.clip if epsilon else 0.0
            for _ in range(draws if epsilon else 1):
                sums = with_noise(total, public, sigma, share)
                release = Release.of(sums, public, sigma * share)
                model = private_ridge.solve(release, of.features, of.labels, of.celeb_id, units)
                yield epsilon, self.judge(model)

    def sums(self, setup: Setup, public: Public) -> Arrays:
        """The sums of all clients; people are dealt out."""
        people, person = np.unique(self.private.celeb_id, return_inverse=True)
        client = np.random.default_rng(0).permutation(len(people)) % CLIENTS
        total, of = private_rows.zero_sums(public), self.private
        for number in range(CLIENTS):
            units = units_of(of, np.flatnonzero(client[person] == number), setup)
            add_exactly(total, private_rows.sums_of(of.features, of.labels, public, units))
        return total


def units_of(images: Examples, chosen: Ints, setup: Setup) -> list[Ints]:
    """The units among chosen images."""
    if setup.unit == "image":
        return [chosen[:, None]]
    content = np.asarray(images.table.content)[images.rows[chosen]]
    found = private_rows.units_of(images.celeb_id[chosen], content, setup.most, 42)
    return [chosen[unit] for unit in found]


def with_noise(sums: Arrays, public: Public, sigma: float, share: float) -> Arrays:
    """Sums with noise whose deviation is a share of what a budget asks for."""
    if not sigma:
        return sums
    scales = private_rows.noise_scales(public, sigma)
    return noisy(sums, {key: of * share for key, of in scales.items()}, 1, os.urandom)


def heads(settings: Settings, clients: int, draws: int) -> dict[tuple[str, float], Figures]:
    """The figures of each row and epsilon on a fold, the mean of the draws."""
    fold = Fold(settings)
    found: dict[tuple[str, float], list[Figures]] = {
        (ALONE, 0.0): [fold.alone(SETUPS[0])],
        (EXACT, 0.0): [fold.exact()],
    }
    for setup in SETUPS:
        for epsilon, figures in fold.private_heads(setup, draws):
            found.setdefault((setup.name, epsilon), []).append(figures)
    return {
        key: {name: float(np.mean([one[name] for one in of])) for name in of[0]}
        for key, of in found.items()
    }


def whole(settings: Settings, clients: int) -> Figures:
    """The figures of a run of the app."""
    found = measure(settings, clients).figures
    return {name: found[f"test {column}"] / 100 for name, column in METRICS.items()}


def cells(folds: list[Figures], name: str, relative: bool = False) -> str:
    """A metric over folds in per cent, with half of its interval."""
    values = [100 * (one[name] - (one["majority_accuracy"] if relative else 0)) for one in folds]
    middle, half = mean_and_half(values)
    return f"{middle:.1f} ± {half:.1f}"


def row(name: str, epsilon: float, folds: list[Figures]) -> str:
    """A line of the table."""
    points = cells(folds, "accuracy", relative="majority_accuracy" in folds[0])
    figures = [cells(folds, "auroc"), points, cells(folds, "balanced_accuracy")]
    return line([name, f"{epsilon:g}" if epsilon else "no noise", *figures])


def audit() -> None:
    """Print what an attack shows of epsilon, with all the noise and with half of it.

    Of each run by itself, and of the surest guesses of all of them together.
    """
    canaries, number = Canaries.made(CANARIES, seed=0), CANARIES * RUNS

    def shown(multiplier: float) -> list[float]:
        right = [canaries.guess(multiplier, GUESSES, run) for run in range(RUNS)]
        surest = sum(canaries.guess(multiplier, SUREST, run) for run in range(RUNS))
        bounds = sorted(lower_bound(CANARIES, GUESSES, one, DELTA) for one in right)
        together = lower_bound(number, SUREST * RUNS, surest, DELTA)
        return [bounds[0], bounds[RUNS // 2], bounds[-1], together]

    print(head(["claimed", "least", "median", "most", "together", "together, half of the noise"]))
    for epsilon in EPSILONS:
        multiplier = noise_multiplier(epsilon, DELTA) if epsilon else 0.0
        figures = [*shown(multiplier), shown(multiplier / 2)[-1]]
        print(line([epsilon or "no noise", *(f"{one:.2f}" for one in figures)]), flush=True)


def main() -> None:
    """Measure, and print a line for each row and epsilon."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="*", type=parse_pair, help="run-config keys: key=value")
    parser.add_argument("--folds", type=int, default=8, help="number of folds in all, 3 or more")
    parser.add_argument("--draws", type=int, default=5, help="draws of the noise a fold")
    parser.add_argument("--jobs", type=int, default=2, help="folds at a time")
    parser.add_argument("--whole", action="store_true", help="whole runs of the app instead")
    parser.add_argument("--averaging", action="store_true", help="FedAvg instead")
    parser.add_argument("--audit", action="store_true", help="the attack instead")
    said = parser.parse_args()
    if said.audit:
        audit()
        return
    settings: dict[str, Any] = dict(said.pairs)
    columns = ["", "epsilon", "AUROC", "accuracy above majority", "balanced accuracy"]
    print(head(columns), flush=True)
    with workers(said.jobs) as pool:

        def fold_by_fold(extra: Settings, work: Any) -> list[Any]:
            point = {**settings, **extra}
            return cross_validate(pool, point, CLIENTS, range(said.folds), work, said.folds)

        if said.whole:
            for epsilon in EPSILONS[:-1]:
                for unit in ("image", "person"):
                    keys = {"privacy-epsilon": epsilon, "privacy-unit": unit, **CLOSED_FORM}
                    print(
                        row(f"{unit}, whole runs", epsilon, fold_by_fold(keys, whole)), flush=True
                    )
        elif said.averaging:
            plain = {"strategy": "fedavg", "fraction-evaluate": 0.0}
            print(row("FedAvg", 0.0, fold_by_fold(plain, whole)), flush=True)
            for epsilon in EPSILONS[:-1]:
                keys = {"privacy-epsilon": epsilon, **AVERAGING}
                print(row("FedAvg, client", epsilon, fold_by_fold(keys, whole)), flush=True)
        else:
            folds = fold_by_fold({}, partial(heads, draws=said.draws))
            for name, epsilon in folds[0]:
                print(row(name, epsilon, [of[name, epsilon] for of in folds]), flush=True)


if __name__ == "__main__":
    main()
