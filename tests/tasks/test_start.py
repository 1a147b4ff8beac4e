"""What a client sums up for the start of the rounds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.tasks import start
from celeba_fl.tasks.attributes import Attributes

NODE = {"partition-id": 0, "num-partitions": 2}


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({}, set()),
        ({"scaling": "clients"}, {"n", "x", "xx"}),
        ({"scaling": "public", "public-fraction": 0.1}, set()),
        ({"init": "base-rates"}, {"labels", "positives"}),
        ({"scaling": "clients", "init": "base-rates"}, {"n", "x", "xx", "labels", "positives"}),
    ],
)
def test_nothing_is_summed_that_nobody_needs(keys: dict[str, Any], names: set[str]) -> None:
    config = RunConfig.load({"scaling": "none", "init": "random", **keys})
    zeros = start.zero_sums(config, 6)
    assert zeros.keys() == names
    labels = np.ones((3, len(ATTRIBUTES)), bool)
    sums = start.sums_of(config, np.ones((3, 6), np.float32), labels, labels)
    assert {k: (a.shape, a.dtype) for k, a in sums.items()} == {
        k: (a.shape, a.dtype) for k, a in zeros.items()
    }


def test_labels_that_are_not_learned_from_do_not_count() -> None:
    config = RunConfig.load({"scaling": "none", "init": "base-rates"})
    taught = np.zeros((3, len(ATTRIBUTES)), bool)
    taught[:2, 0] = taught[:, 1] = True
    counted = np.ones_like(taught)
    counted[0, 0] = counted[:, 2] = False
    sums = start.sums_of(config, np.ones((3, 6), np.float32), taught, counted)
    assert sums["labels"][:4].tolist() == [2, 3, 0, 3]
    assert sums["positives"][:4].tolist() == [1, 3, 0, 0]
    bias = start.initial(config, 6, sums)["bias"][:4]
    np.testing.assert_allclose(bias, np.log([1, 3.5 / 0.5, 1, 0.5 / 3.5]), rtol=1e-6)


def test_with_a_teacher_annotations_are_not_looked_at(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answers give the same sums, whatever the annotations say."""
    path = tmp_path / "answers.csv"
    keys = {**toy, "labels": "teacher", "teacher": str(path), "init": "base-rates"}

    def described(turned: bool) -> dict[str, list[int]]:
        task = Attributes(RunConfig.load(keys))
        images = task.faces.table.image
        lines = [f"{image},{ATTRIBUTES[i % 5]},{i % 2},1" for i, image in enumerate(images)]
        path.write_text("\n".join(["image,attribute,value,confidence", *lines]))
        told = task.prepare().instructions
        if turned:
            monkeypatch.setattr("celeba_fl.tasks.examples.Examples.labels", ~labels)
        return {key: array.tolist() for key, array in task.describe(NODE, told).sums.items()}

    own = Attributes(RunConfig.load(keys)).faces
    labels = own.table.labels[own.parts(NODE)[0]]
    asked = described(turned=False)
    assert 0 < sum(asked["positives"]) < sum(asked["labels"]) == len(labels)
    assert described(turned=True) == asked


def test_a_client_that_lacks_weights_sends_zeros(toy: dict[str, Any]) -> None:
    task = Attributes(RunConfig.load({**toy, "scaling": "clients", "init": "base-rates"}))
    told = task.prepare().instructions
    lacking = task.describe(NODE, {**told, "weights": "0" * 64})
    zeros = task.description_sums()
    assert lacking.missing == "0" * 64
    assert {k: a.tolist() for k, a in lacking.sums.items()} == {
        k: a.tolist() for k, a in zeros.items()
    }
