"""The ClientApp, called directly."""

import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from adding import Adding, record, settings, values
from flwr.app import ConfigRecord, Context, RecordDict

from celeba_fl import client_app
from celeba_fl.client_app import app
from celeba_fl.common.bundle import code_hash
from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG
from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.launch.inline import InlineGrid
from celeba_fl.task import derived_seed, load_task
from celeba_fl.tasks.examples import view_of
from celeba_fl.vision import precision
from celeba_fl.vision.features import preprocessing_hash

NODE = {"partition-id": 1, "num-partitions": 3}
HASH = "ab" * 32
SENT = {
    "weight": np.float32([1, 2]),
    "noise": np.zeros(3, np.float32),
    "bias": np.zeros((1, 2), np.float64),
}


def call(
    kind: str,
    keys: dict[str, Any],
    node: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    **records: Any,
) -> RecordDict:
    """What a client answers."""
    content = RecordDict({name: record(arrays) for name, arrays in records.items()})
    content["config"] = ConfigRecord(config or {})
    run_config = RunConfig.load(keys).to_dict()
    context = Context(1, 2, NODE if node is None else node, RecordDict(), dict(run_config))
    message = InlineGrid(app, 1, {}).create_message(content, kind, 2, "")
    reply = app(message, context)
    assert not reply.has_error()
    return reply.content


@pytest.fixture
def keys(tmp_path: Any) -> dict[str, Any]:
    return settings(tmp_path)


# ---- query --------------------------------------------------------------------------------


def test_a_client_says_who_it_is(keys: dict[str, Any]) -> None:
    said = call("query", keys, files={})
    assert said["client"]["name"] == "1"
    assert said["client"]["missing"] == ""
    assert said["client"]["code"] == code_hash("adding") != code_hash()
    assert said["client"]["path"].endswith("/adding.py")
    assert dict(said["metrics"]) == {"num-examples": 2, "num-valid": 1}
    assert values(said["counts"]) == {"counts": [1]}


def test_a_site_is_the_name(keys: dict[str, Any]) -> None:
    said = call("query", keys, {**NODE, "site": "Berlin"}, files={})
    assert said["client"]["name"] == "Berlin"


def test_a_node_without_a_name_is_told_how_to_get_one(keys: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="this node has no name: start it with --node-config"):
        call("query", keys, {"num-partitions": 3}, files={})


