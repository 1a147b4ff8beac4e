"""What the protocol adds to the messages of an app, as one record of bytes."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict

from celeba_fl.common.errors import InputError

# Records: what is said, and the masked words by serial number.
SECURE, MASKED = "secure", "masked"
PACKET = "packet"
# What a client is asked for, under the key ``step``.
KEYS, SHARE, MASK, UNMASK = "keys", "share", "mask", "unmask"


def packed(said: Mapping[str, Any]) -> ArrayRecord:
    """A record of what is said; of arrays, as only those are counted as traffic."""
    return ArrayRecord({PACKET: Array(np.frombuffer(json.dumps(said).encode(), np.uint8))})


def unpacked(content: RecordDict) -> dict[str, Any]:
    """What is said in a message.

    Raises
    ------
    InputError
        If there is nothing, or nothing that can be read.
    """
    record = content.array_records.get(SECURE)
    if record is None:
        raise InputError(
            "the message is not one of secure sums, and nothing else is answered in this run",
            open_to_all=True,
        )
    try:
        said: dict[str, Any] = json.loads(record[PACKET].numpy().tobytes())
        return {**said}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("the message of secure sums cannot be read", open_to_all=True) from error
