"""Fairer heads of the closed form: which penalty, and what there is besides, from the same sums.

The mathematics are in `celeba_fl.models.fair_ridge`; all heads are judged at a score of 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from celeba_fl.common.arrays import Arrays, Floats
from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG
from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES, membership
from celeba_fl.evaluation.fair_heads import comparable, compare_heads, group_thresholds
from celeba_fl.evaluation.metrics import Rows
from celeba_fl.models.fair_ridge import FEWEST, FairRidge
from celeba_fl.models.heads import scores
from celeba_fl.tasks.closed_form import Grouping, marks_of, part_of
from celeba_fl.tasks.examples import Examples

# The path: from hardly any difference to where little is left to gain.
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
# What thresholds by group may cost each attribute of its accuracy on validation.
THRESHOLD_COST = 0.01
RIDGE, ERASED, BY_GROUP = "ridge", "LEACE", "thresholds by group"


def check_budget(config: RunConfig, num_valid: int) -> None:
    """Raise InputError if there is a `fairness-budget`, and nothing that tells what is spent."""
    if config.fairness_budget and not num_valid:
        raise InputError(
            f"fairness-budget = {config.fairness_budget}: needs images of the official validation "
            f"split on the server, and {config.dataset} has none; set fairness-penalty instead"
        )


def fair_ridge(config: RunConfig, sums: Arrays) -> FairRidge:
    """The heads of complete sums, see `closed_form.complete`."""
    parts = part_of(sums, "train"), part_of(sums, "valid")
    return FairRidge(*parts, sums.get("factor"), marks_of(config.fair))


def solve(config: RunConfig, sums: Arrays, valid: Examples) -> Arrays:
    """The head of the penalty that the run config asks for."""
    problem = fair_ridge(config, sums)
    left = [name for name, why in reasons(problem, config).items() if why]
    LOG.info("Left as they are, since they make the groups or have too few: %s", ", ".join(left))
    penalty = chosen_penalty(config, problem, valid)
    LOG.info("Solved with lambda = %.3g of the mean diagonal, rho = %g", problem.ratio, penalty)
    return problem.head(penalty)


def reasons(problem: FairRidge, config: RunConfig) -> dict[str, str]:
    """Why each attribute is left as it is; empty for those that are penalised."""
    why = {}
    too_few = f"fewer than {FEWEST} train images with it, or without it, in all groups but one"
    for name, penalised in zip(ATTRIBUTES, problem.penalised.tolist(), strict=True):
        by_group = "it makes the groups" if name in config.fair else ""
        why[name] = "" if penalised else by_group or too_few
    return why


def chosen_penalty(config: RunConfig, problem: FairRidge, valid: Examples) -> float:
    """`fairness-penalty`, or the largest of the path that `fairness-budget` pays for."""
    if not config.fairness_budget:
        return config.fairness_penalty
    least, *wrong = [
        int(((scores(problem.head(rho), valid.features) > 0) != valid.labels).sum())
        for rho in (0.0, *PENALTIES)
    ]
    may = config.fairness_budget * valid.labels.size / 100
    paid = [rho for rho, more in zip(PENALTIES, wrong, strict=True) if more - least <= may]
    if not paid:
        LOG.warning(
            "fairness-budget = %g: a penalty of %g costs more on validation, so there is none",
            *(config.fairness_budget, PENALTIES[0]),
        )
    return max(paid, default=0.0)


@dataclass(frozen=True)
class Candidate:
    """A head with the scores above which it answers yes, (groups, attributes) each."""

    head: str  # RIDGE, ERASED or BY_GROUP
    penalty: float | None  # of the fair ridge; 0 is the plain one
    arrays: Arrays
    thresholds: Floats

    def answers(self, examples: Examples, fair: Grouping) -> np.ndarray:
        """What it says of each example, (n, attributes) bool."""
        member = membership(examples.labels, ATTRIBUTES, fair).astype(np.float64)
        return np.asarray(scores(self.arrays, examples.features) > member @ self.thresholds)


def candidates(
    config: RunConfig, problem: FairRidge, chosen: float, valid: Examples
) -> list[Candidate]:
    """The path from the plain head on, with the penalty of the run, and what there is besides.

    Thresholds by group are chosen on the validation split: there are none without one, or of more
    groups than two.
    """
    path = sorted({0.0, *PENALTIES, chosen})
    zeros = np.zeros((2 ** len(config.fair), len(ATTRIBUTES)))
    found = [Candidate(RIDGE, rho, problem.head(rho), zeros) for rho in path]
    found.append(Candidate(ERASED, None, problem.erased_head(), zeros))
    if len(config.fair) == 1 and len(valid):
        labels, head = valid.labels, found[0].arrays
        member = membership(labels, ATTRIBUTES, config.fair)
        changes = comparable(labels, member, ATTRIBUTES, config.fair) & problem.penalised
        outputs = scores(head, valid.features)
        thresholds = group_thresholds(outputs, labels, member, changes, THRESHOLD_COST)
        found.append(Candidate(BY_GROUP, None, head, thresholds))
    return found


def review(config: RunConfig, sums: Arrays, central: Mapping[str, Examples]) -> dict[str, Rows]:
    """`fairer.csv`, a row for each head and split; and `fairer_attributes.csv`."""
    problem, grouping = fair_ridge(config, sums), ",".join(config.fair)
    chosen = chosen_penalty(config, problem, central["server_valid"])
    rows: Rows = []
    gaps: dict[float | None, Floats] = {}
    found = candidates(config, problem, chosen, central["server_valid"])
    for part, examples in central.items():
        # Thresholds are not judged on what chose them.
        judged = [one for one in found if part == "test" or one.head != BY_GROUP]
        if not len(examples):
            continue
        answers = [one.answers(examples, config.fair) for one in judged]
        where = examples.labels, examples.celeb_id, ATTRIBUTES, config.fair
        figures, differences = compare_heads(answers, *where)
        for one, row, gap in zip(judged, figures, differences, strict=True):
            if one.head == RIDGE:
                gaps[one.penalty] = gap
            mark = "yes" if one.penalty == chosen else ""
            named = {"head": one.head, "penalty": one.penalty, "chosen": mark}
            rows.append({"split": part, "grouping": grouping, **named, **row})
    why, none = reasons(problem, config), np.full(len(ATTRIBUTES), np.nan)
    attributes = [
        {
            "grouping": grouping,
            "attribute": name,
            "left_out": why[name],
            "smallest_cell": problem.smallest[i],
            "plain_equalized_odds_difference": gaps.get(0.0, none)[i],
            "equalized_odds_difference": gaps.get(chosen, none)[i],
        }
        for i, name in enumerate(ATTRIBUTES)
    ]
    return {"fairer.csv": rows, "fairer_attributes.csv": attributes}
