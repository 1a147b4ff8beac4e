"""Who holds what: the train split dealt to partitions by flwr-datasets' partitioners.

A partition is computed once and kept, as one number a row: the 50 clients of a run neither deal
again nor import what deals.
"""

import difflib
import io
import warnings
from collections.abc import Mapping
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.common.files import hash_key, keep
from celeba_fl.common.log import LOG
from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES, group_name
from celeba_fl.data.table import LabelledImages, Table, repeats

if TYPE_CHECKING:
    from flwr_datasets.partitioner import Partitioner

# Apart from the keys of `valid_mask`, which are seeds.
PUBLIC = 2**63


def held(
    table: LabelledImages, node: Mapping[str, Any], config: RunConfig, home: Path
) -> np.ndarray:
    """Rows of the partition that a node's config names, as the run config deals them.

    Parameters
    ----------
    table : LabelledImages
        The data.
    node : Mapping[str, Any]
        Has ``partition-id`` and ``num-partitions``.
    config : RunConfig
        Says how to deal.
    home : Path
        As for `assign`, which says what is raised.

    Returns
    -------
    np.ndarray
        (k,) int64, ascending.
    """
    partition = assign(
        table,
        partitioner=config.partitioner,
        num_partitions=int(node["num-partitions"]),
        partition_by=config.partition_by,
        alpha=config.dirichlet_alpha,
        min_size=config.min_partition_size,
        size=config.partition_size,
        public=config.public_fraction,
        seed=config.seed,
        home=home,
    )
    return np.flatnonzero(partition == int(node["partition-id"]))


def assign(
    table: LabelledImages,
    *,
    partitioner: str,
    num_partitions: int,
    partition_by: str = "Male,Young",
    alpha: float = 0.1,
    min_size: int = 0,
    size: int = 0,
    public: float = 0.0,
    seed: int,
    home: Path,
) -> np.ndarray:
    """Deal the rows of the train split to partitions, but for those that are public.

    Parameters
    ----------
    table : Table
        The data, ``n`` rows.
    partitioner : str
        ``iid``: equal parts at random. ``dirichlet``: the shares of each label are drawn from
        Dir(alpha), after Yurochkin et al., "Bayesian Nonparametric Federated Learning of Neural
        Networks" (ICML 2019). ``natural``: an identity is in one partition only; with a partition
        an identity this is LEAF's setting (Caldas et al., 2018, arXiv:1812.01097).
    num_partitions : int
        How many partitions; under ``dirichlet`` and ``natural`` some may stay empty.
    partition_by : str (default: "Male,Young")
        The attributes whose combination is the label of ``dirichlet``; where images have a class,
        that is the label instead.
    alpha : float (default: 0.1)
        Concentration of ``dirichlet``; the smaller, the more unlike the partitions.
    min_size : int (default: 0)
        Rows that each partition of ``dirichlet`` should have at least.
    size : int (default: 0)
        Rows that each partition of ``iid`` should have; 0 deals all there are.
    public : float (default: 0.0)
        Part of the rows that is in no partition; see `public_rows`.
    seed : int
        The same seed gives the same partitions.
    home : Path
        The result is kept in ``home/partitions``.

    Returns
    -------
    np.ndarray
        (n,) int32, memory-mapped: the partition of each row that is dealt, -1 for all others.

    Raises
    ------
    InputError
        If there are more partitions than rows to deal, if an attribute is unknown, if `size` or
        `min_size` is out of reach, or if there are no identities to deal by.
    """

    def deal(path: Path) -> None:
        rows = np.setdiff1d(table.rows("train"), public_rows(table, public, seed))
        if not len(rows):
            raise InputError(f"{table.name} has no train images, so there is nothing to deal")
        if num_partitions * size > len(rows):
            raise InputError(
                f"partition-size = {size}: {num_partitions} nodes would need "
                f"{num_partitions * size} train images, and {table.name} has {len(rows)} for them "
                f"(public-fraction = {public}); start fewer nodes, or make them smaller"
            )
        if num_partitions > len(rows) and partitioner != "natural":
            raise InputError(
                f"{num_partitions} nodes are too many for partitioner = {partitioner!r} and the "
                f"{len(rows)} train images of {table.name}; start no more nodes than images"
            )
        match partitioner:
            case "iid":
                if size:
                    rows = np.random.default_rng(seed).permutation(rows)[: num_partitions * size]
                dealt = _iid(len(rows), num_partitions, seed)
            case "dirichlet":
                label = table.labels[rows]
                if label.ndim > 1:
                    label = combination(label, partition_by)
                dealt = _dirichlet(label, num_partitions, alpha, min_size, seed)
            case "natural":
                if not isinstance(table, Table):
                    raise InputError(
                        f"partitioner = 'natural' deals by identity, and the images of "
                        f"{table.name} have none; take 'iid' or 'dirichlet'"
                    )
                dealt = _natural(table.celeb_id[rows], num_partitions, seed)
            case _:
                raise InputError(
                    f"partitioner = {partitioner!r} should be iid, dirichlet or natural"
                )
        _warn_of_repeats(table, rows, dealt)
        partitions = np.full(len(table), -1, np.int32)
        partitions[rows] = dealt
        with path.open("wb") as file:
            np.save(file, partitions)

    settings = (
        partitioner,
        num_partitions,
        partition_by,
        float(alpha),
        min_size,
        size,
        public,
        seed,
    )
    name = f"{hash_key(table.fingerprint, *settings)}.npy"
    kept: np.ndarray = np.load(keep(home / "partitions" / name, deal), mmap_mode="r")
    return kept


