import dataclasses
import math
from pathlib import Path

import pytest
import tomli

from celeba_fl.common.bundle import app_version
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig

ROOT = Path(__file__).parents[1]
REFUSED: dict[str, list[tuple[object, str]]] = {
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
    "features": [("", "a text that is not empty"), (True, "a text")],
    "image-size": [(-1, "at least 0"), (1025, "at most 1024")],
    "num-server-rounds": [
        (0, "at least 1"),
        (False, "a whole number"),
        (2**63, "a whole number of 64 bits"),
    ],
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
    "learning-rate": [(0.0, "above 0"), (math.inf, "finite"), (10**400, "a number")],
    "optimizer": [("lbfgs", "one of adam, sgd")],
    "dropout": [(-0.1, "at least 0"), (1.0, "at most 0.9")],
    "class-weights": [(1, "true or false"), ("true", "true or false")],
    "init": [("zeros", "one of base-rates, random, closed-form, public")],
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
    "thresholds": [("best", "one of zero, valid, capped"), (False, "a text")],
    "groupings": [("", "a text that is not empty")],
    "privacy-epsilon": [(-1.0, "at least 0"), (21.0, "at most 20")],
    "privacy-delta": [(0.0, "above 0"), (0.5, "at most 0.01")],
    "privacy-unit": [("group", "one of person, image, client")],
    "max-images": [(0, "at least 1")],
    "privacy-dim": [(0, "at least 1"), (2000, "at most 1024")],
    "privacy-noise": [("nobody", "one of clients, server")],
    "clipping-norm": [(0.0, "above 0")],
    "home": [("", "a text that is not empty")],
}


def test_pyproject_declares_every_key_and_no_other():
    written = tomli.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    assert written == RunConfig.defaults()
    types = {key: type(value) for key, value in RunConfig.defaults().items()}
    assert {key: type(value) for key, value in written.items()} == types
    fields = [field.name.replace("_", "-") for field in dataclasses.fields(RunConfig)]
    assert sorted(written) == sorted(fields)


def test_defaults_are_valid_and_come_back_as_they_were_written():
    loaded = RunConfig.load()
    assert loaded.to_dict() == RunConfig.defaults()
    assert RunConfig.load(loaded.to_dict()) == loaded
    assert (loaded.num_server_rounds, loaded.fraction_train) == (10, 1.0)


def test_overrides_replace_defaults():
    loaded = RunConfig.load({"seed": 7})
    assert loaded.seed == 7
    assert loaded.to_dict() == {**RunConfig.defaults(), "seed": 7}


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
        ("image-size", 0),
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
    assert loaded.teacher_error == "0.1"


def test_unknown_key_with_a_suggestion():
    with pytest.raises(InputError, match=r"'learning-rat' = 0\.1: did you mean 'learning-rate'\?"):
        RunConfig.load({"learning-rat": 0.1})


def test_unknown_key_unlike_any_other_lists_all():
    with pytest.raises(InputError, match="'xyzzy' = 1: there are: task, dataset, partitioner"):
        RunConfig.load({"xyzzy": 1})


def test_keys_without_a_value_have_their_defaults():
    loaded = RunConfig.load({"seed": 3, "tau": 0.5})
    assert loaded == RunConfig(seed=3, tau=0.5)
    assert loaded.to_dict() == {**RunConfig.defaults(), "seed": 3, "tau": 0.5}


def test_clients_are_names_with_commas():
    assert RunConfig.load().chosen == ()
    assert RunConfig.load({"clients": "hospital-a, 3,0"}).chosen == ("hospital-a", "3", "0")


@pytest.mark.parametrize("value", [",", " ", "0,1, 0"])
def test_clients_are_named_once(value):
    with pytest.raises(InputError, match=f"clients = '{value}': must name each client once"):
        RunConfig.load({"clients": value})


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


def test_app_version_without_a_pyproject_is_that_of_the_wheel(monkeypatch, tmp_path):
    monkeypatch.setattr("celeba_fl.common.bundle.PYPROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr("celeba_fl.common.bundle.version", lambda name: f"{name} 9.9")
    assert app_version() == "celeba-fl 9.9"


PRIVATE = {
    "privacy-epsilon": 1.0,
    "init": "public",
    "strategy": "closed-form",
    "partitioner": "natural",
    "secure-aggregation": True,
}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"privacy-epsilon": 0.0, "privacy-dim": 32}, "privacy-dim = 32"),
        ({"strategy": "fedadam"}, "strategy"),
        ({"init": "closed-form"}, "init = 'closed-form'"),
        ({"init": "base-rates"}, "set init = 'public'"),
        ({"privacy-unit": "client"}, "privacy-unit"),
        ({"strategy": "fedavg"}, "privacy-unit"),
        ({"partitioner": "iid"}, "partitioner"),
        ({"secure-aggregation": False}, "privacy-noise"),
        ({"privacy-noise": "server"}, "privacy-noise"),
        ({"group-weighting": "Male"}, "group-weighting"),
        ({"fair-groups": "Male"}, "fair-groups"),
    ],
)
def test_what_a_budget_does_not_go_with_is_refused_by_name(
    change: dict[str, object], named: str
) -> None:
    assert RunConfig.load(PRIVATE).private
    with pytest.raises(InputError, match=named):
        RunConfig.load({**PRIVATE, **change})


AVERAGED = {
    "strategy": "fedavg",
    "privacy-unit": "client",
    "privacy-noise": "server",
    "secure-aggregation": False,
    "weighting": "uniform",
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("secure-aggregation", True),
        ("weighting", "examples"),
        ("fraction-train", 0.5),
        ("class-weights", True),
        ("max-update-norm", 5.0),
        ("privacy-noise", "clients"),
        ("strategy", "fedadam"),
    ],
)
def test_averages_hide_a_client_under_conditions(key: str, value: object) -> None:
    RunConfig.load({**PRIVATE, **AVERAGED})
    with pytest.raises(InputError, match=key):
        RunConfig.load({**PRIVATE, **AVERAGED, key: value})


def test_clients_may_share_a_person_where_single_images_are_hidden() -> None:
    RunConfig.load({**PRIVATE, "partitioner": "iid", "privacy-unit": "image"})
    RunConfig.load({**PRIVATE, "secure-aggregation": False, "privacy-noise": "server"})


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ({"secure-aggregation": True, "strategy": "closed-form"}, "sees the sums of no client"),
        ({}, "strategy = 'fedavg' has no sums"),
        ({"strategy": "closed-form", "group-weighting": "Male"}, "none can be taken out exactly"),
    ],
)
def test_sums_are_kept_only_where_they_are_a_client_s_own(
    others: dict[str, object], why: str
) -> None:
    with pytest.raises(InputError, match=f"keep-sums = true: .*{why}"):
        RunConfig.load({"keep-sums": True, **others})


def test_clients_are_left_out_only_where_their_sums_are_kept() -> None:
    with pytest.raises(InputError, match=r"robust = 'leave-out': .* set keep-sums = true"):
        RunConfig.load({"robust": "leave-out", "strategy": "closed-form"})
