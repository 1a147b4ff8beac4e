"""A run in a sentence: who trained what how, how well, and beside what."""

import json
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from celeba_fl.report.lede import lede, participants
from celeba_fl.report.reading import Run

MakeRun = Callable[..., Path]
FACES = {"task": "attributes", "dataset": "drawn", "strategy": "fedavg", "num-server-rounds": 2}
PARTITIONS = "client,num_examples\n0,30\n1,1200\n"
ROUNDS = "round,valid_accuracy,valid_majority_accuracy\n0,0.8,0.8\n1,0.85,0.8\n"
FIGURES = {
    "test_balanced_accuracy": 0.66,
    "test_auroc": 0.7,
    "test_accuracy": 0.86,
    "test_majority_accuracy": 0.804,
}


@pytest.fixture
def said(make_run: MakeRun) -> Callable[..., str]:
    """What is said of a run of two clients with these settings and files."""

    def say(
        config: Mapping[str, Any] | None = None,
        csv: Mapping[str, str] | None = None,
        summary: Mapping[str, float] | None = None,
        **info: Any,
    ) -> str:
        known = {"config": {**FACES, **(config or {})}, "num_clients": 2, **info}
        tables = {"partitions": PARTITIONS, "rounds": ROUNDS + "2,0.86,0.8\n", **(csv or {})}
        path = make_run(f"run-{next(numbers)}", info=known, csv=tables, summary=summary)
        return lede(Run.read(path))

    numbers = count()
    return say


def test_it_says_who_trained_what_how_and_how_well(said: Callable[..., str]) -> None:
    assert said(summary=FIGURES) == (
        "2 simulated clients trained a face-attribute head on 1,230 drawn faces in 2 rounds of "
        "FedAvg: on test, balanced accuracy is 0.660, above chance (0.500), and accuracy is "
        "0.860, above the majority's answer (0.804)."
    )


@pytest.mark.parametrize(
    ("accuracy", "how"),
    # A tenth of the way from 0.5 to 1 is 0.55.
    [(0.5, "no better than"), (0.54, "hardly above"), (0.56, "above"), (0.45, "below")],
)
def test_it_says_whether_that_is_good(said: Callable[..., str], accuracy: float, how: str) -> None:
    values = {**FIGURES, "test_balanced_accuracy": accuracy}
    assert f"balanced accuracy is {accuracy:.3f}, {how} chance" in said(summary=values)


def test_other_tasks(said: Callable[..., str]) -> None:
    classes = {"test_accuracy": 0.226, "test_majority_accuracy": 0.1, "test_loss": 2.1}
    lenet = said({"task": "lenet", "dataset": "uoft-cs/cifar10"}, summary=classes)
    assert "trained LeNet-5 on 1,230 images of CIFAR-10 in 2 rounds of FedAvg: on test," in lenet
    assert lenet.endswith("accuracy is 0.226, above the majority's answer (0.100).")


def test_a_generator(said: Callable[..., str]) -> None:
    rows = (
        "round,test_frechet_distance,test_real_frechet_distance\n"
        "0,120.5,4.25\n1,130,4.25\n2,60.25,4.25\n"
    )
    text = said({"task": "dcgan"}, {"rounds": rows}, dataset={"name": "/home/me/celeba"})
    assert text == (
        "2 simulated clients trained a generator of new faces (DCGAN) on 1,230 images of CelebA "
        "in 2 rounds of FedAvg: the Fréchet distance of its pictures to real ones is 60.250, less "
        "than before training (120.500); that of real ones to others is 4.250."
    )


def test_a_task_of_someones_own(said: Callable[..., str]) -> None:
    text = said(
        {"task": "own_task:Cancer", "strategy": "mine:Sum"},
        {"rounds": "round,test_score\n0,0.1\n1,0.2\n2,0.25\n"},
        dataset={"name": "breast cancer"},
    )
    assert text == (
        "2 simulated clients trained own_task:Cancer on breast cancer (1,230 examples) in 2 "
        "rounds of Sum: on test after round 2, score 0.250."
    )


