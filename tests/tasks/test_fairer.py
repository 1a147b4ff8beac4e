"""Settings of fairer heads, which penalty a budget pays for, and what is said of each head."""

from typing import Any

import numpy as np
import pytest

from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.evaluation import fair_heads
from celeba_fl.rounds.checking import Client
from celeba_fl.tasks import closed_form, fairer
from celeba_fl.tasks.attributes import Attributes

FAIR = {"strategy": "closed-form", "fair-groups": "Male"}
MALE, YOUNG = ATTRIBUTES.index("Male"), ATTRIBUTES.index("Young")


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"fair-groups": "Mail"}, "'Mail'.* is not an attribute"),
        ({"fair-groups": "Male,Male"}, "names an attribute twice"),
        ({"strategy": "fedavg"}, "rounds of training know no penalty"),
        ({"strategy": "fedavg", "init": "closed-form"}, "for strategy = 'closed-form' alone"),
        ({"fair-groups": "", "fairness-penalty": 1.0}, "say between which groups"),
        ({"fair-groups": "", "fairness-budget": 0.4}, "say between which groups"),
        ({"fairness-penalty": 1.0, "fairness-budget": 0.4}, "set one of them to 0"),
    ],
)
def test_settings_that_say_nothing_are_refused(
    toy: dict[str, Any], keys: dict[str, Any], why: str
) -> None:
    with pytest.raises(InputError, match=why):
        Attributes(RunConfig.load({**toy, **FAIR, **keys}))


def test_a_budget_needs_images_to_spend_it_on() -> None:
    config = RunConfig.load({**FAIR, "fairness-budget": 0.4})
    fairer.check_budget(config, 1)
    with pytest.raises(InputError, match=r"fairness-budget = 0.4: .* set fairness-penalty instead"):
        fairer.check_budget(config, 0)


def test_groups_are_marked_by_attributes_that_all_of_them_have() -> None:
    assert closed_form.marks_of(("Male",)) == [MALE]
    # Male=0,Young=1, Male=1,Young=0 and Male=1,Young=1.
    assert closed_form.marks_of(("Male", "Young")) == [YOUNG, MALE, MALE]


def test_without_groups_nothing_more_is_sent() -> None:
    before = closed_form.zero_sums(6, ("train", "valid"))
    assert {key: one.shape for key, one in before.items()} == {
        **{"train_xx": (28,), "train_xy": (7, 40)},
        **{"valid_xx": (28,), "valid_xy": (7, 40)},
    }
    for number in (1, 2):
        fair = closed_form.zero_sums(6, ("train", "valid"), ("Male", "Young")[:number])
        changed = {key for key in fair if fair[key].shape != before[key].shape}
        assert changed == {"train_xy"}
        assert fair["train_xy"].shape == (7, 40 * 2**number)


class Heads:
    """Heads that answer wrongly on more images the larger the penalty: 1, 2, 3 of 10 ..."""

    def head(self, rho: float) -> dict[str, np.ndarray]:
        wrong = [0.0, *fairer.PENALTIES].index(rho)
        weight = np.where(np.arange(10) < wrong, -1.0, 1.0)
        return {"weight": np.tile(weight, (40, 1)).astype(np.float32), "bias": np.float32([0] * 40)}


class Valid:
    """Ten images, of which each has one feature and all attributes."""

    features = np.eye(10, dtype=np.float32)
    labels = np.ones((10, 40), bool)


@pytest.mark.parametrize(
    ("budget", "penalty"), [(5.0, 0.0), (10.0, 0.1), (29.0, 0.3), (30.0, 1.0), (99.0, 10.0)]
)
def test_a_budget_pays_for_the_largest_penalty(budget: float, penalty: float) -> None:
    config = RunConfig.load({**FAIR, "fairness-budget": budget})
    assert fairer.chosen_penalty(config, Heads(), Valid()) == penalty


def test_a_penalty_is_taken_as_it_is() -> None:
    config = RunConfig.load({**FAIR, "fairness-penalty": 0.7})
    assert fairer.chosen_penalty(config, Heads(), Valid()) == 0.7


@pytest.mark.parametrize("groups", ["Male", "Male,Young"])
def test_all_heads_are_judged(
    toy: dict[str, Any], monkeypatch: pytest.MonkeyPatch, groups: str
) -> None:
    monkeypatch.setattr(fair_heads, "FEWEST", 1)
    keys = {**FAIR, "fair-groups": groups, "fairness-penalty": 2.0}
    task = Attributes(RunConfig.load({**toy, **keys}))
    told = task.prepare().instructions
    node = {"partition-id": 0, "num-partitions": 1}
    about = task.describe(node, told)
    asked = {**told, "sums": list(task.zero_sums())}
    sums, _ = task.summarise(node, asked)
    # Honest sums pass, and none of a group that is larger than all.
    client = Client(0, about.num_train, about.num_valid, about.counts)
    task.check_sums(client, sums, asked)
    lie = {**sums, "train_xy": sums["train_xy"].copy()}
    lie["train_xy"][-1, 40 + MALE] += about.num_train * 2**36
    with pytest.raises(InputError, match="sums for the closed form"):
        task.check_sums(client, lie, asked)
    kept = task.sums_to_keep(sums, asked)
    tables = task.review(kept)
    rows = [row for row in tables["fairer.csv"] if row["split"] == "test"]
    path = [0.0, 0.1, 0.3, 1.0, 2.0, 3.0, 10.0]
    assert [row["penalty"] for row in rows if row["head"] == "ridge"] == path
    assert [row["penalty"] for row in rows if row["chosen"]] == [2.0]
    others = [row["head"] for row in rows if row["head"] != "ridge"]
    assert others == ["LEACE", "thresholds by group"][: 2 if groups == "Male" else 1]
    assert rows[0]["accuracy_difference"] == 0
    # Figures of the chosen head are those of the run.
    head = task.kept_arrays(task.solve_again(kept))
    measured = task.evaluate_centrally(task.solve_again(kept))["test"]
    assert measured["accuracy"] == pytest.approx(rows[4]["accuracy"])
    assert head["weight"].shape == (40, 1280)
    left = {row["attribute"]: row["left_out"] for row in tables["fairer_attributes.csv"]}
    assert {name for name, why in left.items() if why == "it makes the groups"} == {
        *groups.split(",")
    }
