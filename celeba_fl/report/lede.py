"""A run in a few plain sentences: who trained what, how, how well, and beside what that stands.

`lede` stands on top of a report; the dashboard and a comparison say the same of a run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celeba_fl.report.names import PARTS, first_metrics, name_of
from celeba_fl.report.reading import Run, floats, number
from celeba_fl.report.sections.privacy import public_alone
from celeba_fl.report.words import figure, in_short, sentence

# What is learned: as a heading says it, and in a sentence.
SUBJECTS = {
    "attributes": ("Face attributes", "a face-attribute head"),
    "lenet": ("LeNet-5", "LeNet-5"),
    "dcgan": ("New faces by a DCGAN", "a generator of new faces (DCGAN)"),
}
METHODS = {
    "fedavg": "FedAvg",
    "fedavgm": "FedAvgM",
    "fedprox": "FedProx",
    "fedadam": "FedAdam",
    "fedyogi": "FedYogi",
    "krum": "Krum",
    "multikrum": "Multi-Krum",
    "bulyan": "Bulyan",
    "fedmedian": "the median",
    "fedtrimmedavg": "the trimmed mean",
    "centred-clipping": "centred clipping",
    "closed-form": "closed form",
}
# Data sets by the last word of their name.
DATA = {"drawn": "drawn faces", "none": "", "celeba": "CelebA", "cifar10": "CIFAR-10"}
# Of the way from a simple guess to no mistake at all, the part below which little is learned: for
# balanced accuracy that is 0.55.
LITTLE = 0.1


def lede(run: Run) -> str:
    """What was done and how good it is in one sentence, then what to know of the way there."""
    if run.info.status == "unreadable":
        return f"This run cannot be read: {run.info.reason.rstrip('.')}."
    try:
        said = _distance(run) or _figures(run) or ", ".join(_own(run)) or "nothing is measured yet"
        return " ".join([*_deed(run, said), *_circumstances(run)])
    except (ValueError, TypeError, KeyError) as error:  # a broken cell; the page goes on
        return f"What this run has done cannot be said, since a file of it is broken: {error}."


def subject(config: Mapping[str, Any]) -> tuple[str, str]:
    """What a run learns: in a heading, and in a sentence; a task of one's own by its name."""
    task = str(config.get("task", ""))
    return SUBJECTS.get(task, (task, task)) if task else ("A model", "a model")


def method(config: Mapping[str, Any]) -> str:
    """How the server makes one model of many; a strategy of one's own by its class."""
    strategy = str(config.get("strategy", "fedavg"))
    return METHODS.get(strategy, strategy.rpartition(":")[2])


def participants(run: Run) -> str:
    """How many take part, and whether they are simulated or sites; empty if that is not known.

    Sites have names. Partitions of a data set, which have numbers, are of a simulation.
    """
    total = run.info.num_clients
    if total is None:
        return ""
    known = "simulated client" if _names(run) else "client"
    return f"{total:,} {'site' if of_sites(run) else known}" + ("" if total == 1 else "s")


def of_sites(run: Run) -> bool:
    """Whether clients are sites, which have images of their own, as far as the files tell."""
    named = not all(map(str.isdecimal, _names(run)))
    return named or run.info.config.get("dataset") == "none"


def _names(run: Run) -> set[str]:
    return {row["client"] for row in (*run.partitions, *run.clients)} - {"total"}


def data_of(run: Run) -> str:
    """The data set, without the folder that it lies in; empty if the sites bring their own.

    A site of a task of one's own may hold a part of a data set that has a name.
    """
    if of_sites(run) and run.info.config.get("task") in SUBJECTS:
        return ""
    name = Path(str(run.info.dataset.get("name", run.info.config.get("dataset", "none")))).name
    return DATA.get(name.lower(), name)


def _deed(run: Run, said: str) -> list[str]:
    """Who trained what on what, in how many rounds, and with which figures; or how far it came."""
    info, config = run.info, run.info.config
    what, why = f"{subject(config)[1]}{_examples(run)}", in_short(info.reason)
    if made := info.more.get("made_from"):
        return [f"{sentence(what)}, was made from the sums of the run {made}: {said}."]
    who, by = sentence(participants(run) or "clients"), _rounds(run)
    if info.status == "running":
        return [f"{who} are training {what}, in {by} so far: {said}."]
    if info.status == "completed":
        return [f"{who} trained {what} in {by}: {said}."]
    end = {"failed": "failed", "interrupted": "was interrupted", "stopped": "was stopped"}
    deed = f"{who} {'trained' if run.last_round > 0 else 'were to train'} {what}: {said}."
    course = f"{end.get(info.status, f'is {info.status}')} after {by}{why and f' ({why})'}."
    # What failed comes first. Where a rule has stopped it, it is as good as complete.
    return [deed, f"It {course}"] if info.status == "stopped" else [f"This run {course}", deed]