def test_runs_that_did_not_come_to_their_end(said: Callable[..., str]) -> None:
    def unfinished(status: str, reason: str = "", csv: Mapping[str, str] | None = None) -> str:
        return said(csv={"rounds": ROUNDS, **(csv or {})}, status=status, reason=reason)

    validated = (
        "on validation after round 1, accuracy is 0.850, above the majority's answer (0.800)."
    )
    faces = "a face-attribute head on 1,230 drawn faces"
    assert unfinished("running") == (
        f"2 simulated clients are training {faces}, in 1 of 2 rounds of FedAvg so far: {validated}"
    )
    assert unfinished("failed", "no <b>replies.") == (
        f"This run failed after 1 of 2 rounds of FedAvg (no <b>replies). 2 simulated clients "
        f"trained {faces}: {validated}"
    )
    assert unfinished("stopped", "patience: so it is") == (
        f"2 simulated clients trained {faces}: {validated} It was stopped after 1 of 2 rounds of "
        f"FedAvg (patience: so it is)."
    )
    assert unfinished("interrupted", csv={"rounds": "round\n", "partitions": "client\n"}) == (
        "This run was interrupted after 0 of 2 rounds of FedAvg. 2 clients were to train a "
        "face-attribute head on drawn faces: nothing is measured yet."
    )


def test_sites_attackers_and_what_is_hidden(said: Callable[..., str]) -> None:
    text = said(
        {
            **{"dataset": "none", "strategy": "closed-form", "secure-aggregation": True},
            "attack": "sums",
        },
        {
            "partitions": "client,num_examples\ntotal,12\n",
            "clients": "round,client\n1,east\n1,2\n",
            "rounds": "round\n0\n1\n",
            "attackers": "client,attack\neast,sums\n",
        },
    )
    assert text == (
        "2 sites trained a face-attribute head on 12 images of their own in one round, in closed "
        "form: nothing is measured yet. 1 of the clients attacked (sums). The server saw sums "
        "over clients alone."
    )


def test_asynchronous_rounds_a_teacher_and_a_central_model(make_run: MakeRun) -> None:
    config = {**FACES, "scheduler": "asynchronous", "labels": "teacher"}
    path = make_run(
        info={"config": config, "num_clients": 2},
        csv={"partitions": PARTITIONS, "rounds": ROUNDS},
        summary=FIGURES,
    )
    (path / "baseline.json").write_text('{"central": {"test_balanced_accuracy": 0.7}}')
    text = lede(Run.read(path))
    assert "1,230 drawn faces, labelled by a teacher, in 1 of 2 asynchronous rounds" in text
    assert text.endswith("; balanced accuracy of a model of all examples is 0.700.")


def test_a_budget_is_said(make_run: MakeRun) -> None:
    path = make_run(info={"config": FACES, "num_clients": 2})
    known = {"unit": "person", "epsilon": 4.0, "delta": 1e-05, "total": 3.9999, "releases": []}
    (path / "privacy.json").write_text(json.dumps(known))
    assert lede(Run.read(path)).endswith("Noise hides each person: epsilon 4 at delta 1e-05.")


def test_a_broken_cell_costs_the_sentence_only(said: Callable[..., str]) -> None:
    text = said(csv={"partitions": "client,num_examples\n0,many\n"})
    assert "a file of it is broken: could not convert string to float: 'many'" in text


def test_nobody_is_counted_before_it_is_known_who_takes_part(make_run: MakeRun) -> None:
    assert participants(Run.read(make_run("a", info={"config": FACES}))) == ""
    one = Run.read(make_run("b", info={"config": FACES, "num_clients": 1}))
    assert participants(one) == "1 client"


def test_sites_with_names_have_images_of_their_own(said: Callable[..., str]) -> None:
    text = said({"dataset": "/srv/server"}, {"partitions": "client,num_examples\neast,5\n2,7\n"})
    assert text.startswith("2 sites trained a face-attribute head on 12 images of their own in 2")
