"""A tab's answers to the messages of real runs, against those of the Python client beside it."""

import base64
import dataclasses
import io
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli
import tomli_w
from flwr.app import Array, ConfigRecord, RecordDict
from peers import encoded, shown

from celeba_fl import server_app
from celeba_fl.client_app import app as client_app
from celeba_fl.common.bundle import PYPROJECT, code_hash
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.data.table import hash_image
from celeba_fl.evaluation.bins import EDGES
from celeba_fl.launch.inline import run_inline
from celeba_fl.models.head_graph import STEPS, head_step
from celeba_fl.rounds import messages
from celeba_fl.rounds.checking import Client
from celeba_fl.tasks.attributes import Attributes
from celeba_fl.vision.features import FeatureStore, preprocessing_hash
from celeba_fl.vision.store import Compute

PEER = Path(__file__).parent / "js" / "client_peer.mjs"
pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
runtime = pytest.mark.skipif("ORT_WEB" not in os.environ, reason="no ONNX Runtime Web (ORT_WEB)")
CLIENT = "1"
KINDS = {"ArrayRecord": "arrays", "MetricRecord": "metrics", "ConfigRecord": "config"}


def records(content: RecordDict) -> list[Any]:
    return [
        [name, KINDS[type(record).__name__], [[key, shown(one)] for key, one in record.items()]]
        for name, record in content.items()
    ]


def read(value: Any) -> Any:
    """A value of the peer: an array, or what it is."""
    if isinstance(value, dict) and "dtype" in value:
        data = np.frombuffer(base64.b64decode(value["data"]), value["dtype"])
        return data.reshape(value["shape"])
    return int(value["int"]) if isinstance(value, dict) and "int" in value else value


def app_file(**changes: Any) -> bytes:
    """The app as Flower sends it, with settings of its own."""
    about = tomli.loads(PYPROJECT.read_text())
    about["tool"]["flwr"]["app"]["config"] |= changes
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("celeba_fl/__init__.py", "")
        packed.writestr("pyproject.toml", tomli_w.dumps(about))
        packed.writestr(".info/CONTENT", "")
    return file.getvalue()


def about() -> dict[str, Any]:
    """What the page's host says of itself, as far as a client reads it."""
    keys = {
        name: {**dataclasses.asdict(rules), "type": type(rules.default).__name__}
        for name, rules in RunConfig.keys().items()
    }
    attributes = [{"name": name} for name in ATTRIBUTES]
    module = "celeba_fl.tasks.attributes"
    return {"keys": keys, "bins": EDGES.tolist(), "attributes": attributes} | {
        "code": code_hash(module),
        "path": "/srv/celeba_fl",
    }


