"""Folds of people: of a folder of faces, twelve data sets with other splits of the same images.

The people of a folder in CelebA's official layout are dealt into 12 folds, or as many as are asked
for, whatever its splits are. In the data set of each fold it is the test split, the next one the
validation split, and the others are train images.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.common.files import hash_key, keep
from celeba_fl.config import RunConfig
from celeba_fl.data.folder import find
from celeba_fl.data.schema import SPLITS
from celeba_fl.data.sources import load
from celeba_fl.data.table import Table
from celeba_fl.tasks.examples import backbone_weights, view_of
from celeba_fl.vision.features import FeatureStore
from celeba_fl.vision.precision import resolve

FOLDS = 12


def deal(celeb_id: np.ndarray, folds: int = FOLDS) -> np.ndarray:
    """The fold of each image, (n,): all images of a person are in the same one."""
    people = np.unique(celeb_id)
    fold = np.random.default_rng(0).permutation(len(people)) % folds
    return fold[np.searchsorted(people, celeb_id)]


def fold_datasets(config: RunConfig, folds: int = FOLDS) -> list[Path]:
    """The data set of each fold: a folder of links, and a store of features that are there.

    All folds share the features of the whole, computed once, by links to the same files.
    """
    home, whole = config.home_dir, load(config.dataset, config.home_dir)
    folders = [_folder(Path(config.dataset), whole, k, home, folds) for k in range(folds)]
    weights = backbone_weights(config)
    view = replace(view_of(config, config.features), precision=resolve(config.precision))
    tables = [load(str(folder), home) for folder in folders]
    for version in range(config.augmentations + 1):
        altered = (config.seed, version) if version else None
        store = FeatureStore(home, whole, view, weights, altered)
        store.fill(np.arange(len(whole)), config.bad_images)
        for table in tables:
            _link(store, FeatureStore(home, table, view, weights, altered).folder)
        _check([FeatureStore(home, table, view, weights, altered) for table in tables])
    return folders


def _folder(dataset: Path, whole: Table, k: int, home: Path, folds: int) -> Path:
    """A folder of which fold k is the test split."""
    parts = find(dataset)
    if not parts or not parts.identity:
        raise InputError(
            f"dataset = {str(dataset)!r}: must be a folder in CelebA's official layout"
        )
    shared = (parts.images, parts.labels, parts.identity)
    names = dict.fromkeys(range(folds), "train") | {(k + 1) % folds: "valid", k: "test"}
    fold = deal(whole.celeb_id, folds)
    codes = [SPLITS.index(names[number]) for number in fold.tolist()]

    def create(new: Path) -> None:
        new.mkdir()
        for part in shared:
            (new / part.name).symlink_to(part.resolve())
        lines = [f"{image} {code}\n" for image, code in zip(whole.image, codes, strict=True)]
        (new / "list_eval_partition.txt").write_text("".join(lines))

    key = hash_key(str(dataset.resolve()), whole.fingerprint, *([folds] if folds != FOLDS else []))
    return keep(home / "people" / key / f"fold-{k:02}", create)


def _link(store: FeatureStore, folder: Path) -> None:
    """Put links to the files of a store in the place of those in another's folder."""
    for name in ("rows.npy", "state.npy"):
        new = folder / f".{name}"
        new.unlink(missing_ok=True)
        os.link(store.folder / name, new)
        if new.samefile(folder / name):
            new.unlink()  # renaming it would do nothing
        else:
            new.replace(folder / name)


def _check(stores: Sequence[FeatureStore]) -> None:
    """Compare the features of one image with freshly computed ones: each store has the same."""
    row = len(stores[0].table) // 2
    with stores[0].computing() as compute:
        fresh = np.array(list(compute(iter([stores[0].table.read(row)]))))
    for store in stores:
        np.testing.assert_allclose(store.read(np.array([row]))[:], fresh, rtol=1e-4, atol=1e-5)
