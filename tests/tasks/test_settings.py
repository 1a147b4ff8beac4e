"""Settings that go together, or not, in the tasks of this package."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.data.teacher import error_rates
from celeba_fl.task import load_task
from celeba_fl.tasks.dcgan import Dcgan
from celeba_fl.vision.backbones import BACKBONES
from celeba_fl.vision.views import make_view


def checked(**keys: Any) -> RunConfig:
    """The config of a task that accepts it."""
    return load_task(RunConfig.load({k.replace("_", "-"): v for k, v in keys.items()})).config


def test_partition_by_names_attributes() -> None:
    assert checked(partition_by="Male, Young").groupby == ("Male", "Young")
    assert checked(partition_by=ATTRIBUTES[0]).groupby == (ATTRIBUTES[0],)


@pytest.mark.parametrize("task", ["attributes", "dcgan"])
@pytest.mark.parametrize("value", ["male", "Male,Old", ",", " "])
def test_partition_by_something_else_is_refused(value: str, task: str) -> None:
    with pytest.raises(InputError, match=r"partition-by = .* not an attribute .*Wearing_Hat"):
        checked(partition_by=value, task=task)


def test_groupings_are_attributes_to_cross() -> None:
    assert checked().demographics == (("Male",), ("Young",), ("Male", "Young"))
    groupings = checked(groupings=" Bald ,Male;Young; ").demographics
    assert groupings == (("Bald", "Male"), ("Young",))


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("Male; Old", r"\['Old'\] is not an attribute of CelebA; there are .*Wearing_Hat"),
        ("Male Young", r"\['Male Young'\] is not an attribute"),
        ("Male; ,", "nothing is not an attribute"),
        ("Male,Male", "Male,Male names an attribute twice"),
        (",".join(ATTRIBUTES[:6]), "Bald,Bangs are more than 5 attributes"),
        ("Male; Young; Male", "must name each grouping once"),
        (" ; ", "must name each grouping once"),
    ],
)
def test_groupings_of_something_else_are_refused(value: str, wrong: str) -> None:
    with pytest.raises(InputError, match=f"groupings = '{value}': .*{wrong}"):
        checked(groupings=value)


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("Male,Old", r"\['Old'\] is not an attribute of CelebA"),
        ("Male; Young", r"\['Male; Young'\] is not an attribute"),
        ("Male,Male", "names an attribute twice"),
        (" ", "nothing is not an attribute"),
    ],
)
def test_group_weighting_by_something_else_is_refused(value: str, wrong: str) -> None:
    with pytest.raises(InputError, match=f"group-weighting = '{value}': .*{wrong}"):
        checked(group_weighting=value)


def test_group_weighting_is_one_grouping_or_none() -> None:
    assert checked().weighted == ()
    assert checked(group_weighting="Male, Young").weighted == ("Male", "Young")


@pytest.mark.parametrize("key", ["strategy", "init"])
def test_class_weights_have_no_closed_form(key: str) -> None:
    with pytest.raises(InputError, match="class-weights = true: has no closed form"):
        checked(**{key: "closed-form", "class_weights": True})


def test_error_rates_of_a_simulated_teacher() -> None:
    def rates(text: str) -> dict[str, float]:
        errors = zip(ATTRIBUTES, error_rates(text), strict=True)
        return {name: rate for name, rate in errors if rate}

    assert rates("0") == {}
    assert rates("0.1") == dict.fromkeys(ATTRIBUTES, 0.1)
    assert rates("Bald=0.2") == {"Bald": 0.2}
    assert rates("0.1, Bald=0.2, Male = 0") == {
        name: 0.2 if name == "Bald" else 0.1 for name in ATTRIBUTES if name != "Male"
    }


@pytest.mark.parametrize(
    "text", ["often", "1.1", "-0.1", "Bold=0.1", "Bald=", "0.1, Bald=nan", "0.1, 0.2"]
)
def test_error_rates_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match=f"teacher-error = '{text}': .* should be a rate from 0"):
        checked(teacher_error=text)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"init": "public"}, "init = 'public': needs a public-fraction"),
        ({"labels": "teacher", "class_weights": True}, "labels = 'teacher': .*class-weights"),
        ({"labels": "teacher", "group_weighting": "Male"}, "labels = 'teacher': .*group-weighting"),
        ({"labels": "teacher", "init": "closed-form"}, "labels = 'teacher': .*closed form"),
        ({"train_on": "disagreements", "strategy": "closed-form"}, "train-on = 'disagreements'"),
        ({"augmentations": 3, "strategy": "closed-form"}, "augmentations = 3: the closed form"),
    ],
)
def test_keys_that_do_not_go_together(keys: Mapping[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        checked(**keys)


@pytest.mark.parametrize("task", ["attributes", "dcgan", "lenet"])
def test_clients_of_one_size_are_iid(task: str) -> None:
    with pytest.raises(InputError, match=r"partition-size = 20: .*'natural'"):
        checked(task=task, partition_size=20, partitioner="natural")
    assert checked(task=task, partition_size=20).partition_size == 20


@pytest.mark.parametrize("task", ["attributes", "dcgan"])
def test_settings_of_a_backbone_that_do_not_go_together_are_refused(task: str) -> None:
    with pytest.raises(InputError, match=r"image-size = 100: must be a multiple of 16"):
        checked(task=task, backbone="vit_tiny", image_size=100)
    with pytest.raises(InputError, match=r"image-size = 31: must be at least 32, or 0"):
        checked(task=task, image_size=31)
    assert checked(task=task, backbone="vit_tiny", image_size=96).image_size == 96
    with pytest.raises(InputError, match=f"backbone = 'resnet50': .*{', '.join(BACKBONES)}"):
        checked(task=task, backbone="resnet50")


def test_features_that_there_are_not_are_refused() -> None:
    with pytest.raises(InputError, match=r"features = '13:7x7': '13:7x7' is finer .*6 x 6"):
        checked(features="13:7x7")
    with pytest.raises(
        InputError, match=r"features = 'last\+mirrored': not read by the task dcgan"
    ):
        checked(task="dcgan", features="last+mirrored")
    assert checked(features="13:6x6").features == "13:6x6"


def test_faces_that_are_made_are_judged_by_the_last_features() -> None:
    """At the size that goes with them: 96 pixels under the drawn weights, as it always was."""
    keys = RunConfig.load({"task": "dcgan"})
    for config, size in ((keys, 96), (replace(keys, weights="mine.pt"), 224)):
        task = load_task(config)
        assert isinstance(task, Dcgan)
        assert task.view == make_view("mobilenet_v2", "last", size)


def test_public_images_give_a_scale_where_there_are_some() -> None:
    assert checked(scaling="public", public_fraction=0.1).scaling == "public"
    with pytest.raises(InputError, match=r"scaling = 'public': needs a public-fraction above 0"):
        checked(scaling="public")


@pytest.mark.parametrize("task", ["attributes", "dcgan"])
@pytest.mark.parametrize(
    "keys",
    [{"partitioner": "dirichlet"}, {"dirichlet_alpha": 1.0}, {"min_partition_size": 3}],
)
def test_where_nothing_is_dealt_its_keys_are_refused(task: str, keys: Mapping[str, Any]) -> None:
    (key,) = keys
    named = rf"^{key.replace('_', '-')} = .*: nothing is dealt with dataset = 'none'"
    with pytest.raises(InputError, match=named):
        checked(task=task, dataset="none", **keys)


@pytest.mark.parametrize("task", ["attributes", "dcgan"])
def test_drawn_weights_are_for_drawn_faces_unless_told_otherwise(task: str) -> None:
    """On photographs, AUROC is 0.644 with them and 0.868 with ImageNet's."""
    others = {"task": task, "dataset": "flwrlabs/celeba"}
    with pytest.raises(InputError, match=r"images of 'flwrlabs/celeba' are others; photographs"):
        load_task(RunConfig.load(others))
    load_task(RunConfig.load({**others, "weights": "imagenet"}))
    load_task(RunConfig.load({**others, "allow-drawn-weights": True}))
    load_task(RunConfig.load({"task": task}))


def test_nobody_knows_what_clients_bring() -> None:
    with pytest.raises(InputError, match="weights = 'drawn': have seen drawn faces only"):
        load_task(RunConfig.load({"dataset": "none"}))