class Recorded:
    """The messages of a run to a client, and its replies."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.replies: list[RecordDict] = []
        self.task: Attributes

    def __call__(self, message: Any, context: Any) -> Any:
        reply = client_app(message, context)
        if str(context.node_config["partition-id"]) == CLIENT:
            told = {"type": message.metadata.message_type, "records": records(message.content)}
            self.messages.append(told)
            self.replies.append(reply.content)
        return reply


def replay(told: dict[str, Any]) -> dict[str, Any]:
    """What the tab answers."""
    done = subprocess.run(
        ["node", str(PEER)], input=json.dumps(told), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@contextmanager
def drawn(self: FeatureStore) -> Iterator[Compute]:
    """Features by chance, at once: each image has other ones, and versions of it are near them."""
    (dim,), number = self.read(np.arange(0)).shape[1:], (self.version or (0, 0))[1]

    def compute(images: Iterator[bytes]) -> Iterator[np.ndarray | None]:
        for data in images:
            of_image, of_version = (
                np.random.default_rng([hash_image(data), n]) for n in (0, number)
            )
            row = of_image.normal(size=dim) + 0.1 * number * of_version.normal(size=dim)
            yield row.astype(np.float32)

    yield compute


@pytest.fixture
def told(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[dict[str, Any], Recorded]]:
    """Run the toy with some keys; what a tab in the place of a client is told, and the run."""
    monkeypatch.setattr(FeatureStore, "computing", drawn)

    def tell(**changes: Any) -> tuple[dict[str, Any], Recorded]:
        own = {key.replace("_", "-"): value for key, value in changes.items()}
        values = {**toy, "home": str(tmp_path), "results-dir": str(tmp_path / "runs"), **own}
        recorded = Recorded()
        config = RunConfig.load(values)
        run_inline(config, 3, server_app.app, recorded)
        task = recorded.task = Attributes(config)
        node = {"partition-id": int(CLIENT), "num-partitions": 3}
        table, rows = task.faces.of(node), task.faces.held(node)
        sha256 = task.prepare().instructions["weights"]
        stores = [
            task.features.open(table, sha256, number) for number in range(config.augmentations + 1)
        ]
        view = task.features.view
        overrides = {**values, "dataset": "drawn", "dropout": config.dropout}
        return {
            "name": CLIENT,
            "about": about(),
            "fab": encoded(app_file(dropout=0.9)),
            "overrides": {key: shown(one) for key, one in overrides.items()},
            "view": {"features": view.features, "image_size": view.image_size, "dim": view.dim}
            | {"backbone": view.backbone, "preprocessing": preprocessing_hash(view)},
            "graphs": {name: encoded(head_step(name)) for name in STEPS},
            "simulated": True,
            "content": shown(np.asarray(table.content[rows])),
            "labels": shown(np.asarray(table.labels[rows]).astype(np.uint8)),
            "identities": table.celeb_id[rows].tolist(),
            "features": [shown(store.read(rows)[:]) for store in stores],
            "messages": recorded.messages,
        }, recorded

    return tell


def compare(answer: dict[str, Any], expected: RecordDict) -> None:
    """Check an answer: whole numbers are the same ones, and arrays that are trained are close."""
    assert "error" not in answer, answer
    got = {
        name: {key: read(value) for key, value in items} for name, kind, items in answer["records"]
    }
    kinds = {name: kind for name, kind, _ in answer["records"]}
    assert kinds == {name: KINDS[type(one).__name__] for name, one in expected.items()}
    for name, record in expected.items():
        assert {*got[name]} == {*record.keys()}
        for key, value in record.items():
            said = got[name][key]
            if isinstance(value, Array):
                array = value.numpy()
                assert (said.shape, said.dtype) == (array.shape, array.dtype), (name, key)
                if array.dtype.kind in "iu":
                    np.testing.assert_array_equal(said, array, err_msg=f"{name} {key}")
                else:
                    np.testing.assert_allclose(said, array, rtol=1e-5, atol=1e-5)
            elif isinstance(value, float):
                assert type(said) in (float, int)
                assert key == "seconds" or said == pytest.approx(value, rel=1e-5)
            elif key != "path":
                assert said == value, (name, key)


CASES = {
    "closed form": {
        "strategy": "closed-form",
        "fair_groups": "Male",
        "scaling": "clients",
        "init": "base-rates",
        "valid_by": "identity",
    },
    "adam": {
        "strategy": "fedprox",
        "proximal_mu": 0.5,
        "class_weights": True,
        "group_weighting": "Male",
        "scaling": "clients",
        "dropout": 0.2,
        "local_epochs": 3,
    },
    "disagreements": {
        "labels": "teacher",
        "train_on": "disagreements",
        "teacher_error": "0.2, Male=0",
        "augmentations": 1,
        "optimizer": "sgd",
        "init": "base-rates",
    },
}


@runtime
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_tab_answers_as_python_does(told, case):
    asked, recorded = told(**CASES[case])
    answers = replay(asked)["replies"]
    assert len(answers) == len(recorded.replies) > 1
    for answer, expected in zip(answers, recorded.replies, strict=True):
        compare(answer, expected)


@runtime
@pytest.mark.slow
def test_a_person_is_asked_for_the_labels_that_are_missing(told):
    asked, recorded = told(**CASES["disagreements"])
    answer = replay({**asked, "simulated": False, "unlabelled": True})
    introduced, *answers = (
        {name: dict(items) for name, _, items in one["records"]} for one in answer["replies"]
    )
    counts = read(introduced["counts"]["counts"])
    assert counts.tolist() == [read(introduced["metrics"]["num-examples"]), *[0] * 43]
    assert not read(introduced["sums"]["labels"]).any()
    numbers = (read(introduced["metrics"][key]) for key in ("num-examples", "num-valid"))
    client = Client(0, next(numbers), next(numbers), counts)
    # What is evaluated and learned from is what the person says, and the server takes it.
    labels = read(asked["labels"])
    for one in answers:
        of_part = {
            key.rpartition("/")[2]: {name: read(value) for name, value in items.items()}
            for key, items in one.items()
        }
        train, valid = of_part["train"], of_part["valid"]
        final = "group_positives" in train
        recorded.task.check_counts(client, {"train": train, "valid": valid}, final)
        positives = train["positives"].sum(axis=1) + valid["positives"].sum(axis=1)
        np.testing.assert_array_equal(positives, labels.sum(axis=0))
        np.testing.assert_array_equal(train["teacher_right"], train["teacher_asked"])
    assert answer["asked"] == 1


def bare(**changes: Any) -> dict[str, Any]:
    """What a tab is told that has two pictures, and a run with default settings."""
    view = {"backbone": "mobilenet_v2", "features": "last", "image_size": 32, "dim": 3}
    return {
        "name": "tab",
        "about": about(),
        "fab": encoded(app_file()),
        "overrides": {},
        "view": view | {"preprocessing": "f" * 64},
        "graphs": {},
        "simulated": True,
        "content": shown(np.array([1, 2], np.uint64)),
        "labels": shown(np.zeros((2, 40), np.uint8)),
        "identities": [1, 2],
        "features": [shown(np.ones((2, 3), np.float32))],
        **changes,
    }


INSTRUCTIONS = {"weights": "a" * 64, "preprocessing": "f" * 64, "precision": "fp32"}


def query(told: dict[str, Any] = INSTRUCTIONS) -> dict[str, Any]:
    return {"type": "query", "records": records(messages.query(ConfigRecord(told), {}))}


def errors_of(asked: list[dict[str, Any]], **changes: Any) -> list[str]:
    """What a tab refuses each of some messages for, each of a run of its own."""
    numbered = [{**one, "run": number} for number, one in enumerate(asked)]
    replies = replay(bare(messages=numbered, **changes))["replies"]
    return [one.get("error", "none") for one in replies]


def test_a_tab_checks_settings_as_python_does():
    wrong: list[dict[str, Any]] = [
        *({"learning-rate": 0.0}, {"learning-rate": "fast"}, {"dropout": 1.5}, {"optimizer": "x"}),
        *({"local-epochs": 0}, {"local-epochs": 1.5}, {"class-weights": 1}, {"groupings": ""}),
        *({"attackers-expected": 0.5}, {"seed": -1.0}),
    ]
    asked = [
        {**query(), "overrides": {key: shown(value) for key, value in one.items()}} for one in wrong
    ]
    for error, values in zip(errors_of(asked), wrong, strict=True):
        with pytest.raises(InputError) as python:
            RunConfig.load(values)
        assert error == f"ToldInputError: {python.value}"


REFUSED = {
    "task": ("lenet", "task = 'lenet': a tab of a browser learns attributes of faces alone"),
    "privacy-epsilon": (2.0, "privacy-epsilon = 2: a tab keeps no ledger"),
    "attack": ("scale", "attack = 'scale': is for simulations alone"),
    "dataset": ("none", "dataset = 'none': this tab was given a part of the drawn faces"),
    "not-there": (1, "unknown run-config key 'not-there'"),
}


def test_what_a_tab_cannot_do_is_refused_in_the_roll_call():
    asked = [{**query(), "overrides": {key: shown(value)}} for key, (value, _) in REFUSED.items()]
    told = [
        ({"precision": "bf16"}, "precision = 'bf16': a tab computes features in fp32"),
        ({"preprocessing": "e" * 64}, "this client prepares images in another way"),
    ]
    asked += [query({**INSTRUCTIONS, **changes}) for changes, _ in told]
    words = [of for _, of in REFUSED.values()] + [of for _, of in told]
    for error, said in zip(errors_of(asked), words, strict=True):
        assert error.startswith(f"ToldInputError: {said}")
    own = {"simulated": False}
    (error,) = errors_of([query()], **own)
    assert error.startswith("ToldInputError: weights = 'drawn': have seen drawn faces only")
    seen = {"overrides": {"allow-drawn-weights": True}}
    (error,) = errors_of([{**query(), **seen}], unlabelled=True, **own)
    assert error.startswith("ToldInputError: no picture of this site is labelled yet")


def test_a_tab_that_is_not_chosen_sits_out():
    (reply,) = replay(bare(messages=[query()], overrides={"clients": "other"}))["replies"]
    assert reply["records"] == [["sits-out", "config", [["name", "tab"]]]]


def test_hostile_messages_are_refused():
    head = {"weight": np.zeros((40, 3), np.float32), "bias": np.zeros(40, np.float32)}
    wrong = [
        {**head, "weight": np.zeros((40, 4), np.float32)},
        {**head, "weight": head["weight"].astype(np.float64)},
        {**head, "bias": np.full(40, np.nan, np.float32)},
        {**head, "more": head["bias"]},
        {"bias": head["bias"]},
    ]
    told = {**INSTRUCTIONS, "server-round": 1}
    asked = [
        {
            "type": "evaluate",
            "records": records(
                RecordDict({"arrays": messages.to_record(one), "config": ConfigRecord(told)})
            ),
        }
        for one in wrong
    ]
    asked += [
        {**asked[0], "type": "train.other"},
        {**asked[0], "records": asked[0]["records"][:1]},
        query({**INSTRUCTIONS, "weights": "../../etc"}),
    ]
    arrays = {"b" * 64: np.zeros(3, np.uint8)}
    file = RecordDict({"config": ConfigRecord(INSTRUCTIONS), "files": messages.to_record(arrays)})
    asked.append({"type": "query", "records": records(file)})
    *models, kind, bare_one, weights, unasked = errors_of(asked)
    for error in models:
        assert "the model in the message is none of 40 finite outputs on 3 features" in error
    assert "a message of type train.other is none" in kind
    assert bare_one == "ToldInputError: the message has no config config"
    assert weights == "ToldInputError: weights: is none that a server sends"
    assert unasked == "ToldInputError: the server sends a file that it did not tell of"
