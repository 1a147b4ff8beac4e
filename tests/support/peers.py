"""Values as those of node take and give them who are peers of a test."""

import base64
from typing import Any

import numpy as np
from flwr.app import Array


def encoded(data: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(data).decode()


def shown(value: Any, bits: bool = False) -> Any:
    """A value of a record with its type; with `bits`, a float by its own, so that NaN is one."""
    if isinstance(value, Array):
        return shown(value.numpy())
    if isinstance(value, np.ndarray):
        data = encoded(np.ascontiguousarray(value).tobytes())
        return {"dtype": str(value.dtype), "shape": list(value.shape), "data": data}
    if isinstance(value, list):
        return [shown(one, bits) for one in value]
    if isinstance(value, bytes):
        return {"bytes": encoded(value)}
    if isinstance(value, int) and not isinstance(value, bool):
        return {"int": str(value)}
    if isinstance(value, float) and bits:
        return {"float": encoded(np.float64(value).tobytes())}
    return value
