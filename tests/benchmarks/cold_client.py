"""A cold client: a new process that handles one train message. Prints seconds and memory.

In a deployment every message is such a process, so what it imports is paid each time. `no-op` is a
ClientApp that imports PyTorch and sends the arrays back. Everything that is kept is warm.

python tests/benchmarks/cold_client.py cifar10=/data/cifar10 \
        dataset=/data/celeba weights=/data/mobilenet_v2.pt image-size=224
"""

import json
import pickle
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

# The app is imported where it is used: a no-op client must not import it.

REPEATS = 5
NODE = {"partition-id": 0, "num-partitions": 10}
# What no client that finds everything kept should import.
HEAVY = ("torchvision", "datasets", "flwr_datasets", "onnxruntime", "sklearn", "pandas", "pyarrow")


def handle(what: str, files: Path) -> None:
    """Be the cold client, and print what it cost."""
    from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
    from flwr.clientapp import ClientApp

    from celeba_fl.common.flower import identify

    if what == "no-op":
        import torch

        torch.set_num_threads(1)
        app = ClientApp()

        @app.train()
        def train(message: Message, context: Context) -> Message:
            return Message(message.content, reply_to=message)
    else:
        from celeba_fl.client_app import app

    said = pickle.loads((files / "said.pickle").read_bytes())
    with np.load(files / "arrays.npz") as arrays:
        record = ArrayRecord({key: Array(array) for key, array in arrays.items()})
    identify(1)
    content = RecordDict({"arrays": record, "config": ConfigRecord(said["told"])})
    message = Message(content, dst_node_id=1, message_type="train")
    app(message, Context(1, 1, NODE, RecordDict(), said["config"]))
    status = Path("/proc/self/smaps_rollup").read_text()
    sizes = {name: int(kb) / 1024 for name, kb in re.findall(r"(\w+): +(\d+) kB", status)}
    private = sizes["Private_Clean"] + sizes["Private_Dirty"]
    heavy = [name for name in HEAVY if name in sys.modules]
    print(json.dumps({"pss": sizes["Pss"], "private": private, "heavy": heavy}))


def measure(what: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Median of several cold clients: seconds of the whole process, MB at its end."""
    from celeba_fl.config import RunConfig
    from celeba_fl.task import load_task

    config = RunConfig.load(settings)
    task = load_task(config)
    told = task.prepare().instructions
    about = task.describe(NODE, told)
    told |= task.instruct(about.counts, about.num_train) | task.instruct_from_sums(about.sums)
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        said = {"told": {**told, "server-round": 1}, "config": config.to_dict()}
        (Path(folder) / "said.pickle").write_bytes(pickle.dumps(said))  # instructions hold bytes
        np.savez(Path(folder) / "arrays.npz", **task.initial_arrays())
        for _ in range(REPEATS):
            start = time.perf_counter()
            words = [sys.executable, __file__, "--be", what, folder]
            done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
            runs.append({"seconds": time.perf_counter() - start, **json.loads(done.stdout)})
    middle = {key: median(run[key] for run in runs) for key in ("seconds", "private", "pss")}
    return {**middle, "heavy": runs[0]["heavy"]}


def main() -> None:
    """Measure a no-op client and both tasks, and print a table."""
    from celeba_fl.launch.experiments import parse_pair, read_experiment

    overrides = dict(parse_pair(pair) for pair in sys.argv[1:])
    cifar10 = overrides.pop("cifar10", "uoft-cs/cifar10")
    tasks = {
        "attributes": {"task": "attributes", **overrides},
        "lenet": {**read_experiment("cifar10-lenet"), "dataset": cifar10},
    }
    print("| client | seconds | private MB | PSS MB | imports |\n|---|---|---|---|---|")
    for what, settings in {"no-op": tasks["lenet"], **tasks}.items():
        cost = measure(what, settings)
        figures = [f"{cost[key]:.1f}" for key in ("seconds", "private", "pss")]
        print(f"| {what} | {' | '.join(figures)} | {', '.join(cost['heavy']) or '-'} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--be"]:
        handle(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
