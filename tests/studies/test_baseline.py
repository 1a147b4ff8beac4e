"""Reference points: against runs that must equal them, and with numbers by hand."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adding import Adding, settings
from rich.console import Console
from toys import write_celeba

from celeba_fl import server_app
from celeba_fl.client_app import app as client_app
from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.data.draws import valid_mask
from celeba_fl.evaluation.resampling import read_scores
from celeba_fl.launch.inline import run_inline
from celeba_fl.models import logistic
from celeba_fl.models.heads import scores
from celeba_fl.runs.reading import RunInfo, config_of, find_run
from celeba_fl.runs.tables import read_csv
from celeba_fl.studies.baseline import baseline_table, make_baseline
from celeba_fl.task import Description, Instructions, NodeConfig, Tables, Task, load_task
from celeba_fl.tasks.attributes import Attributes


def run_of(nodes: int, keys: dict[str, Any]) -> RunInfo:
    """Run an experiment; what `find_run` says of it."""
    config = RunConfig.load({"min-available-clients": 1, **keys})
    run_inline(config, nodes, server_app.app, client_app)
    return find_run("latest", config.runs_dir)


def test_a_run_of_chosen_clients_has_no_baseline(tmp_path: Path) -> None:
    run = run_of(3, settings(tmp_path, clients="0,2"))
    with pytest.raises(InputError, match="clients = '0,2' took part alone"):
        make_baseline(run)


# ---- the main task ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"class-weights": True, "thresholds": "valid"},
        {"init": "closed-form", "group-weighting": "Male"},
    ],
)
def test_the_only_client_of_a_run_is_alone(
    toy: dict[str, Any], tmp_path: Path, keys: dict[str, Any]
) -> None:
    run = run_of(1, {**toy, "num-server-rounds": 1, "results-dir": str(tmp_path), **keys})
    made = make_baseline(run)

    assert made["local"] == {
        "clients": 1,
        "mean": run.summary,
        "std": dict.fromkeys(run.summary),
    }
    assert made["majority"] == {"test_accuracy": run.summary["test_majority_accuracy"]}
    assert json.loads((run.path / "baseline.json").read_text()) == made
    own, central = (
        read_scores(run.path / f"{name}_scores.parquet") for name in ("test", "baseline")
    )
    assert own is not None
    assert central is not None
    assert own.pairs_with(central)


@pytest.mark.parametrize("server", [True, False])
def test_the_central_head_is_logistic_regression_with_one_l2(
    toy: dict[str, Any], tmp_path: Path, server: bool
) -> None:
    # Without validation images of the server the clients' choose the L2.
    folder = write_celeba(
        tmp_path / "faces", splits="0" * 60 + ("1" if server else "0") * 20 + "2" * 20
    )
    keys = {**toy, "dataset": str(folder), "group-weighting": "Male", "num-server-rounds": 1}
    run = run_of(2, {**keys, "results-dir": str(tmp_path)})
    made = make_baseline(run)

    store = next(iter(load_task(config_of(run)).features._opened.values()))  # type: ignore[attr-defined]
    table, rows = store.table, store.table.rows("train")
    held_out = valid_mask(table, rows, 0.2, 42)
    train, valid = rows[~held_out], table.rows("valid") if server else rows[held_out]
    x, y = store.read(train)[:], table.labels[train]
    found = logistic.fit(x, y, store.read(valid), table.labels[valid])
    assert made["chosen"] == {"by": "loss on validation", "value": found.loss, "l2": found.ratio}
    central = read_scores(run.path / "baseline_scores.parquet")
    assert central is not None
    test = table.rows("test")[np.argsort(table.image[table.rows("test")])]
    np.testing.assert_allclose(central.scores, scores(found.head, store.read(test)), atol=1e-5)


def test_the_central_head_does_not_depend_on_who_holds_what(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    keys = {**toy, "num-server-rounds": 1}
    made = [
        make_baseline(run_of(2, {**keys, "results-dir": str(tmp_path / name), "partitioner": name}))
        for name in ("iid", "natural")
    ]
    assert made[0]["central"] == made[1]["central"]
    assert made[0]["local"] != made[1]["local"]


def test_the_closed_form_has_a_central_head_and_no_client_alone(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    run = run_of(2, {**toy, "strategy": "closed-form", "results-dir": str(tmp_path)})
    made = make_baseline(run)
    assert made["local"] == {"clients": 0, "mean": {}, "std": {}}
    other = run_of(2, {**toy, "num-server-rounds": 1, "results-dir": str(tmp_path / "fedavg")})
    assert made["central"] == make_baseline(other)["central"]


def test_a_run_of_secure_sums_has_none() -> None:
    values = RunConfig.load({"secure-aggregation": True}).to_dict()
    with pytest.raises(InputError, match="r1: secure-aggregation = True: what each client holds"):
        make_baseline(RunInfo(Path("r1"), "completed", config=values))


# ---- by hand ------------------------------------------------------------------------------


class Pooling(Adding):
    """A lone client adds i + 1 a round; the score on validation is best at 2."""

    central = True

    def describe(self, node: NodeConfig, instructions: Instructions) -> Description:
        if node["num-partitions"] == 1:
            return Description(6, 3, np.array([1]))  # what 3 clients hold
        return super().describe(node, instructions)

    def evaluate(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions
    ) -> tuple[dict[str, Arrays], int]:
        counts = {"n": np.array(1), "sum": -((arrays["weight"][:1].astype(np.float64) - 3) ** 2)}
        return {"train": counts, "valid": counts}, 1

    def evaluate_centrally(self, arrays: Arrays) -> dict[str, dict[str, float]]:
        weight = float(arrays["weight"][0])
        parts = {"test": {"loss": 0.0, "score": weight}}
        if self.central:
            parts["server_valid"] = {"loss": 0.0, "score": -((weight - 2) ** 2)}
        return parts

    def finish(self, arrays: Arrays, counts: Any) -> Tables:
        score = float(arrays["weight"][0])
        return Tables({"test_score": score, "test_odd": 1 / score if score < 8 else float("nan")})


def pooling(folder: Path, **keys: Any) -> RunInfo:
    return run_of(3, settings(folder, task=f"{__name__}:Pooling", **keys))


def test_by_hand(tmp_path: Path) -> None:
    run = pooling(tmp_path)
    made = make_baseline(run)
    # The central one adds 1 a round: 1, 2, 3, 4. Alone they come to 4, 8 and 12.
    assert made == {
        "central": {"test_score": 2.0, "test_odd": 0.5},
        "chosen": {"epochs": 10, "of": 20, "by": "server_valid_score", "value": 0.0},
        "local": {
            "clients": 3,
            "mean": {"test_score": 8.0, "test_odd": 0.25},
            "std": {"test_score": 4.0, "test_odd": None},
        },
        "majority": {},
    }
    assert not (run.path / "baseline_scores.parquet").exists()


def test_clients_validate_where_the_server_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pooling, "central", False)
    made = make_baseline(pooling(tmp_path))
    assert made["central"]["test_score"] == 3.0
    assert made["chosen"]["by"] == "valid_score"


def test_a_client_alone_trains_as_often_as_in_the_run(tmp_path: Path) -> None:
    run = pooling(tmp_path, fraction_train=0.3, seed=1)
    made = make_baseline(run)
    rows = [row for row in read_csv(run.path / "clients.csv") if row["local_loss"]]
    times = [sum(row["client"] == str(i) for row in rows) for i in range(3)]
    assert sum(times) == 4
    scores = [(i + 1) * n for i, n in enumerate(times) if n]
    assert made["local"]["clients"] == len(scores)
    assert made["local"]["mean"]["test_score"] == np.mean(scores)


def test_the_table(tmp_path: Path) -> None:
    made = {
        "central": {"test_accuracy": 0.9, "test_majority_accuracy": 0.6, "test_auroc": None},
        "local": {"clients": 3, "mean": {"test_accuracy": 0.7}, "std": {"test_accuracy": 0.01}},
        "majority": {"test_accuracy": 0.6},
    }
    console = Console(width=120)
    with console.capture() as text:
        console.print(baseline_table({"test_accuracy": 0.85, "test_auroc": 0.5}, made))
    rows = [
        [cell.strip() for cell in line.strip("│ ").split("│")]
        for line in text.get().splitlines()
        if line.startswith("│")
    ]
    assert rows == [
        ["accuracy", "0.8500", "0.9000", "-0.0500", "0.7000 ± 0.0100", "0.6000"],
        ["AUROC", "0.5000"],
    ]


def test_the_table_cuts_no_word_at_80_columns() -> None:
    names = ["test_base_rates_loss", "test_balanced_accuracy", "test_calibration_error"]
    local = {"clients": 50, "mean": dict.fromkeys(names, 0.5), "std": dict.fromkeys(names, 0.1)}
    made = {"central": dict.fromkeys(names, 0.5), "local": local, "majority": {}}
    console = Console(width=80)
    with console.capture() as text:
        console.print(baseline_table(dict.fromkeys(names, 0.5), made))
    assert "…" not in text.get()
    assert {"base", "rates", "balanced", "calibration"} <= set(text.get().split())


# ---- refused ------------------------------------------------------------------------------


def test_a_task_whose_partitions_do_not_add_up(tmp_path: Path) -> None:
    run = run_of(3, settings(tmp_path))
    with pytest.raises(InputError, match=r"adding:Adding: .* holds 1 train examples, the 3 clie"):
        make_baseline(run)


def test_a_closed_form_without_a_better_way(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(1, {**toy, "strategy": "closed-form", "results-dir": str(tmp_path)})
    monkeypatch.setattr(Attributes, "best_central", Task.best_central)
    with pytest.raises(InputError, match="strategy = 'closed-form' solves for the same model"):
        make_baseline(run)


def test_a_run_that_is_not_far_enough(tmp_path: Path) -> None:
    run = pooling(tmp_path)
    with pytest.raises(InputError, match="is running, and nothing"):
        make_baseline(replace(run, status="running"))
    (run.path / "clients.csv").unlink()
    with pytest.raises(InputError, match="is completed, and nothing can"):
        make_baseline(run)


def test_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = pooling(tmp_path)
    monkeypatch.setattr(Pooling, "fingerprint", "others")
    with pytest.raises(InputError, match=r"dataset was .*sums.* and is .*others.* now"):
        make_baseline(run)


def test_other_clients(tmp_path: Path) -> None:
    run = pooling(tmp_path)
    table = run.path / "partitions.csv"
    table.write_text(table.read_text().replace("\n2,3,", "\nhospital,3,"))
    with pytest.raises(InputError, match="needs the data of all clients in one place"):
        make_baseline(run)


def test_no_test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = pooling(tmp_path)
    monkeypatch.setattr(Pooling, "finish", Adding.finish)
    with pytest.raises(InputError, match="has no test examples here"):
        make_baseline(run)
    assert not (run.path / "baseline.json").exists()


def test_a_run_is_read_with_the_home_that_it_had(tmp_path: Path) -> None:
    keys = RunConfig.load({"home": "~/elsewhere"}).to_dict()
    del keys["groupings"]  # newer than the run
    home = tmp_path / "home"
    assert config_of(RunInfo(home, "completed", config=keys, home=str(home))).home == "~/elsewhere"
    home.mkdir()
    assert config_of(RunInfo(home, "completed", config=keys, home=str(home))).home_dir == home
    assert (
        config_of(RunInfo(home, "completed", config=keys)).groupings == RunConfig.load().groupings
    )
