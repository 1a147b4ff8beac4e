"""The whole app in one process: whole runs, interrupted, failing, and with numbers by hand."""

import errno
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adding import Adding, Nodes, adding_app, outcome, record, run, settings
from filelock import FileLock
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from safetensors.numpy import load_file
from toys import write_celeba, write_sites

from celeba_fl import server_app
from celeba_fl.client_app import app as client_app
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import InlineGrid, run_inline
from celeba_fl.rounds.aggregation import RoundFailedError
from celeba_fl.runs import directory
from celeba_fl.runs.directory import RunDirectory
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.vision.features import FeatureStore


def info(path: Path) -> dict[str, Any]:
    return dict(json.loads((path / "run.json").read_text()))


def column(path: Path, name: str) -> list[float]:
    return [float(row[name]) for row in read_csv(path / "rounds.csv")]


# ---- the grid -----------------------------------------------------------------------------


def question(grid: InlineGrid, node: int, number: int = 1) -> Message:
    content = RecordDict(
        {"arrays": record({"w": [0.0]}), "config": ConfigRecord({"server-round": number})}
    )
    return grid.create_message(content, "train", node, "1")


def test_nodes_may_have_node_configs_of_their_own() -> None:
    sites = [{"site": "a", "data-path": "/srv"}, {"partition-id": 0, "num-partitions": 1}]
    app, seen = ClientApp(), []

    @app.train()
    def train(message: Message, context: Context) -> Message:
        seen.append(dict(context.node_config))
        return Message(RecordDict(), reply_to=message)

    grid = InlineGrid(app, sites, {})
    list(grid.send_and_receive([question(grid, node) for node in grid.get_node_ids()]))
    assert seen == sites


def test_nodes_have_random_ids_and_partitions_in_order() -> None:
    seen = []

    def step(client: int, number: int) -> float:
        seen.append(client)
        return 0.0

    one, other = (InlineGrid(adding_app(step), 3, {"a": 1}) for _ in range(2))
    assert not set(one.get_node_ids()) & set(other.get_node_ids())
    list(other.send_and_receive([question(other, node) for node in other.get_node_ids()]))
    assert seen == [0, 1, 2]


def test_clients_see_the_run_config_and_keep_their_state() -> None:
    app = adding_app()
    seen: list[Any] = []

    @app.query()
    def query(message: Message, context: Context) -> Message:
        count = context.state.config_records.setdefault("own", ConfigRecord({"asked": 0}))
        count["asked"] += 1  # type: ignore[operator]
        seen.append((context.run_config, context.node_config, context.node_id, dict(count)))
        return Message(RecordDict(), reply_to=message)

    grid = InlineGrid(app, 2, {"a": 1})
    first, second = grid.get_node_ids()
    for node in (second, second, first):
        list(grid.send_and_receive([grid.create_message(RecordDict(), "query", node, "")]))

    node = {"partition-id": 1, "num-partitions": 2}
    assert seen[:2] == [({"a": 1}, node, second, {"asked": n}) for n in (1, 2)]
    assert seen[2][2:] == (first, {"asked": 1})


def test_an_answer_is_there_once_and_for_whom_it_is_asked() -> None:
    grid = InlineGrid(adding_app(), 2, {})
    ids = list(grid.push_messages([question(grid, node) for node in grid.get_node_ids()]))
    (answer,) = grid.pull_messages([ids[1]])
    assert answer.metadata.reply_to_message_id == ids[1]
    assert answer.content["metrics"]["num-examples"] == 2
    assert [a.metadata.reply_to_message_id for a in grid.pull_messages(ids)] == [ids[0]]
    assert list(grid.pull_messages([*ids, "unknown"])) == []


def test_a_client_that_raises_answers_with_an_error() -> None:
    def step(client: int, number: int) -> float:
        raise RuntimeError("no power")

    grid = InlineGrid(adding_app(step), 1, {})
    (answer,) = grid.send_and_receive([question(grid, node) for node in grid.get_node_ids()])
    assert answer.has_error()
    assert "no power" in answer.error.reason


