"""What stands above and below the sections: title, status, notes, and how to read intervals."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from celeba_fl.evaluation.resampling import FEW_IDENTITIES
from celeba_fl.report.lede import data_of, method, of_sites, participants, subject
from celeba_fl.report.reading import Run
from celeba_fl.report.words import seconds, sentence
from celeba_fl.runs.reading import dealing


def title_of(run: Run) -> str:
    """The run's name, task, data, strategy, who takes part, and how the data were dealt to them."""
    config = run.info.config
    if not config:
        return run.info.name
    what, data = subject(config)[0], data_of(run)
    dealt = partitioning(config)
    words = {"iid": "IID", "natural": "each person at one client"}
    dealt = "" if of_sites(run) else words.get(dealt, dealt.replace("dirichlet", "Dirichlet"))
    how = filter(None, (method(config), participants(run), dealt))
    return f"{run.info.name}: {what}{data and f' on {data}'}, {', '.join(how)}"


def partitioning(config: Mapping[str, Any]) -> str:
    """How the data are partitioned, in a word or two; empty if the task deals by itself."""
    alpha = f" (alpha {config.get('dirichlet-alpha')})"
    dealt = dealing(config)
    return dealt + (alpha if dealt == "dirichlet" else "")


def notes(run: Run) -> list[str]:
    """Warnings that a reader needs before the first figure."""
    warnings = [f"{problem}." for problem in run.problems]
    if run.info.note:
        warnings.insert(0, f"Note: {run.info.note}")
    if run.info.status not in ("completed", "stopped"):
        ends = {
            "running": "goes on: this is what there is so far",
            "failed": "failed: this is what it has left",
            "interrupted": "was interrupted: this is what it has left",
        }
        warnings.append(f"The run {ends.get(run.info.status, f'is {run.info.status}')}.")
    reasons = _drawn(run)
    if reasons:
        warnings.append(
            f"{sentence(' and '.join(reasons))}: these figures say nothing about photographs of "
            f"people."
        )
    if run.scores and run.info.dataset.get("identities") == "unknown":
        warnings.append(
            "The data do not say who is who, so each image was taken for another person. If people "
            "are on several images, intervals are wider than they are shown here."
        )
    if run.scores and run.scores.num_identities < FEW_IDENTITIES:
        warnings.append(
            f"The test split shows {run.scores.num_identities} people. No claim about demographic "
            f"groups can rest on so few, whatever the figures below are."
        )
    return warnings


def _drawn(run: Run) -> list[str]:
    """What of a run is of drawn faces, if its task has that at all."""
    said = ["the faces are drawn"] if run.info.dataset.get("name") == "drawn" else []
    if run.info.weights.get("name") != "drawn":
        return said
    if run.info.config.get("task") != "dcgan":
        return [*said, "the backbone knows only drawn faces"]
    # No part of the model: it measures how far pictures are from faces, drawn ones if they are.
    return said or ["what measures the distances knows only drawn faces"]


def subtitle_of(run: Run) -> str:
    """Directory, start, rounds and duration of a run."""
    config, started = run.info.config, run.info.started
    parts = [run.path.name]
    with suppress(ValueError):
        parts.append(f"started {datetime.fromisoformat(started):%Y-%m-%d %H:%M} UTC")
    if run.rounds:
        one = config.get("strategy") == "closed-form"
        rounds = 1 if one else config.get("num-server-rounds", "?")
        parts.append(f"{run.last_round} of {rounds} rounds")
    if run.info.seconds is not None:
        parts.append(seconds(run.info.seconds))
    return " · ".join(parts)
