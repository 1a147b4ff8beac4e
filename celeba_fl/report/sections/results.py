"""The headline numbers of a run beside their reference points."""

from collections.abc import Mapping
from math import nan

from celeba_fl.evaluation.resampling import Scores, difference_intervals, intervals
from celeba_fl.report.html import Block, Cards, Picture, Pictures, Table
from celeba_fl.report.lede import of_sites
from celeba_fl.report.names import FIRST, first_metrics, name_of
from celeba_fl.report.pictures.standing import OTHERS, Standing, standing
from celeba_fl.report.reading import Run
from celeba_fl.report.rules import about_rule, at
from celeba_fl.report.words import NONE, UNKNOWN, between, difference, figure

# Scores whose figures are farther than this from those of the file belong to another model, and no
# interval may come from them. AUROC and average precision are of bins here, and may be off by more.
ERROR, OF_BINS = 0.01, ("auroc", "average_precision")
# Figures that are 1 without any mistake, as a picture shows them.
STANDING = ("balanced_accuracy", "auroc", "accuracy")
CROSS_VALIDATION = "cross-validation over people, as tests/benchmarks/strategies.py does it"


def results(run: Run) -> list[Block]:
    """Headline numbers, each beside its reference points."""
    judged = run.results()
    if not judged.values:
        return ["Nothing has been measured yet."]
    values, central = judged.values, run.reference("central")
    alone, spread = run.reference("local", "mean"), run.reference("local", "std")
    scores = own_scores(run)
    own = intervals(scores) if scores else {}
    gaps = gap_intervals(run)
    majority = values.get("majority_accuracy")
    references = {"accuracy": majority} if majority else {}
    binary = "auroc" in values  # else there may be any number of classes
    if binary and majority:
        references |= dict.fromkeys(("balanced_accuracy", "auroc"), 0.5)
    if "base_rates_loss" in values:
        references["loss"] = values["base_rates_loss"]

    def gap(name: str) -> tuple[str, str]:
        less = values[name] - central.get(name, nan)
        return difference(less), between(*gaps.get(name, NONE), difference)

    rows = [
        (
            name_of(name),
            (figure(value), between(*own.get(name, NONE))),
            figure(central.get(name, nan)),
            gap(name),
            (figure(alone.get(name, nan)), f"± {figure(spread[name])}" if name in spread else ""),
            figure(references.get(name, nan)),
        )
        for name, value in values.items()
        if name not in ("majority_accuracy", "base_rates_loss")
    ]
    shown = first_metrics(list(values), 6)
    cards = []
    if shown[0] in central:
        less, interval = gap(shown[0])
        cards.append(("gap to the central model", less, f"{name_of(shown[0])} {interval}".strip()))
    for name in shown:
        if name not in ("average_precision", "macro_f1"):
            details = [between(*own.get(name, NONE))]
            if binary and name.endswith("accuracy") and run.info.summary:
                details.append(at(run.info.config))
            if name in references:
                which = "the base rates" if name == "loss" else "the majority's answer"
                details.append(f"{which}: {figure(references[name])}")
            cards.append((name_of(name), figure(values[name]), "; ".join(filter(None, details))))
    people = f" of {scores.num_identities:,} people" if scores else ""
    sure = ", with 95 % intervals where people are known" if scores else ""
    caption = f"Figures of {judged.where}{people}{sure}"
    header = ("metric", "this run", "central model", "gap", "each client alone", "without looking")
    text = about_references(run) if central else no_central_model(run)[1]
    blocks: list[Block] = [Cards(cards), *_standing(values, references, own, central, alone)]
    blocks += [*_known(Table(caption, header, rows)), *([text] if text else [])]
    if scores:
        blocks.append(
            f"One split of {scores.num_identities:,} people tells how this model serves them, not "
            f"which method is better: that takes {CROSS_VALIDATION}."
        )
    if binary and "accuracy" in values and majority is not None:
        config = run.info.config if run.info.summary else {}
        whose = "the official validation split" if run.privacy else "the clients' train images"
        blocks += [about_rule(config), _without_looking(majority, references.get("loss"), whose)]
    return blocks


