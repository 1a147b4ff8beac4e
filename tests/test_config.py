import dataclasses
import math
from pathlib import Path

import pytest
import tomli

from celeba_fl.common.bundle import app_version
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig, default_values
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.vision.backbones import BACKBONES

ROOT = Path(__file__).parents[1]
REFUSED = {
    "beta-1": [(1.0, "below 1"), (-0.1, "at least 0")],
    "beta-2": [(1.0, "below 1")],
    "task": [("", "a text that is not empty"), (True, "a text")],
    "dataset": [("", "a text that is not empty")],
    "partitioner": [("shards", "one of iid, dirichlet, natural")],
    "dirichlet-alpha": [(0.0, "above 0"), ("0.1", "a number"), (math.inf, "finite")],
    "min-partition-size": [(-1, "at least 0"), (1.0, "a whole number")],
    "valid-fraction": [(-0.1, "at least 0"), (0.95, "at most 0.9"), (math.nan, "finite")],
    "bad-images": [("ignore", "one of skip, fail")],
    "seed": [(-1, "at least 0"), (True, "a whole number")],
    "backbone": [("resnet50", f"one of {', '.join(BACKBONES)}")],
    "image-size": [(31, "at least 32"), (1025, "at most 1024")],
    "num-server-rounds": [(0, "at least 1"), (False, "a whole number")],
    "fraction-train": [(0.0, "above 0"), (1.1, "at most 1")],
    "fraction-evaluate": [(-0.1, "at least 0"), (1.1, "at most 1")],
    "min-train-clients": [(0, "at least 1")],
    "min-evaluate-clients": [(-1, "at least 0")],
    "min-available-clients": [(0, "at least 1")],
    "round-timeout": [(0.0, "above 0"), (math.inf, "finite")],
    "min-replies": [(-0.1, "at least 0"), (1.1, "at most 1")],
    "round-retries": [(-1, "at least 0")],
    "patience": [(-1, "at least 0")],
    "keep-checkpoints": [(0, "at least 1")],
    "resume": [(False, "a text")],
    "local-epochs": [(0, "at least 1"), ("5", "a whole number")],
    "batch-size": [(0, "at least 1")],
    "learning-rate": [(0.0, "above 0"), (math.inf, "finite"), (True, "a number")],
    "optimizer": [("lbfgs", "one of adam, sgd")],
    "dropout": [(-0.1, "at least 0"), (1.0, "at most 0.9")],
    "class-weights": [(1, "true or false"), ("true", "true or false")],
    "init": [("zeros", "one of random, closed-form, public")],
    "partition-size": [(-1, "at least 0")],
    "public-fraction": [(1.0, "at most 0.9")],
    "labels": [("none", "one of annotations, teacher")],
    "teacher": [("", "a text that is not empty")],
    "teacher-confidence": [(1.1, "at most 1")],
    "train-on": [("errors", "one of all, disagreements")],
    "augmentations": [(-1, "at least 0"), (51, "at most 50")],
    "weighting": [("size", "one of examples, uniform")],
    "server-momentum": [(1.1, "at most 1")],
    "tau": [(0.0, "above 0")],
    "proximal-mu": [(-1.0, "at least 0")],
    "thresholds": [("best", "one of zero, valid"), (False, "a text")],
    "groupings": [("", "a text that is not empty")],
    "home": [("", "a text that is not empty")],
}


def test_pyproject_declares_every_key_and_no_other():
    written = tomli.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    assert default_values() == written
    fields = [field.name.replace("_", "-") for field in dataclasses.fields(RunConfig)]
    assert sorted(written) == sorted(fields)


def test_defaults_are_valid_and_come_back_as_they_were_written():
    loaded = RunConfig.load()
    assert loaded.to_dict() == default_values()
    assert RunConfig.from_dict(loaded.to_dict()) == loaded
    assert (loaded.num_server_rounds, loaded.fraction_train) == (10, 1.0)