# ---- the main task ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(toy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the main task."""
    folder = tmp_path_factory.mktemp("whole")
    run_inline(RunConfig.load({**toy, "results-dir": str(folder)}), 5, server_app.app, client_app)
    return read_runs(folder)[0].path


def test_a_whole_run(whole: Path) -> None:
    (said,) = read_runs(whole.parent)
    assert said.status == "completed"
    assert said.num_clients == 5
    assert said.rounds == 2
    assert [row["round"] for row in read_csv(whole / "rounds.csv")] == ["0", "1", "2"]
    assert [row["failures"] for row in read_csv(whole / "rounds.csv")] == ["0"] * 3
    assert len(read_csv(whole / "clients.csv")) == 15
    assert len(read_csv(whole / "partitions.csv")) == 5


def test_the_columns_that_others_read_are_there(whole: Path) -> None:
    rounds = (
        "round,train_loss,train_accuracy,valid_loss,valid_accuracy,test_loss,test_accuracy,"
        "test_majority_accuracy,test_balanced_accuracy,test_macro_f1,test_auroc,clients,failures,"
        "seconds,bytes_up,bytes_down"
    )
    clients = "round,client,num_examples,train_loss,valid_loss,valid_accuracy,seconds"
    attributes = (
        "split,attribute,n,positives,majority_accuracy,accuracy,balanced_accuracy,f1,auroc,"
        "average_precision"
    )
    for name, columns in {"rounds": rounds, "clients": clients, "attributes": attributes}.items():
        assert set(columns.split(",")) <= set(read_csv(whole / f"{name}.csv")[0])
    for name in ("run.json", "progress.json", "partitions.csv", "summary.json"):
        assert (whole / name).exists()
    assert {"test_accuracy", "test_auroc"} <= set(json.loads((whole / "summary.json").read_text()))


def run_in_order(
    keys: dict[str, Any], nodes: int, order: Callable[[list[Message]], list[Message]]
) -> Path:
    """A run whose replies come in as `order` says."""
    config = RunConfig.load(keys)
    grid = Nodes(client_app, nodes, order, keys=config.to_dict())
    server_app.app(grid, Context(grid.run.run_id, 0, {}, RecordDict(), {**config.to_dict()}))
    return read_runs(Path(keys["results-dir"]))[0].path


def test_twice_the_same_to_the_last_digit(whole: Path, toy: dict[str, Any], tmp_path: Path) -> None:
    chance = random.Random(1)
    keys = {**toy, "results-dir": str(tmp_path)}
    path = run_in_order(keys, 5, lambda replies: chance.sample(replies, len(replies)))
    assert outcome(path) == outcome(whole)


def test_the_seed_matters(whole: Path, toy: dict[str, Any], tmp_path: Path) -> None:
    config = RunConfig.load({**toy, "seed": 1, "results-dir": str(tmp_path)})
    run_inline(config, 5, server_app.app, client_app)
    path = read_runs(tmp_path)[0].path
    assert column(path, "test_loss") != column(whole, "test_loss")


def test_the_main_task_goes_on(whole: Path, toy: dict[str, Any], tmp_path: Path) -> None:
    for keys in ({"num-server-rounds": 1}, {"resume": "latest"}):
        config = RunConfig.load({**toy, "results-dir": str(tmp_path), **keys})
        run_inline(config, 5, server_app.app, client_app)
    assert outcome(read_runs(tmp_path)[0].path) == outcome(whole)


# ---- by hand ------------------------------------------------------------------------------


