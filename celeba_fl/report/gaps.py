"""Which differences between groups a page compares, and which of them are more than chance."""

from collections.abc import Mapping

import numpy as np

from celeba_fl.evaluation.gaps import COMPARED, DEFINES, FEWEST_EXAMPLES, FEWEST_PEOPLE, SMALL
from celeba_fl.report.reading import Rows, number
from celeba_fl.report.words import between, chance, difference, figure, named

ODDS = "equalized_odds_difference"
LEVEL = 0.05
RULE = (
    f"Attributes are compared where each group has at least {FEWEST_EXAMPLES} images with and "
    f"{FEWEST_EXAMPLES} without it, of at least {FEWEST_PEOPLE} people each"
)


def standing(row: Mapping[str, str], rates: Rows) -> str:
    """Whether a row of `fairness.csv` is compared, in its own words.

    Runs from before its column `compared` have only the people of each group in `groups.csv`.
    """
    if "compared" in row:
        return row["compared"]
    if row["attribute"] in row["grouping"].split(","):
        return DEFINES
    groups = rates_like(row, rates)
    enough = [
        min(number(one, "positives"), number(one, "n") - number(one, "positives"))
        >= FEWEST_EXAMPLES
        and number(one, "identities") >= FEWEST_PEOPLE
        for one in groups
    ]
    return COMPARED if enough and all(enough) else SMALL


def compared(fairness: Rows, rates: Rows) -> list[Mapping[str, str]]:
    """The rows that are compared, the least likely by chance first."""
    rows = [row for row in fairness if standing(row, rates) == COMPARED]
    keys = [(f"{ODDS}_p_holm", 1, 1.0), (f"{ODDS}_low", -1, 0.0), (ODDS, -1, 0.0)]
    columns = [
        [sign * np.nan_to_num(number(row, key), nan=sign * none) for row in rows]
        for key, sign, none in keys
    ]
    return [rows[i] for i in np.lexsort(columns[::-1])]


def beyond_chance(row: Mapping[str, str]) -> bool:
    """Whether chance alone hardly explains the odds of a row, among all attributes."""
    return number(row, f"{ODDS}_p_holm") < LEVEL


def rates_like(row: Mapping[str, str], rates: Rows) -> list[Mapping[str, str]]:
    """The groups of a row of `fairness.csv`."""
    keys = ("grouping", "attribute")
    return [one for one in rates if all(one[key] == row[key] for key in keys)]


def against_chance(row: Mapping[str, str], gap: str) -> str:
    """What chance alone would give of a difference, and how likely one as large is."""
    value, p = number(row, f"{gap}_chance"), number(row, f"{gap}_p_holm")
    return f"chance {figure(value)}, p {chance(p)}" if p == p else ""


def side_by_side(row: Mapping[str, str], rate: str) -> tuple[str, str]:
    """The second less the first of two groups' rates, and its interval."""
    column = f"{rate}_difference"
    ends = number(row, f"{column}_low"), number(row, f"{column}_high")
    return difference(number(row, column)), between(*ends, difference)


def name(row: Mapping[str, str]) -> str:
    """The attribute and the grouping of a row."""
    return named(f"{row['attribute']} by {row['grouping']}")
