"""Each strategy on each partitioning, beside what no federation gives, over people. Four tables.

python tests/benchmarks/strategies.py dataset=/data/celeba weights=/data/mobilenet_v2.pt \
        [--only IID natural] [--folds 12] [--jobs 2] [--json strategies.json]

Cross-validated as people.py says: `A ± b` is the mean over the folds and half of its 95 % interval.
The other tables have differences, fold by fold: to what is trained centrally, which is what
federation costs; to FedAvg of the same clients; and to the closed form. "Trained centrally" is the
logistic regression of `celeba-fl baseline`. It and the closed form are the same on every partition,
and there once; "each alone" is the mean over the clients. What the JSON file holds is not run
again, and with more folds only those that are missing: delete it once the code has changed. About
eight seconds of one core a run and fold, 25 for the logistic regression.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from folds import FOLDS
from people import (
    METRICS,
    Figures,
    Settings,
    cell,
    cross_validate,
    head,
    judge,
    less,
    line,
    measure,
    workers,
)

from celeba_fl.config import RunConfig
from celeba_fl.launch.experiments import parse_pair
from celeba_fl.studies.baseline import EVERYTHING, SingleClient, each_alone
from celeba_fl.task import load_task

CLIENTS = 50
PARTITIONINGS: dict[str, dict[str, Any]] = {
    "IID": {"partitioner": "iid"},
    "Dirichlet 0.1": {"partitioner": "dirichlet", "dirichlet-alpha": 0.1},
    "natural": {"partitioner": "natural"},
}
FEDAVG, CLOSED_FORM, CENTRAL, ALONE = "FedAvg", "closed form", "trained centrally", "each alone"
# What each strategy runs with, besides the defaults: of the rates that were tried (README.md says
# which) those of least loss on validation, over three folds of people.
STRATEGIES: dict[str, dict[str, Any]] = {
    FEDAVG: {"strategy": "fedavg"},
    "FedProx": {"strategy": "fedprox"},
    "FedAdam": {"strategy": "fedadam", "server-learning-rate": 0.01},
    CLOSED_FORM: {"strategy": "closed-form"},
    "closed form + FedAvg": {"strategy": "fedavg", "init": "closed-form", "learning-rate": 1e-4},
}
# Nobody reads what clients say of their own images, or of groups.
LEAN = {"groupings": "Male", "fraction-evaluate": 0.0}
COLUMNS = [f"test {name}" for name in METRICS.values()]

Row = dict[str, Any]
Planned = tuple[str, str, Settings, Callable[[Settings, int], Figures]]


def run(settings: Settings, clients: int) -> Figures:
    """The figures of a run."""
    return measure(settings, clients).figures


def centrally(settings: Settings, clients: int) -> Figures:
    """The figures of the best that one place can make of all examples."""
    task = load_task(RunConfig.load(settings))
    everyone = SingleClient(task, EVERYTHING, task.prepare().instructions)
    found = everyone.best()
    assert found is not None
    return named(everyone.finish(found[0]).summary)


def alone(settings: Settings, clients: int) -> Figures:
    """The mean figures of clients that train alone, each as often as in a run of all."""
    task = load_task(RunConfig.load(settings))
    told = task.prepare().instructions
    nodes = [{"partition-id": i, "num-partitions": clients} for i in range(clients)]
    lone = [SingleClient(task, node, told) for node in nodes]
    rounds = range(1, task.config.num_server_rounds + 1)
    trained = {str(i): rounds for i, one in enumerate(lone) if one.description.num_train}
    return named(each_alone(lone, trained)["mean"])


def named(summary: dict[str, Any]) -> Figures:
    """METRICS of a summary, by column."""
    return {f"test {name}": value for name, value in judge(summary, "test").items()}


def plan(only: Sequence[str]) -> list[Planned]:
    """Each row: its clients, its name, its settings, and what measures it."""
    rows: list[Planned] = [
        ("any", CENTRAL, {}, centrally),
        ("any", CLOSED_FORM, STRATEGIES[CLOSED_FORM], run),
    ]
    for where in only:
        rows.append((where, ALONE, PARTITIONINGS[where], alone))
        for name, strategy in STRATEGIES.items():
            if name != CLOSED_FORM:
                rows.append((where, name, {**PARTITIONINGS[where], **strategy}, run))
    return rows


def differences(rows: Sequence[Row], base: str) -> list[tuple[str, str, dict[str, list[float]]]]:
    """Each row less the one of this name and of the same clients, on the folds that both have.

    Clients, name, and the differences by column. What is there once, for any clients, is compared
    with each.
    """
    found = []
    for other in (row for row in rows if row["strategy"] == base):
        for row in rows:
            where = {row["clients"], other["clients"]} - {"any"}
            if row is not other and len(where) < 2:
                folds = min(len(one["folds"][COLUMNS[0]]) for one in (row, other))
                pairs = [[one["folds"][key][:folds] for one in (row, other)] for key in COLUMNS]
                values = {key: less(*pair) for key, pair in zip(COLUMNS, pairs, strict=True)}
                found.append((*(where or {"any"}), row["strategy"], values))
    return found


def cells_of(values: dict[str, list[float]], sign: str = "") -> list[str]:
    """The cells of a row: its folds, and each figure."""
    folds = len(values[COLUMNS[0]])
    return [str(folds), *(cell(column, values[column], sign) for column in COLUMNS)]


def main() -> None:
    """Measure what is missing, and print a line for each row as it is done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="*", type=parse_pair, help="run-config keys: key=value")
    parser.add_argument("--only", nargs="*", choices=PARTITIONINGS, default=list(PARTITIONINGS))
    parser.add_argument("--folds", type=int, default=FOLDS, choices=range(2, FOLDS + 1))
    parser.add_argument("--jobs", type=int, default=2, help="folds at a time")
    parser.add_argument("--json", type=Path, default=Path("strategies.json"))
    said = parser.parse_args()
    rows: list[Row] = json.loads(said.json.read_text()) if said.json.exists() else []
    print(head(["clients", "strategy", "folds", *COLUMNS]), flush=True)
    with workers(said.jobs) as pool:
        for clients, name, settings, work in plan(said.only):
            names = {"clients": clients, "strategy": name}
            known = [row for row in rows if {key: row[key] for key in names} == names]
            row: Row = known[0] if known else {**names, "folds": {key: [] for key in COLUMNS}}
            missing = range(len(row["folds"][COLUMNS[0]]), said.folds)
            if missing:
                point = {**LEAN, **settings, **dict(said.pairs)}
                for figures in cross_validate(pool, point, CLIENTS, missing, work):
                    for key in COLUMNS:
                        row["folds"][key].append(figures[key])
                rows += [] if known else [row]
                said.json.write_text(json.dumps(rows, indent=1))
            print(line([clients, name, *cells_of(row["folds"])]), flush=True)
    for base in (CENTRAL, FEDAVG, CLOSED_FORM):
        print(f"\nLess {base}:\n\n{head(['clients', 'strategy', 'folds', *COLUMNS])}")
        for clients, name, values in differences(rows, base):
            print(line([clients, name, *cells_of(values, "+")]))


if __name__ == "__main__":
    main()