def test_what_a_run_records(tmp_path: Path) -> None:
    path = run(tmp_path, num_server_rounds=2)

    # (1 * 1 + 2 * 2 + 3 * 3) / 6 more in every round
    scores = [0, 14 / 6, 28 / 6]
    assert column(path, "valid_score") == pytest.approx(scores)
    assert column(path, "train_score") == pytest.approx(scores)
    assert column(path, "server_valid_loss") == pytest.approx([100 - s for s in scores])
    assert column(path, "test_score") == pytest.approx([1000 + s for s in scores])
    assert column(path, "clients") == [3, 3, 3]
    clients = read_csv(path / "clients.csv")
    assert [(row["round"], row["client"], row["num_examples"]) for row in clients] == [
        (str(number), str(i), str(i + 1)) for number in range(3) for i in range(3)
    ]
    assert [row["local_loss"] for row in clients] == [""] * 3 + ["0.5"] * 6
    assert read_csv(path / "partitions.csv") == [
        {"client": str(i), "num_examples": str(i + 1), "num_valid": "1", "odd": str(i % 2)}
        for i in range(3)
    ]
    assert json.loads((path / "summary.json").read_text()) == {"test_score": None}
    assert load_file(path / "model.safetensors")["weight"] == pytest.approx([28 / 6] * 2)
    said = info(path)
    assert said["dataset"] == {"name": "sums", "fingerprint": "sums"}
    assert json.loads((path / "progress.json").read_text())["phase"] == "final evaluation"
    assert json.loads((path / "progress.json").read_text())["round"] == 2


def test_uniform_weighting(tmp_path: Path) -> None:
    path = run(tmp_path, num_server_rounds=2, weighting="uniform")
    assert column(path, "valid_score") == [0, 2, 4]
    assert column(path, "failures") == [0, 0, 0]


def test_only_chosen_clients_take_part(tmp_path: Path) -> None:
    path = run(tmp_path, 4, num_server_rounds=2, clients="3,0")

    # (1 * 1 + 4 * 4) / 5 more in every round
    assert column(path, "valid_score") == pytest.approx([0, 17 / 5, 34 / 5])
    assert column(path, "clients") == [2, 2, 2]
    assert [row["client"] for row in read_csv(path / "partitions.csv")] == ["0", "3"]
    assert [row["client"] for row in read_csv(path / "nodes.csv")] == ["0", "3"]
    assert info(path)["num_clients"] == 2


def test_those_who_sit_out_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the clients of `Adding` do depends on their own names alone."""
    run(tmp_path / "parts", 6, clients="0,1,2", num_server_rounds=2)
    refuse = staticmethod(lambda client, number: client > 2 and pytest.fail("it works"))
    monkeypatch.setattr(Adding, "fault", refuse)
    path = run(tmp_path / "parts", 6, clients="0,1,2", resume="latest")
    assert outcome(path) == outcome(run(tmp_path / "three", 3))


def test_one_chosen_client_is_enough(tmp_path: Path) -> None:
    assert column(run(tmp_path, 3, clients="2", num_server_rounds=1), "valid_score") == [0, 3]


def test_a_chosen_client_that_is_not_there_fails_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"clients: 5 cannot take part; there are 0, 1, 2"):
        run(tmp_path, 3, clients="1,5")
    assert info(read_runs(tmp_path)[0].path)["status"] == "failed"


def test_a_run_goes_on_with_the_same_clients(tmp_path: Path) -> None:
    run(tmp_path, 3, clients="0,1", num_server_rounds=1)
    with pytest.raises(InputError, match=r"clients was '0,1' and is ''"):
        run(tmp_path, 3, resume="latest")


def test_bytes_are_those_of_the_arrays_that_travelled(tmp_path: Path) -> None:
    path = run(tmp_path, num_server_rounds=1)
    model = record(Adding(RunConfig.load()).initial_arrays())
    size = sum(len(array.data) for array in model.values())
    # To 3 clients, to train and to evaluate.
    assert column(path, "bytes_down") == [3 * size, 6 * size]
    assert column(path, "bytes_up")[1] == column(path, "bytes_up")[0] + 3 * size


def test_without_evaluation_on_clients(tmp_path: Path) -> None:
    path = run(tmp_path, num_server_rounds=2, fraction_evaluate=0.0)
    assert [row["valid_score"] for row in read_csv(path / "rounds.csv")] == ["", "", ""]
    assert column(path, "server_valid_score") == pytest.approx([0, 14 / 6, 28 / 6])
    assert column(path, "clients") == [0, 3, 3]
    assert [row["round"] for row in read_csv(path / "clients.csv")] == ["1"] * 3 + ["2"] * 3
    assert (path / "attributes.csv").read_text().startswith("split,loss,score\ntrain,")


def test_cohorts_are_repeated(tmp_path: Path) -> None:
    keys = {"fraction_train": 0.3, "fraction_evaluate": 0.2}
    one, again = (run(tmp_path / name, 10, **keys) for name in "ab")
    assert outcome(one) == outcome(again)
    cohorts = [
        [r["client"] for r in read_csv(one / "clients.csv") if r["round"] == n and r["local_loss"]]
        for n in "1234"
    ]
    assert [len(cohort) for cohort in cohorts] == [3] * 4
    assert cohorts != [cohorts[0]] * 4


# ---- stop ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "rounds", "reason"),
    [
        ({"target": 4.0}, 2, "target: server_valid_score is 4.6667, 4.0 was asked for"),
        ({"target": 97.0, "watch": "loss"}, 2, "target: server_valid_loss is 95.3333, 97.0 was"),
        ({"max_seconds": 1e-9}, 0, "max-seconds: "),
        ({"target": 900.0}, 4, ""),  # as high as the scores of test
    ],
)
def test_stop(tmp_path: Path, rule: dict[str, Any], rounds: int, reason: str) -> None:
    path = run(tmp_path, **rule)
    assert column(path, "round") == list(range(rounds + 1))
    assert info(path)["status"] == ("stopped" if reason else "completed")
    assert info(path)["reason"].startswith(reason)
    assert (path / "model.safetensors").exists()


def test_a_stopped_run_goes_on_when_the_rule_has_changed(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", target=9.0)
    run(tmp_path / "parts", target=4.0)
    with pytest.raises(InputError, match="change the rule"):
        run(tmp_path / "parts", target=4.0, resume="latest")
    path = run(tmp_path / "parts", target=9.0, resume="latest")
    assert info(path)["status"] == info(whole)["status"]
    assert outcome(path) == outcome(whole)


def test_a_metric_to_watch_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="watch = 'auroc': must be one of loss, score"):
        run(tmp_path, watch="auroc")
    (said,) = read_runs(tmp_path)
    assert said.status == "failed"
    assert not (said.path / "partitions.csv").exists()


# ---- failures -----------------------------------------------------------------------------


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let clients raise in a round."""

    def set_fault(number: int, *clients: int) -> None:
        def raise_(client: int, at: int) -> None:
            if client in clients and at == number:
                raise RuntimeError(f"client {client} has no power")

        monkeypatch.setattr(Adding, "fault", staticmethod(raise_))

    return set_fault


