"""Replies of a cohort become the next global model: the strategy's own arithmetic, made safe."""

from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord
from flwr.serverapp.strategy import Strategy

from celeba_fl.common.log import LOG
from celeba_fl.rounds.exchange import Replies
from celeba_fl.rounds.messages import NUM_EXAMPLES, num_examples


class RoundFailedError(RuntimeError):
    """A round without a usable result; what was computed before it stays."""


def aggregate(
    strategy: Strategy,
    server_round: int,
    replies: Replies,
    before: ArrayRecord,
    uniform: bool = False,
) -> tuple[ArrayRecord, MetricRecord]:
    """Let the strategy average in double precision; the result has the model's own types.

    That model is `before`, which the clients were sent. The replies are changed in place; if
    `uniform`, all clients with examples count alike, however many they have.

    Raises
    ------
    RoundFailedError
        If the strategy returns no model, or one with NaN or infinity.
    """
    if not total_examples(replies):
        LOG.warning("round %d: no client of the cohort has a train example", server_round)
        return before, MetricRecord()
    for message in replies.usable.values():
        for name, arrays in list(message.content.array_records.items()):
            message.content[name] = cast(arrays, dict.fromkeys(before, "float64"))
        if uniform:
            for reported in message.content.metric_records.values():
                reported[NUM_EXAMPLES] = min(1, num_examples(message.content))
    after, metrics = strategy.aggregate_train(server_round, list(replies.usable.values()))
    if after is None:
        raise RoundFailedError(f"round {server_round}: the strategy returned no model")
    model = cast(after, {key: array.dtype for key, array in before.items()})
    if not all(np.isfinite(array.numpy()).all() for array in model.values()):
        raise RoundFailedError(
            f"round {server_round}: the strategy returned a model with NaN or infinity"
        )
    return model, metrics or MetricRecord()


def total_examples(replies: Replies) -> int:
    """The number of examples behind the usable replies."""
    return sum(num_examples(message.content) for message in replies.usable.values())


def cast(arrays: ArrayRecord, dtypes: Mapping[str, str]) -> ArrayRecord:
    """Change types, in the order of `dtypes`, by which some strategies go.

    Whole numbers (such as batch norm's counters) are rounded, not cut. The results are contiguous,
    as a checkpoint gives them back: on arrays in another order, sums differ in their last digits.
    """
    cast = {}
    for key, name in dtypes.items():
        dtype, values = np.dtype(name), arrays[key].numpy()
        cast[key] = Array(
            (np.rint(values) if dtype.kind in "iu" else values).astype(dtype, order="C")
        )
    return ArrayRecord(cast)
