"""The `celeba-fl` command: what `flwr run` leaves to the user."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import tomli_w
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from celeba_fl.common.bundle import PYPROJECT
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.launch.experiments import (
    SIMULATION,
    absolute_paths,
    num_supernodes,
    parse_pair,
    read_experiment,
)
from celeba_fl.launch.flower import FLOWER_ENVIRONMENT, flower_json
from celeba_fl.runs.reading import find_directory, find_run, read_runs

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


deploy = typer.Typer(help="Run the app on processes of their own.", no_args_is_help=True)
app.add_typer(deploy, name="deploy")


def main() -> None:
    """Run the command; an error of the user's gets one line and exit status 2."""
    try:
        app()
    except InputError as error:
        print(f"celeba-fl: {error}", file=sys.stderr)
        raise SystemExit(2) from None


@app.command()
def run(
    experiment: Annotated[
        str, typer.Argument(help="TOML file of run-config keys, or the name of one that we bring")
    ],
    rest: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE ...] [SUPERLINK]",
            help="keys that override the experiment's; a connection of `flwr` (default: its own)",
        ),
    ] = None,
    federation: Annotated[
        Path | None,
        typer.Option(help="TOML file for --federation-config (simulation-50.toml in simulation)"),
    ] = None,
    inline: Annotated[bool, typer.Option(help="in this process, without Ray; to debug")] = False,
) -> None:
    """Run an experiment with `flwr run`, follow its log, and exit with its true status."""
    pairs = [word for word in rest or [] if "=" in word]
    superlink = [word for word in rest or [] if "=" not in word]
    if len(superlink) > 1:
        raise InputError(f"{superlink}: one SuperLink at most; overrides are written key=value")
    overrides = {**read_experiment(experiment), **dict(parse_pair(pair) for pair in pairs)}
    if not superlink:
        overrides |= absolute_paths(overrides)
    config = RunConfig.load(overrides)
    if federation is None and not superlink:
        federation = SIMULATION
    if inline:
        _run_inline(config, federation)
    else:
        raise SystemExit(_run_flower(overrides, federation, superlink))


@app.command()
def runs() -> None:
    """List the runs in the results directory, the newest first."""
    metrics = {"accuracy": "accuracy", "balanced_accuracy": "balanced", "auroc": "AUROC"}
    keys = ("task", "dataset", "partitioner")
    table = Table(
        Column("run", overflow="fold", min_width=20), "status", "rounds", *keys, *metrics.values()
    )
    for info in read_runs(RunConfig.load().runs_dir):
        config, summary = info.config, info.summary
        figures = [summary.get(f"test_{metric}") for metric in metrics]
        reason = f": {info.reason}" if info.reason else ""
        table.add_row(
            info.path.name,
            escape(f"{info.status}{reason}"),
            str("" if info.rounds is None else info.rounds),
            *(escape(str(config.get(key, ""))) for key in keys),
            *("" if figure is None else f"{figure:.3f}" for figure in figures),
        )
    Console().print(table)


@app.command()
def baseline(
    run: Annotated[str, typer.Argument(help="a run directory, or its name")] = "latest",
) -> None:
    """Put reference points beside a run: trained centrally, each client alone, the majority.

    They have the data, the features and the settings of the run. The central model has as many
    epochs, of which the best on validation is taken; each client alone has those that it trained.
    """
    from celeba_fl.report.page import write_report
    from celeba_fl.studies.baseline import baseline_table, make_baseline

    info = find_run(run, RunConfig.load().runs_dir)
    made = make_baseline(info)
    Console().print(baseline_table(info.summary, made))
    print(write_report(info.path))


@app.command()
def sweep(
    experiment: Annotated[str, typer.Argument(help="as for `run`")],
    pairs: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE[,VALUE...] ...",
            help="run-config keys, with one value or several to try",
        ),
    ],
    metric: Annotated[
        str | None,
        typer.Option(help="validation column of rounds.csv (server_valid_ or valid_ + `watch`)"),
    ] = None,
    federation: Annotated[
        Path | None, typer.Option(help="TOML file with num-supernodes (simulation-50.toml)")
    ] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="number of clients, instead")] = None,
    out: Annotated[
        Path | None, typer.Option(help="directory; what it has is not run again (home/sweeps/...)")
    ] = None,
) -> None:
    """Try all combinations of settings, rank them on validation, and test the best one.

    Values are separated by commas: learning-rate=1e-3,3e-3. One that has a comma in it needs
    quotes, and the word others around it for the shell: 'partition-by="Male,Young",Male'.

    Runs are in this process, one after the other. Interrupted, the same command goes on. Over
    several values of `seed` the mean counts.
    """
    from celeba_fl.studies.sweep import run_sweep, split_values

    grid: dict[str, list[Any]] = {}
    for pair in pairs:
        key, found, text = pair.partition("=")
        if not found:
            raise InputError(f"{pair!r}: must be key=value, or key=value,value")
        grid[key] = [parse_pair(f"{key}={value}")[1] for value in split_values(text)]
    fixed = read_experiment(experiment)
    first = {key: values[0] for key, values in grid.items()}
    home = RunConfig.load({**fixed, **first}).home_dir
    out = (out or home / "sweeps" / Path(experiment).stem).expanduser().absolute()
    done = run_sweep(fixed, grid, nodes or num_supernodes(federation), out, metric)
    Console().print(done.table())
    for line in done.verdict():
        print(line)
    print(out / "sweep.csv")
    if any(setting.reasons for setting in done.settings):
        raise SystemExit(1)