def test_failing_clients_are_counted(tmp_path: Path, fault: Callable[..., None]) -> None:
    fault(2, 0, 3)
    path = run(tmp_path, 4, num_server_rounds=3)

    assert column(path, "failures") == [0, 0, 2, 0]
    assert column(path, "clients") == [4, 4, 4, 4]
    # Rounds of all four add (1 + 4 + 9 + 16) / 10, that of 1 and 2 adds (4 + 9) / 5.
    assert column(path, "valid_score") == pytest.approx([0, 3, 5.6, 8.6])
    trained = [row["client"] for row in read_csv(path / "clients.csv") if row["round"] == "2"]
    losses = [row["local_loss"] for row in read_csv(path / "clients.csv") if row["round"] == "2"]
    assert trained == ["0", "1", "2", "3"]
    assert losses == ["", "0.5", "0.5", ""]
    assert info(path)["status"] == "completed"


def test_late_clients_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lose(replies: list[Message]) -> list[Message]:
        return [a for a in replies if a.content["metrics"].get("local-loss") != 0.75]

    train = Adding.train

    def marked(self: Adding, arrays: Any, node: Any, instructions: Any, seed: int) -> Any:
        made = train(self, arrays, node, instructions, seed)
        return *made[:2], 0.75 if node["partition-id"] == 2 else 0.5

    monkeypatch.setattr(Adding, "train", marked)
    keys = settings(tmp_path, num_server_rounds=2, round_timeout=0.05)
    path = run_in_order(keys, 3, lose)

    assert column(path, "failures") == [0, 1, 1]
    assert column(path, "valid_score") == pytest.approx([0, 5 / 3, 10 / 3])
    assert "client 2 is left out: no answer within 0 s" in caplog.text


