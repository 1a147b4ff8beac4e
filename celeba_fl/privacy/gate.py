"""What may leave a client under a privacy budget: all that is listed here, and nothing besides.

Each reply of a client's app goes through this gate. Of what it says, only the arrays of training
depend on the client's images: in these there is noise, or the server adds it before it lets anybody
see them, and the `celeba_fl.privacy.ledger` counts them. Everything else is the same whatever a
client holds, if anything. So an average has clients for its examples, and nobody knows how many
images there are.
"""

import numpy as np
from flwr.app import MetricRecord, RecordDict

from celeba_fl.common.errors import InputError
from celeba_fl.rounds.messages import (
    ARRAYS,
    METRICS,
    NUM_EXAMPLES,
    QUERY,
    SITS_OUT,
    TRAIN,
    Introduction,
)

# What a client counts for, whatever it holds.
ONE = 1
SILENT = "it cannot answer; its own log says why, and nobody else learns that (privacy-epsilon)"


def check_asked(message_type: str, sums: bool, unit: str) -> None:
    """Raise InputError at a message that asks for what is not let out, such as an evaluation.

    A trained model has no noise in it, which only a client as the unit has no need of: then the
    server adds it. Sums are for all other units.
    """
    wrong = message_type == TRAIN and sums == (unit == "client")
    if message_type not in (QUERY, TRAIN) or wrong:
        raise InputError(
            f"{message_type}: under a privacy budget clients say nothing of their images but what "
            f"its ledger counts",
            open_to_all=True,
        )


def let_out(message_type: str, reply: RecordDict) -> RecordDict:
    """What others may see of a reply to a message of this type, which is one of `check_asked`."""
    if message_type == QUERY:
        return reply if SITS_OUT in reply.config_records else _introduction(reply)
    metrics = MetricRecord({NUM_EXAMPLES: ONE})
    return RecordDict({ARRAYS: reply.array_records[ARRAYS], METRICS: metrics})


def _introduction(reply: RecordDict) -> RecordDict:
    """The client without its numbers."""
    said = Introduction.of(reply)
    return Introduction(
        name=said.name,
        num_train=ONE,
        num_valid=0,
        counts=np.zeros_like(said.counts),
        missing=said.missing,
        code=said.code,
        path=said.path,
    ).to_content()


def excuse(error: BaseException) -> str:
    """What others may read of an error: words that are open to all, or that there was one."""
    return str(error) if isinstance(error, InputError) and error.open_to_all else SILENT
