"""The strategies: Flower's arithmetic by hand, with a client that adds 1 in every round."""

from typing import Any

import numpy as np
import pytest
from adding import Adding, Nodes, adding_app, record, reply, values
from flwr.app import ArrayRecord, Message
from flwr.clientapp import ClientApp

from celeba_fl.config import STRATEGIES, RunConfig
from celeba_fl.rounds.loop import Loop, Round
from celeba_fl.strategy import make_strategy


def start(
    app: ClientApp, nodes: int, rounds: int, begin: ArrayRecord | None = None, **keys: Any
) -> list[Round]:
    """The rounds of a run."""
    config = RunConfig.load({key.replace("_", "-"): value for key, value in keys.items()})
    grid, done = Nodes(app, nodes), []

    def note(round_: Round) -> dict[str, float]:
        done.append(round_)
        return {}

    strategy = make_strategy(config, Loop(grid.by_name, on_round=note), Adding(config))
    result = strategy.start(grid, begin or record({"w": np.zeros(1)}), num_rounds=rounds)
    assert values(result.arrays) == values(done[-1].arrays)
    return done


def models(*args: Any, **keys: Any) -> list[float]:
    """The one number of the model after every round."""
    return [values(done.arrays)["w"][0] for done in start(*args, **keys)]


def one(client: int, number: int) -> float:
    return 1.0


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox"])
def test_the_average_is_the_new_model(strategy: str) -> None:
    assert models(adding_app(one), 3, 2, strategy=strategy) == [0.0, 1.0, 2.0]


def test_fedavgm_keeps_its_momentum() -> None:
    # Momenta 1, 0.9 + 1, 0.9 * 1.9 + 1.
    moved = models(adding_app(one), 2, 3, strategy="fedavgm")
    assert moved == pytest.approx([0, 1, 2.9, 5.61])


def test_fedavgm_has_a_learning_rate() -> None:
    keys = {"server_momentum": 0.5, "server_learning_rate": 0.1}
    moved = models(adding_app(one), 2, 2, strategy="fedavgm", **keys)
    assert moved == pytest.approx([0, 0.1, 0.25])


def test_fedadam() -> None:
    # Moments 0.5 * 1 and 1; the corrected rate is 0.3 / (1 - 0.5 ** 2) = 0.4.
    keys = {"server_learning_rate": 0.3, "beta_1": 0.5, "beta_2": 0.0, "tau": 1.0}
    moved = models(adding_app(one), 2, 1, strategy="fedadam", **keys)
    assert moved == pytest.approx([0, 0.4 * 0.5 / (1 + 1)])


def test_fedyogi() -> None:
    # Moments 0.5 * 1 and 0 + 0.25 * 1.
    keys = {"server_learning_rate": 0.3, "beta_1": 0.5, "beta_2": 0.75, "tau": 0.5}
    moved = models(adding_app(one), 2, 1, strategy="fedyogi", **keys)
    assert moved == pytest.approx([0, 0.3 * 0.5 / (0.5 + 0.5)])


@pytest.mark.parametrize(("strategy", "rate"), [("fedavgm", 1.0), ("fedadam", 0.1)])
def test_without_a_rate_flowers_default_is_taken(strategy: str, rate: float) -> None:
    default, same, other = (
        models(adding_app(one), 1, 2, strategy=strategy, server_learning_rate=r)
        for r in (0.0, rate, 0.7)
    )
    assert default == same
    assert default != other


@pytest.mark.parametrize(("strategy", "expected"), [("fedavg", None), ("fedprox", 0.25)])
def test_only_fedprox_tells_clients_of_a_proximal_term(strategy: str, expected: Any) -> None:
    told = []

    def step(client: int, _: int) -> Any:
        def train(message: Message) -> Message:
            told.append(message.content["config"].get("proximal-mu"))
            return reply(message, {"w": np.ones(1)}, num_examples=1)

        return train

    start(adding_app(step), 1, 2, strategy=strategy, proximal_mu=0.25)
    assert told == [expected] * 2


@pytest.mark.parametrize(
    ("weighting", "average"), [("examples", (0 * 1 + 1 * 2 + 2 * 3) / 6), ("uniform", 1.0)]
)
@pytest.mark.parametrize("strategy", sorted({*STRATEGIES} - {"closed-form"}))
def test_weighting(strategy: str, weighting: str, average: float) -> None:
    keys = {"server_learning_rate": 1.0, "server_momentum": 0.0, "beta_1": 0.0, "beta_2": 0.0}
    app = adding_app(lambda client, _: float(client))
    moved = models(app, 3, 1, strategy=strategy, weighting=weighting, tau=1e9, **keys)[1]
    # With so large a tau the adaptive ones make a step of average / tau.
    adaptive = strategy in ("fedadam", "fedyogi")
    assert moved * (1e9 if adaptive else 1) == pytest.approx(average)


def test_uniform_weighting_leaves_out_clients_without_examples() -> None:
    def step(client: int, _: int) -> Any:
        return lambda m: reply(m, {"w": np.full(1, 1.0 * client)}, num_examples=client * 10)

    # Of 0, 1 and 2, the first has no example.
    assert models(adding_app(step), 3, 1, weighting="uniform")[1] == 1.5


def test_the_loop_alone_decides_who_takes_part() -> None:
    grid = Nodes(adding_app(one), 4)
    loop = Loop(grid.by_name, fraction_train=0.25, fraction_evaluate=0.0)
    config = RunConfig.load()
    strategy = make_strategy(config, loop, Adding(config))
    strategy.start(grid, record({"w": np.zeros(1)}), num_rounds=2)
    assert [len(names) for _, names in grid.asked] == [1, 1]