def test_a_client_takes_the_files_that_it_gets(
    keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    got = {}
    monkeypatch.setattr(Adding, "receive", lambda self, sha256, data: got.update({sha256: data}))
    file = {HASH: np.frombuffer(b"weights", np.uint8)}
    call("query", keys, config={"weights": HASH}, files=file)
    assert got == {HASH: b"weights"}


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", HASH, HASH.upper(), ""])
def test_a_client_takes_no_file_that_it_was_not_told_of(
    keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(Adding, "receive", lambda *_: pytest.fail("it is taken"))
    with pytest.raises(InputError, match="client 1: the server sends a file that it did not tell"):
        call("query", keys, config={"weights": "c" * 64}, files={name: np.uint8([1])})


def test_a_refusal_names_the_client(keys: dict[str, Any]) -> None:
    file = {HASH: np.uint8([1])}
    with pytest.raises(InputError, match="client Berlin: no use for the file"):
        call("query", keys, {**NODE, "site": "Berlin"}, {"weights": HASH}, files=file)


# ---- train and evaluate -------------------------------------------------------------------


def test_training(keys: dict[str, Any]) -> None:
    said = call("train", keys, config={"server-round": 3}, arrays=SENT)

    noise = np.random.default_rng(derived_seed(42, 3, "1")).normal(size=3).astype(np.float32)
    assert values(said["arrays"]) == {
        "weight": [3, 4],
        "noise": noise.tolist(),
        "bias": [[0.1, 0.1]],
    }
    assert [array.dtype for array in said["arrays"].values()] == ["float32", "float32", "float64"]
    metrics = dict(said["metrics"])
    assert metrics.pop("seconds") >= 0
    assert metrics == {"num-examples": 2, "local-loss": 0.5}


@pytest.mark.parametrize(
    ("changed", "number", "node"),
    [({"seed": 1}, 3, NODE), ({}, 4, NODE), ({}, 3, {**NODE, "site": "Berlin"})],
)
def test_chance_depends_on_seed_round_and_name(
    keys: dict[str, Any], changed: dict[str, Any], number: int, node: dict[str, Any]
) -> None:
    def noise(number: int, node: dict[str, Any], **changed: Any) -> list[float]:
        said = call("train", {**keys, **changed}, node, {"server-round": number}, arrays=SENT)
        return list(values(said["arrays"])["noise"])

    assert noise(3, NODE) == noise(3, NODE)
    assert noise(number, node, **changed) != noise(3, NODE)


def test_a_client_without_examples_answers_with_zeros(
    keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(self: Adding, arrays: Any, node: Any, instructions: Any, seed: int) -> Any:
        return arrays, 0, float("nan")

    monkeypatch.setattr(Adding, "train", nothing)
    said = call("train", keys, config={"server-round": 1}, arrays=SENT)
    assert said["metrics"]["num-examples"] == 0
    assert said["metrics"]["local-loss"] == 0.0
    assert values(said["arrays"])["weight"] == [1, 2]


def test_evaluation(keys: dict[str, Any]) -> None:
    said = call("evaluate", keys, config={"server-round": 3}, arrays=SENT)
    assert set(said.array_records) == {"train", "valid"}
    assert values(said["valid"]) == {"n": 1, "sum": [1.0]}
    assert said["metrics"]["num-examples"] == 1
    assert said["metrics"]["seconds"] >= 0


def test_an_error_of_the_tasks_is_not_swallowed(
    keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(client: int, number: int) -> None:
        raise RuntimeError("no power")

    monkeypatch.setattr(Adding, "fault", staticmethod(fail))
    with pytest.raises(InputError, match=r"^RuntimeError: no power$"):
        call("train", keys, config={"server-round": 1}, arrays=SENT)


@pytest.mark.parametrize("kind", ["query", "train", "evaluate"])
@pytest.mark.parametrize("error", [InputError, ValueError, KeyError])
def test_the_owner_reads_all_of_an_error_and_the_server_its_kind(
    keys: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    error: type[Exception],
) -> None:
    table, row = "/srv/site/list_attr_celeba.txt", "anna-meier.jpg -1 1 1"

    def fail(*_: object) -> None:
        raise error(f"{table}, line {7}: {row!r} has three cells")

    for method in ("describe", "train", "evaluate"):
        monkeypatch.setattr(Adding, method, fail)
    with pytest.raises(InputError) as caught:
        call(kind, keys, config={"server-round": 1}, arrays=SENT, files={})
    assert "list_attr_celeba.txt, line 7: ... has three cells" in str(caught.value) or (
        error is KeyError
    )
    assert "meier" not in str(caught.value)
    assert "/srv" not in str(caught.value)
    assert row in caplog.text
    # Where it came from, unless the message says it all.
    assert caplog.text.count(", in fail") == (error is not InputError)


@pytest.mark.parametrize(
    ("node", "shown", "hidden"),
    [
        (
            {"min-cohort": "'many'"},
            "client 1: min-cohort = ...: in a node config, should be a",
            "many",
        ),
        ({"min-cohort": 1}, "client 1: min-cohort = ...: in a node config, should be a", "= 1"),
        (
            {"roster": "/srv/site/r", "signing-key": "/srv/site/k"},
            "client 1: roster = ...: ",
            "srv",
        ),
        ({"roster": "/srv/site/r"}, "the node config needs ... too, or neither", "/srv"),
    ],
)
def test_the_server_reads_of_an_error_of_secure_sums_what_others_may(
    keys: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    node: dict[str, Any],
    shown: str,
    hidden: str,
) -> None:
    with pytest.raises(InputError) as caught:
        call("query", {**keys, "secure-aggregation": True}, {**NODE, **node}, files={})
    assert shown in str(caught.value)
    assert hidden not in str(caught.value)
    assert caplog.text.count("client 1: ") == 1  # whole, and once
    if "min-cohort" in node:
        assert f"min-cohort = {node['min-cohort']!r}" in caplog.text


def test_what_is_filtered_once_stays_as_it_is(
    keys: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InputError, match=r"^client 1: the server sends a file") as caught:
        call("query", keys, files={"abc": np.zeros(1)})
    assert type(caught.value).__name__.endswith("InputError")  # as rounds/exchange.py has it
    assert caplog.text.count("the server sends a file") == 1


def test_a_client_that_is_not_chosen_does_nothing(
    keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_app, "load_task", lambda config: pytest.fail("it loads the task"))
    said = call("query", {**keys, "clients": "0, 2"}, files={"abc": np.zeros(1)})
    assert {name: dict(record) for name, record in said.items()} == {"sits-out": {"name": "1"}}


def test_a_chosen_client_answers_as_ever(keys: dict[str, Any]) -> None:
    chosen = call("query", {**keys, "clients": "0,1"}, files={})
    assert chosen == call("query", keys, files={})


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_any_task_computes_on_one_thread(
    keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    torch.set_num_threads(2)
    threads: list[int] = []
    own = getattr(Adding, kind)

    def note(self: Adding, *arguments: Any) -> Any:
        threads.append(torch.get_num_threads())
        return own(self, *arguments)

    monkeypatch.setattr(Adding, kind, note)
    call(kind, keys, config={"server-round": 1}, arrays=SENT)
    assert threads == [1]


# ---- the main task ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(toy: dict[str, Any]) -> dict[str, Any]:
    return dict(load_task(RunConfig.load(toy)).prepare().instructions)


def test_the_main_task_counts_its_images(toy: dict[str, Any], prepared: dict[str, Any]) -> None:
    said = [
        call("query", toy, {**NODE, "partition-id": i}, prepared, files={})["metrics"]
        for i in range(3)
    ]
    assert [m["num-examples"] + m["num-valid"] for m in said] == [20, 20, 20]


def test_the_main_task_trains_and_evaluates(toy: dict[str, Any], prepared: dict[str, Any]) -> None:
    arrays = load_task(RunConfig.load(toy)).initial_arrays()
    config = {**prepared, "server-round": 1}

    trained = call("train", toy, config=config, arrays=arrays)
    again = call("train", toy, config=config, arrays=arrays)
    judged = call("evaluate", toy, config=config, arrays=arrays)

    assert values(trained["arrays"]) == values(again["arrays"])
    assert values(trained["arrays"]) != values(record(arrays))
    assert {k: a.shape for k, a in trained["arrays"].items()} == {
        key: array.shape for key, array in arrays.items()
    }
    number = trained["metrics"]["num-examples"]
    counted = judged["train"]["positives"].numpy().sum(1) + judged["train"][
        "negatives"
    ].numpy().sum(1)
    assert counted.tolist() == [number] * len(ATTRIBUTES)


def test_other_preprocessing_is_refused(toy: dict[str, Any], prepared: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="client 1: this client prepares images in another way"):
        call("query", toy, config={**prepared, "preprocessing": "other"}, files={})


def test_a_site_that_cannot_compute_as_the_server_says_is_refused(
    toy: dict[str, Any], prepared: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "lacking_bf16", lambda: "the processor is old")
    view = replace(view_of(RunConfig.load(toy), "last"), precision="bf16")
    told = {**prepared, "precision": "bf16", "preprocessing": preprocessing_hash(view)}
    with pytest.raises(InputError, match="client 1: precision = 'bf16': the processor is old"):
        call("query", toy, config=told, files={})


def test_weights_that_are_missing_are_asked_for(
    toy: dict[str, Any], prepared: dict[str, Any]
) -> None:
    said = call("query", toy, config={**prepared, "weights": "0" * 64}, files={})
    assert said["client"]["missing"] == "0" * 64
    assert said["metrics"]["num-examples"] == 0


def test_neither_server_nor_a_warm_client_imports_much_not_even_torch(
    toy: dict[str, Any], prepared: dict[str, Any]
) -> None:
    """In a new process: prepare, then train, naming what has been loaded after each."""
    code = f"""
import sys
import celeba_fl.client_app, celeba_fl.server_app
from celeba_fl.config import RunConfig
from celeba_fl.task import load_task

heavy = {{"torch", "torchvision", "datasets", "onnxruntime", "pandas", "sklearn", "matplotlib"}}
task = load_task(RunConfig.load({toy!r}))
instructions = task.prepare().instructions
task.evaluate_centrally(task.initial_arrays())
print(sorted(heavy & sys.modules.keys()))
task.describe({NODE!r}, instructions)
trained = task.train(task.initial_arrays(), {NODE!r}, instructions, 0)[0]
task.evaluate(trained, {NODE!r}, instructions)
print(sorted(heavy & sys.modules.keys()))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["[]", "[]"]


def test_a_site_logs_a_line_a_message(
    keys: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_app, "simulated", lambda: True)
    call("train", keys, config={"server-round": 2}, arrays=SENT)
    assert "round 2" not in caplog.text, "a simulation has one log for all"
    monkeypatch.setattr(client_app, "simulated", lambda: False)
    caplog.set_level("INFO", LOG.name)
    call("query", keys, files={})
    call("train", keys, config={"server-round": 2}, arrays=SENT)
    call("evaluate", keys, config={"server-round": 2}, arrays=SENT)
    words = "\n".join(caplog.messages[-3:])
    assert re.fullmatch(
        r"round 0: introduced itself with \d+ train and \d+ validation examples\n"
        r"round 2: trained on \d+ examples, loss [\d.]+, [\d.]+ s\n"
        r"round 2: evaluated the model on .* examples, [\d.]+ s",
        words,
    )
