"""What secure aggregation costs: time and traffic with and without it. A table.

python tests/benchmarks/secure.py [--only inline ray many] [--times 3] [--folder /dev/shm/secure]

`inline`: the closed form and FedAvg of 50 clients in one process, whole runs. `ray`: a round of
FedAvg of 50 clients on Ray. `many`: 1,000 clients, 100 a round, in one process. On drawn faces,
whose features are there after the first run, which is not counted. Kept in `--folder`, for another
time.
"""

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean
from time import perf_counter

from measure import Flower

from celeba_fl.runs.reading import read_runs

CLOSED = ("strategy=closed-form",)
ROUNDS = ("num-server-rounds=4",)
MANY = ("num-server-rounds=2", "fraction-train=0.1", "fraction-evaluate=0")
SECURE = "secure-aggregation=true"
MB = 1e6


def rows(path: Path) -> list[dict[str, str]]:
    """The rounds of a run."""
    with (path / "rounds.csv").open() as file:
        return list(csv.DictReader(file))


def inline(folder: Path, *pairs: str, nodes: int = 50) -> tuple[float, list[dict[str, str]]]:
    """Seconds of a whole run in a process of its own, and its rounds."""
    federation = folder / f"simulation-{nodes}.toml"
    federation.write_text(f"num-supernodes = {nodes}\nclient-resources-num-cpus = 1\n")
    command = [str(Path(sys.executable).parent / "celeba-fl"), "run", "drawn-iid", *pairs]
    command += ["--inline", "--federation", str(federation)]
    start = perf_counter()
    env = {**os.environ, "CELEBA_FL_HOME": str(folder)}
    subprocess.run(command, env=env, check=True, capture_output=True)
    return perf_counter() - start, rows(read_runs(folder / "runs")[0].path)


def on_ray(flower: Flower, *pairs: str) -> tuple[float, list[dict[str, str]]]:
    """Mean seconds of the rounds after the first, and the rounds of a run."""
    settings = dict(pair.split("=") for pair in pairs)
    typed = {k: v == "true" if v in ("true", "false") else int(v) for k, v in settings.items()}
    done = flower.run({"dataset": "drawn", **typed}, nodes=50)
    if done.path is None or done.status != "finished:completed":
        raise SystemExit(done.output)
    found = rows(done.path)
    return mean(float(row["seconds"]) for row in found[2:]), found


def traffic(found: list[dict[str, str]]) -> float:
    """Megabytes of arrays, up and down."""
    return sum(int(row["bytes_up"]) + int(row["bytes_down"]) for row in found) / MB


def compare(name: str, once, times: int, *pairs: str, **options: int) -> None:  # type: ignore[no-untyped-def]
    """Print a row: plain and secure, alternately, the fastest of so many times each."""
    taken: dict[str, list[float]] = {"": [], SECURE: []}
    sizes = {}
    for _ in range(times):
        for kind in taken:
            seconds, found = once(*pairs, *filter(None, [kind]), **options)
            taken[kind].append(seconds)
            sizes[kind] = traffic(found)
    plain, secure = (min(of) for of in taken.values())
    size = [sizes[kind] for kind in taken]
    print(
        f"| {name} | {plain:.2f} | {secure:.2f} | {secure / plain:.2f} | {size[0]:.1f} | "
        f"{size[1]:.1f} | {size[1] / size[0]:.2f} |",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=("inline", "ray", "many"))
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm/secure"))
    chosen = parser.parse_args()
    only = chosen.only or ("inline", "ray", "many")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    print("| | plain s | secure s | times | plain MB | secure MB | times |\n|" + "---|" * 7)

    def here(*pairs: str, nodes: int = 50) -> tuple[float, list[dict[str, str]]]:
        return inline(chosen.folder, *pairs, nodes=nodes)

    if "inline" in only:
        here(*CLOSED)
        compare("closed form, 50 clients inline", here, chosen.times, *CLOSED)
        compare("FedAvg, 4 rounds, 50 clients inline", here, chosen.times, *ROUNDS)
    if "ray" in only:
        flower = Flower(chosen.folder)
        flower.env["CELEBA_FL_HOME"] = str(chosen.folder)
        try:
            compare(
                "a round of FedAvg, 50 clients on Ray",
                lambda *p: on_ray(flower, *p),
                chosen.times,
                *ROUNDS,
            )
        finally:
            flower.close()
    if "many" in only:
        here(*MANY, nodes=1000)
        compare("2 rounds of 100 of 1,000 clients inline", here, 1, *MANY, nodes=1000)


if __name__ == "__main__":
    main()