def test_overrides_replace_defaults():
    loaded = RunConfig.load({"seed": 7})
    assert loaded.seed == 7
    assert loaded.to_dict() == {**default_values(), "seed": 7}


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [(key, value, right) for key, cases in REFUSED.items() for value, right in cases],
)
def test_impossible_value_is_refused(key, value, right):
    with pytest.raises(InputError) as error:
        RunConfig.load({key: value})
    assert str(error.value).startswith(f"{key} = {value!r}: must be {right} (")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image-size", 32),
        ("image-size", 1024),
        ("valid-fraction", 0.0),
        ("valid-fraction", 0.9),
        ("fraction-train", 1.0),
        ("fraction-evaluate", 0.0),
        ("min-partition-size", 0),
        ("seed", 0),
        ("resume", ""),
    ],
)
def test_ends_of_a_range_belong_to_it(key, value):
    assert RunConfig.load({key: value}).to_dict()[key] == value


def test_int_is_taken_for_a_float_and_becomes_one():
    loaded = RunConfig.load({"learning-rate": 1})
    assert (loaded.learning_rate, type(loaded.learning_rate)) == (1.0, float)


def test_number_is_taken_for_a_text_and_becomes_one():
    loaded = RunConfig.load({"clients": 3, "teacher-error": 0.1})
    assert (loaded.clients, loaded.chosen) == ("3", ("3",))
    assert set(loaded.teacher_errors) == {0.1}


def test_unknown_key_with_a_suggestion():
    with pytest.raises(InputError, match=r"'learning-rat' = 0\.1: did you mean 'learning-rate'\?"):
        RunConfig.load({"learning-rat": 0.1})


def test_unknown_key_unlike_any_other_lists_all():
    with pytest.raises(InputError, match="'xyzzy' = 1: there are: task, dataset, partitioner"):
        RunConfig.load({"xyzzy": 1})


def test_missing_keys_are_named():
    values = default_values()
    del values["seed"], values["tau"]
    with pytest.raises(InputError, match="without a value: seed, tau"):
        RunConfig.from_dict(values)


def test_partition_by_names_attributes():
    assert RunConfig.load({"partition-by": "Male, Young"}).groupby == ("Male", "Young")
    assert RunConfig.load({"partition-by": ATTRIBUTES[0]}).groupby == (ATTRIBUTES[0],)


@pytest.mark.parametrize("value", ["male", "Male,Old", ",", " "])
def test_partition_by_something_else_is_refused(value):
    with pytest.raises(InputError, match=r"partition-by = .* is no attribute .*Wearing_Hat"):
        RunConfig.load({"partition-by": value})


def test_groupings_are_attributes_to_cross():
    assert RunConfig.load().demographics == (("Male",), ("Young",), ("Male", "Young"))
    assert RunConfig.load({"groupings": " Bald ,Male;Young; "}).demographics == (
        ("Bald", "Male"),
        ("Young",),
    )


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("Male; Old", r"\['Old'\] is no attribute of CelebA; there are .*Wearing_Hat"),
        ("Male Young", r"\['Male Young'\] is no attribute"),
        ("Male; ,", "nothing is no attribute"),
        ("Male,Male", "Male,Male names an attribute twice"),
        (",".join(ATTRIBUTES[:6]), "Bald,Bangs are more than 5 attributes"),
        ("Male; Young; Male", "must name each grouping once"),
        (" ; ", "must name each grouping once"),
    ],
)
def test_groupings_of_something_else_are_refused(value, wrong):
    with pytest.raises(InputError, match=f"groupings = '{value}': .*{wrong}"):
        RunConfig.load({"groupings": value})


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("Male,Old", r"\['Old'\] is no attribute of CelebA"),
        ("Male; Young", r"\['Male; Young'\] is no attribute"),
        ("Male,Male", "names an attribute twice"),
        (" ", "nothing is no attribute"),
    ],
)
def test_group_weighting_by_something_else_is_refused(value, wrong):
    with pytest.raises(InputError, match=f"group-weighting = '{value}': .*{wrong}"):
        RunConfig.load({"group-weighting": value})


def test_clients_are_names_with_commas():
    assert RunConfig.load().chosen == ()
    assert RunConfig.load({"clients": "hospital-a, 3,0"}).chosen == ("hospital-a", "3", "0")


