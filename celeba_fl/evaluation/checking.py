"""What must hold of a client's counts: whole numbers whose totals are the client's own examples.

Each check raises InputError, whose text names the count at fault, and returns the names of the
counts that it has seen.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from celeba_fl.common.arrays import Arrays, Ints
from celeba_fl.common.errors import InputError
from celeba_fl.evaluation.bins import NUM_BINS
from celeba_fl.evaluation.corrections import COUNTS
from celeba_fl.evaluation.metrics import Counts

Names = tuple[str, ...]
WHOLE, FRACTION = "iu", "f"


def check_parts(counts: Mapping[str, Arrays]) -> None:
    """The counts are of train and validation examples."""
    check_names(counts, ("train", "valid"))


def check_names(counted: Iterable[str], names: Collection[str]) -> None:
    """These names are there, and no others."""
    if {*counted} != {*names}:
        raise InputError(f"it should send {', '.join(sorted(names)) or 'none'}, and sends others")


def check_form(counts: Arrays, names: Names, shape: tuple[int, ...], kinds: str = WHOLE) -> Names:
    """Counts of these names have this shape and one of these kinds of types, none below 0."""
    for name in names:
        array = counts.get(name)
        if array is None or array.shape != shape or array.dtype.kind not in kinds:
            what = "whole numbers" if kinds == WHOLE else "fractions"
            raise InputError(f"{name}: should be {what} of shape {shape}")
        if array.min(initial=0) < 0:
            raise InputError(f"{name}: should not be below 0")
    return names


def check_total(
    what: str, total: np.ndarray | int, expected: np.ndarray | int, at_most: bool = False
) -> None:
    """A total is what the client has said elsewhere, or no more than that."""
    right = np.all(total <= expected) if at_most else np.array_equal(total, expected)
    if not right:
        raise InputError(f"{what}: the total is another than the client's own")


def check_scores(
    counts: Arrays, n: int, attributes: int, positives: Ints | None, at_most: bool = False
) -> Names:
    """Histograms of scores are of `n` examples, and of so many positives, (attributes,), if given.

    With `at_most`, of no more, but of as many for each attribute.
    The loss of an attribute lies within the range that its histograms allow.
    """
    names = check_form(counts, ("positives", "negatives"), (attributes, NUM_BINS))
    names += check_form(counts, ("loss",), (attributes,), FRACTION)
    judged = Counts.from_arrays(counts)
    check_total("positives and negatives", judged.n, np.full(attributes, n), at_most)
    check_total("positives and negatives", judged.n, np.full(attributes, judged.n[0]))
    if positives is not None:
        check_total("positives", judged.p, positives, at_most)
    low, high = judged.loss_range()
    if not ((low <= judged.loss) & (judged.loss <= high)).all():
        raise InputError("loss: should be that of such scores")
    return names


def check_groups(counts: Arrays, attributes: int, sizes: Sequence[int]) -> Names:
    """Histograms of groups add up, over each grouping of so many groups, to those of all."""
    seen = ("group_positives", "group_negatives")
    check_form(counts, seen, (sum(sizes), attributes, NUM_BINS))
    for name in seen:
        for members in np.split(counts[name], np.cumsum(sizes)[:-1]):
            of_all = counts[name.removeprefix("group_")]
            check_total(name, members.astype(np.int64).sum(axis=0), of_all)
    return seen


def check_answers(counts: Arrays, n: int, attributes: int) -> Names:
    """Of a teacher's answers there are no more than images, and none agrees that is not there."""
    names = check_form(counts, tuple(f"teacher_{key}" for key in COUNTS), (attributes,))
    asked, answered, agreed, right = (counts[name] for name in names)
    if not ((asked <= n) & (answered <= asked) & (np.maximum(agreed, right) <= answered)).all():
        raise InputError(f"{', '.join(names)}: there are more than there can be")
    return names


def check_confusion(
    counts: Arrays, of_class: Ints | None, n: int, classes: int, at_most: bool = False
) -> Names:
    """Counts by true and predicted class are of `n` examples, so many of each class if given.

    With `at_most`, of no more.
    """
    names = check_form(counts, ("confusion",), (classes, classes))
    names += check_form(counts, ("loss",), (1,), FRACTION)
    confusion = counts["confusion"].astype(np.int64)
    check_total("confusion", confusion.sum(), n, at_most)
    if of_class is not None:
        check_total("confusion", confusion.sum(axis=1), of_class, at_most)
    return names
