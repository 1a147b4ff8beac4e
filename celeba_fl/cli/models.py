"""Models at work: `celeba-fl predict`, `celeba-fl sample`, and `celeba-fl teach`."""

import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from celeba_fl.cli.printing import Json, print_json
from celeba_fl.launch.app import app_here
from celeba_fl.launch.experiments import num_supernodes, read_experiment
from celeba_fl.runs.reading import find_run


def predict(
    images: Annotated[list[Path], typer.Argument(help="JPEG or PNG files of any size")],
    run: Annotated[str, typer.Option(help="a run directory, or its name")] = "latest",
    as_json: Json = False,
) -> None:
    """Predict the attributes of faces with the model of a run.

    The model was trained on faces that were aligned and cropped as CelebA's are (or, with dataset
    'drawn', on drawn ones): on other pictures, such as faces in a scene or lying on their side, its
    predictions mean little. An image that cannot be read is named, and the exit status is 1.
    """
    from celeba_fl.inference.predict import (
        can_predict,
        load_model,
        predict_files,
        predictions_json,
        predictions_table,
    )

    model = load_model(find_run(run, app_here().places().runs_dir, can_predict))
    answers = dict(predict_files(model, images))
    predicted = [(path, answer) for path, answer in answers.items() if not isinstance(answer, str)]
    if as_json:
        print_json(predictions_json(model, answers))
    else:
        console = Console()
        columns = max(1, (console.width - 24) // 14)
        for start in range(0, len(predicted), columns):
            console.print(predictions_table(model, predicted[start : start + columns]))
    for path, answer in answers.items():
        if isinstance(answer, str):
            print(f"celeba-fl: {path}: {answer}", file=sys.stderr)
    raise SystemExit(len(predicted) < len(answers))


def sample(
    count: Annotated[int, typer.Option(min=1, max=100_000, help="number of faces")] = 64,
    run: Annotated[str, typer.Option(help="a run directory, or its name")] = "latest",
    out: Annotated[Path, typer.Option(help="folder for the PNG files")] = Path("faces"),
    seed: Annotated[
        int, typer.Option(min=0, help="seed for the noise that faces are made from")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Generate faces with the model of a run of the task dcgan."""
    from celeba_fl.inference.sample import can_generate, load_generator, write_faces

    generator = load_generator(find_run(run, app_here().places().runs_dir, can_generate))
    written = write_faces(generator, count, seed, out)
    if as_json:
        print_json({"faces": written[:-1], "grid": written[-1]})
    else:
        print(written[-1])


def teach(
    experiment: Annotated[str, typer.Argument(help="as for `run`")],
    out: Annotated[Path, typer.Option(help="CSV file to write, or to continue")],
    model: Annotated[str, typer.Option(help="name of a vision model at the endpoint")],
    pairs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE ...]", help="run-config keys to override"),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="address of the API (OPENAI_BASE_URL, or OpenAI's)")
    ] = None,
    federation: Annotated[
        Path | None, typer.Option(help="TOML file with num-supernodes (simulation-50.toml)")
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(min=1, help="number of clients, instead of a file")
    ] = None,
    max_images: Annotated[int | None, typer.Option(min=1, help="largest number of images")] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(min=0, help="largest sum that this command may spend, in USD; needs prices"),
    ] = None,
    price_in: Annotated[
        float | None, typer.Option(min=0, help="USD for a million tokens of requests")
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(min=0, help="USD for a million tokens of answers")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="requests at a time")] = 4,
    timeout: Annotated[float, typer.Option(min=0.001, help="seconds to wait for an answer")] = 120,
    as_json: Json = False,
) -> None:
    """Have a vision model label the train images that an experiment's clients hold.

    The images are sent to an OpenAI-compatible endpoint, whose key is in OPENAI_API_KEY: one
    request an image, with answers written to the CSV file as they arrive. If interrupted, the same
    command continues. If some images are left without labels, the exit status is 1.
    """
    from celeba_fl.tasks.client_data import train_rows
    from celeba_fl.teach.labelling import Spending, label

    config = app_here().load(read_experiment(experiment, pairs or []))
    spending = Spending(price_in, price_out, max_cost)
    out = out.expanduser().absolute()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        outcome = label(
            *train_rows(config, nodes or num_supernodes(federation)),
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
    if as_json:
        print_json({"file": out, **asdict(outcome), "usd": spending.usd})
        raise SystemExit(bool(outcome.failed or outcome.left))
    print(
        f"{out}: {outcome.labelled} more images, {outcome.refused} refused, {outcome.unsure} "
        f"answers unsure ({spending})"
    )
    raise SystemExit(bool(outcome.failed or outcome.left))