@pytest.mark.parametrize("value", [",", " ", "0,1, 0"])
def test_clients_are_named_once(value):
    with pytest.raises(InputError, match=f"clients = '{value}': must name each client once"):
        RunConfig.load({"clients": value})


def test_group_weighting_is_one_grouping_or_none():
    assert RunConfig.load().weighted == ()
    assert RunConfig.load({"group-weighting": "Male, Young"}).weighted == ("Male", "Young")


@pytest.mark.parametrize("key", ["strategy", "init"])
def test_class_weights_have_no_closed_form(key):
    with pytest.raises(InputError, match="class-weights = true: has no closed form"):
        RunConfig.load({key: "closed-form", "class-weights": True})


def test_home_in_the_users_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("CELEBA_FL_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    loaded = RunConfig.load()
    assert loaded.home_dir == tmp_path / ".celeba-fl"
    assert loaded.runs_dir == tmp_path / ".celeba-fl" / "runs"


def test_environment_moves_home_and_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CELEBA_FL_HOME", "~/elsewhere")
    loaded = RunConfig.load()
    assert loaded.home_dir == tmp_path / "elsewhere"
    assert loaded.runs_dir == tmp_path / "elsewhere" / "runs"


def test_an_empty_environment_variable_moves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CELEBA_FL_HOME", "")
    loaded = RunConfig.load()
    assert loaded.home_dir == tmp_path / ".celeba-fl"
    assert loaded.runs_dir == tmp_path / ".celeba-fl" / "runs"


def test_places_that_were_chosen_stay_where_they_are(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CELEBA_FL_HOME", "/elsewhere")
    loaded = RunConfig.load({"home": "~/mine", "results-dir": "/runs"})
    assert loaded.home_dir == tmp_path / "mine"
    assert loaded.runs_dir == Path("/runs")


def test_relative_places_become_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert RunConfig.load({"results-dir": "runs"}).runs_dir == tmp_path / "runs"


def test_app_version_is_that_of_pyproject():
    assert app_version() == tomli.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_error_rates_of_a_simulated_teacher():
    def rates(text):
        errors = RunConfig.load({"teacher-error": text}).teacher_errors
        return {name: rate for name, rate in zip(ATTRIBUTES, errors, strict=True) if rate}

    assert rates("0") == {}
    assert rates("0.1") == dict.fromkeys(ATTRIBUTES, 0.1)
    assert rates("Bald=0.2") == {"Bald": 0.2}
    assert rates("0.1, Bald=0.2, Male = 0") == {
        name: 0.2 if name == "Bald" else 0.1 for name in ATTRIBUTES if name != "Male"
    }


@pytest.mark.parametrize(
    "text", ["often", "1.1", "-0.1", "Bold=0.1", "Bald=", "0.1, Bald=nan", "0.1, 0.2"]
)
def test_error_rates_that_are_none(text):
    with pytest.raises(InputError, match=f"teacher-error = '{text}': .* should be a rate from 0"):
        RunConfig.load({"teacher-error": text})


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"init": "public"}, "init = 'public': needs a public-fraction"),
        ({"partition-size": 20, "partitioner": "natural"}, "partition-size = 20: .*'natural'"),
        ({"labels": "teacher", "class-weights": True}, "labels = 'teacher': goes neither"),
        ({"labels": "teacher", "group-weighting": "Male"}, "labels = 'teacher': goes neither"),
        ({"labels": "teacher", "init": "closed-form"}, "labels = 'teacher': goes neither"),
        ({"train-on": "disagreements", "strategy": "closed-form"}, "train-on = 'disagreements'"),
        ({"augmentations": 3, "strategy": "closed-form"}, "augmentations = 3: the closed form"),
    ],
)
def test_keys_that_do_not_go_together(keys, words):
    with pytest.raises(InputError, match=words):
        RunConfig.load(keys)


def test_settings_of_a_backbone_that_do_not_go_together_are_refused():
    with pytest.raises(InputError, match=r"image-size = 100: must be a multiple of 16"):
        RunConfig.load({"backbone": "vit_tiny", "image-size": 100})
    assert RunConfig.load({"backbone": "vit_tiny"}).image_size == 96
