"""Partitions: the train split, dealt to clients by flwr-datasets' partitioners.

The dealing is computed once and kept, as one number for each row: the 50 clients of a run neither
deal again nor import what deals.
"""

import difflib
import io
import warnings
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.common.files import hash_key, keep
from celeba_fl.common.log import LOG
from celeba_fl.data.draws import public_rows
from celeba_fl.data.schema import ATTRIBUTES, group_name
from celeba_fl.data.table import LabelledImages, Table, repeats

if TYPE_CHECKING:
    from flwr_datasets.partitioner import Partitioner


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
    order: str = "shuffled",
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
    order : str (default: "shuffled")
        In which order ``dirichlet`` deals the rows of a label: ``shuffled``, or as ``rows``, which
        keeps together what the table has together. How many each partition has of a label is the
        same.
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
                if isinstance(table, Table) and not table.labelled:
                    raise InputError(
                        f"partitioner = 'dirichlet' deals by labels, and the images of "
                        f"{table.name} have none; take 'iid'"
                    )
                label = table.labels[rows]
                if label.ndim > 1:
                    label = combination(label, partition_by)
                dealt = _dirichlet(label, num_partitions, alpha, min_size, order, seed)
            case "natural":
                if not isinstance(table, Table) or not table.identified:
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

    chosen: tuple[object, ...]
    chosen = (partitioner, num_partitions, partition_by, float(alpha), min_size, size, public, seed)
    if partitioner == "dirichlet" and order == "shuffled":  # the key of others is as it ever was
        chosen += (order,)
    name = f"{hash_key(table.fingerprint, *chosen)}.npy"
    return np.load(keep(home / "partitions" / name, deal), mmap_mode="r")


def combination(labels: np.ndarray, partition_by: str) -> np.ndarray:
    """Combine several of the 40 attributes into one column, such as ``"Male=1,Young=0"``.

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
                f"partition-by = {partition_by!r}: {name!r} is not an attribute of CelebA; did you "
                f"mean {near[0]!r}? Give one or several, with commas between them"
            )
    columns = labels[:, [ATTRIBUTES.index(name) for name in names]]
    combinations, which = np.unique(columns, axis=0, return_inverse=True)
    return np.array([group_name(names, row) for row in combinations])[which]


def _iid(rows: int, num_partitions: int, seed: int) -> np.ndarray:
    from flwr_datasets.partitioner import IidPartitioner

    shuffled = np.random.default_rng(seed).permutation(rows)  # it cuts them up as they come
    return _run(IidPartitioner(num_partitions), num_partitions, {"row": shuffled})


def _dirichlet(
    label: np.ndarray, num_partitions: int, alpha: float, min_size: int, order: str, seed: int
) -> np.ndarray:
    from flwr_datasets.partitioner import DirichletPartitioner

    rows = np.arange(len(label))
    if order == "shuffled":
        rng = np.random.default_rng(seed)
        for value in np.unique(label):
            rows[label == value] = rng.permutation(rows[label == value])
    columns = {"row": rows, "by": label}

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

    people, which = np.unique(identity, return_inverse=True)
    # Cards dealt round the table: a holder has as many identities as any other, or one more.
    holder = np.random.default_rng(seed).permutation(len(people)) % num_partitions
    columns = {"row": np.arange(len(identity)), "by": holder[which]}
    return _run(NaturalIdPartitioner("by"), min(num_partitions, len(people)), columns)


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
