"""One client, one vote: Flower's robust strategies as this loop calls them, and mixing before any.

What Flower's leave to whoever calls them is done here: clients without examples have no vote,
numbers of examples, which a liar chooses, give nobody more of it, and how many attackers are
expected follows from how many clients were asked.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy

from celeba_fl.common.errors import InputError
from celeba_fl.common.flower import altered
from celeba_fl.config import RunConfig
from celeba_fl.robust.clipping import Clipping
from celeba_fl.robust.mixing import buckets, means, model_of, nearest
from celeba_fl.rounds.aggregation import RoundFailedError
from celeba_fl.rounds.messages import NUM_EXAMPLES, num_examples
from celeba_fl.task import derived_seed


@dataclass(frozen=True)
class Defence:
    """What a strategy is to stand, by the run config, and the mixing before it."""

    name: str = ""
    share: float = 0.0
    mixing: str = "none"
    bucket: int = 2
    seed: int = 0

    @classmethod
    def of(cls, config: RunConfig) -> "Defence":
        """That of a run config."""
        mixing = config.pre_aggregation, config.bucket_size
        return cls(config.strategy, config.attackers_expected, *mixing, config.seed)

    def attackers(self, clients: int) -> int:
        """How many of so many clients may attack, rounded up, but for errors of rounding."""
        return math.ceil(round(self.share * clients, 6))

    def votes(self, clients: int) -> int:
        """How many models are left of those of so many clients."""
        return math.ceil(clients / self.bucket) if self.mixing == "bucketing" else clients

    def mix(self, contents: list[Any], attackers: int, server_round: int) -> list[Any]:
        """The contents that the strategy sees; if there is no mixing, they are new all the same."""
        members = [[i] for i in range(len(contents))]
        if self.mixing == "nnm":
            members = nearest([model_of(content) for content in contents], attackers)
        elif self.mixing == "bucketing":
            seed = derived_seed(self.seed, server_round, "buckets")
            members = buckets(len(contents), self.bucket, seed)
        return means(contents, members)


class Voting(Strategy):
    """What is put before a strategy so that each client with examples has one vote."""

    defence = Defence()
    # The fewest votes that it takes: so many times the attackers, and so many more.
    least: ClassVar[tuple[int, int]] = (2, 1)
    asked = 0

    def settings(self, votes: int, attackers: int) -> dict[str, Any]:
        """Attributes of the strategy that depend on how many vote."""
        return {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Raise InputError if too few are asked: nobody trains in vain."""
        told = server_round, arrays, config, grid
        messages = [*super().configure_train(*told)]  # type: ignore[safe-super]
        self.asked = len(messages)
        if too_few := self._too_few(self.asked):
            raise InputError(too_few)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Mix the models, and let the strategy count the votes.

        Raises
        ------
        RoundFailedError
            If too many clients have failed for as many attackers as are expected.
        """
        voters = [reply for reply in replies if num_examples(reply.content)]
        if too_few := self._too_few(len(voters)):
            tries = "or raise min-replies, so that such a round is tried again"
            raise RoundFailedError(f"round {server_round}: {too_few}; {tries}")
        attackers = self.defence.attackers(self.asked)
        contents = self.defence.mix([one.content for one in voters], attackers, server_round)
        for content in contents:
            for metrics in content.metric_records.values():
                metrics[NUM_EXAMPLES] = 1
        vars(self).update(self.settings(len(contents), attackers))
        votes = [
            altered(voter, content, voter.metadata.message_type)
            for voter, content in zip(voters, contents, strict=False)
        ]
        return super().aggregate_train(server_round, votes)  # type: ignore[safe-super]

    def _too_few(self, clients: int) -> str:
        """Why so many clients do not suffice; empty if they do."""
        defence, (times, more) = self.defence, self.least
        attackers, votes = defence.attackers(self.asked), defence.votes(clients)
        if votes >= times * attackers + more:
            return ""
        left = f"{votes} votes of {clients} clients" if votes < clients else f"{clients} clients"
        most = math.floor(100 * max(0.0, (votes - more) / times) / max(1, self.asked)) / 100
        cure = f"set attackers-expected to {most} or below" if most > 0 else "take more clients"
        if (times, more) > Voting.least:
            cure += ", or take a strategy that stands more, such as fedmedian"
        return (
            f"strategy = {defence.name!r}, attackers-expected = {defence.share}: with {attackers} "
            f"attackers among {self.asked} clients it takes {times * attackers + more} votes, and "
            f"there are {left}; {cure}"
        )


class Krum(Voting, flower.Krum):
    """The model with the nearest neighbours (Blanchard et al., NeurIPS 2017)."""

    least = 2, 3

    def settings(self, votes: int, attackers: int) -> dict[str, Any]:
        return {"num_malicious_nodes": attackers}


class MultiKrum(Voting, flower.MultiKrum):
    """The mean of all models but as many as there are attackers, those with far neighbours."""

    least = 2, 3

    def settings(self, votes: int, attackers: int) -> dict[str, Any]:
        return {"num_malicious_nodes": attackers, "num_nodes_to_select": votes - attackers}


class Bulyan(Voting, flower.Bulyan):
    """Krum's choice, then of each number the mean of what is around its median.

    El Mhamdi et al., ICML 2018.
    """

    least = 4, 3

    def settings(self, votes: int, attackers: int) -> dict[str, Any]:
        return {"num_malicious_nodes": attackers}


class Median(Voting, flower.FedMedian):
    """The median of each number (Yin et al., ICML 2018)."""


class TrimmedMean(Voting, flower.FedTrimmedAvg):
    """Of each number the mean without the largest and the smallest (Yin et al., ICML 2018)."""

    def settings(self, votes: int, attackers: int) -> dict[str, Any]:
        # Flower rounds its share of the votes down: 0.29 of 100 would be 28.
        return {"beta": (attackers + 0.25) / votes}


class CentredClipping(Voting, Clipping):
    """The mean of steps that are not longer than the median one, see `Clipping`."""


def voting(strategy: type[Strategy]) -> type[Strategy]:
    """A strategy before which there is `Voting`."""
    if issubclass(strategy, Voting):
        return strategy
    return type(strategy.__name__, (Voting, strategy), {"__doc__": strategy.__doc__})
