"""CelebA as parquet: a data set of the Hugging Face hub, or a folder of the same shape.

The shape is that of https://huggingface.co/datasets/flwrlabs/celeba: splits `train`, `valid` and
`test`, with an `image`, a `celeb_id` and the 40 attributes in columns. Variants may call the image
`img`, write attributes in another way, such as in small letters, and know no identities. A hub id
is downloaded into a folder first, so that both go the same way, can be kept under `home`, and need
no network again.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.common.files import keep
from celeba_fl.common.log import LOG, Progress
from celeba_fl.data.parquet import (
    by_split,
    check_images,
    check_whole_numbers,
    opened,
    parquet_files,
)
from celeba_fl.data.schema import ATTRIBUTES, SPLITS
from celeba_fl.data.table import Annotations, Source
from celeba_fl.data.text import meant_by

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from pyarrow import ChunkedArray

COLUMNS = ("image", *ATTRIBUTES)
IDENTITY = "celeb_id"
MEGABYTE = 10**6
# A data set of the hub, by its owner and its name.
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def source(folder: Path, home: Path) -> Source | None:
    """Make a source of the folder; None without parquet files in it or one level below.

    `datasets` makes an Arrow copy under ``home/hub/arrow``, which is what images are read from:
    parquet has no random access.
    """
    files = parquet_files(folder)
    if not files:
        return None
    rows = cache(partial(_open, folder, home))
    encoded = cache(lambda: _image(rows(), "bytes"))

    def read(row: int, name: str) -> bytes:
        # Not `rows()[row]`, which takes 800 microseconds; this takes 9.
        return encoded()[int(row)].as_py()

    return Source(files, lambda: _annotations(folder, rows()), read)


def fetch(dataset: str, home: Path) -> Path:
    """Folder that `dataset` names: its own path, or where a hub id is downloaded to, once."""
    path = Path(dataset).expanduser()
    if path.exists() or not HUB_ID.fullmatch(dataset):
        return path
    target = home / "hub" / dataset.replace("/", "--")
    return keep(target, partial(download, dataset), resume=True)


def download(dataset: str, folder: Path) -> None:
    """Download the parquet files of a hub id into `folder`; files that are there stay.

    Raises
    ------
    InputError
        If the hub cannot be reached within seconds, does not have `dataset` or does not give it.
    """
    import httpx
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        # Asked first and without retries: `load_dataset` would take 25 seconds to give up.
        info = HfApi().dataset_info(dataset, files_metadata=True, timeout=10)
        files = [file for file in info.siblings or () if file.rfilename.endswith(".parquet")]
        if not files:
            raise InputError(f"dataset = {dataset!r} on the Hugging Face hub holds no parquet file")
        size = sum(file.size or 0 for file in files) // MEGABYTE
        LOG.info("Downloading %s: %d files, %d MB, to %s", dataset, len(files), size, folder)
        with _watched(f"Downloading {dataset} (MB)", folder, size):
            # Given the revision, it never takes a partial file for a complete one.
            snapshot_download(
                dataset,
                repo_type="dataset",
                revision=info.sha,
                local_dir=folder,
                allow_patterns=["*.parquet", "README.md"],
            )
        for stray in {*parquet_files(folder)} - {folder / file.rfilename for file in files}:
            stray.unlink()  # of another revision, whose download was broken off
    except (OSError, httpx.HTTPError, HFValidationError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"dataset = {dataset!r} is not a folder here, and the Hugging Face hub does not give "
            f"it ({type(error).__name__}: {reason}). Two ways out: set `dataset` to a folder "
            "that holds it (parquet files; faces: the official CelebA layout too), or to 'drawn' "
            "(no download, faces)"
        ) from error


@contextmanager
def _watched(what: str, folder: Path, size: int) -> Iterator[None]:
    """Log how many MB of `size` have arrived: the hub's own bars are not lines of a log."""
    progress = Progress(what, size)
    over = threading.Event()

    def look() -> None:
        with suppress(FileNotFoundError):  # renamed since it was listed
            arrived = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            progress.advance(arrived // MEGABYTE - progress.done)

    def watch() -> None:
        while not over.wait(progress.every):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    look()


def _open(folder: Path, home: Path) -> "Dataset":
    """All rows, memory-mapped, split after split, with a column `split`."""
    from datasets.exceptions import DatasetsError
    from flwr_datasets import FederatedDataset

    files = parquet_files(folder)
    columns = {file: _columns(file) for file in files}
    for file, names in columns.items():
        check_images(file, names["image"], empty=False)
        if IDENTITY in names:
            check_whole_numbers(file, names[IDENTITY])
    one = columns[files[0]]
    other = next((file for file in files if columns[file] != one), None)
    if other:
        raise InputError(f"{other}: its columns are not those of {files[0].name}")
    parts = FederatedDataset(
        dataset="parquet",
        data_files={split: [*map(str, those)] for split, those in by_split(files).items()},
        partitioners={},
        shuffle=False,
        preprocessor=partial(_join, one),
        cache_dir=str(home / "hub" / "arrow"),
    )
    try:
        return parts.load_split("all")
    except (DatasetsError, ValueError) as error:
        raise InputError(
            f"The parquet files of {folder} cannot be read: {error.__cause__ or error}"
        ) from error


def _columns(path: Path) -> dict[str, str]:
    """The name in a file of each column that is known here; identities may be unknown.

    Raises
    ------
    InputError
        If others are missing, or one is there twice or would say a split that is not read.
    """
    import pyarrow as pa

    schema = opened(path).schema_arrow
    names: dict[str, str] = {}
    for field in schema:
        meant = meant_by(field.name, (*COLUMNS, IDENTITY, "split"))
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            meant = "image"
        if meant == "split":
            raise InputError(
                f"{path}: column {field.name!r} would not be read, since the split is told by the "
                f"names of files; put each split into a file of its own, and take the column out"
            )
        if meant in names:
            raise InputError(
                f"{path}: columns {names[meant]!r} and {field.name!r} both seem to mean {meant!r}"
            )
        if meant:
            names[meant] = field.name
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        raise InputError(
            f"{path} lacks the columns {', '.join(missing)}; there should be {COLUMNS[0]}, "
            f"{IDENTITY} (if people are known), {COLUMNS[1]} and so on, as in flwrlabs/celeba"
        )
    return names


def _join(names: dict[str, str], parts: "DatasetDict") -> "DatasetDict":
    from datasets import DatasetDict, Image, concatenate_datasets

    joined = []
    for split, part in parts.items():
        codes = np.full(len(part), SPLITS.index(split), np.uint8)
        known = part.select_columns([*names.values()])
        known = known.rename_columns(
            {there: here for here, there in names.items() if there != here}
        )
        encoded = known.cast_column("image", Image(decode=False))
        joined.append(encoded.add_column("split", codes))
    return DatasetDict({"all": concatenate_datasets(joined)})


def _image(rows: "Dataset", part: str) -> "ChunkedArray":
    """Column of one part of `image`: its `bytes`, or its `path`, which is often unknown."""
    import pyarrow.compute as pc

    return pc.struct_field(rows.data.column("image"), part)


def _annotations(folder: Path, rows: "Dataset") -> Annotations:
    """Check the values of all columns but the pixels."""
    identified = IDENTITY in rows.column_names
    for name in (*COLUMNS, *([IDENTITY] if identified else [])):
        if empty := rows.data.column(name).null_count:
            raise InputError(f"{folder}: column {name} is empty in {empty} of {len(rows)} rows")
    labels = np.empty((len(rows), len(ATTRIBUTES)), bool)
    for position, name in enumerate(ATTRIBUTES):
        values = rows.data.column(name).to_numpy()
        if not np.isin(values, (-1, 0, 1)).all():
            raise InputError(f"{folder}: column {name} should be true and false, or 1 and 0 or -1")
        labels[:, position] = values > 0
    split = rows.data.column("split").to_numpy()
    people = rows.data.column(IDENTITY).to_numpy() if identified else np.arange(len(rows))
    celeb_id = people.astype(np.int32)
    return Annotations(_names(rows, split), celeb_id, labels, split)


def _names(rows: "Dataset", split: np.ndarray) -> np.ndarray:
    """Names of the files if the parquet has kept them, else e.g. ``train-000000``."""
    names = [Path(path or "").name for path in _image(rows, "path").to_pylist()]
    if "" in names or len(set(names)) < len(names):
        within = {code: iter(range(len(rows))) for code in range(len(SPLITS))}
        names = [f"{SPLITS[code]}-{next(within[code]):06d}" for code in split.tolist()]
    return np.array(names)
