"""Replies of a client as numbers to be summed, and their total as a reply.

A reply's metrics and arrays are all summed but for the seconds, which stay what they are. Of a
trained model and of its loss the weighted sums are, so that their total is a mean; the weight is
the number of examples or, if `uniform`, 1 where there are any.
"""

from typing import Any

import numpy as np
from flwr.app import ArrayRecord, MetricRecord, RecordDict

from celeba_fl.common.arrays import Arrays
from celeba_fl.privacy.encoding import EXACT, MEAN, SMALL, WHOLE, Summand
from celeba_fl.rounds.checking import Client
from celeba_fl.rounds.messages import (
    COUNTS,
    LOCAL_LOSS,
    METRICS,
    NUM_EXAMPLES,
    NUM_VALID,
    QUERY,
    SECONDS,
    SUMS,
    TRAIN,
    Introduction,
    num_examples,
    to_arrays,
    to_record,
)

# Names are ``part/record/key``.
WEIGHT = "weight"


def introduced(client: Introduction) -> dict[str, Summand]:
    """What a client says of itself in the roll call, and nowhere else.

    These numbers stay what they are, and totals of them over changing clients would differ by
    those of single ones.
    """
    numbers = {NUM_EXAMPLES: client.num_train, NUM_VALID: client.num_valid, COUNTS: client.counts}
    said = {f"{METRICS}/{key}": np.asarray(value) for key, value in numbers.items()}
    said |= {f"{SUMS}/{key}": array for key, array in client.sums.items()}
    return {f"{QUERY}/{name}": Summand(WHOLE, array) for name, array in said.items()}


def summands(part: str, content: RecordDict, uniform: bool) -> dict[str, Summand]:
    """The numbers in a reply to a part of a message."""
    examples, found = num_examples(content), {}
    weight = min(1, examples) if uniform else examples
    for key, value in content.metric_records[METRICS].items():
        if key == LOCAL_LOSS:
            found[f"{METRICS}/{key}"] = Summand(EXACT, np.asarray(value) * float(examples))
        elif key != SECONDS:
            array = np.asarray(value)
            found[f"{METRICS}/{key}"] = Summand(_kind(array), array)
    for record, arrays in content.array_records.items():
        for key, one in arrays.items():
            array = one.numpy()
            kind = MEAN if part == TRAIN else _kind(array)
            found[f"{record}/{key}"] = Summand(kind, array, weight)
    if part == TRAIN:
        found[f"{WEIGHT}/{WEIGHT}"] = Summand(WHOLE, np.asarray(weight))
    return {f"{part}/{name}": one for name, one in found.items()}


def _kind(array: np.ndarray) -> str:
    return {"u": SMALL, "b": WHOLE, "i": WHOLE}.get(array.dtype.kind, EXACT)


def totals(sums: Arrays) -> dict[str, RecordDict]:
    """The total of replies by part."""
    records: dict[str, dict[str, Arrays]] = {}
    for name, array in sums.items():
        part, record, key = name.split("/", 2)
        records.setdefault(part, {}).setdefault(record, {})[key] = array
    return {part: _content(of_part) for part, of_part in records.items()}


def together(total: RecordDict) -> Client:
    """The client that all are together, by the total of the roll call."""
    said = total.metric_records[METRICS]
    keys = NUM_EXAMPLES, NUM_VALID, COUNTS
    train, valid, counts = (np.array(said[key], np.int64) for key in keys)
    sums = to_arrays(total.array_records.get(SUMS, ArrayRecord()))
    return Client(0, int(train), int(valid), counts, sums)


def _content(records: dict[str, Arrays]) -> RecordDict:
    """The total of replies to a part."""
    said = records.pop(METRICS)
    metrics: dict[str, Any] = {key: array.tolist() for key, array in said.items()}
    weight = records.pop(WEIGHT, {}).get(WEIGHT)
    if weight is not None:
        weighed = max(int(weight), 1)
        records = {
            name: {key: array / weighed for key, array in arrays.items()}
            for name, arrays in records.items()
        }
    if LOCAL_LOSS in metrics:
        metrics[LOCAL_LOSS] /= max(metrics[NUM_EXAMPLES], 1)
    content = RecordDict({name: to_record(arrays) for name, arrays in records.items()})
    content[METRICS] = MetricRecord(metrics)
    return content
