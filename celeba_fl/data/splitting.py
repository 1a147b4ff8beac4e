"""One data set made into folders of sites, to try a federation before it has sites of its own.

Each folder has images and a `metadata.csv`, as `celeba_fl.data.imagefolder` reads them.
"""

import csv
import os
import shutil
from pathlib import Path

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.data import partitions, sources
from celeba_fl.data.imagefolder import METADATA, NAME
from celeba_fl.data.schema import ATTRIBUTES, SPLITS
from celeba_fl.data.table import Table, inside

PARTITIONERS = {"identity": "natural", "iid": "iid", "dirichlet": "dirichlet"}
SERVER = "server"


def split(
    dataset: str, sites: int, by: str, out: Path, *, alpha: float, seed: int, home: Path
) -> dict[str, int]:
    """Deal the train images to folders `site-1`, `site-2`, ..., and the other splits to `server`.

    Images that are files are linked (hard links: a link that leads out of a site's folder would be
    refused there); those of parquet files are written.

    Parameters
    ----------
    dataset : str
        A folder, or another value of the key `dataset`.
    by : str
        ``identity``: a person is at one site only; ``iid`` or ``dirichlet``, by `alpha`.
    out : Path
        A new folder.

    Returns
    -------
    dict[str, int]
        The folders, by name, with the number of their images.

    Raises
    ------
    InputError
        If `out` is there, `dataset` cannot be dealt so, or a site gets nothing.
    """
    table, folder = sources.load(dataset, home), sources.source_of(dataset, home).folder
    dealt = partitions.assign(
        table,
        partitioner=PARTITIONERS[by],
        num_partitions=sites,
        alpha=alpha,
        seed=seed,
        home=home,
    )
    rows = {f"site-{site + 1}": np.flatnonzero(dealt == site) for site in range(sites)}
    if empty := [name for name, own in rows.items() if not len(own)]:
        raise InputError(f"{', '.join(empty)} would get no image; make fewer --sites")
    rows[SERVER] = np.flatnonzero(
        np.isin(table.split, [SPLITS.index("valid"), SPLITS.index("test")])
    )
    rows = {name: own for name, own in rows.items() if len(own)}
    try:
        out.mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"--out {out}: is there; name a new folder") from None
    try:
        for name, own in rows.items():
            _write(out / name, table, own, folder)
    except BaseException:
        shutil.rmtree(out)
        raise
    return {name: len(own) for name, own in rows.items()}


def _write(site: Path, table: Table, rows: np.ndarray, folder: Path | None) -> None:
    """A site's folder."""
    site.mkdir()
    identified = ["celeb_id"] if table.identified else []
    with (site / METADATA).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([NAME, *ATTRIBUTES, "split", *identified])
        for row in rows:
            name = str(table.image[row])
            image = inside(site, name)
            image.parent.mkdir(parents=True, exist_ok=True)
            if folder:
                _link(inside(folder, name), image)
            else:
                image.write_bytes(table.read(row))
            person = [int(table.celeb_id[row])] if identified else []
            labels = table.labels[row].astype(int).tolist()
            writer.writerow([name, *labels, SPLITS[table.split[row]], *person])


def _link(image: Path, link: Path) -> None:
    try:
        os.link(image, link)
    except OSError as error:
        raise InputError(
            f"{link}: cannot be a link to {image} ({error.strerror}); choose an --out on the same "
            f"disk, where you may write"
        ) from None
