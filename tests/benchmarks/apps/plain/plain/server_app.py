"""FedAvg over heads, with a central evaluation on the test images after every round."""

import json
import time
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from plain.task import Net, load_split, loader
from plain.task import test as test_fn

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds; write when each of them ended, and its test accuracy."""
    config = context.run_config
    torch.manual_seed(42)
    net = Net(str(config["weights"]), float(config["dropout"]))
    batches = loader(load_split(str(config["dataset"]), "test"), config, False)
    ended: list[float] = []
    accuracies: list[float] = []

    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
        net.head.load_state_dict(arrays.to_torch_state_dict())
        accuracy, _ = test_fn(net, batches)
        accuracies.append(accuracy)
        ended.append(time.time())
        done = {"ended": ended, "test_accuracy": accuracies}
        Path(str(config["out"])).write_text(json.dumps(done))
        return MetricRecord({"accuracy": accuracy})

    strategy = FedAvg(min_available_nodes=int(config["num-clients"]))
    strategy.start(
        grid,
        ArrayRecord(net.head.state_dict()),
        num_rounds=int(config["rounds"]),
        evaluate_fn=evaluate,
    )
