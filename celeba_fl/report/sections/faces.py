"""Faces of the test split: the surest answers of a model that are wrong, and those that are right.

A page with faces of people is not for everyone: CelebA may not be passed on. So they are shown
where they are drawn, or if whoever makes the page asks for them.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from celeba_fl.data import sources
from celeba_fl.data.table import Table
from celeba_fl.evaluation.calibration import sigmoid
from celeba_fl.evaluation.resampling import Scores
from celeba_fl.report.html import Block, Picture, Pictures
from celeba_fl.report.reading import Run
from celeba_fl.report.sections.results import own_scores
from celeba_fl.report.words import named

SHOWN = 6
EDGE = 120  # pixels
TERMS = "Faces of people: those of CelebA are for research alone, and may not be passed on."


def faces(run: Run, asked: bool = False) -> list[Block]:
    """The largest mistakes and the best hits, of at most one attribute and one image each."""
    scores, drawn = own_scores(run), run.info.dataset.get("name") == "drawn"
    if scores is None or not (drawn or asked):
        return []
    table = _table(run, Path(run.info.home))
    if table is None:
        return ["Its images are not on this machine, or are not the same."] if asked else []
    blocks: list[Block] = [] if drawn else [TERMS]
    wrong = (_margins(scores) > 0) != scores.labels
    found = ~wrong & scores.labels
    texts = {
        "mistake": "The largest mistakes: where the model is surest against the annotation, which "
        "may be wrong itself. Of each attribute and each image there is one at most.",
        "hit": "The best hits: where it is surest of what is annotated.",
    }
    for what, which in (("mistake", wrong), ("hit", found)):
        shown = [
            Picture(
                f"{what}-{i}",
                f"The face {scores.image[row]}.",
                _said(scores, row, column),
                _small(table.read(int(np.flatnonzero(table.image == scores.image[row])[0]))),
            )
            for i, (row, column) in enumerate(_surest(scores, which), start=1)
        ]
        if shown:
            blocks += [texts[what], Pictures(shown, small=True)]
    return blocks


def _margins(scores: Scores) -> np.ndarray:
    """How far the scores are from where the answer changes, (images, attributes)."""
    return scores.scores - (0 if scores.thresholds is None else scores.thresholds)


def _surest(scores: Scores, which: np.ndarray) -> Iterator[tuple[int, int]]:
    """Image and attribute of the answers farthest from the threshold, of some that count."""
    sure = np.where(which, np.abs(_margins(scores)), -1.0)
    rows = sure.argmax(axis=0)
    seen: set[int] = set()
    for column in np.argsort(-sure.max(axis=0), kind="stable").tolist():
        row = int(rows[column])
        if sure[row, column] >= 0 and row not in seen and len(seen) < SHOWN:
            seen.add(row)
            yield row, column


def _said(scores: Scores, row: int, column: int) -> str:
    """The answer and the annotation, in words."""
    percent = 100 * float(sigmoid(scores.scores[row, column]))
    said = "over 99.9" if percent > 99.9 else "under 0.1" if percent < 0.1 else f"{percent:.1f}"
    annotated = "yes" if scores.labels[row, column] else "no"
    return f"{named(scores.attributes[column])}: {said} % by the model, annotated {annotated}."


def _table(run: Run, home: Path) -> Table | None:
    """The images of a run, if they are on this machine; nothing is drawn or fetched for it."""
    name = str(run.info.dataset.get("name"))
    kept = home / "drawn" if name == "drawn" else Path(name).expanduser()
    downloaded = home / "hub" / name.replace("/", "--")
    if not (kept.is_dir() or downloaded.is_dir()):
        return None
    table = sources.load(name, home)
    return table if table.fingerprint == run.info.dataset.get("fingerprint") else None


def _small(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image, io.BytesIO() as webp:
        image.draft("RGB", (EDGE, EDGE))
        image.thumbnail((EDGE, EDGE))
        image.convert("RGB").save(webp, "WEBP", quality=75, method=2)
        return webp.getvalue()