@pytest.mark.parametrize(
    ("spoil", "number"),
    [
        (lambda array: array * np.nan, 3),
        (lambda array: array + np.inf, 3),
        (lambda array: array[:1], 3),
        (lambda array: array.astype(np.float16), 3),
        (lambda array: array, -3),
        (lambda array: array, 3.5),
    ],
)
def test_unusable_models_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any, number: Any
) -> None:
    train = Adding.train

    def spoiled(self: Adding, arrays: Any, node: Any, instructions: Any, seed: int) -> Any:
        made = train(self, arrays, node, instructions, seed)
        if node["partition-id"] != 2:
            return made
        return {**made[0], "weight": spoil(made[0]["weight"])}, number, made[2]

    monkeypatch.setattr(Adding, "train", spoiled)
    path = run(tmp_path, num_server_rounds=2)
    assert column(path, "failures") == [0, 1, 1]
    assert column(path, "valid_score") == pytest.approx([0, 5 / 3, 10 / 3])


def test_too_many_failures_fail_the_run_and_a_healthy_one_goes_on(
    tmp_path: Path, fault: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    whole = run(tmp_path / "whole", 4)
    fault(3, 0, 1, 2)
    with pytest.raises(RoundFailedError):
        run(tmp_path / "failed", 4, round_retries=1)

    (said,) = read_runs(tmp_path / "failed")
    assert said.status == "failed"
    assert "round 3 does not count: 1 of 4 clients sent a usable model" in said.reason
    assert "tried 2 times" in said.reason
    assert column(said.path, "round") == [0, 1, 2]
    assert not (said.path / "model.safetensors").exists()

    fault(0)
    path = run(tmp_path / "failed", 4, round_retries=1, resume="latest")
    assert outcome(path) == outcome(whole)
    assert info(path)["status"] == "completed"
    assert info(path)["reason"] == ""


def test_a_client_that_refuses_the_roll_call_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(client: int, number: int) -> None:
        if client == 1 and number == 0:
            raise InputError("other weights")

    monkeypatch.setattr(Adding, "fault", staticmethod(refuse))
    path = run(tmp_path, 3, num_server_rounds=1)
    assert [row["client"] for row in read_csv(path / "partitions.csv")] == ["0", "2"]
    assert info(path)["num_clients"] == 2
    assert "client 1: other weights" in caplog.text


# ---- resume -------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["fedavg", "fedavgm", "fedprox", "fedadam", "fedyogi"])
def test_a_run_in_two_parts_equals_one(tmp_path: Path, strategy: str) -> None:
    keys = {"strategy": strategy, "fraction_train": 0.6}
    whole = run(tmp_path / "whole", 5, **keys)
    run(tmp_path / "parts", 5, num_server_rounds=2, **keys)
    path = run(tmp_path / "parts", 5, resume="latest", **keys)

    assert outcome(path) == outcome(whole)
    assert len(info(path)["flwr_run_ids"]) == 2
    assert len(read_runs(tmp_path / "parts")) == 1


def cut_off_line(path: Path) -> None:
    with (path / "rounds.csv").open("a") as file:
        file.write("3,0.1,0.")


def rows_of_a_lost_round(path: Path) -> None:
    for name in ("rounds.csv", "clients.csv"):
        last = (path / name).read_text().splitlines()[-1].split(",")
        with (path / name).open("a") as file:
            file.write(",".join(["3", *last[1:]]) + "\n")


def broken_checkpoint(path: Path) -> None:
    newest = path / "checkpoints" / "round-0002.safetensors"
    newest.write_bytes(newest.read_bytes()[:-20])


def broken_checkpoints(path: Path) -> None:
    for file in (path / "checkpoints").iterdir():
        file.write_bytes(b"")


def no_checkpoints(path: Path) -> None:
    for file in (path / "checkpoints").iterdir():
        file.unlink()


def half_written_files(path: Path) -> None:
    for name in ("checkpoints/.round-0003.safetensors.x1", ".run.json.x2", ".rounds.csv.x3"):
        (path / name).write_bytes(b"half")


def no_final_files(path: Path) -> None:
    for name in ("model.safetensors", "summary.json", "attributes.csv", "progress.json"):
        (path / name).unlink()


@pytest.mark.parametrize(
    "damage",
    [
        cut_off_line,
        rows_of_a_lost_round,
        broken_checkpoint,
        broken_checkpoints,
        no_checkpoints,
        half_written_files,
        no_final_files,
    ],
)
@pytest.mark.parametrize("strategy", ["fedavg", "fedavgm"])
def test_whatever_a_kill_left_behind(tmp_path: Path, damage: Any, strategy: str) -> None:
    whole = run(tmp_path / "whole", strategy=strategy)
    path = run(tmp_path / "parts", num_server_rounds=2, strategy=strategy)
    (path / "run.json").write_text(json.dumps(info(path) | {"status": "running"}))
    damage(path)

    assert run(tmp_path / "parts", resume="latest", strategy=strategy) == path
    assert outcome(path) == outcome(whole)


def test_a_run_killed_before_its_last_files_gets_them(tmp_path: Path) -> None:
    path = run(tmp_path)
    before = outcome(path)
    no_final_files(path)
    (path / "run.json").write_text(json.dumps(info(path) | {"status": "running"}))

    run(tmp_path, resume="latest")

    assert outcome(path) == before
    assert (path / "summary.json").exists()
    assert info(path)["status"] == "completed"


def test_a_run_killed_when_it_had_stopped_gets_its_last_files(tmp_path: Path) -> None:
    path = run(tmp_path, target=4.0)
    before, reason = outcome(path), info(path)["reason"]
    no_final_files(path)
    (path / "run.json").write_text(json.dumps(info(path) | {"status": "running", "reason": ""}))

    run(tmp_path, target=4.0, resume="latest")

    assert outcome(path) == before
    assert (info(path)["status"], info(path)["reason"]) == ("stopped", reason)


def test_a_completed_run_is_left_alone(tmp_path: Path) -> None:
    path = run(tmp_path)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(InputError, match="has done 4 rounds already"):
        run(tmp_path, resume="latest")
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_other_data_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "whole")
    run(tmp_path / "parts", num_server_rounds=2)
    monkeypatch.setattr(Adding, "fingerprint", "other")
    with pytest.raises(InputError, match=r"resume: dataset was .*'sums'.* and is .*'other'"):
        run(tmp_path / "parts", resume="latest")
    (said,) = read_runs(tmp_path / "parts")
    assert said.status == "failed"
    assert "'other'" in said.reason

    monkeypatch.setattr(Adding, "fingerprint", "sums")
    assert outcome(run(tmp_path / "parts", resume="latest")) == outcome(whole)


