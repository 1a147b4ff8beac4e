"""Tables of faces that are made up."""

from collections.abc import Sequence

import numpy as np

from celeba_fl.data.schema import SPLITS
from celeba_fl.data.table import Table


def make_table(
    rows: int = 120,
    *,
    splits: Sequence[str] = ("train",),
    identities: int = 10,
    content: np.ndarray | None = None,
    seed: int = 0,
) -> Table:
    """Make a table without pixels; row `i` is of identity `i % identities`, labels are random."""
    rng = np.random.default_rng(seed)
    split = np.array([SPLITS.index(splits[i % len(splits)]) for i in range(rows)], np.uint8)
    return Table(
        name="numbers",
        fingerprint=f"{rows} {splits} {identities} {content} {seed}",
        image=np.array([f"{i:06d}.jpg" for i in range(rows)]),
        celeb_id=np.arange(rows, dtype=np.int32) % identities,
        labels=rng.random((rows, 40)) < 0.4,
        split=split,
        content=np.arange(rows, dtype=np.uint64) if content is None else content,
        read=lambda row: b"",
    )


def image_table(images: Sequence[bytes], fingerprint: str = "noise") -> Table:
    """Make a table of encoded images without labels; all are train images."""
    rows = np.arange(len(images))
    return Table(
        name="noise",
        fingerprint=fingerprint,
        image=np.array([f"{row:06d}.jpg" for row in rows]),
        celeb_id=rows,
        labels=np.zeros((len(rows), 40), bool),
        split=np.zeros(len(rows), np.uint8),
        content=rows.astype(np.uint64),
        read=lambda row: images[row],
    )