@app.command()
def teach(
    experiment: Annotated[str, typer.Argument(help="as for `run`")],
    out: Annotated[Path, typer.Option(help="CSV file to write, or to go on with")],
    model: Annotated[str, typer.Option(help="name of a vision model at the endpoint")],
    pairs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE ...]", help="keys that override the experiment's"),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="of the API (OPENAI_BASE_URL, or OpenAI's)")
    ] = None,
    federation: Annotated[
        Path | None, typer.Option(help="TOML file with num-supernodes (simulation-50.toml)")
    ] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="number of clients, instead")] = None,
    max_images: Annotated[int | None, typer.Option(min=1, help="only the first so many")] = None,
    max_cost: Annotated[
        float | None, typer.Option(min=0, help="USD that this command may spend; needs prices")
    ] = None,
    price_in: Annotated[
        float | None, typer.Option(min=0, help="USD for a million tokens of requests")
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(min=0, help="USD for a million tokens of answers")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="requests at a time")] = 4,
    timeout: Annotated[float, typer.Option(min=0.001, help="seconds to wait for an answer")] = 120,
) -> None:
    """Have a vision model label the train images that an experiment's clients hold.

    The images are sent to an OpenAI-compatible endpoint, whose key is in OPENAI_API_KEY: one
    request an image, answers written to the CSV file as they come. Interrupted, the same command
    goes on. If some images are left without labels, the exit status is 1.
    """
    from celeba_fl.teach.labelling import Spending, label

    overrides = {**read_experiment(experiment), **dict(parse_pair(pair) for pair in pairs or [])}
    config = RunConfig.load(overrides)
    spending = Spending(price_in, price_out, max_cost)
    out = out.expanduser().absolute()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        outcome = label(
            config,
            nodes or num_supernodes(federation),
            out,
            model=model,
            base_url=base_url,
            timeout=timeout,
            workers=workers,
            max_images=max_images,
            spending=spending,
        )
    except KeyboardInterrupt:
        print(f"{out}: interrupted ({spending}); the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
    for image, why in outcome.failed.items():
        print(f"celeba-fl: {image} has no labels: {why}", file=sys.stderr)
    if outcome.left:
        print(f"celeba-fl: --max-cost {max_cost}: {outcome.left} images left", file=sys.stderr)
    print(
        f"{out}: {outcome.labelled} more images, {outcome.refused} refused, {outcome.unsure} "
        f"answers unsure ({spending})"
    )
    raise SystemExit(bool(outcome.failed or outcome.left))


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(help="JPEG, PNG, of any size")],
    run: Annotated[str, typer.Option(help="a run directory, or its name")] = "latest",
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Say which attributes a run's model sees in images of faces.

    It was trained on faces that were aligned and cropped as CelebA's are (or, with dataset
    'drawn', on drawn ones), and knows nothing else: of other pictures, faces in a scene or lying
    on their side among them, its answers mean little. An image that cannot be read is named, and
    the exit status is 1.
    """
    from celeba_fl.inference.predict import (
        load_model,
        predict_files,
        predictions_json,
        predictions_table,
    )

    model = load_model(find_run(run, RunConfig.load().runs_dir))
    answers = dict(predict_files(model, images))
    said = [(path, answer) for path, answer in answers.items() if not isinstance(answer, str)]
    if as_json:
        print(json.dumps(predictions_json(model, answers)))
    else:
        console = Console()
        columns = max(1, (console.width - 24) // 14)
        for start in range(0, len(said), columns):
            console.print(predictions_table(model, said[start : start + columns]))
    for path, answer in answers.items():
        if isinstance(answer, str):
            print(f"celeba-fl: {path}: {answer}", file=sys.stderr)
    raise SystemExit(len(said) < len(answers))


@app.command()
def sample(
    count: Annotated[int, typer.Option(min=1, max=100_000, help="number of faces")] = 64,
    run: Annotated[str, typer.Option(help="a run directory, or its name")] = "latest",
    out: Annotated[Path, typer.Option(help="folder for the PNG files")] = Path("faces"),
    seed: Annotated[int, typer.Option(min=0, help="of the noise that faces are made of")] = 0,
) -> None:
    """Generate faces with the model of a run of the task dcgan."""
    from celeba_fl.inference.sample import load_generator, write_faces

    generator = load_generator(find_run(run, RunConfig.load().runs_dir))
    print(write_faces(generator, count, seed, out)[-1])


@app.command()
def report(
    run: Annotated[
        str, typer.Argument(help="a run directory, or a run's name in the results directory")
    ] = "latest",
) -> None:
    """Write report.html and plots/ of a run, finished or not, from its files."""
    from celeba_fl.report.page import write_report

    print(write_report(find_directory(run, RunConfig.load().runs_dir)))


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN RUN [...]", help="as for report; the first is the reference"),
    ],
    out: Annotated[Path, typer.Option(help="the page to write")] = Path("comparison.html"),
) -> None:
    """Put several runs side by side on one page, with their differences to the first."""
    from celeba_fl.report.comparison import write_comparison

    if len(runs) < 2:
        raise InputError("compare needs two runs or more")
    folder = RunConfig.load().runs_dir
    print(write_comparison([find_directory(run, folder) for run in runs], out))


@app.command()
def dashboard(
    port: Annotated[int, typer.Option(min=1, max=65535, help="of the page")] = 8501,
    host: Annotated[
        str, typer.Option(help="address to listen on; another one opens it to others")
    ] = "127.0.0.1",
) -> None:
    """Show runs as they go, start and stop them, and try their models, in a browser."""
    from celeba_fl.dashboard.launch import launch

    launch(host, port)


@app.command()
def credentials(
    nodes: Annotated[int, typer.Option(min=1, help="number of SuperNodes")],
    host: Annotated[
        list[str], typer.Option(help="name or IP address of the SuperLink's machine; repeatable")
    ],
    out: Annotated[Path, typer.Option(help="a new folder")],
    days: Annotated[int, typer.Option(min=1, help="how long certificates are valid")] = 365,
) -> None:
    """Make a CA, the SuperLink's certificate, and a key pair for each SuperNode."""
    from celeba_fl.deployment.credentials import write_credentials

    expiry = write_credentials(out, nodes, host, days)
    print(f"{out}: ca.crt and server.crt for {', '.join(host)}, valid until {expiry:%Y-%m-%d}")
    print(f"To each node: ca.crt and its own of node-0.key ... node-{nodes - 1}.key")
    print("To the SuperLink: ca.crt, server.crt, server.key and all .pub. ca.key: nowhere")