def test_another_partition_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run(tmp_path, num_server_rounds=2)
    describe = Adding.describe

    def other(self: Adding, node: Any, instructions: Any) -> Any:
        return describe(self, {"partition-id": node["partition-id"] + 1}, instructions)

    monkeypatch.setattr(Adding, "describe", other)
    with pytest.raises(InputError, match="num_examples of client 0 was 1 and is 2 now"):
        run(tmp_path, resume="latest")
    assert column(path, "round") == [0, 1, 2]


@pytest.mark.parametrize(("keep", "stay"), [(1, [4]), (3, [2, 3, 4])])
def test_checkpoints_that_stay(tmp_path: Path, keep: int, stay: list[int]) -> None:
    path = run(tmp_path, keep_checkpoints=keep)
    kept = sorted(file.name for file in (path / "checkpoints").iterdir())
    assert kept == [f"round-{number:04d}.safetensors" for number in stay]


def test_the_best_checkpoint_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Best at a weight of 14 / 6, which is that of round 1; on test another one would be.
    def judge(self: Adding, arrays: Any) -> dict[str, dict[str, float]]:
        score = -abs(float(arrays["weight"][0]) - 14 / 6)
        return {"server_valid": {"score": score}, "test": {"score": float(arrays["weight"][0])}}

    monkeypatch.setattr(Adding, "evaluate_centrally", judge)
    path = run(tmp_path, keep_checkpoints=1)
    kept = sorted(file.name for file in (path / "checkpoints").iterdir())
    assert kept == ["round-0001.safetensors", "round-0004.safetensors"]


