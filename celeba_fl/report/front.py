"""The pictures that stand on top of a page, taken from the sections that they belong to."""

from collections.abc import Sequence
from dataclasses import replace

from celeba_fl.report.html import Embedded, Figures, Section

MOST = 2
# What carries the story of a run, the best first, by the beginnings of names.
BEST = ("samples-", "standing", "rounds_accuracy", "rounds_loss", "rounds_")
YES_OR_NO = ("standing", "rounds_balanced_accuracy")
ONE_ROUND = ("samples-", "standing", "partitions", "reliability", "rounds_")
HOW_MANY = {1: "One more picture", 2: "Two more pictures"}


def take_front(
    sections: Sequence[Section], rounds: int
) -> tuple[list[Embedded], Sequence[Section]]:
    """The pictures for the top, and the sections without them, which say where they are.

    With one round a curve is two points, and who holds what says more.
    """
    there = [
        picture
        for section in sections
        for block in section.blocks
        if isinstance(block, Figures)
        for picture in block.pictures
    ]
    front: list[Embedded] = []
    binary = any(one.name == "rounds_auroc" for one in there)
    for beginning in ONE_ROUND if rounds < 2 else YES_OR_NO if binary else BEST:
        found = [one for one in there if one.name.startswith(beginning) and one not in front]
        # Of generated pictures, the first and the last say what training has done.
        front += [found[0], found[-1]] if len(found) > 1 and beginning == "samples-" else found[:1]
        if len(front) >= MOST:
            break
    front = front[:MOST]
    return front, [_without(section, front) for section in sections]


def _without(section: Section, front: Sequence[Embedded]) -> Section:
    """A section without the pictures that are on top of the page."""
    blocks, taken = [], 0
    for block in section.blocks:
        if isinstance(block, Figures):
            kept = [picture for picture in block.pictures if picture not in front]
            taken += len(block.pictures) - len(kept)
            block = replace(block, pictures=kept)
        blocks.append(block)
    if not taken:
        return section
    said = f"{HOW_MANY[taken]} of this section {'is' if taken == 1 else 'are'} on top of the page."
    left = [block for block in blocks if not (isinstance(block, Figures) and not block.pictures)]
    return replace(section, blocks=[*left, said])
