import sys
import types

import numpy as np
import pytest

from celeba_fl import task
from celeba_fl.common.arrays import Arrays, sum_counts
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig, keys_of
from celeba_fl.task import Task, derived_seed, load_task
from celeba_fl.tasks.attributes import Attributes


class Tiny(Task):
    """A task with nothing but what it must have."""

    count_names = metric_names = ()

    def prepare(self): ...
    def initial_arrays(self): ...
    def metrics(self, counts): ...
    def evaluate_centrally(self, arrays): ...
    def finish(self, arrays, counts): ...
    def describe(self, node, instructions): ...
    def train(self, arrays, node, instructions, seed): ...
    def evaluate(self, arrays, node, instructions): ...


@pytest.fixture
def own_module(monkeypatch):
    module = types.ModuleType("my_tasks")
    vars(module)["Tiny"] = Tiny
    monkeypatch.setitem(sys.modules, "my_tasks", module)


def test_task_by_its_name():
    loaded = load_task(RunConfig.load())
    assert type(loaded) is Attributes
    assert loaded.config == RunConfig.load()


def test_the_same_config_gives_the_same_instance():
    assert load_task(RunConfig.load()) is load_task(RunConfig.load())
    assert load_task(RunConfig.load()) is not load_task(RunConfig.load({"seed": 1}))


@pytest.mark.usefixtures("own_module")
def test_task_of_ones_own():
    assert type(load_task(RunConfig.load({"task": "my_tasks:Tiny"}))) is Tiny


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize("name", ["atributes", "no_such_module:Task", "my_tasks:Gone", "my_tasks:"])
def test_task_that_does_not_exist(name):
    with pytest.raises(
        InputError, match=f"task = '{name}': .*there are attributes, lenet, dcgan, or"
    ):
        load_task(RunConfig.load({"task": name}))


def test_every_named_task_loads():
    for name in task.TASKS:
        assert isinstance(load_task(RunConfig.load({"task": name})), Task)


@pytest.mark.parametrize(
    ("name", "keys", "said"),
    [
        ("dcgan", {"init": "closed-form"}, "init = 'closed-form'"),
        ("lenet", {"init": "closed-form"}, "init = 'closed-form'"),
        (
            "dcgan",
            {"init": "public", "public-fraction": 0.1},
            "public-fraction = 0.1, init = 'public'",
        ),
        ("dcgan", {"labels": "teacher"}, "labels = 'teacher'"),
        ("lenet", {"augmentations": 1, "image-size": 224}, "image-size = 224, augmentations = 1"),
        ("lenet", {"exchange": "generator"}, "exchange = 'generator'"),
        ("attributes", {"exchange": "generator"}, "exchange = 'generator'"),
    ],
)
def test_keys_that_a_task_does_not_read_are_refused(name, keys, said):
    with pytest.raises(InputError) as error:
        load_task(RunConfig.load({"task": name, **keys}))
    assert str(error.value) == f"{said}: not read by the task {name}; leave it out"


@pytest.mark.usefixtures("own_module")
def test_keys_that_a_task_from_outside_does_not_read_are_refused(monkeypatch):
    config = RunConfig.load({"task": "my_tasks:Tiny", "learning-rate": 0.1, "teacher": "x.csv"})
    with pytest.raises(InputError, match=r"^teacher = 'x.csv', learning-rate = 0\.1: .*`reads`"):
        load_task(config)
    monkeypatch.setattr(Tiny, "reads", ("learning-rate", "teacher"))
    assert load_task(config).config.learning_rate == 0.1


def test_keys_of_the_loop_belong_to_every_task():
    keys = {"fraction-train": 0.5, "strategy": "fedprox", "results-dir": "/runs", "clients": "0"}
    for name in task.TASKS:
        if name != "dcgan":  # which has its own word on strategies
            assert load_task(RunConfig.load({"task": name, **keys})).config.fraction_train == 0.5


def test_every_key_that_tasks_read_names_tasks_that_there_are():
    readers = {name for key in RunConfig.keys().values() for name in key.of.split()}
    assert readers == set(task.TASKS)
    for name in task.TASKS:
        assert load_task(RunConfig.load({"task": name})).reads == keys_of(name)


def test_what_a_task_need_not_do():
    tiny = Tiny(RunConfig.load())
    assert tiny.central_parts == ("test",)
    assert tiny.lower_is_better == ("loss",)
    assert tiny.illustrate({}) == {}
    assert tiny.instruct(np.array([1]), 1) == {}
    assert tiny.description_sums() == tiny.instruct_from_sums({}) == {}
    arrays = {"w": np.ones(1)}
    assert tiny.kept_arrays(arrays) is arrays
    with pytest.raises(InputError, match="no file with hash abc"):
        tiny.deliver("abc")
    with pytest.raises(InputError, match="no use for the file abc"):
        tiny.receive("abc", b"")
    with pytest.raises(InputError, match="has no closed form"):
        tiny.zero_sums()


def test_derived_seeds_are_the_same_on_every_machine():
    assert derived_seed(42, 1, "0") == 9061909599200803911
    assert derived_seed(42, 1, "0") != derived_seed(42, 1, "1")
    assert derived_seed(42, 1, "0") != derived_seed(42, 10, "")


def test_derived_seeds_have_63_bits():
    seeds = [derived_seed(part) for part in range(200)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62
    assert len(set(seeds)) == 200


def test_counts_add_up_without_overflow():
    one: Arrays = {"n": np.array([200, 1], np.uint8), "loss": np.array([0.5], np.float32)}
    counts = [one] * 2
    total = sum_counts(counts)
    assert total["n"].tolist() == [400, 2]
    assert total["loss"].tolist() == [1.0]
    assert (total["n"].dtype, total["loss"].dtype) == (np.int64, np.float64)
    assert counts[0]["n"].tolist() == [200, 1]


def test_counts_of_bools():
    total = sum_counts([{"seen": np.array([True, False])}] * 3)
    assert total["seen"].tolist() == [3, 0]


def test_a_sum_of_floats_is_rounded_once_whatever_their_order():
    big, one, minus = ({"loss": np.array([value])} for value in (1e16, 1.0, -1e16))
    assert sum_counts([big, one, minus])["loss"] == 1
    assert sum_counts([big, minus, one])["loss"] == 1


def test_no_counts_at_all():
    assert sum_counts([]) == {}