# ---- killed -------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone: no `except Exception` hears of it, and nothing is written after it."""


class Killer:
    """Lets this process write some files and then none; the last one is left half written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 10**9
        self.locks: list[FileLock] = []
        replace, unlink, append = os.replace, Path.unlink, RunDirectory.append

        def lock(*args: Any, **options: Any) -> FileLock:
            self.locks.append(FileLock(*args, **options))
            return self.locks[-1]

        def killed_replace(source: Any, target: Any) -> None:
            if self.dies():
                if self.left == -1:
                    os.truncate(source, os.path.getsize(source) // 2)
                raise Killed
            replace(source, target)

        def killed_unlink(path: Path, missing_ok: bool = False) -> None:
            if self.dies():
                raise Killed
            unlink(path, missing_ok)

        def killed_append(self_: RunDirectory, name: str, rows: Any) -> None:
            path = self_.path / name
            before = path.stat().st_size if path.exists() else 0
            dies = self.dies()
            if not dies or self.left == -1:
                append(self_, name, rows)
            if dies and self.left == -1:
                os.truncate(path, (before + path.stat().st_size) // 2)
            if dies:
                raise Killed

        monkeypatch.setattr(directory, "FileLock", lock)
        monkeypatch.setattr(os, "replace", killed_replace)
        monkeypatch.setattr(Path, "unlink", killed_unlink)
        monkeypatch.setattr(RunDirectory, "append", killed_append)

    def dies(self) -> bool:
        self.left -= 1
        return self.left < 0

    def run(self, writes: int, *args: Any, **keys: Any) -> bool:
        """Run with so many writes; whether it was killed."""
        self.left = writes
        try:
            run(*args, **keys)
            return False
        except Killed:
            return True
        finally:
            self.left = 10**9
            for lock in self.locks:  # as the system does
                lock.release(force=True)


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    return Killer(monkeypatch)


def has_run(folder: Path) -> bool:
    return bool(list(folder.glob("*/run.json")))


def test_killed_at_any_write(tmp_path: Path, killer: Killer) -> None:
    keys = {"num_server_rounds": 2, "strategy": "fedavgm", "keep_checkpoints": 1}
    expected = outcome(run(tmp_path / "whole", **keys))
    writes = 0
    while killer.run(writes, folder := tmp_path / str(writes), **keys):
        writes += 1
        if has_run(folder):
            path = run(folder, resume="latest", **keys)
            assert outcome(path) == expected, f"killed at write {writes}"
            assert info(path)["status"] == "completed"
        if writes == 500:
            pytest.fail("does not end")
    assert writes > 20


def test_killed_again_and_again(tmp_path: Path, killer: Killer) -> None:
    keys = {"num_server_rounds": 6, "strategy": "fedadam"}
    expected = outcome(run(tmp_path / "whole", **keys))
    chance = random.Random(0)
    kills = 0
    while killer.run(
        chance.randint(8, 25),
        tmp_path / "killed",
        resume="latest" if has_run(tmp_path / "killed") else "",
        **keys,
    ):
        kills += 1
        if kills == 100:
            pytest.fail("does not end")
    (said,) = read_runs(tmp_path / "killed")
    assert kills > 3
    assert outcome(said.path) == expected


# ---- unreadable images --------------------------------------------------------------------


@pytest.fixture
def cut_short(toy: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The toy with the first train image of a hundred bytes only."""
    folder = write_celeba(tmp_path / "celeba", splits="0" * 20 + "1" * 4 + "2" * 4, seed=5)
    image = folder / "img_align_celeba" / "000001.jpg"
    image.write_bytes(image.read_bytes()[:100])
    return {**toy, "dataset": str(folder), "results-dir": str(tmp_path / "runs")}


