"""The strategies: Flower's own, the closed form, and anyone's; the rounds are our loop's.

To add a strategy of Flower's, give it an entry in `STRATEGIES`. A strategy from outside the package
is named in the run config as ``strategy = "my_package.my_module:MyStrategy"``.
"""

import importlib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy

from celeba_fl.common.arrays import Arrays, add_exactly
from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG
from celeba_fl.config import RunConfig
from celeba_fl.privacy.averaging import PrivateAveraging
from celeba_fl.privacy.noise import noise_multiplier
from celeba_fl.robust import voting
from celeba_fl.rounds.messages import SUMS, of_kind, to_record, view
from celeba_fl.task import Instructions, Task

Keep = Callable[[Arrays], None]


class Each(Protocol):
    """Where each client's sums are kept, such as `celeba_fl.runs.kept_sums.KeptSums`."""

    def clear(self) -> None: ...
    def put(self, client: str, sums: Arrays) -> None: ...
    def read(self, client: str, like: Arrays) -> Arrays: ...
    def leave_out(self, clients: Sequence[str]) -> None: ...
    def finish(self) -> None: ...


class ClosedForm(flower.FedAvg):
    """One round in which clients send sums, from which the task solves for the model.

    Fed3R (Fani et al., ICML 2024, arXiv 2406.01116) and AFL (He et al., CVPR 2025, arXiv
    2405.16240); the mathematics are the task's own, see `celeba_fl.models.ridge`. The sums are
    added up as they arrive, so that memory holds one set of them and not fifty. `keep` gets what
    the task keeps of them, and `each` the sums of each client, if they are kept. With `robust` =
    ``leave-out`` the sums of clients whom the task accuses are taken off again.

    Raises
    ------
    InputError
        If the task has no closed form.
    """

    num_rounds = 1  # there is no second one, see `Loop`

    def __init__(
        self,
        task: Task,
        keep: Keep | None = None,
        each: Each | None = None,
        robust: str = "none",
    ) -> None:
        super().__init__()
        self.task, self._keep, self._each, self._robust = task, keep, each, robust != "none"
        task.zero_sums()  # fails here, not in the first round
        self._total: Arrays = {}
        self._clients: list[str] = []  # whose sums are in it
        self._instructions: Instructions = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask for the sums; the model stays on the server."""
        self._total, self._clients = self.task.zero_sums(), []
        if self._each:
            self._each.clear()
        self._instructions = {**config, SUMS: list(self._total)}
        instructions = ConfigRecord({**self._instructions})
        return super().configure_train(server_round, ArrayRecord(), instructions, grid)

    @property
    def expected(self) -> Arrays:
        """The sums so far: a client's are of the same shapes."""
        return self._total

    def take(self, client: str, content: RecordDict) -> None:
        """Add a client's sums and delete them; InputError if the total does not fit into int64."""
        ((name, packed),) = of_kind(content, ArrayRecord).items()
        sums = {key: view(packed[key]) for key in self._total}
        add_exactly(self._total, sums)
        self._clients.append(client)
        if self._each:
            self._each.put(client, sums)
        del content[name]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord, MetricRecord]:
        """Solve for the model, and drop the sums."""
        total, self._total = self._total, {}
        if self._each and self._robust:
            told = total, self._instructions, sorted(self._clients)
            read = partial(self._each.read, like=total)
            accused = self.task.accused(*told, read)
            for client in accused:
                add_exactly(total, {key: -own for key, own in read(client).items()})
            self._each.leave_out(accused)
        kept = self.task.sums_to_keep(total, self._instructions) if self._keep else {}
        if self._keep and kept:
            self._keep(kept)
        if self._each:
            self._each.finish()
        head = self.task.solve(total, self._instructions)
        return to_record(head), MetricRecord()


@dataclass(frozen=True)
class Entry:
    """A strategy in the table below.

    If its constructor has a parameter `config` or `task`, it gets the run config or the task.
    """

    strategy: type[Strategy]
    # The run-config keys that it reads, and what its constructor calls them.
    keys: Mapping[str, str] = field(default_factory=dict)
    # Whether it needs no more than the clients' weighted mean, or the sum of what they send.
    sums: bool = False