def _rounds(run: Run) -> str:
    """How many rounds of which method, of how many if not of all."""
    config, done = run.info.config, max(run.last_round, 0)
    slow = "asynchronous " if config.get("scheduler") == "asynchronous" else ""
    closed = config.get("strategy") == "closed-form"
    of = 1 if closed else config.get("num-server-rounds", done)
    far = f"{done}" if done == of else f"{done} of {of}"
    number = far if far != "1" else "one"
    rounds = "round" if of == 1 else "rounds"
    return f"{number} {slow}{rounds}{', in' if closed else ' of'} {method(config)}"


def _examples(run: Run) -> str:
    """On how many examples of which data."""
    data = data_of(run)
    count = f"{floats(run.partitions, 'num_examples').sum():,.0f}" if run.partitions else ""
    task = run.info.config.get("task", "attributes")
    if task not in SUBJECTS:
        text = " ".join(filter(None, (data, count and f"({count} examples)")))
    elif data == "drawn faces":
        text = f"{count} {data}".strip()
    else:
        text = f"{count} images".strip() + (f" of {data}" if data else " of their own")
    taught = ", labelled by a teacher," if run.info.config.get("labels") == "teacher" else ""
    return f" on {text}{taught}" if text else ""


def _figures(run: Run) -> str:
    """The first figures of what answers yes or no, or with a class, beside a simple guess's."""
    values = run.results().values
    accuracy, majority = values.get("accuracy"), values.get("majority_accuracy")
    if accuracy is None or majority is None:
        return ""
    first, said = "accuracy", []
    if "auroc" in values and "balanced_accuracy" in values:  # yes or no: chance is one half
        first, balanced = "balanced_accuracy", values["balanced_accuracy"]
        said.append(f"balanced accuracy is {figure(balanced)}, {_beside(balanced, 0.5)} chance")
        said[0] += " (0.500), and "
    said.append(f"accuracy is {figure(accuracy)}, {_beside(accuracy, majority)} the majority's")
    said.append(f" answer ({figure(majority)})")
    for model, reference in {
        "public images alone": public_alone(run),
        "a model of all examples": run.reference("central") if run.info.summary else {},
    }.items():
        if first in reference:
            said.append(f"; {name_of(first)} of {model} is {figure(reference[first])}")
    return f"on {_where(run)}, {''.join(said)}"


def _own(run: Run) -> list[str]:
    """The first two figures of a task that has others."""
    values = run.results().values
    names = first_metrics(list(values), 2)
    where = f"on {_where(run)}, " if names else ""
    return [
        f"{where if i == 0 else ''}{name_of(n)} {figure(values[n])}" for i, n in enumerate(names)
    ]


def _where(run: Run) -> str:
    """Which examples the figures are of, and of a model of which round if not of the last."""
    if run.info.summary:
        return "test"
    part = "validation" if run.results().where.endswith(f"{PARTS['valid']} split") else "test"
    return f"{part} {f'after round {run.last_round}' if run.last_round else 'before training'}"


def _beside(value: float, guess: float) -> str:
    """How a figure stands to that of a simple guess, by one rule for all."""
    learned = (value - guess) / (1 - guess) if guess < 1 else value - guess
    if abs(learned) < 0.0005:
        return "no better than"
    if learned < 0:
        return "below"
    return "hardly above" if learned < LITTLE else "above"


def _distance(run: Run) -> str:
    """How far generated pictures are from real ones, beside those before training."""
    if not run.rounds:
        return ""
    first, last = (number(run.rounds[i], "test_frechet_distance") for i in (0, -1))
    if last != last:
        return ""
    real = number(run.rounds[-1], "test_real_frechet_distance")
    said = f"the Fréchet distance of its pictures to real ones is {figure(last)}"
    if run.last_round > 0 and first == first:
        nearer = "less than" if last < first else "no less than"
        said += f", {nearer} before training ({figure(first)})"
    return said + (f"; that of real ones to others is {figure(real)}" if real == real else "")


def _circumstances(run: Run) -> list[str]:
    """What was hidden from the server, and who attacked."""
    config, said = run.info.config, []
    attack = config.get("attack", "none")
    if attack != "none":
        attackers = run.tables.get("attackers", ())
        some = f"{len(attackers)}" if attackers else "Some"
        said.append(f"{some} of the clients attacked ({attack}).")
    if run.privacy:
        promised = f"epsilon {run.privacy['total']:.3g} at delta {run.privacy['delta']:g}"
        said.append(f"Noise hides each {run.privacy['unit']}: {promised}.")
    if config.get("secure-aggregation"):
        said.append("The server saw sums over clients alone.")
    return said
