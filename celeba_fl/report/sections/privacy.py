"""What a run under a privacy budget promises, to whom, and what it gives for it."""

import math
from collections.abc import Mapping
from typing import Any

from celeba_fl.report.html import Block, Table
from celeba_fl.report.names import first_metrics, name_of
from celeba_fl.report.reading import Run, test_figures
from celeba_fl.report.words import figure

WHOM = {
    "person": "a person, with all images of that person at a site",
    "image": "a single image",
    "client": "a client, with all that it holds",
}


def privacy(run: Run) -> list[Block]:
    """The promise, what it rests on, each release, and figures beside those of public images."""
    said = run.privacy
    if not said:
        return []
    blocks: list[Block] = [_promise(said), *_figures(run)]
    rows = [
        (
            f"{one['round']}" if one["opened"] else f"{one['round']}, not opened",
            *(str(one[key]) for key in ("name", "who", "mechanism")),
            *(f"{one[key]:.4g}" for key in ("sensitivity", "sigma", "epsilon")),
        )
        for one in said["releases"]
    ]
    header = ("round", "what", "of whom", "noise", "changed by one", "its deviation", "epsilon")
    caption = f"All that is made of what clients hold; together epsilon {said['total']:.4g}"
    if len(rows) > 1:
        caption += ", which is less than the sum of their epsilons"
    blocks.append(Table(caption, header, rows, texts=(1, 2, 3), folded=len(rows) > 5))
    public = said["public"] or ["nothing of people"]
    blocks.append(f"Public, and so not protected: {'; '.join(public)}.")
    return [*blocks, "What the promise rests on:", *said["assumptions"]]


def _promise(said: Mapping[str, Any]) -> str:
    """The promise in plain words."""
    epsilon, delta, most = said["total"], said["delta"], said["max_images"]
    some = f" Of each person {most} images count at most." if most else ""
    if not said["releases"]:
        return (
            f"Nothing has left the clients yet; the budget is epsilon {said['epsilon']:g} at delta "
            f"{delta:g}, for {WHOM[said['unit']]}."
        )
    seen = (
        "What has left the clients" if said["noise"] == "clients" else "What the server has shown"
    )
    return (
        f"{seen} in this run keeps epsilon {epsilon:.4g} at delta {delta:g}, of "
        f"a budget of {said['epsilon']:g}, for {WHOM[said['unit']]}: whoever sees all of it, and "
        f"knows everything else, can find the odds that this one took part {_times(epsilon)} times "
        f"as high or as low as before, but no more, except with a chance of about {delta:g}.{some}"
    )


def _times(epsilon: float) -> str:
    return f"{math.exp(epsilon):,.3g}" if epsilon < 7 else f"{math.exp(epsilon):,.0f}"


def in_brief(said: Mapping[str, Any]) -> str:
    """The promise in a line."""
    if not said:
        return "none"
    return f"epsilon {said['total']:.4g} at delta {said['delta']:g} (unit: {said['unit']})"


def public_alone(run: Run) -> dict[str, float]:
    """The test figures of public images alone: of what a run under a budget begins with."""
    begins = run.privacy and run.info.config.get("init") == "public" and run.rounds
    return test_figures(run.rounds[0]) if begins else {}


def _figures(run: Run) -> list[Block]:
    """The head of the run beside that of public images alone."""
    first = public_alone(run)
    if not first or len(run.rounds) < 2:
        return []
    heads = {
        "public images alone (round 0)": first,
        f"this run (round {run.last_round})": test_figures(run.rounds[-1]),
        "all images in one place, without privacy": run.reference("central"),
    }
    metrics = first_metrics(list(first), 6)
    rows = [
        (name, *(figure(values.get(metric, math.nan)) for metric in metrics))
        for name, values in heads.items()
        if values
    ]
    caption = (
        "What the promise costs, on the test split at threshold 0: a run that is no better than "
        "public images alone has learned nothing of its clients"
    )
    return [Table(caption, ("head", *map(name_of, metrics)), rows)]
