"""Runs in which only sums leave a client."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adding import Adding, run, settings
from flwr.app import Message, RecordDict
from safetensors.numpy import load_file
from watched import Watched, info, lost, watch

from celeba_fl.client_app import app as client_app
from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import InlineGrid, run_inline
from celeba_fl.privacy.encoding import STEP
from celeba_fl.privacy.packets import unpacked
from celeba_fl.report.reading import Run
from celeba_fl.report.sections.clients import clients, partitions
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.server_app import app as server_app
from celeba_fl.task import Instructions, NodeConfig, Trained

MANY: dict[str, Any] = {"partitioner": "dirichlet", "dirichlet-alpha": 0.1}


class Summing(Adding):
    """Client i has a sum of i + 1; the weights are the total."""

    sums: Callable[[int], Arrays] = staticmethod(lambda client: {"s": np.array([client + 1])})

    def zero_sums(self) -> Arrays:
        return {"s": np.zeros(1, np.int64)}

    def summarise(self, node: NodeConfig, instructions: Instructions) -> tuple[Arrays, int]:
        client = int(node["partition-id"])
        return self.sums(client), client + 1

    def solve(self, sums: Arrays, instructions: Instructions) -> Arrays:
        return {key: array + sums["s"][0] for key, array in self.initial_arrays().items()}


def rounds(path: Path) -> list[dict[str, str]]:
    """The rows of rounds.csv, but for times and traffic."""
    hidden = ("seconds", "bytes_up", "bytes_down")
    return [
        {key: cell for key, cell in row.items() if key not in hidden}
        for row in read_csv(path / "rounds.csv")
    ]


def scores(path: Path) -> list[float]:
    return [float(row["valid_score"]) for row in read_csv(path / "rounds.csv")]


# ---- the same results ---------------------------------------------------------------------


def assert_same_to_the_last_bit(folder: Path, nodes: int, keys: dict[str, Any]) -> None:
    """The closed form with and without secure sums: model, rounds and all tables of results."""
    paths = []
    for secure in (False, True):
        own = {"strategy": "closed-form", "results-dir": str(folder / str(secure))}
        config = RunConfig.load({**keys, **own, "secure-aggregation": secure})
        run_inline(config, nodes, server_app, client_app)
        paths.append(read_runs(folder / str(secure))[0].path)
    plain, secured = paths
    assert rounds(plain) == rounds(secured)
    by_client = {"rounds.csv", "clients.csv", "partitions.csv", "nodes.csv"}
    names = {path.name for path in plain.glob("*.csv")} - by_client
    assert {"attributes.csv", "groups.csv"} <= names
    for name in {*names, "model.safetensors", "summary.json", "test_scores.parquet"}:
        assert (plain / name).read_bytes() == (secured / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("nodes", "keys"),
    [(4, {}), (22, MANY), (4, {"fair-groups": "Male"})],
    ids=["iid", "dirichlet 0.1, sparse", "fair"],
)
def test_the_closed_form_is_the_same_to_the_last_bit(
    toy: dict[str, Any], tmp_path: Path, nodes: int, keys: dict[str, Any], reports: None
) -> None:
    shown = {"scaling": "clients", "init": "base-rates"}
    assert_same_to_the_last_bit(tmp_path, nodes, {**toy, **keys, **shown})


@pytest.mark.slow
@pytest.mark.parametrize("keys", [{}, MANY], ids=["iid", "dirichlet 0.1"])
def test_celeba(
    celeba: dict[str, Any], tmp_path: Path, keys: dict[str, Any], reports: None
) -> None:
    assert_same_to_the_last_bit(tmp_path, 50, {**celeba, **keys})


@pytest.mark.parametrize("strategy", ["fedavg", "fedavgm", "fedprox", "fedadam", "fedyogi"])
@pytest.mark.parametrize("weighting", ["examples", "uniform"])
def test_averages_are_the_same_within_the_bound(
    tmp_path: Path, strategy: str, weighting: str
) -> None:
    keys = {"strategy": strategy, "weighting": weighting}
    plain = run(tmp_path / "plain", 4, **keys)
    secure = run(tmp_path / "secure", 4, **keys, secure_aggregation=True)
    one, other = (load_file(path / "model.safetensors") for path in (plain, secure))
    # The bias is in double precision. Adaptive servers divide by the root of tau, 0.001, at most.
    bound = 4 * STEP / 2 + 1e-12
    for name in one:
        off = np.abs(one[name].astype(float) - other[name])
        width = np.spacing(np.abs(one[name]).max()) if one[name].dtype == np.float32 else 0.0
        assert (
            off.max()
            <= 4 * bound * (1000 if "ada" in strategy or "yogi" in strategy else 1) + width
        )
    for mine, its in zip(rounds(plain), rounds(secure), strict=True):
        for key, cell in mine.items():
            assert float(cell) == pytest.approx(float(its[key]), abs=1e-4)


def test_the_tables_say_what_is_known(tmp_path: Path) -> None:
    path = run(tmp_path, 4, secure_aggregation=True)
    assert read_csv(path / "partitions.csv") == [
        {"client": "total", "num_examples": "10", "num_valid": "4", "odd": "2"}
    ]
    rows = read_csv(path / "clients.csv")
    assert [row["client"] for row in rows[:4]] == ["0", "1", "2", "3"]
    for row in rows:
        known = {key for key, cell in row.items() if cell}
        assert known == {"round", "client", "seconds"}
    assert info(path)["num_clients"] == 4
    assert [row["clients"] for row in read_csv(path / "rounds.csv")] == ["4"] * 5


class InEpochs(Adding):
    """The sum over i + 1 train examples is that of 0.1 each, and 2 over one of validation."""

    def train(self, *given: Any) -> Any:
        arrays, n, loss = super().train(*given)
        sums = {"train_loss": [0.1 * n, 0.2 * n], "valid_loss": [2.0, 2.0]}
        return Trained(arrays, n, loss, sums)


@pytest.mark.parametrize("weighting", ["examples", "uniform"])
@pytest.mark.parametrize("gone", [0, 9])
def test_epochs_are_means_over_those_behind_the_total(
    tmp_path: Path, weighting: str, gone: int
) -> None:
    keys = settings(tmp_path, task=f"{__name__}:InEpochs", weighting=weighting)
    _, path = watch({**keys, "num-server-rounds": 1}, 4, lost(gone, "mask", 2))
    rows = [{**row} for row in read_csv(path / "epochs.csv")]
    assert [(row["client"], row["epoch"]) for row in rows] == [("total", "1"), ("total", "2")]
    assert [float(row["train_loss"]) for row in rows] == pytest.approx([0.1, 0.2])
    # How many validation examples those have that are left, nobody says.
    assert [row["valid_loss"] for row in rows] == (["", ""] if gone == 0 else ["2.0", "2.0"])


def test_the_report_explains_what_is_not_known(tmp_path: Path) -> None:
    run_path = Run.read(run(tmp_path, 4, secure_aggregation=True))
    (held,), (served,) = partitions(run_path), clients(run_path)
    assert "4 clients hold 10 train examples together. What each of them holds is not" in str(held)
    assert "How well each client is served is not known here: only sums leave" in str(served)


def test_without_it_a_client_loads_no_cryptography() -> None:
    code = "import sys, celeba_fl.client_app as c; print([m for m in sys.modules "
    code += "if m.startswith('celeba_fl.privacy')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_cohorts_have_exchanges_of_their_own(tmp_path: Path) -> None:
    keys = {"fraction_train": 0.5}
    plain = run(tmp_path / "plain", 12, **keys)
    secure = run(tmp_path / "secure", 12, **keys, secure_aggregation=True)
    for one, other in zip(scores(plain), scores(secure), strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_totals_over_changing_cohorts_hold_nothing_that_stays_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grid, _ = watch(settings(tmp_path, fraction_train=0.5), 8)
    everyone: set[str] = set()
    changing: set[str] = set()
    for _, step, reply in grid.seen:
        if step == "mask":
            for layout in unpacked(reply)["layouts"].values():
                names = {name for name, _, _ in json.loads(layout)}
                (changing if "train/weight/weight" in names else everyone).update(names)
    arrays = {"train/arrays/bias", "train/arrays/noise", "train/arrays/weight"}
    weight = {"train/weight/weight", "train/metrics/num-examples"}
    assert changing == {*arrays, *weight, "train/metrics/local-loss"}
    assert {"query/metrics/counts", "query/metrics/num-valid", "evaluate/valid/n"} <= everyone
    assert "can compute how many examples each client has" in caplog.text


def test_who_cannot_be_counted_does_not_take_part(tmp_path: Path) -> None:
    _, path = watch(settings(tmp_path), 4, lost(0, "mask", 1))
    assert info(path)["status"] == "completed"
    assert {row["client"] for row in read_csv(path / "clients.csv")} == {"1", "2", "3"}
    assert read_csv(path / "partitions.csv")[0]["num_examples"] == "9"


def test_a_run_goes_on_with_new_keys(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", 4, secure_aggregation=True)
    first = run(tmp_path / "half", 4, secure_aggregation=True, num_server_rounds=2)
    again = run(tmp_path / "half", 4, secure_aggregation=True, resume=str(first))
    assert scores(again) == scores(whole)
    for name, array in load_file(whole / "model.safetensors").items():
        np.testing.assert_array_equal(load_file(again / "model.safetensors")[name], array)


# ---- drop-outs ----------------------------------------------------------------------------


def summing(folder: Path, **keys: Any) -> dict[str, Any]:
    return settings(folder, task=f"{__name__}:Summing", strategy="closed-form", **keys)


# The exchanges: 1 is of the roll call's numbers, 2 of the sums, 3 of the last evaluation.
@pytest.mark.parametrize(
    ("step", "serial", "total", "failures"),
    [
        ("keys", 0, 9, "0"),  # it does not take part
        ("unmask", 1, 10, "0"),  # it is asked again for its shares
        ("mask", 2, 9, "1"),
        ("unmask", 2, 10, "0"),
    ],
)
def test_who_drops_out_costs_its_own_sums(
    tmp_path: Path, step: str, serial: int, total: int, failures: str
) -> None:
    _, path = watch(summing(tmp_path), 4, lost(0, step, serial))
    assert info(path)["status"] == "completed"
    assert scores(path) == [0, total]
    assert read_csv(path / "rounds.csv")[-1]["failures"] == failures


def test_drop_outs_in_each_stage_together(tmp_path: Path) -> None:
    def lose(client: int, step: str, serial: int) -> bool:
        gone = {("keys", 0): 0, ("unmask", 1): 1, ("share", 3): 1, ("mask", 3): 2, ("unmask", 3): 3}
        return gone.get((step, serial)) == client

    _, path = watch(summing(tmp_path, min_replies=0.1), 9, lose)
    assert info(path)["status"] == "completed"
    assert scores(path) == [0, sum(range(1, 10)) - 1 - 2 - 3]


def test_too_few_fail_the_round_which_is_tried_again(tmp_path: Path) -> None:
    def lose(client: int, step: str, serial: int) -> bool:
        return step == "mask" and serial == 2 and client < 2

    grid, path = watch(summing(tmp_path), 4, lose)
    assert load_file(path / "model.safetensors")["weight"].tolist() == [10, 10]
    assert [step for client, step, _ in grid.seen if client == 3].count("share") == 2


def test_one_more_than_the_threshold_fails_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def lose(client: int, step: str, serial: int) -> bool:
        return step == "unmask" and serial > 1 and client < 2

    _, path = watch(summing(tmp_path), 4, lose)
    assert info(path)["status"] == "failed"
    assert "2 clients gave a share of 0, and 3 must; lost" in caplog.text
    assert (path / "checkpoints").exists()


# ---- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"strategy": "flwr.serverapp.strategy:Krum"}, "may need to see what each client sends"),
        ({"max-update-norm": 5.0}, "nobody sees the update of a client"),
        ({"min-cohort": 1}, "takes two or more"),
        ({"fraction-evaluate": 0.5}, "set it to 1, or to 0 to evaluate the last model alone"),
        ({"fraction-train": 0.5, "strategy": "closed-form"}, "the closed form takes the same"),
        ({"fraction-train": 0.5, "init": "closed-form"}, "the closed form takes the same"),
        ({"min-cohort": 3, "secure-aggregation": False}, "takes two or more"),
    ],
)
def test_what_cannot_be_summed_is_refused(tmp_path: Path, keys: dict[str, Any], why: str) -> None:
    given = {**settings(tmp_path), "secure-aggregation": True, **keys}
    with pytest.raises(InputError, match=why):
        run(tmp_path, 3, **{key.replace("-", "_"): value for key, value in given.items()})


@pytest.mark.parametrize(
    ("number", "keys", "why"),
    [
        (2, {}, "takes 3 clients (min-cohort), and the run asks 2"),
        (4, {"min_cohort": 5}, "takes 5 clients (min-cohort), and the run asks 4"),
        (
            5,
            {"fraction_train": 0.4},
            "takes 3 clients (min-cohort), and a round of training asks 2",
        ),
        (5, {"fraction_train": 0.4, "min_train_clients": 3}, ""),
    ],
)
def test_fewer_clients_than_a_total_takes_are_refused_at_the_start(
    tmp_path: Path, number: int, keys: dict[str, Any], why: str
) -> None:
    grid, path = watch(settings(tmp_path, **keys), number)
    assert info(path)["status"] == ("failed" if why else "completed")
    assert {step for _, step, _ in grid.seen} == {"keys"} or not why
    assert why in "".join(grid.errors)


def test_a_plain_message_is_not_answered(tmp_path: Path) -> None:
    config = RunConfig.load({**settings(tmp_path), "secure-aggregation": True})
    grid = InlineGrid(client_app, 1, config.to_dict())
    (node,) = grid.get_node_ids()
    for kind in ("query", "train", "evaluate"):
        (answer,) = grid.send_and_receive([Message(RecordDict(), node, kind)])
        assert "not one of secure sums, and nothing else is answered" in answer.error.reason


def test_a_site_can_insist_on_secure_sums_and_on_how_many(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nodes: list[dict[str, Any]] = [{"partition-id": i, "num-partitions": 4} for i in range(4)]
    nodes[1]["min-cohort"] = 3
    grid = InlineGrid(client_app, nodes, RunConfig.load(settings(tmp_path)).to_dict())
    (answer,) = grid.send_and_receive([Message(RecordDict(), grid.get_node_ids()[1], "query")])
    assert "this site takes part in secure sums alone" in answer.error.reason
    nodes[1]["min-cohort"] = 4
    _, path = watch(settings(tmp_path, round_retries=0), nodes, lost(0, "mask", 2))
    assert info(path)["status"] == "failed"
    assert "totals over 4 at least (min-cohort)" in caplog.text


def tampered(step: str, change: Callable[[dict[str, Any]], None]) -> Any:
    def apply(client: int, said: dict[str, Any]) -> None:
        serials = [one["serial"] for one in said.get("sums", [])]
        if client == 1 and said["step"] == step and 2 in serials:
            change(said)

    return apply


def spoil_share(said: dict[str, Any]) -> None:
    said["sums"][0]["peers"]["2"]["sealed"] = "00" * 80


def twice(said: dict[str, Any]) -> None:
    said["sums"] = [said["sums"][0], {**said["sums"][0], "survivors": ["1", "2", "3"]}]


def few(said: dict[str, Any]) -> None:
    said["sums"][0]["survivors"] = ["1", "2"]


@pytest.mark.parametrize(
    ("step", "change", "why"),
    [
        ("mask", spoil_share, "the share of 2 is refused: it was changed on the way"),
        ("mask", lambda said: said["sums"].append(said["sums"][0]), "it was answered before"),
        ("unmask", twice, "it was not begun, or was answered before"),
        ("unmask", few, "a total over 2 clients, and this one takes part in totals over 3"),
        ("unmask", lambda said: said.update(sums=5), "cannot be answered: TypeError"),
    ],
)
def test_a_client_that_is_asked_for_more_than_a_sum_refuses_and_says_why(
    tmp_path: Path, step: str, change: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    keys = settings(tmp_path, min_replies=1.0, round_retries=0, num_server_rounds=1)
    grid, _ = watch(keys, 4, change=tampered(step, change))
    assert any(why in error for error in grid.errors)


# ---- what the server sees -------------------------------------------------------------------


class Told(Adding):
    """Numbers that are easy to find."""

    number = 7_654_321

    def train(self, *given: Any) -> Any:
        arrays, _, _ = super().train(*given)
        return arrays, self.number, 0.123456789

    def describe(self, *given: Any) -> Any:
        about = super().describe(*given)
        return type(about)(self.number, 7_000_001, np.array([6_543_210]))

    def evaluate(self, *given: Any) -> Any:
        counts = {"n": np.array(7_111_111), "sum": np.array([0.987654321])}
        return {"train": counts, "valid": counts}, 7_000_001


def masked_words(grid: Watched) -> list[np.ndarray]:
    return [
        array.numpy()
        for _, _, reply in grid.seen
        if "masked" in reply
        for array in reply.array_records["masked"].values()
    ]


def test_plain_numbers_appear_nowhere_in_what_the_server_sees(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = settings(tmp_path, task=f"{__name__}:Told", num_server_rounds=1)
    grid, path = watch(keys, 3)
    assert info(path)["status"] == "completed"
    seen, logged = grid.bytes_seen(), caplog.text
    whole = (7_654_321, 7_000_001, 6_543_210, 7_111_111)
    for number in (*whole, 0.123456789, 0.987654321):
        for kind in (np.int64, np.uint32) if number in whole else (np.float64, np.float32):
            assert np.array([number]).astype(kind).tobytes() not in seen
        assert str(number).encode() not in seen
        assert str(number) not in logged
    words = np.concatenate(masked_words(grid)).view(np.int64)
    assert len(words) > 100
    assert (np.abs(words.astype(float)) > 2.0**40).all()


class First(Summing):
    """One client has it all, of many sums."""

    whose, size = 0, 20_000

    def zero_sums(self) -> Arrays:
        return {"s": np.zeros(self.size, np.int64)}

    def summarise(self, node: NodeConfig, instructions: Instructions) -> tuple[Arrays, int]:
        client = int(node["partition-id"])
        return {"s": np.full(self.size, 6 * (client == self.whose))}, client + 1


class Last(First):
    """Another has it all."""

    whose = 2


def chi_square(words: np.ndarray) -> float:
    """That of their bytes, of 255 degrees of freedom."""
    seen = np.bincount(words.view(np.uint8), minlength=256)
    return float(((seen - seen.mean()) ** 2 / seen.mean()).sum())


def test_the_same_total_of_other_numbers_looks_the_same(tmp_path: Path) -> None:
    words = []
    for task in ("First", "Last", "Last"):
        keys = settings(tmp_path, task=f"{__name__}:{task}", strategy="closed-form")
        grid, path = watch(keys, 3)
        assert scores(path) == [0, 6]
        words.append([one for one in masked_words(grid) if len(one) > First.size])
    for run_words in words:
        assert len(run_words) == 3
        for one in run_words:
            assert 150 < chi_square(one) < 380  # within 5 deviations
    # Of the same client: with other sums, with the same ones, and those of two clients.
    for one, other in ((words[0][0], words[1][0]), (words[1][0], words[2][0]), words[2][:2]):
        assert not (one == other).any()
        assert 150 < chi_square(one - other) < 380
