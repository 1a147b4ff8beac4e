"""How fast it is: ours beside a plain Flower app, an app that does nothing, and the floors.

python tests/benchmarks/speed.py --dataset /data/celeba \
        --weights /data/mobilenet_v2.pt

All on the same images, one after the other, in a home and a SuperLink of their own; about fifteen
minutes on 2 cores. Prints a table, and writes the figures to `--out` as JSON. The data set is a
folder in CelebA's official layout, the weights a state dict of torchvision's whole MobileNetV2.

The plain app takes minutes a round, so its whole time is that of 2 rounds plus 8 times the second.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tomli_w
from measure import APPS, MB, Run, in_new_process, read_run, run_app, run_ours

from engine import Flower  # isort: skip  (on the path once `measure` is imported)

CLIENTS, ROUNDS, PLAIN_ROUNDS = 50, 10, 2
TURNS = 5
# What the plain app does and ours by the same features: the settings that the goals were set for.
CLASSIC = {"features": "last", "scaling": "none", "init": "random"}
FLOOR_IMAGES = 600
IMAGES = 4680
IMPORTS = "import torch, flwr.clientapp"
WEIGHED = f"""
import json, sys
{IMPORTS}, onnxruntime
sys.path.insert(0, {str(Path(__file__).parent)!r})
from measure import weigh
print(json.dumps(weigh("self")))
"""


def timed_imports(modules: str) -> float:
    """Seconds in a new process."""
    code = (
        f"import json, time; start = time.perf_counter(); {modules}\n"
        "print(json.dumps({'seconds': time.perf_counter() - start}))"
    )
    return in_new_process(code, 5)["seconds"]


def inline(settings: dict[str, Any], folder: Path) -> Run:
    """Our warm run in one new process, its start and imports included."""
    runs, experiment = folder / "inline", folder / "inline.toml"
    experiment.write_text(tomli_w.dumps({**settings, "results-dir": str(runs)}))
    start = time.perf_counter()
    subprocess.run(
        [shutil.which("celeba-fl") or "celeba-fl", "run", str(experiment), "--inline"],
        capture_output=True, check=True,
    )  # fmt: skip
    return read_run(max(runs.iterdir()), time.perf_counter() - start)


def extraction(settings: dict[str, Any], folder: Path) -> dict[str, float]:
    """Images a second: JPEG on disk to rows on disk, and its two parts alone."""
    from celeba_fl.data.images import decode
    from celeba_fl.data.sources import load
    from celeba_fl.vision.extractor import FeatureExtractor
    from celeba_fl.vision.features import FeatureStore
    from celeba_fl.vision.pretrain import pretrain
    from celeba_fl.vision.views import make_view
    from celeba_fl.vision.weights import resolve_weights

    home, size = folder / "extraction", settings["image-size"]
    table = load(settings["dataset"], home)
    weights = resolve_weights(
        "mobilenet_v2", settings["weights"], home, partial(pretrain, table=table)
    )
    ready = [decode(table.read(row), size)[None] for row in range(FLOOR_IMAGES)]
    view = make_view("mobilenet_v2", CLASSIC["features"], size, settings["weights"])
    store = FeatureStore(home, table, view, weights)
    store.fill(np.arange(8), "fail")  # exports the ONNX file
    names = ("bare ONNX Runtime", "bare decoding", "from JPEG to rows")
    speeds: dict[str, list[float]] = {name: [] for name in names}
    encoded = [table.read(row) for row in range(FLOOR_IMAGES)]
    with FeatureExtractor(home, view, weights) as extractor:
        for i in range(3):
            rows = np.arange(8 + i * FLOOR_IMAGES, 8 + (i + 1) * FLOOR_IMAGES)
            clock = [time.perf_counter()]
            list(extractor._pool.imap_unordered(extractor._run, ready))
            clock.append(time.perf_counter())
            list(extractor._pool.imap_unordered(extractor._decode, encoded))
            clock.append(time.perf_counter())
            store.fill(rows, "fail")
            clock.append(time.perf_counter())
            for name, (start, end) in zip(names, pairwise(clock), strict=True):
                speeds[name].append(FLOOR_IMAGES / (end - start))
    return {name: median(values) for name, values in speeds.items()}


def exported(settings: dict[str, Any], home: Path) -> float:
    """Seconds until a new process has the backbone in ONNX Runtime, in a home without it."""
    code = f"""