ADAPTIVE = {"server-learning-rate": "eta", "beta-1": "beta_1", "beta-2": "beta_2", "tau": "tau"}
STRATEGIES: Mapping[str, Entry] = {
    # Federated averaging (McMahan et al., AISTATS 2017).
    "fedavg": Entry(flower.FedAvg, sums=True),
    # With momentum on the server (Hsu et al. 2019, arXiv 1909.06335).
    "fedavgm": Entry(
        flower.FedAvgM,
        {"server-learning-rate": "server_learning_rate", "server-momentum": "server_momentum"},
        sums=True,
    ),
    # With a proximal term on the clients (Li et al., MLSys 2020).
    "fedprox": Entry(flower.FedProx, {"proximal-mu": "proximal_mu"}, sums=True),
    # With Adam or Yogi on the server (Reddi et al., ICLR 2021).
    "fedadam": Entry(flower.FedAdam, ADAPTIVE, sums=True),
    "fedyogi": Entry(flower.FedYogi, ADAPTIVE, sums=True),
    "closed-form": Entry(ClosedForm, {"robust": "robust"}, sums=True),
    # Those that stand clients which lie; each counts once, however many examples it has.
    "krum": Entry(voting.Krum),
    "multikrum": Entry(voting.MultiKrum),
    "bulyan": Entry(voting.Bulyan),
    "fedmedian": Entry(voting.Median),
    "fedtrimmedavg": Entry(voting.TrimmedMean),
    "centred-clipping": Entry(voting.CentredClipping, {"clipping-radius": "radius"}),
}


def check_strategy(name: str, secure: bool = False) -> Entry:
    """The strategy of a name in `STRATEGIES`, or of a class of one's own, ``module:Class``.

    Raises
    ------
    InputError
        If there is none, or under `secure-aggregation`, one that may need to see clients.
    """
    if secure and not (name in STRATEGIES and STRATEGIES[name].sums):
        known = [one for one, entry in STRATEGIES.items() if entry.sums]
        raise InputError(
            f"strategy = {name!r}: may need to see what each client sends, and under "
            f"secure-aggregation there are totals alone; take one of {', '.join(known)}"
        )
    if name in STRATEGIES:
        return STRATEGIES[name]
    module, _, own = name.partition(":")
    try:
        strategy = getattr(importlib.import_module(module), own)
        if not (isinstance(strategy, type) and issubclass(strategy, Strategy)):
            raise TypeError(f"{own} is not a Strategy of Flower's")
    except Exception as error:  # whatever the import of someone's module raises
        raise InputError(
            f"strategy = {name!r}: {error}; take one of {', '.join(STRATEGIES)}, or name your own "
            f"as module:Class"
        ) from error
    return Entry(strategy)


def private_averaging(config: RunConfig, clients: int) -> PrivateAveraging:
    """FedAvg under a budget for all of its rounds, for so many clients."""
    whole = noise_multiplier(config.privacy_epsilon, config.privacy_delta)
    each = whole * math.sqrt(config.num_server_rounds)
    return PrivateAveraging(each, config.clipping_norm, clients, config.privacy_delta)


def make_strategy(
    config: RunConfig, task: Task, keep: Keep | None = None, each: Each | None = None
) -> Strategy:
    """The strategy that a run config names, with its own keys; the closed form may `keep` sums.

    Raises
    ------
    InputError
        If there is none of that name, or it cannot be constructed.
    """
    entry, values = check_strategy(config.strategy), config.to_dict()
    mixes = config.pre_aggregation != "none"
    made = voting.voting(entry.strategy) if mixes else entry.strategy
    if not config.server_learning_rate:  # then Flower's default holds
        del values["server-learning-rate"]
    takes = inspect.signature(entry.strategy).parameters
    arguments: dict[str, Any] = {
        **{argument: values[key] for key, argument in entry.keys.items() if key in values},
        **{name: one for name, one in {"config": config, "task": task}.items() if name in takes},
    }
    if entry.strategy is ClosedForm:
        LOG.info("The closed form takes one round, whatever num-server-rounds")
        arguments |= {"keep": keep, "each": each}
    try:
        strategy = made(**arguments)
    except TypeError as error:
        raise InputError(
            f"strategy = {config.strategy!r}: cannot be constructed: {error}; give its other "
            f"parameters defaults, or read them from a parameter config"
        ) from error
    if isinstance(strategy, voting.Voting):
        strategy.defence = voting.Defence.of(config)
        LOG.info(
            "strategy = %s, pre-aggregation = %s: each client with examples counts once, whatever "
            "weighting = %s says, and a fraction of %g of them may lie (attackers-expected)",
            *(config.strategy, config.pre_aggregation, config.weighting, config.attackers_expected),
        )
    return strategy
