"""A round: a model that a cohort has trained, and what it is worth."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord, MetricRecord

from celeba_fl.rounds.checkpoints import Checkpoint
from celeba_fl.rounds.exchange import Replies
from celeba_fl.rounds.messages import TRAIN

AT_WORK = "at_work"


@dataclass
class Round:
    """A round; round 0 is the model that training starts from.

    Its model is evaluated in the exchange that trains the next one.
    """

    server_round: int
    arrays: ArrayRecord  # the global model after it
    train: Replies = field(default_factory=Replies)  # without arrays: those are in the model
    seconds: float = 0.0  # wall time until the model was there
    evaluated: bool = False  # whether the rest is there too
    evaluate: Replies = field(default_factory=Replies)
    averages: MetricRecord = field(default_factory=MetricRecord)  # the strategy's, of `evaluate`
    central: MetricRecord = field(default_factory=MetricRecord)  # of `evaluate_fn`, if there is one
    # In asynchronous rounds: who was at work when its model was there, and the older ones of these.
    at_work: Mapping[str, Any] = field(default_factory=dict)
    older: Mapping[int, ArrayRecord] = field(default_factory=dict)

    @property
    def is_asynchronous(self) -> bool:
        """Whether those who trained or evaluated it may have had older models."""
        return bool(self.train.staleness or self.evaluate.staleness)

    def trained(self) -> dict[str, Any]:
        """What is known of its training, for a checkpoint: only later is there a record of it."""
        at_work = {AT_WORK: self.at_work} if self.at_work else {}
        return {"replies": self.train.state(), "seconds": self.seconds, **at_work}

    @classmethod
    def restored(cls, checkpoint: Checkpoint) -> "Round":
        """The round of a checkpoint, to be evaluated, unless that was done before."""
        number, arrays, trained = checkpoint.server_round, checkpoint.arrays, checkpoint.trained
        if not trained:
            return cls(number, arrays, evaluated=True)
        train, more = Replies.restored(trained["replies"], TRAIN), trained.get(AT_WORK, {})
        seconds, older = trained["seconds"], checkpoint.older
        return cls(number, arrays, train, seconds, at_work=more, older=older)


def averaged_metrics(done: Round) -> dict[str, float]:
    """The clients' averaged evaluation metrics as ``valid_<metric>``, for the stop rules."""
    return {f"valid_{k}": v for k, v in done.averages.items() if isinstance(v, int | float)}