def test_an_unreadable_image_is_named_and_left_out(
    cut_short: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_inline(RunConfig.load(cut_short), 4, server_app.app, client_app)
    (done,) = read_runs(tmp_path / "runs")
    assert done.status == "completed"
    held = read_csv(done.path / "partitions.csv")
    assert sum(int(row["num_examples"]) + int(row["num_valid"]) for row in held) == 19
    assert "000001.jpg" in caplog.text


def test_an_unreadable_image_fails_the_run_if_asked_to(
    cut_short: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"cannot be read: 000001\.jpg"):
        run_inline(
            RunConfig.load({**cut_short, "bad-images": "fail"}), 4, server_app.app, client_app
        )
    (done,) = read_runs(tmp_path / "runs")
    assert done.status == "failed"
    assert "000001.jpg" in done.reason


# ---- sites with images of their own -------------------------------------------------------


def run_sites(toy: dict[str, Any], nodes: list[dict[str, Any]], folder: Path, **keys: Any) -> Path:
    config = RunConfig.load({**toy, "results-dir": str(folder), **keys})
    run_inline(config, nodes, server_app.app, client_app)
    return read_runs(folder)[0].path


@pytest.fixture
def sites(toy: dict[str, Any], tmp_path: Path) -> list[dict[str, Any]]:
    folders = write_sites(tmp_path / "sites", Path(toy["dataset"]))
    return [{"site": folder.name, "data-path": str(folder)} for folder in folders]


def test_sites_alone_lead_with_valid(
    toy: dict[str, Any], sites: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = run_sites(toy, sites, tmp_path / "runs", dataset="none")
    row = read_csv(path / "rounds.csv")[-1]
    assert row["valid_loss"]
    assert {row[name] for name in row if name.startswith(("test_", "server_valid_"))} == {""}
    assert {row["split"] for row in read_csv(path / "attributes.csv")} == {"train", "valid"}
    assert json.loads((path / "summary.json").read_text()) == {}


def test_nothing_that_a_site_holds_leaves_it(
    toy: dict[str, Any], sites: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = run_sites(toy, sites, tmp_path / "runs", dataset="none")
    written = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    for trace in ("faces/", "000001.jpg", str(tmp_path / "sites")):
        assert trace.encode() not in written


def test_sites_and_partitions_in_one_run(
    toy: dict[str, Any], sites: list[dict[str, Any]], tmp_path: Path
) -> None:
    partitions = [{"partition-id": i, "num-partitions": 2} for i in range(2)]
    path = run_sites(toy, [*sites, *partitions], tmp_path / "runs")
    held = {
        row["client"]: int(row["num_examples"]) + int(row["num_valid"])
        for row in read_csv(path / "partitions.csv")
    }
    named = {"hospital-a": 20, "hospital-b": 20, "hospital-c": 20}
    assert held == {"0": 30, "1": 30, **named}
    assert read_csv(path / "rounds.csv")[-1]["test_loss"]


def test_a_site_that_lacks_attributes_is_refused_by_name_and_the_others_go_on(
    toy: dict[str, Any],
    sites: list[dict[str, Any]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    metadata = Path(sites[1]["data-path"]) / "metadata.csv"
    metadata.write_text(metadata.read_text().replace("Smiling", "Smile"))
    path = run_sites(toy, sites, tmp_path / "runs", dataset="none")
    assert [row["client"] for row in read_csv(path / "partitions.csv")] == [
        "hospital-a",
        "hospital-c",
    ]
    assert "client hospital-b: " in caplog.text
    assert "lacks the columns Smiling" in caplog.text


def test_two_sites_of_one_name_are_refused(
    toy: dict[str, Any], sites: list[dict[str, Any]], tmp_path: Path
) -> None:
    sites[1]["site"] = "hospital-a"
    with pytest.raises(InputError, match="two clients are called 'hospital-a'"):
        run_sites(toy, sites, tmp_path / "runs", dataset="none")


def test_a_full_disk_at_a_site_is_named_and_the_others_go_on(
    toy: dict[str, Any],
    sites: list[dict[str, Any]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill = FeatureStore.fill

    def full(store: FeatureStore, rows: np.ndarray, bad_images: str) -> None:
        if "hospital-b" in store.table.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fill(store, rows, bad_images)

    monkeypatch.setattr(FeatureStore, "fill", full)
    path = run_sites(toy, sites, tmp_path / "runs", dataset="none")
    assert info(path)["num_clients"] == 2
    assert "client hospital-b: [Errno 28] No space left on device" in caplog.text