import json, time
start = time.perf_counter()
from pathlib import Path
from celeba_fl.vision.extractor import FeatureExtractor
from celeba_fl.vision.views import make_view
from celeba_fl.vision.weights import resolve_weights
home, weights = Path({str(home)!r}), {settings["weights"]!r}
sha256 = resolve_weights("mobilenet_v2", weights, home, lambda backbone: backbone.build())
FeatureExtractor(home, make_view("mobilenet_v2", "last", {settings["image-size"]}), sha256)
print(json.dumps({{"seconds": time.perf_counter() - start}}))
"""
    return in_new_process(code, 1)["seconds"]


def bare_loop(settings: dict[str, Any], home: Path) -> dict[str, float]:
    """Seconds of the same head trainings as a plain loop in PyTorch, and of our client's part."""
    import torch

    from celeba_fl.config import RunConfig
    from celeba_fl.tasks.attributes import Attributes

    torch.set_num_threads(1)
    task = Attributes(RunConfig.load({**settings, "home": str(home)}))
    instructions = task.prepare().instructions
    nodes = [{"partition-id": i, "num-partitions": CLIENTS} for i in range(CLIENTS)]
    arrays, ours = task.initial_arrays(), []
    for node in nodes:
        start = time.perf_counter()
        trained, _, _ = task.train(arrays, node, instructions, seed=0)
        task.evaluate(trained, node, instructions)
        ours.append(time.perf_counter() - start)
    held = [task._parts(node, instructions)["train"] for node in nodes]
    data = [
        (torch.from_numpy(part.features[:]), torch.from_numpy(part.labels).float()) for part in held
    ]
    layer = torch.nn.Linear(1280, 40)
    loss_of, state, seconds = torch.nn.BCEWithLogitsLoss(), layer.state_dict(), []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        trained_states = []
        for x, y in data:
            layer.load_state_dict(state)
            optimizer = torch.optim.Adam(layer.parameters(), lr=settings["learning-rate"])
            for batch in torch.randperm(len(x)).split(settings["batch-size"]):
                inputs = torch.nn.functional.dropout(x[batch], settings["dropout"])
                loss = loss_of(layer(inputs), y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            trained_states.append({k: v.clone() for k, v in layer.state_dict().items()})
        state = {k: torch.stack([s[k] for s in trained_states]).mean(dim=0) for k in state}
        seconds.append(time.perf_counter() - start)
    return {"client": median(ours), "loop_round": median(seconds[1:])}


def main() -> None:
    """Measure all, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--out", type=Path, default=Path("speed.json"))
    given = parser.parse_args()
    settings: dict[str, Any] = {
        "dataset": str(given.dataset.resolve()),
        "weights": str(given.weights.resolve()),
        "image-size": given.image_size,
        "local-epochs": 1,
        "batch-size": 16,
        "learning-rate": 0.003,
        "dropout": 0.2,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["CELEBA_FL_HOME"] = str(folder / "home")
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every process compiles all it has
        figures = measure(settings, folder)
    given.out.write_text(json.dumps(figures, indent=2) + "\n")
    print_table(figures)


def in_turn(*runs: Callable[[], Run]) -> list[list[Run]]:
    """Some runs, one after the other and all `TURNS` times; by run.

    Ray takes a second more or less to start, as chance has it.
    """
    done = [[run() for run in runs] for _ in range(TURNS)]
    return [list(same) for same in zip(*done, strict=True)]


def middle(runs: list[Run]) -> Run:
    """The one of median length."""
    return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]


def measure(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """All figures."""
    flower, ours = Flower(folder), {**settings, **CLASSIC}
    defaults = {key: value for key, value in settings.items() if key != "image-size"}
    try:
        print("ours, cold", file=sys.stderr)
        cold = run_ours(flower, ours, CLIENTS)
        print("ours, warm, and an app that does nothing, in turn", file=sys.stderr)
        turns = in_turn(
            lambda: run_ours(flower, ours, CLIENTS),
            *(
                partial(run_app, flower, APPS / "noop", {"rounds": ROUNDS, "exchanges": n}, CLIENTS)
                for n in (2, 1)
            ),
        )
        warm, noop, noop_once = map(middle, turns)
        print("ours, with the default features", file=sys.stderr)
        default_cold = run_ours(flower, defaults, CLIENTS)
        default_warm = run_ours(flower, defaults, CLIENTS)
        print("a plain Flower app", file=sys.stderr)
        plain = run_app(flower, APPS / "plain", {**settings, "rounds": PLAIN_ROUNDS}, CLIENTS)
    finally:
        flower.close()
    print("inline, and the floors", file=sys.stderr)
    in_process = (
        partial(inline, {**keys, **strategy}, folder)
        for strategy in ({}, {"strategy": "closed-form"})
        for keys in (ours, defaults)
    )
    one_process, default_inline, closed, default_closed = map(middle, in_turn(*in_process))
    loop = bare_loop(ours, folder / "home")
    export = exported(ours, folder / "empty")
    speeds = extraction(settings, folder)
    imports = {
        "torch": timed_imports("import torch"),
        "flwr.clientapp": timed_imports("import flwr.clientapp"),
        "warm client": timed_imports(
            "import celeba_fl.client_app, celeba_fl.tasks.attributes; "
            "import celeba_fl.models.head_training"
        ),
    }
    whole_plain = plain.seconds + (ROUNDS - PLAIN_ROUNDS) * plain.rounds[1]
    reference = in_new_process(WEIGHED)
    return {
        "settings": ours,
        "clients": CLIENTS,
        "rounds": ROUNDS,
        "runs": {
            "plain": _figures(plain, whole_plain),
            "noop": _figures(noop, noop.seconds),
            "noop_once": _figures(noop_once, noop_once.seconds),
            "cold": _figures(cold, cold.seconds),
            "warm": _figures(warm, warm.seconds),
            "inline": _figures(one_process, one_process.seconds),
            "closed": _figures(closed, closed.seconds),
            "default_cold": _figures(default_cold, default_cold.seconds),
            "default_warm": _figures(default_warm, default_warm.seconds),
            "default_inline": _figures(default_inline, default_inline.seconds),
            "default_closed": _figures(default_closed, default_closed.seconds),
        },
        "warm_beside_noop": [
            one.seconds / two.seconds for one, two in zip(*turns[:2], strict=True)
        ],
        "bytes": {key: warm.result[key] for key in ("bytes_up", "bytes_down")},
        "test_accuracy_after_round_2": {
            "plain": plain.result["test_accuracy"][2],
            "ours": warm.result["test_accuracy"][2],
        },
        "seconds": {
            "export": export,
            **loop,
            **{f"import {name}": value for name, value in imports.items()},
        },
        "images_per_second": speeds,
        "worker_mb": {**warm.memory, "reference_private": reference["private"]},
    }


def _figures(run: Run, seconds: float) -> dict[str, float]:
    figures = {"seconds": seconds, "first_round": run.rounds[0], "later_round": run.later}
    return {**figures, "report": run.report}


def print_table(figures: dict[str, Any]) -> None:
    """Markdown."""
    runs, seconds = figures["runs"], figures["seconds"]
    names = {
        "plain": "plain Flower app (2 rounds + 8 x the second)",
        "cold": "ours, nothing there yet",
        "warm": "ours, features there",
        "noop": "an app that does nothing, with Flower's two exchanges a round",
        "noop_once": "the same, with one exchange a round",
        "inline": "ours, features there, `--inline`",
        "closed": "the same, `strategy=closed-form`",
        "default_cold": "ours, default features, not there yet",
        "default_warm": "ours, default features, there",
        "default_inline": "ours, default features, there, `--inline`",
        "default_closed": "the same, `strategy=closed-form`",
    }
    print("| | seconds | report, once completed | first round | later round | plain / this |")
    print("|---|---|---|---|---|---|")
    for key, name in names.items():
        run = runs[key]
        ratio = runs["plain"]["seconds"] / run["seconds"]
        cells = [f"{run[k]:.1f}" for k in ("seconds", "report", "first_round")]
        cells += [f"{run['later_round']:.2f}", f"{ratio:.1f}"]
        print(f"| {name} | {' | '.join('' if cell == 'nan' else cell for cell in cells)} |")
    speeds, imports = figures["images_per_second"], seconds["import warm client"]
    jpeg, bare, decoding = (
        speeds[name] for name in ("from JPEG to rows", "bare ONNX Runtime", "bare decoding")
    )
    both = 1 / (1 / bare + 1 / decoding)
    floor = seconds["import torch"] + seconds["import flwr.clientapp"]
    memory, accuracy = figures["worker_mb"], figures["test_accuracy_after_round_2"]
    above = memory["private"] - memory["reference_private"]
    warm, noop, beside = runs["warm"], runs["noop"], figures["warm_beside_noop"]
    least = noop["seconds"] + IMAGES / bare + seconds["export"]
    print(f"""
| | measured |
|---|---|
| warm run beside the app that does nothing, in {TURNS} turns | {median(beside):.2f} times, \
{min(beside):.2f} to {max(beside):.2f} |
| a warm round beside its round | {warm["later_round"] / noop["later_round"]:.2f} times |
| no cold run can be faster than the app that does nothing, the backbone's export \
({seconds["export"]:.1f} s) and bare ONNX Runtime on {IMAGES:,} images | {least:.1f} s, \
{runs["plain"]["seconds"] / least:.1f} times faster than plain |
| a bare PyTorch loop of the same head trainings | {seconds["loop_round"]:.2f} s a round |
| a warm client: rows, 1 epoch, evaluation | {1000 * seconds["client"]:.1f} ms |
| from JPEG to rows on disk | {jpeg:.0f} images/s: {jpeg / bare:.0%} of bare ONNX Runtime \
({bare:.0f}), {jpeg / both:.0%} of it after bare decoding |
| imports of a warm client | {imports:.2f} s, {imports / floor:.2f} times torch + flwr.clientapp |
| a worker's own memory | {memory["private"]:.0f} MB, {above:.0f} above torch + flwr + onnxruntime |
| a message pair, up and down | {figures["bytes"]["bytes_up"] / MB:.2f} MB, \
{figures["bytes"]["bytes_down"] / MB:.2f} MB |
| test accuracy after round 2, plain and ours | {accuracy["plain"]:.4f}, {accuracy["ours"]:.4f} |
""")


if __name__ == "__main__":
    main()