def combination(labels: np.ndarray, partition_by: str) -> np.ndarray:
    """Derive one column from several attributes.

    Parameters
    ----------
    labels : np.ndarray
        (n, 40) bool.
    partition_by : str
        Names of attributes, with commas between them.

    Returns
    -------
    np.ndarray
        (n,) str, such as ``"Male=1,Young=0"``.

    Raises
    ------
    InputError
        If one of the names is not an attribute's.
    """
    names = [name.strip() for name in partition_by.split(",")]
    for name in names:
        if name not in ATTRIBUTES:
            near = difflib.get_close_matches(name, ATTRIBUTES, n=1) or ["Male"]
            raise InputError(
                f"partition-by = {partition_by!r}: {name!r} is none of CelebA's attributes, one "
                f"or several with commas between them; one is {near[0]!r}"
            )
    columns = labels[:, [ATTRIBUTES.index(name) for name in names]]
    found, which = np.unique(columns, axis=0, return_inverse=True)
    return np.array([group_name(names, row) for row in found])[which]


def valid_mask(table: LabelledImages, rows: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose the validation part of `rows`, image by image.

    Parameters
    ----------
    table : Table
        The data.
    rows : np.ndarray
        (k,) row numbers.
    fraction : float
        The chance of an image to be chosen, 0 to 1.
    seed : int
        Another seed gives another choice.

    Returns
    -------
    np.ndarray
        (k,) bool.
    """
    chosen: np.ndarray = uniform(table.content[rows], seed) < fraction
    return chosen


def public_rows(table: LabelledImages, fraction: float, seed: int) -> np.ndarray:
    """Rows of the train images that are public: no partition holds them.

    Parameters
    ----------
    table : Table
        The data.
    fraction : float
        The chance of an image to be public, 0 to 1; independent of that in `valid_mask`.
    seed : int
        Another seed gives another choice.

    Returns
    -------
    np.ndarray
        (k,) int64, ascending.
    """
    rows = table.rows("train")
    chosen: np.ndarray = rows[uniform(table.content[rows], seed + PUBLIC) < fraction]
    return chosen


def uniform(content: np.ndarray, key: int) -> np.ndarray:
    """A number from [0, 1) for each image, (n,) float64, that follows from `key` and its bytes.

    So a choice does not depend on who holds an image, and copies of one are on the same side.
    """
    start = _mix(np.array([key % 2**64], np.uint64))
    return (_mix(content ^ start) >> np.uint64(11)) * 2.0**-53


def _mix(bits: np.ndarray) -> np.ndarray:
    """Spread 64 bits evenly: one step of SplitMix64, (n,) uint64 -> (n,) uint64.

    Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014,
    with the constants of https://prng.di.unimi.it/splitmix64.c.
    """
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = bits ^ (bits >> np.uint64(31))
    return mixed


def _iid(rows: int, num_partitions: int, seed: int) -> np.ndarray:
    from flwr_datasets.partitioner import IidPartitioner

    shuffled = np.random.default_rng(seed).permutation(rows)  # it cuts them up as they come
    return _run(IidPartitioner(num_partitions), num_partitions, {"row": shuffled})


def _dirichlet(
    label: np.ndarray, num_partitions: int, alpha: float, min_size: int, seed: int
) -> np.ndarray:
    from flwr_datasets.partitioner import DirichletPartitioner

    columns = {"row": np.arange(len(label)), "by": label}

    def deal(size: int) -> np.ndarray:
        partitioner = DirichletPartitioner(
            num_partitions=num_partitions,
            partition_by="by",
            alpha=float(alpha),
            min_partition_size=size,
            self_balancing=False,
            shuffle=False,
            seed=seed,
        )
        return _run(partitioner, num_partitions, columns)

    try:
        return deal(min_size)
    except ValueError:
        # It draws 11 times, the same 11 whatever the size asked for, and takes the first that
        # will do: so each step takes a better one of them, until there is none.
        reached = -1
        with suppress(ValueError):
            while reached < min_size:
                reached = int(np.bincount(deal(reached + 1), minlength=num_partitions).min())
        raise InputError(
            f"min-partition-size = {min_size} is out of reach with dirichlet-alpha = {alpha}, "
            f"{num_partitions} nodes, {len(label)} train images and seed {seed}: the largest that "
            f"would do is {reached}. Lower it, raise dirichlet-alpha, or start fewer nodes"
        ) from None


def _natural(identity: np.ndarray, num_partitions: int, seed: int) -> np.ndarray:
    from flwr_datasets.partitioner import NaturalIdPartitioner

    found, which = np.unique(identity, return_inverse=True)
    # Cards dealt round the table: a holder has as many identities as any other, or one more.
    holder = np.random.default_rng(seed).permutation(len(found)) % num_partitions
    columns = {"row": np.arange(len(identity)), "by": holder[which]}
    return _run(NaturalIdPartitioner("by"), min(num_partitions, len(found)), columns)


def _run(
    partitioner: "Partitioner", num_partitions: int, columns: dict[str, np.ndarray]
) -> np.ndarray:
    """Partition of each of n rows, (n,) int32; `columns` are `row` and what decides."""
    from datasets import Dataset

    partitioner.dataset = Dataset.from_dict(columns)
    # The first call deals; it prints a bar, and a warning for each try that was in vain.
    with redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        partitioner.load_partition(0)
    dealt = np.empty(len(columns["row"]), np.int32)
    for partition in range(num_partitions):
        rows = partitioner.load_partition(partition)["row"][:]
        dealt[np.array(rows, np.int64)] = partition
    return dealt


def _warn_of_repeats(table: LabelledImages, rows: np.ndarray, dealt: np.ndarray) -> None:
    pairs = repeats(table.content[rows], dealt)
    if len(pairs):
        one, other = (f"{table.image[rows[i]]} (partition {dealt[i]})" for i in pairs[0])
        LOG.warning(
            "%d train images are, byte for byte, in more than one partition, such as %s and %s",
            len(np.unique(table.content[rows[pairs[:, 0]]])), one, other,
        )  # fmt: skip
