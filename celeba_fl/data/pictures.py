"""A folder of plain pictures, without labels, such as a learner has: enough to learn new ones from.

All are train images, each taken for another person's. Pictures lie in the folder or in folders in
it; hidden ones do not count.
"""

from functools import partial
from pathlib import Path

import numpy as np

from celeba_fl.data.classfolders import names_in
from celeba_fl.data.table import Annotations, Source, read_file


def source(folder: Path, home: Path) -> Source | None:
    """Make a source of the folder; None if there is no picture in it."""
    names = list(names_in(folder, folder))
    if not names:
        return None
    files = [folder, *sorted({(folder / name).parent for name in names} - {folder})]
    return Source(files, partial(annotations, names), partial(read_file, folder), folder)


def annotations(names: list[str]) -> Annotations:
    """No label, (n, 0) bool, and nobody known."""
    number = len(names)
    return Annotations(
        image=np.array(names),
        celeb_id=np.arange(number, dtype=np.int32),
        labels=np.empty((number, 0), bool),
        split=np.zeros(number, np.uint8),
    )
