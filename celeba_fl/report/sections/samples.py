"""Samples of a run that generates images, round by round, and the losses of its clients."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from celeba_fl.report.html import Block, Picture, Pictures
from celeba_fl.report.pictures import curves as pictures
from celeba_fl.report.reading import Run, floats, number
from celeba_fl.report.words import figure, named

SHOWN, FRAMES = 4, 40
FRAME_MS, LAST_MS = 700, 2500


def samples(run: Run) -> list[Block]:
    """Grids of some rounds, all of them as an animation, and the clients' losses by epoch."""
    grids = sorted((run.path / "samples").glob("round-*.png"))
    if not grids:
        return []
    shown = [_grid(path) for path in _evenly(grids, SHOWN)]
    if len(grids) > 1:
        shown.append(
            Picture(
                "samples",
                f"Animation of the grids of faces from round 0 to round {_number(grids[-1])}.",
                "From the first round to the last, over and over.",
                animation(_evenly(grids, FRAMES)),
            )
        )
    shown += _losses(run)
    return [_distance(run), Pictures(shown)]


def animation(grids: list[Path]) -> bytes:
    """Animated WebP of some PNG files, which stops a while at the last."""
    first, *others = (Image.open(path).convert("RGB") for path in grids)
    with io.BytesIO() as webp:
        first.save(
            webp,
            "WEBP",
            save_all=True,
            append_images=others,
            duration=[FRAME_MS] * len(others) + [LAST_MS],
            loop=0,
            quality=80,
        )
        return webp.getvalue()


def _grid(path: Path) -> Picture:
    number = _number(path)
    with Image.open(path) as grid, io.BytesIO() as webp:
        grid.save(webp, "WEBP", quality=90)
        return Picture(
            f"samples-{number:04d}",
            f"Grid of the faces that the generator makes after round {number}.",
            f"After round {number}." if number else "Before training.",
            webp.getvalue(),
        )


def _losses(run: Run) -> list[Picture]:
    columns = [key for key in (run.epochs or [{}])[0] if key.endswith("_loss")]
    if not columns:
        return []
    names = [named(column.removeprefix("train_")) for column in columns]
    last = max(int(row["round"]) for row in run.epochs)
    rows = [row for row in run.epochs if int(row["round"]) == last]
    ends = (
        f"{name} {figure(float(np.nanmedian(floats(rows, column))))}"
        for name, column in zip(names, columns, strict=True)
    )
    return [
        Picture(
            "clients_epochs",
            f"Line chart of {' and '.join(names)} in training by local epoch; in round {last}, in "
            f"the median: {', '.join(ends)}.",
            "Losses of the clients in training by local epoch, the rounds one after another: "
            "median and range.",
            pictures.epochs(run.epochs, dict(zip(columns, names, strict=True))),
        )
    ]


def _distance(run: Run) -> str:
    """The last round's Fréchet distance, and what it does not say."""
    text = "In all rounds, faces at the same place in the grid are made from the same noise."
    last = run.rounds[-1] if run.rounds else {}
    splits = {"test": "test", "server_valid": "validation"}
    part = next((part for part in splits if last.get(f"{part}_frechet_distance")), None)
    if part is None:
        return text
    value = number(last, f"{part}_frechet_distance")
    real = number(last, f"{part}_real_frechet_distance")
    reference = f"; that of real faces to other real ones is {figure(real)}" if real == real else ""
    faces = f" ({run.info.more['judged_faces']})" if "judged_faces" in run.info.more else ""
    return (
        f"{text} After round {run.last_round}, the Fréchet distance of generated faces to those of "
        f"the {splits[part]} split is {figure(value)}{reference}. It is computed from features of "
        f"this project's backbone and is not an FID: compare it only with distances of the same "
        f"backbone and of as many faces{faces}."
    )


def _evenly(paths: list[Path], number: int) -> list[Path]:
    """At most so many, evenly, the first and the last among them."""
    places = np.linspace(0, len(paths) - 1, min(number, len(paths))).round().astype(int)
    return [paths[place] for place in places]


def _number(path: Path) -> int:
    return int(path.stem.partition("-")[2])
