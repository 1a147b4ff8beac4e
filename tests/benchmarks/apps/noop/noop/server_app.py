"""Rounds of FedAvg over heads that never change; writes when each of them ended.

A round has two exchanges, as Flower's strategies do it, or one without the evaluation.
"""

import json
import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run them; central evaluation comes last in a round, and marks its end."""
    config = context.run_config
    ended: list[float] = []

    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
        ended.append(time.time())
        Path(str(config["out"])).write_text(json.dumps({"ended": ended}))
        return MetricRecord({"nothing": 0})

    head = {"weight": np.zeros((40, 1280), np.float32), "bias": np.zeros(40, np.float32)}
    evaluating = 1.0 if config["exchanges"] == 2 else 0.0
    nodes = int(config["num-clients"])
    strategy = FedAvg(fraction_evaluate=evaluating, min_available_nodes=nodes)
    strategy.start(
        grid,
        ArrayRecord({key: Array(array) for key, array in head.items()}),
        num_rounds=int(config["rounds"]),
        evaluate_fn=evaluate,
    )
