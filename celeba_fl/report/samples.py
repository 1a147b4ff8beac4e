"""What a run of a task that generates has to show: its pictures by round, and its losses."""

import io
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from celeba_fl.report import plots
from celeba_fl.report.html import Block, Picture, Pictures, figure, named
from celeba_fl.report.plots import Album
from celeba_fl.report.reading import Run, floats

SHOWN, FRAMES = 4, 40
FRAME_MS, LAST_MS = 700, 2500


def samples(run: Run, album: Album) -> list[Block]:
    """Grids of some rounds, all of them as an animation, and the clients' losses by epoch."""
    grids = sorted((run.path / "samples").glob("round-*.png"))
    if not grids:
        return []
    pictures = [_grid(album, path) for path in _spread(grids, SHOWN)]
    if len(grids) > 1:
        pictures.append(
            album.keep(
                "samples.webp",
                animation(_spread(grids, FRAMES)),
                f"Animation of the grids of faces from round 0 to round {_number(grids[-1])}.",
                "The way from the first round to the last, over and over.",
            )
        )
    pictures += _losses(run, album)
    return [_distance(run), Pictures(pictures)]


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


def _grid(album: Album, path: Path) -> Picture:
    number = _number(path)
    with Image.open(path) as grid, io.BytesIO() as webp:
        grid.save(webp, "WEBP", quality=90)
        return album.keep(
            f"samples-{number:04d}.webp",
            webp.getvalue(),
            f"Grid of the faces that the generator makes after round {number}.",
            f"After round {number}." if number else "Before training.",
        )


def _losses(run: Run, album: Album) -> list[Picture]:
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
        album.add(
            "clients_epochs",
            f"Line chart of {' and '.join(names)} in training by local epoch; in round {last}, in "
            f"the median: {', '.join(ends)}.",
            "Losses of the clients in training by local epoch, the rounds one after another: "
            "median and range.",
            partial(plots.epochs, run.epochs, dict(zip(columns, names, strict=True))),
        )
    ]


def _distance(run: Run) -> str:
    """What the last round's Fréchet distance says, and what it does not."""
    text = "In all rounds, faces at the same place in the grid are made from the same noise."
    last = run.rounds[-1] if run.rounds else {}
    splits = {"test": "test", "server_valid": "validation"}
    known = [part for part in splits if last.get(f"{part}_frechet_distance")]
    if not known:
        return text
    part = known[0]
    value, real = (floats([last], f"{part}_{of}frechet_distance")[0] for of in ("", "real_"))
    reference = f"; that of real faces to other real ones is {figure(real)}" if real == real else ""
    faces = f" ({run.info.more['judged_faces']})" if "judged_faces" in run.info.more else ""
    return (
        f"{text} After round {run.last_round}, the Fréchet distance of generated faces to those of "
        f"the {splits[part]} split is {figure(value)}{reference}. It is taken between features of "
        f"this project's backbone, and is no FID: it compares with others of the same backbone and "
        f"of as many faces{faces} only."
    )


def _spread(paths: list[Path], number: int) -> list[Path]:
    """At most so many, evenly, the first and the last among them."""
    places = np.linspace(0, len(paths) - 1, min(number, len(paths))).round().astype(int)
    return [paths[place] for place in places]


def _number(path: Path) -> int:
    return int(path.stem.partition("-")[2])
