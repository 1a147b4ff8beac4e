"""Clients whose features come from another runtime than the server's, such as a browser's.

Such a client says which one in the roll call, and sends its features of one picture that every site
sees alike. They are held to the server's: heads on other features must never be averaged.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.rounds.checking import Client, Expectations, difference
from celeba_fl.rounds.messages import FEATURES

NATIVE = "native"  # of clients that say nothing of it, as all Python ones
# The largest `distance` of honest features. ONNX Runtime in WebAssembly is within 2e-13 of the
# native one; pixels that are off by one at random make 4e-5, and another way to resize as much.
TOLERANCE = 1e-6


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """1 - cosine of two vectors, to which another length adds; 0 for equal ones, 2 at most."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    size = a @ a + b @ b
    return float((a - b) @ (a - b) / size) if size else 0.0


def check_client(expects: Expectations, client: Client) -> None:
    """Check what a client says of itself in the roll call: its runtime, then all else."""
    if client.runtime:
        _check_probe(client, expects.probe())
    expects.check_description(client)


def _check_probe(client: Client, wanted: np.ndarray) -> None:
    """Raise InputError at a client of another runtime whose features are not the server's."""
    if different := difference(client.probe, {FEATURES: wanted}):
        raise InputError(f"its runtime is {client.runtime}, and of the probe {different}")
    if not np.isfinite(client.probe[FEATURES]).all():
        raise InputError(f"its runtime is {client.runtime}, and of the probe not all is finite")
    if (far := distance(client.probe[FEATURES], wanted)) > TOLERANCE:
        raise InputError(
            f"its runtime, {client.runtime}, sees a picture otherwise than the server: 1 - cosine "
            f"of their features is {far:.2g}, and {TOLERANCE:g} is the most; heads on different "
            f"features must not be averaged"
        )


def summary(
    clients: Mapping[str, Client], expected: Callable[[], np.ndarray]
) -> dict[str, dict[str, Any]]:
    """For `run.json`: of each other runtime how many clients, and the largest distance of one."""
    others = sorted({client.runtime for client in clients.values()} - {""})
    found: dict[str, Any] = {}
    for runtime in others:
        probes = [one.probe[FEATURES] for one in clients.values() if one.runtime == runtime]
        farthest = max(distance(probe, expected()) for probe in probes)
        found[runtime] = {"clients": len(probes), "distance": farthest}
    return {"runtimes": {"tolerance": TOLERANCE, "others": found}} if found else {}
