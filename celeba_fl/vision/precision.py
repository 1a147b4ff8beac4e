"""Networks in bfloat16, by OpenVINO: up to twice as fast on processors that have it.

A processor without instructions for it could only imitate it, and gain nothing, so there it is
refused.
"""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG
from celeba_fl.vision.views import BF16, FP32


def resolve(precision: str) -> str:
    """The precision that the run-config key of this name means on this machine."""
    if precision != "auto":
        return precision
    lacking = lacking_bf16()
    LOG.info("precision = 'auto': %s", f"{FP32}, since {lacking}" if lacking else BF16)
    return FP32 if lacking else BF16


def lacking_bf16() -> str:
    """Why this machine cannot compute in bfloat16; empty if it can."""
    try:
        core = _core()
    except ImportError:
        return "the package openvino is not installed: pip install 'celeba-fl[fast]'"
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return "the processor has no instructions for bfloat16"
    return ""


def bf16_runner(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """The network of an ONNX file in bfloat16, for so many threads at once.

    Raises
    ------
    InputError
        If this machine cannot compute in bfloat16.
    """
    if lacking := lacking_bf16():
        raise InputError(
            f"precision = {BF16!r}: {lacking}; or set precision to {FP32!r} for the whole run",
            open_to_all=True,
        )
    options = {
        "INFERENCE_PRECISION_HINT": "bf16",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    network = _core().compile_model(path, "CPU", options)
    own = threading.local()

    def run(pixels: np.ndarray) -> np.ndarray:
        # Another thread's request may be busy, and a new one costs half as much as a small network.
        if not hasattr(own, "request"):
            own.request = network.create_infer_request()
        return own.request.infer([pixels])[0]

    return run


def _core() -> Any:
    # Importing OpenVINO tells Google Analytics so, unless the package for that is missing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino.Core()
