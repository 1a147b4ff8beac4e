import numpy as np

from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.tasks import weighting


def test_positives_weigh_as_negatives_do_by_hand() -> None:
    counts = dict(zip(ATTRIBUTES, [2, 8, 0, 10] * 10, strict=True))
    told = weighting.instruct(RunConfig.load({"class-weights": True}), counts, 10)
    assert told == {"positive-weight": [4.0, 0.25, 1.0, 1.0] * 10}


def test_groups_count_equally_by_hand() -> None:
    counts = {"Male=0,Young=0": 1, "Male=0,Young=1": 3, "Male=1,Young=0": 0, "Male=1,Young=1": 0}
    config = RunConfig.load({"group-weighting": "Male,Young"})
    told = weighting.instruct(config, counts, 4)
    assert told == {"group-weights": [2.0, 2 / 3, 0.0, 0.0]}
    assert np.dot(told["group-weights"], list(counts.values())) == 4


def test_clients_are_told_the_weights_that_the_config_asks_for() -> None:
    counts = {"Male=0": 1, "Male=1": 3, **dict.fromkeys(ATTRIBUTES, 1)}
    assert weighting.instruct(RunConfig.load(), counts, 4) == {}
    config = RunConfig.load({"group-weighting": "Male", "class-weights": True})
    told = weighting.instruct(config, counts, 4)
    assert told == {"group-weights": [2.0, 2 / 3], "positive-weight": [3.0] * 40}
    labels = np.zeros((2, 40), bool)
    labels[1, ATTRIBUTES.index("Male")] = True
    assert weighting.weigh(config, told)(labels).tolist() == [2.0, 2 / 3]
    assert weighting.weigh(RunConfig.load(), {})(labels).tolist() == [1, 1]
