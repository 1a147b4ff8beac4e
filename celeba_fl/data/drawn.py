"""Faces drawn on this machine in CelebA's schema: the data set that needs no download."""

import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np

from celeba_fl.common.log import Progress
from celeba_fl.data.drawn_labels import sample
from celeba_fl.data.drawn_pictures import Face, render
from celeba_fl.data.schema import ATTRIBUTES, SPLITS

IDENTITIES = {"train": 200, "valid": 25, "test": 50, "pretrain": 100}
CHUNK = 50


def plan(seed: int, identities: Mapping[str, int]) -> list[Face]:
    """Choose all faces, split after split; identities count from 1 through all splits."""
    faces: list[Face] = []
    first = 1
    for code, split in enumerate(SPLITS):
        count = identities.get(split, 0)
        for person, labels in zip(*sample(split, count, seed), strict=True):
            faces.append(Face(f"{len(faces) + 1:06d}.jpg", code, first + int(person), labels))
        first += count
    return faces


def draw(
    folder: Path,
    seed: int = 42,
    identities: Mapping[str, int] = IDENTITIES,
    processes: int | None = None,
) -> None:
    """Draw a data set in the official CelebA layout; `folder` is new, its parents are created.

    Writes ``img_align_celeba/000001.jpg`` and so on, ``list_attr_celeba.txt``,
    ``list_eval_partition.txt`` and ``identity_CelebA.txt``. Everything is drawn beside `folder`
    and then renamed, so that `folder` is complete from the moment it exists. If several processes
    draw the same folder at once, the first to finish provides it; the others drop their copies,
    which are identical byte by byte.

    Each split has so many identities, each with `IMAGES_EACH` images. The same seed gives the same
    bytes, whatever the number of processes; without a number all cores are taken.

    Raises
    ------
    FileExistsError
        If `folder` exists already.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; faces are drawn into a new folder only")
    faces = plan(seed, identities)
    unfinished = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    images = unfinished / "img_align_celeba"
    images.mkdir(parents=True)
    try:
        _draw_all(faces, partial(_draw_chunk, images, seed), processes or os.cpu_count() or 1)
        attributes = (
            f"{face.name} {' '.join(f'{value:2d}' for value in np.where(face.labels, 1, -1))}"
            for face in faces
        )
        header = (str(len(faces)), " ".join(ATTRIBUTES))
        _write(unfinished / "list_attr_celeba.txt", (*header, *attributes))
        _write(unfinished / "list_eval_partition.txt", (f"{f.name} {f.code}" for f in faces))
        _write(unfinished / "identity_CelebA.txt", (f"{f.name} {f.person}" for f in faces))
        unfinished.rename(folder)
    except OSError:
        if not folder.exists():  # else another process was first
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(path: Path, lines: Iterable[str]) -> None:
    """Write lines as the official files have them, ending in CR and LF."""
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode())


def _draw_all(faces: list[Face], work: Callable[[list[Face]], int], processes: int) -> None:
    """Do `work` on chunks of the faces; in processes, since resvg holds the interpreter lock."""
    progress = Progress("Drawing faces", len(faces))
    chunks = [faces[i : i + CHUNK] for i in range(0, len(faces), CHUNK)]
    processes = min(processes, len(chunks))
    if processes < 2:
        for chunk in chunks:
            progress.advance(work(chunk))
        return
    # Spawned: the caller may be a thread of a process with many, whose locks a fork would copy.
    with ProcessPoolExecutor(processes, get_context("spawn"), _end_with_parent) as pool:
        for count in pool.map(work, chunks):
            progress.advance(count)


def _draw_chunk(images: Path, seed: int, faces: list[Face]) -> int:
    for face in faces:
        (images / face.name).write_bytes(render(face, seed))
    return len(faces)


def _end_with_parent() -> None:
    """Have this worker end when its parent is killed; it would wait for more work forever."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