def _standing(
    values: Mapping[str, float],
    guesses: Mapping[str, float],
    ends: Mapping[str, tuple[float, float]],
    central: Mapping[str, float],
    alone: Mapping[str, float],
) -> list[Block]:
    """The picture of the figures that have a simple guess to stand beside."""
    figures = [
        Standing(
            name_of(name),
            values[name],
            guesses[name],
            ends.get(name, NONE),
            dict(zip(OTHERS, (central.get(name, nan), alone.get(name, nan)), strict=True)),
        )
        for name in STANDING
        if name in values and name in guesses
    ]
    if not figures:
        return []
    said = "; ".join(f"{one.metric} {figure(one.value)} to {figure(one.guess)}" for one in figures)
    text = f"Bars from a simple guess to what this run reaches, of 1 at most: {said}."
    caption = "How far the model has come from a simple guess, which looks at no image, towards 1"
    caption += "; lines are 95 % intervals." if ends else "."
    return [Pictures([Picture("standing", text, caption, standing(figures))])]


def _known(table: Table) -> list[Table]:
    """A table without the columns that have no figure at all."""
    kept = [
        i
        for i in range(len(table.header))
        if any((row[i] if isinstance(row[i], str) else row[i][0]) != UNKNOWN for row in table.rows)
    ]
    header = [table.header[i] for i in kept]
    return [Table(table.caption, header, [[row[i] for i in kept] for row in table.rows])]


def _without_looking(majority: float, loss: float | None, whose: str) -> str:
    """What answers are worth that look at no image."""
    text = (
        "Accuracy alone misleads here: most attributes are rare, so that always giving the "
        f"majority's answer already scores {figure(majority)}, although the balanced accuracy "
        "and the AUROC of that answer are 0.500. The majority is the one of these very images, "
        "which nobody knows beforehand."
    )
    if loss is not None:
        text += (
            f" Always giving the base rates of {whose} for probabilities has a loss of "
            f"{figure(loss)}: probabilities with a higher one mislead."
        )
    return text


def about_references(run: Run) -> str:
    """What the central model and each client alone are."""
    chosen, clients = run.baseline.get("chosen", {}), run.baseline.get("local", {}).get("clients")
    central = (
        "is logistic regression on the same examples in one place, run to its end, with the one L2 "
        "that is best on validation"
        if "l2" in chosen
        else "is trained on the same examples in one place, and is that of its best epoch on "
        "validation"
    )
    alone = (
        f" Each client alone is the mean and the standard deviation over {clients} models, "
        f"each trained on one client's examples only."
    )
    return f"The central model {central}.{alone if clients else ''}"


def no_central_model(run: Run) -> tuple[str, str]:
    """Why there is no central model to compare with, in brief and in full."""
    config = run.info.config
    without = {
        "chosen clients": config.get("clients"),
        "private discriminators": config.get("exchange") == "generator",
        "secure sums": config.get("secure-aggregation"),
        "sites with data of their own": of_sites(run),
        "kept sums": run.info.more.get("made_from"),
    }
    which = next((name for name, holds in without.items() if holds), None)
    if which:
        return f"(none for {which})", f"A run of {which} has no central model to compare with."
    if run.info.status == "running" or run.last_round < 1:
        return "(unknown until the run has ended)", ""
    return "(unknown until celeba-fl baseline has run)", (
        "What one model trained on all examples in one place would reach, and what each client "
        f"would reach alone, is not known yet. To find out: celeba-fl baseline {run.path.name}"
    )


def own_scores(run: Run) -> Scores | None:
    """The test scores of the final model."""
    return reproduced(run.scores, run.results().values) if run.info.summary else None


def gap_intervals(run: Run) -> dict[str, tuple[float, float]]:
    """Intervals of the differences to the central model."""
    return paired_intervals(reproduced(run.central, run.reference("central")), own_scores(run))


def paired_intervals(one: Scores | None, other: Scores | None) -> dict[str, tuple[float, float]]:
    """Intervals of the differences between two models, if they have scores of the same images."""
    if one is None or other is None or not one.pairs_with(other):
        return {}
    return difference_intervals(one, other)


def reproduced(scores: Scores | None, values: Mapping[str, float]) -> Scores | None:
    """The scores, unless they give other figures than the files do."""
    if scores is None:
        return None
    exact = {*FIRST}.difference(OF_BINS)
    apart = [abs(value - scores.values[name]) for name, value in values.items() if name in exact]
    return scores if apart and max(apart) < ERROR else None
