"""Replies of a cohort become the next global model: the strategy's own arithmetic, made safe."""

import math
import statistics
from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord
from flwr.serverapp.strategy import Strategy

from celeba_fl.common.log import LOG
from celeba_fl.rounds.checking import check_arrays, fault
from celeba_fl.rounds.exchange import Replies
from celeba_fl.rounds.messages import NUM_EXAMPLES, num_examples, of_kind, unpack, view
from celeba_fl.rounds.updates import compare_updates


class RoundFailedError(RuntimeError):
    """A round without a usable result; what was computed before it stays."""


def aggregate(
    strategy: Strategy,
    server_round: int,
    replies: Replies,
    before: ArrayRecord,
    uniform: bool = False,
    measure: bool = True,
) -> tuple[ArrayRecord, MetricRecord]:
    """Let the strategy average in double precision; the result has the model's own types.

    That model is `before`, which the clients were sent. The replies are changed in place, and get
    `updates` if these are to be measured; if `uniform`, all clients with examples count alike,
    however many they have. Without any reply, as of a cohort of nobody, the strategy makes the
    model of what it has.

    Raises
    ------
    RoundFailedError
        If the strategy returns no model, or one with NaN, infinity or numbers beyond all measure.
    """
    if replies.summands and not total_examples(replies):
        LOG.warning("round %d: no client of the cohort has a train example", server_round)
        return before, MetricRecord()
    models = {
        client: arrays
        for client, reply in replies.usable.items()
        for arrays in of_kind(reply.content, ArrayRecord).values()
    }
    for message in replies.summands.values():
        for name, arrays in of_kind(message.content, ArrayRecord).items():
            message.content[name] = wide = ArrayRecord()
            wide.update({key: InDouble(arrays[key]) for key in before})
        if uniform:
            for reported in message.content.metric_records.values():
                reported[NUM_EXAMPLES] = min(1, num_examples(message.content))
    after, metrics = strategy.aggregate_train(server_round, list(replies.summands.values()))
    if after is None:
        raise RoundFailedError(f"round {server_round}: the strategy returned no model")
    model = cast(after, {key: array.dtype for key, array in before.items()})
    if wrong := fault(check_arrays, model):
        raise RoundFailedError(f"round {server_round}: the strategy returned a model whose {wrong}")
    if measure:
        replies.updates = compare_updates(models, before, model)
    return model, metrics or MetricRecord()


class InDouble(Array):
    """An array of a reply that a strategy reads in double precision; widened when it is read."""

    def __init__(self, packed: Array) -> None:
        super().__init__(packed.dtype, packed.shape, packed.stype, packed.data)

    def numpy(self) -> np.ndarray:
        """Its values as float64."""
        return view(self).astype(np.float64, order="C")


def discount(replies: Replies, before: Mapping[str, Array]) -> None:
    """Have those updates count in part that are to, or are of an older model than `before`.

    A client that made w of a model v counts, for a part p, as if it had made before + p (w - v).
    """
    for client in replies.parts.keys() & replies.usable.keys():
        received, part = replies.parts[client]
        content = replies.usable[client].content
        for name, model in content.array_records.items():
            moved = ArrayRecord()
            for key, array in before.items():
                now, sent, made = (
                    unpack(of).astype(np.float64) for of in (array, received[key], model[key])
                )
                moved[key] = Array(now + part * (made - sent))
            content[name] = moved


def leave_out_strides(replies: Replies, before: Mapping[str, Array], times: float) -> None:
    """Move models that are too far from the one `before` from `usable` to `failures`.

    Too far is more than so many `times` the median distance of the models that differ from it, with
    0 any. A median of fewer than three says nothing; nor does a total.
    """
    if not times or replies.total:
        return
    sent = {key: unpack(array) for key, array in before.items()}
    norms = {}
    for client, message in replies.usable.items():
        (model,) = of_kind(message.content, ArrayRecord).values()
        moved = (view(model[key]).astype(np.float64) - array for key, array in sent.items())
        norms[client] = math.sqrt(sum(float(np.square(step).sum()) for step in moved))
    usual = [norm for norm in norms.values() if norm > 0]
    median = statistics.median(usual) if len(usual) > 2 else math.inf
    for client, norm in norms.items():
        if norm > times * median:
            del replies.usable[client]
            replies.failures[client] = (
                f"its update has norm {norm:.3g}, more than {times:g} times {median:.3g}, the "
                f"median of its cohort (max-update-norm)"
            )


def total_examples(replies: Replies) -> int:
    """The number of examples behind the usable replies."""
    return sum(num_examples(message.content) for message in replies.summands.values())


def cast(arrays: ArrayRecord, dtypes: Mapping[str, str]) -> ArrayRecord:
    """Change types, in the order of `dtypes`, by which some strategies go.

    Whole numbers (such as batch norm's counters) are rounded, not cut. The results are contiguous,
    as a checkpoint gives them back: on arrays in another order, sums differ in their last digits.
    """
    cast = {}
    for key, name in dtypes.items():
        dtype, values = np.dtype(name), unpack(arrays[key])
        cast[key] = Array(
            (np.rint(values) if dtype.kind in "iu" else values).astype(dtype, order="C")
        )
    return ArrayRecord(cast)
