"""What a head sees of an image: stages of a frozen backbone on grids, from pixels of one size.

A view is written as items that are joined by ``+``: ``13:4x4`` is the mean of each channel of stage
13 over each cell of a grid of 4 rows and 4 columns, ``last`` the backbone's own features, and the
flags ``folded`` and ``mirrored`` hold for the whole view. README.md says more.
"""

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.vision.backbones import BACKBONES, check_weights

LAST, FOLDED, MIRRORED = "last", "folded", "mirrored"
# Edges of images in pixels where nobody says one: in general, and that on which the last epochs of
# `pretrain` are.
IMAGE_SIZE, DRAWN_IMAGE_SIZE, SMALLEST = 224, 96, 32
# How exactly a network computes: in floats of 32 bits, or in bfloat16 wherever that is faster.
FP32, BF16 = "fp32", "bf16"
# What happens to maps; part of the key of stored features where there are any.
POOLING = "means by area of the cells of a grid"


@dataclass(frozen=True, order=True)
class Grid:
    """Cells of equal area that cover the map of a stage."""

    stage: int  # a key of the backbone's `stages`
    rows: int
    columns: int

    def __str__(self) -> str:
        return f"{self.stage}:{self.rows}x{self.columns}"


@dataclass(frozen=True)
class View:
    """Which features of an image there are; made by `make_view`, which checks it.

    They are in the order of `grids`, and those of a grid channel by channel, of each its cells row
    by row; `last` comes after them.
    """

    backbone: str  # a key of `BACKBONES`
    image_size: int  # edge in pixels
    grids: tuple[Grid, ...]  # by stage, rows and columns
    last: bool  # whether the backbone's own features are among them
    folded: bool  # whether cells that mirror each other, left on right, are one: their mean
    mirrored: bool  # whether features are the mean of those of an image and its mirror image
    precision: str = FP32  # or BF16

    @cached_property
    def features(self) -> str:
        """The view as it is written: equal for equal features."""
        flags = {LAST: self.last, FOLDED: self.folded, MIRRORED: self.mirrored}
        return "+".join([*map(str, self.grids), *(name for name, on in flags.items() if on)])

    @cached_property
    def dim(self) -> int:
        """The number of features."""
        backbone = BACKBONES[self.backbone]
        dim = backbone.dim if self.last else 0
        for grid in self.grids:
            dim += backbone.stages[grid.stage][0] * grid.rows * self._columns(grid)
        return dim

    @property
    def deepest(self) -> int | str:
        """The stage after which nothing of the backbone is needed; ``last`` if all of it is."""
        return LAST if self.last else self.grids[-1].stage

    def edge(self, stage: int) -> int:
        """Width and height of a stage's map."""
        return -(-self.image_size // BACKBONES[self.backbone].stages[stage][1])

    def pooling(self, grid: Grid) -> np.ndarray:
        """The matrix (edge^2, cells) float32 that takes a flattened map to the means of cells."""
        rows, columns = (
            shares(cells, self.edge(grid.stage)) for cells in (grid.rows, grid.columns)
        )
        if self.folded:
            kept = self._columns(grid)
            columns = (columns[:kept] + columns[::-1][:kept]) / 2
        return np.kron(rows, columns).T.astype(np.float32)

    def _columns(self, grid: Grid) -> int:
        """The columns of a grid that are left once it is folded."""
        return -(-grid.columns // 2) if self.folded else grid.columns


def shares(cells: int, edge: int) -> np.ndarray:
    """Weights (cells, edge) of the mean over each of some equal parts of a line of `edge` places.

    A place counts in a part by the share of it that lies there.
    """
    bounds = np.arange(cells + 1)[:, None] * edge / cells
    places = np.arange(edge)
    start, end = np.maximum(bounds[:-1], places), np.minimum(bounds[1:], places + 1)
    return np.maximum(end - start, 0) * cells / edge


def make_view(backbone: str, features: str, image_size: int = 0, weights: str = "") -> View:
    """The view that the run-config keys of these names describe.

    An `image_size` of 0 is the one that goes with the others: that of the drawn weights'
    training, else that of a name in the backbone's `views`, else 224. Empty `weights` are any.

    Raises
    ------
    InputError
        If there is no such view, or the keys do not go together.
    """
    if backbone not in BACKBONES:
        raise InputError(f"backbone = {backbone!r}: must be one of {', '.join(BACKBONES)}")
    check_weights(backbone, weights)
    spec, own = BACKBONES[backbone].views.get(features, (features, IMAGE_SIZE))
    size = image_size or (DRAWN_IMAGE_SIZE if weights == "drawn" else own)
    _check_size(backbone, size)
    try:
        view = _parse(backbone, size, spec.split("+"))
    except InputError as error:
        raise InputError(f"features = {features!r}: {error}") from error
    return view


def _check_size(backbone: str, size: int) -> None:
    """Raise InputError if a backbone takes no images of this size."""
    if size < SMALLEST:
        raise InputError(
            f"image-size = {size}: must be at least {SMALLEST}, or 0 for the size that goes with "
            f"the features"
        )
    patch = BACKBONES[backbone].patch
    below = size // patch * patch
    if size != below:
        raise InputError(
            f"image-size = {size}: must be a multiple of {patch}, the patch of "
            f"backbone {backbone!r}, such as {below} or {below + patch}"
        )


def _parse(backbone: str, size: int, items: list[str]) -> View:
    """The view of some items, if each means something, and they go together."""
    read = [_read(backbone, item) for item in items]
    twice = next((str(item) for i, item in enumerate(read) if item in read[:i]), None)
    if twice:
        raise InputError(f"{twice!r} is there twice; leave one out")
    grids = tuple(sorted(item for item in read if isinstance(item, Grid)))
    last, folded, mirrored = (name in read for name in (LAST, FOLDED, MIRRORED))
    view = View(backbone, size, grids, last, folded, mirrored)
    if not grids and not view.last:
        raise InputError(f"there is no stage in it; add {LAST!r}, or a stage such as '13:4x4'")
    for grid in grids:
        edge = view.edge(grid.stage)
        if max(grid.rows, grid.columns) > edge:
            raise InputError(
                f"{str(grid)!r} is finer than the map of that stage, which is {edge} x {edge} "
                f"at image-size = {size}; take a coarser grid or larger images"
            )
    if view.folded and all(grid.columns == 1 for grid in grids):
        raise InputError(
            f"{FOLDED!r} folds grids of two columns or more, of which there are none; leave it out"
        )
    return view


def _read(backbone: str, item: str) -> Grid | str:
    """One item: a grid, or a word."""
    stages, names = BACKBONES[backbone].stages, ", ".join(BACKBONES[backbone].views)
    if item in (LAST, FOLDED, MIRRORED):
        return item
    found = re.fullmatch("([0-9]{1,4}):([0-9]{1,4})x([0-9]{1,4})", item)
    if not found:
        raise InputError(
            f"{item!r} is none of {LAST!r}, a stage with the rows and columns of its grid, such as "
            f"'13:4x4', {FOLDED!r} and {MIRRORED!r}, which are joined by '+'; nor is the whole a "
            f"name that backbone {backbone!r} has: {names}"
        )
    grid = Grid(*map(int, found.groups()))
    if grid.stage not in stages:
        raise InputError(
            f"{item!r}: backbone {backbone!r} has the stages {min(stages)} to {max(stages)}"
        )
    if not grid.rows or not grid.columns:
        raise InputError(f"{item!r}: a grid has a row and a column at least, such as '13:1x1'")
    return grid