@deploy.command()
def local(
    nodes: Annotated[
        int | None, typer.Option(min=1, help="number of SuperNodes (one a --data, or 3)")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="own images of one node, repeatable; other nodes get partitions"),
    ] = None,
    name: Annotated[str, typer.Option(help="of the connection, for `flwr run`")] = "local-sites",
) -> None:
    """Run SuperLink and SuperNodes on this machine, secured, until Ctrl-C or SIGTERM."""
    from celeba_fl.deployment.local import LocalDeployment, node_configs

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = RunConfig.load().home_dir / "deployments" / name
    print(f"Starting; everything is in {folder}", flush=True)
    try:
        with LocalDeployment(folder, name, node_configs(nodes, data or [])) as deployment:
            print(f"SuperLink on {deployment.address}; {len(deployment.nodes)} SuperNodes online")
            config, key = "", ""
            if all("data-path" in node for node in deployment.nodes):
                config, key = " --run-config 'dataset=\"none\"'", " dataset=none"
            print(f"In another terminal:  flwr run . {name} --stream{config}")
            print(f"or:                   celeba-fl run drawn-iid {name}{key}", flush=True)
            said: set[str] = set()
            while "superlink" not in said:
                time.sleep(1)
                for process, words in deployment.ended().items():
                    if process not in said:
                        print(words, flush=True)
                    said.add(process)
            raise SystemExit(1)
    except KeyboardInterrupt:
        print("Ended.")


def _run_inline(config: RunConfig, federation: Path | None) -> None:
    from celeba_fl.client_app import app as client_app
    from celeba_fl.launch.inline import run_inline
    from celeba_fl.server_app import app as server_app

    run_inline(config, num_supernodes(federation), server_app, client_app)


def _run_flower(overrides: dict[str, Any], federation: Path | None, superlink: list[str]) -> int:
    """Submit, follow, and ask how it ended; 0 only for a completed run."""
    environment = {**FLOWER_ENVIRONMENT, **os.environ}
    with tempfile.TemporaryDirectory() as folder:
        merged = Path(folder) / "run-config.toml"
        merged.write_text(tomli_w.dumps(overrides), encoding="utf-8")
        command = ["flwr", "run", str(PYPROJECT.parent), *superlink, "--format", "json"]
        if overrides:
            command += ["--run-config", str(merged)]
        if federation is not None:
            command += ["--federation-config", str(federation)]
        submitted = flower_json(command, environment)
    run_id = submitted["run-id"]
    try:
        subprocess.run(
            ["flwr", "log", run_id, *superlink, "--stream"], env=environment, check=False
        )
    except KeyboardInterrupt:
        where = " ".join([run_id, *superlink])
        print(f"\nThe run goes on; stop it with: flwr stop {where}")
        return 130
    listed = flower_json(
        ["flwr", "ls", *superlink, "--run-id", run_id, "--format", "json"], environment
    )
    status = listed["runs"][0]
    print(f"Run {run_id}: {status['status']} {status['status-details']}".rstrip())
    return 0 if status["status"] == "finished:completed" else 1
