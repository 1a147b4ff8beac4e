"""The strategies: Flower's arithmetic by hand, with a client that adds 1 in every round."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adding import Adding, Nodes, adding_app, column, record, reply, run, values
from flwr.app import Array, ArrayRecord, Message, MetricRecord
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg, Strategy

from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.rounds.cohort import Cohorts
from celeba_fl.rounds.loop import Loop
from celeba_fl.rounds.round import Round
from celeba_fl.runs.tables import read_csv
from celeba_fl.strategy import STRATEGIES, ClosedForm, check_strategy, make_strategy


def start(
    app: ClientApp, nodes: int, rounds: int, begin: ArrayRecord | None = None, **keys: Any
) -> list[Round]:
    """The rounds of a run."""
    config = RunConfig.load({key.replace("_", "-"): value for key, value in keys.items()})
    grid, done = Nodes(app, nodes), []

    def note(round_: Round) -> dict[str, float]:
        done.append(round_)
        return {}

    strategy = make_strategy(config, Adding(config))
    loop = Loop(grid.by_name, uniform=config.weighting == "uniform", on_round=note)
    result = loop.run(strategy, grid, begin or record({"w": np.zeros(1)}), num_rounds=rounds)
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
@pytest.mark.parametrize(
    "strategy", [one for one, entry in STRATEGIES.items() if entry.sums and one != "closed-form"]
)
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
    loop = Loop(grid.by_name, Cohorts(fraction_train=0.25, fraction_evaluate=0.0))
    config = RunConfig.load()
    strategy = make_strategy(config, Adding(config))
    loop.run(strategy, grid, record({"w": np.zeros(1)}), num_rounds=2)
    assert [len(names) for _, names in grid.asked] == [1, 1]


# ---- strategies of one's own --------------------------------------------------------------


class Largest(Strategy):
    """Takes the largest value of each number; inherits nothing but Flower's interface."""

    def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
        return FedAvg(1, 1, 1, 1, 1).configure_train(server_round, arrays, config, grid)

    def configure_evaluate(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
        return FedAvg(1, 1, 1, 1, 1).configure_evaluate(server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        models = [reply.content["arrays"] for reply in replies]
        largest = {k: np.max([model[k].numpy() for model in models], axis=0) for k in models[0]}
        return ArrayRecord({k: Array(array) for k, array in largest.items()}), None

    def aggregate_evaluate(self, server_round: int, replies: Any) -> MetricRecord | None:
        return None

    def summary(self) -> None:
        pass


class Choosy(FedAvg):
    """Reads the run config and the task."""

    def __init__(self, config: RunConfig, task: Any, more: int = 3) -> None:
        super().__init__()
        self.about = config.tau, type(task).__name__, more


class Demanding(FedAvg):
    """Cannot be constructed without an argument that nobody has."""

    def __init__(self, krum: int) -> None:
        super().__init__()


NO_STRATEGY = 1


def test_a_strategy_of_ones_own_runs_the_whole_loop(tmp_path: Path) -> None:
    name = f"{__name__}:Largest"
    path = run(tmp_path, 3, strategy=name, num_server_rounds=2)
    # Clients add 1, 2 and 3 to the weight, which is the score.
    assert [row["server_valid_score"] for row in read_csv(path / "rounds.csv")] == [
        *("0.0", "3.0", "6.0")
    ]
    assert run(tmp_path, 3, strategy=name, num_server_rounds=3, resume="latest") == path
    assert read_csv(path / "rounds.csv")[-1]["server_valid_score"] == "9.0"


def test_a_strategy_of_ones_own_may_have_mixing_before_it(tmp_path: Path) -> None:
    keys = {"pre_aggregation": "nnm", "attackers_expected": 0.2, "num_server_rounds": 1}
    path = run(tmp_path, 5, strategy=f"{__name__}:Largest", **keys)
    # Clients add 1 to 5; each is mixed with all but the one that is furthest away.
    assert column(path, "server_valid_score") == [0.0, (2 + 3 + 4 + 5) / 4]


def test_a_strategy_of_ones_own_may_read_config_and_task() -> None:
    config = RunConfig.load({"strategy": f"{__name__}:Choosy", "tau": 0.5})
    strategy = make_strategy(config, Adding(config))
    assert isinstance(strategy, Choosy)
    assert strategy.about == (0.5, "Adding", 3)


@pytest.mark.parametrize("name", ["nobody", "", "no_such_module:Strategy", "test_strategy", ":"])
def test_a_strategy_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match=f"strategy = {name!r}: .*take one of fedavg, fedavgm"):
        check_strategy(name)


@pytest.mark.parametrize("name", ["NO_STRATEGY", "Missing", "Path"])
def test_what_is_not_a_strategy_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"strategy = '.*:{name}'"):
        check_strategy(f"{__name__}:{name}")


def test_a_strategy_that_cannot_be_constructed_is_refused() -> None:
    config = RunConfig.load({"strategy": f"{__name__}:Demanding"})
    with pytest.raises(InputError, match=r"strategy = .*Demanding.* cannot be constructed.*krum"):
        make_strategy(config, Adding(config))


def test_a_run_with_an_unknown_strategy_ends_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="strategy = 'nobody'"):
        run(tmp_path, 3, strategy="nobody")
    (path,) = tmp_path.glob("2*")
    assert not (path / "nodes.csv").exists()


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_reads_keys_that_exist(name: str) -> None:
    entry = check_strategy(name)
    assert entry.keys.keys() <= RunConfig.load().to_dict().keys()
    assert entry.strategy is ClosedForm or isinstance(
        make_strategy(RunConfig.load({"strategy": name}), Adding(RunConfig.load())), entry.strategy
    )
