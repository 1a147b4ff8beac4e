"""The strategies: the aggregation is Flower's own, the rounds are our loop's."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Result

from celeba_fl.common.arrays import Arrays, add_exactly
from celeba_fl.common.log import LOG
from celeba_fl.config import RunConfig
from celeba_fl.rounds.exchange import unusable
from celeba_fl.rounds.loop import Loop
from celeba_fl.rounds.messages import NUM_EXAMPLES, SUMS, to_record
from celeba_fl.task import Instructions, Task

# What strategies call the server's learning rate.
SERVER_RATES = {"fedavgm": "server_learning_rate", "fedadam": "eta", "fedyogi": "eta"}


class LoopMixin(flower.Strategy):
    """Mixin for a FedAvg of Flower's or one of its heirs, whose rounds a `Loop` runs.

    Parameters
    ----------
    loop : Loop
        Who is asked in which round, and what becomes of the replies.
    weighting : str (default: "examples")
        ``examples``: clients count by their train examples; ``uniform``: alike, if they have any.
    **settings
        The strategy's own.
    """

    def __init__(self, loop: Loop, weighting: str = "examples", **settings: Any) -> None:
        super().__init__(**settings)
        self.loop, self.weighting = loop, weighting

    def start(self, *args: Any, **kwargs: Any) -> Result:
        """Run the rounds; the arguments are those of `Strategy.start`."""
        return self.loop.run(self, *args, **kwargs)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Flower's own, of the weights that are asked for."""
        replies = list(replies)
        if self.weighting == "uniform":
            for reply in replies:
                for metrics in reply.content.metric_records.values():
                    metrics[NUM_EXAMPLES] = min(1, metrics[NUM_EXAMPLES])
        return super().aggregate_train(server_round, replies)  # type: ignore[safe-super]


class FedAvg(LoopMixin, flower.FedAvg):
    """Federated averaging (McMahan et al., AISTATS 2017)."""


class FedAvgM(LoopMixin, flower.FedAvgM):
    """With momentum on the server (Hsu et al. 2019, arXiv 1909.06335)."""


class FedProx(LoopMixin, flower.FedProx):
    """With a proximal term on the clients (Li et al., MLSys 2020)."""


class FedAdam(LoopMixin, flower.FedAdam):
    """With Adam on the server (Reddi et al., ICLR 2021)."""


class FedYogi(LoopMixin, flower.FedYogi):
    """With Yogi on the server (Reddi et al., ICLR 2021)."""


class ClosedForm(flower.FedAvg):
    """One round in which clients send sums, from which the task solves.

    Fed3R (Fani et al., ICML 2024, arXiv 2406.01116) and AFL (He et al., CVPR 2025, arXiv
    2405.16240); the mathematics are the task's own, see `celeba_fl.models.ridge`. The sums are
    added up as they arrive: there is one set of them in memory, not fifty.

    Parameters
    ----------
    loop : Loop
        Who is asked, and what becomes of the replies.
    task : Task
        What the sums are.

    Raises
    ------
    InputError
        If the task has no closed form.
    """

    def __init__(self, loop: Loop, task: Task) -> None:
        super().__init__(min_train_nodes=1, min_evaluate_nodes=1, min_available_nodes=1)
        self.loop, self.task = loop, task
        task.zero_sums()  # now, and not after a first round
        self._total: Arrays = {}
        self._told: Instructions = {}

    def start(self, *args: Any, **kwargs: Any) -> Result:
        """Run one round, as there is no second; the arguments are those of `Strategy.start`."""
        LOG.info("The closed form takes one round, whatever num-server-rounds")
        return self.loop.run(self, *args, **{**kwargs, "num_rounds": 1})

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask for the sums; the model stays here."""
        self._total = self.task.zero_sums()
        self._told = {**config, SUMS: list(self._total)}
        told = ConfigRecord({**self._told})
        return super().configure_train(server_round, ArrayRecord(), told, grid)

    def take(self, content: RecordDict) -> str | None:
        """Add a client's sums and drop them, or say why they are unusable."""
        reason = unusable(content, to_record(self._total))
        if not reason:
            (name,) = content.array_records
            sums = content.array_records[name]
            add_exactly(self._total, {key: sums[key].numpy() for key in self._total})
            del content[name]
        return reason

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord, MetricRecord]:
        """Solve; the sums are not needed any more."""
        total, self._total = self._total, {}
        head = self.task.solve(total, self._told)
        return to_record(head), MetricRecord()


def make_strategy(config: RunConfig, loop: Loop, task: Task) -> flower.Strategy:
    """The strategy that a run config names, with its own keys."""
    if config.strategy == "closed-form":
        return ClosedForm(loop, task)
    rate = config.server_learning_rate
    adaptive = {"beta_1": config.beta_1, "beta_2": config.beta_2, "tau": config.tau}
    settings: Mapping[str, tuple[Callable[..., flower.Strategy], dict[str, float]]] = {
        "fedavg": (FedAvg, {}),
        "fedavgm": (FedAvgM, {"server_momentum": config.server_momentum}),
        "fedprox": (FedProx, {"proximal_mu": config.proximal_mu}),
        "fedadam": (FedAdam, adaptive),
        "fedyogi": (FedYogi, adaptive),
    }
    make, own = settings[config.strategy]
    if rate and config.strategy in SERVER_RATES:
        own = {**own, SERVER_RATES[config.strategy]: rate}
    return make(loop, config.weighting, **own)
