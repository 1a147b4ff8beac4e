"""Labelling by a teacher: which images, in what order, and when to stop."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG, Progress
from celeba_fl.data.images import BadImageError
from celeba_fl.data.table import Table
from celeba_fl.teach.endpoint import MAX_TOKENS, Endpoint, Reply
from celeba_fl.teach.labels import LabelFile
from celeba_fl.teach.questions import QUESTIONS_HASH, UNSURE

# How often an image is asked for until its answer can be read.
ATTEMPTS = 3
# If the endpoint fails on so many images in a row, or says nothing of use, the images are not to
# blame: the limits before its first answer and after it.
FAILED_FIRST, FAILED = 3, 20


@dataclass
class Spending:
    """Costs of an endpoint, and their limit."""

    price_in: float | None  # USD for a million tokens of requests
    price_out: float | None  # and of answers
    limit: float | None  # USD
    tokens_in: int = 0
    tokens_out: int = 0
    largest: int = field(default=0, init=False)  # request, in tokens

    def __post_init__(self) -> None:
        if (self.price_in is None) != (self.price_out is None):
            raise InputError("--price-in and --price-out go together: USD per million tokens")
        if self.limit is not None and self.price_in is None:
            raise InputError(
                f"--max-cost {self.limit:g} needs the prices: --price-in and --price-out, in USD "
                f"per million tokens"
            )

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """USD for so many tokens; 0 without prices."""
        return (tokens_in * (self.price_in or 0) + tokens_out * (self.price_out or 0)) / 1e6

    @property
    def usd(self) -> float:
        """USD so far."""
        return self.cost(self.tokens_in, self.tokens_out)

    def allows(self, running: int) -> bool:
        """True if one more request stays under the limit, with `running` others unanswered.

        Requests are taken to be as large as the largest so far, and answers as long as they can
        be; so the first request, of unknown size, goes alone.
        """
        if self.limit is None:
            return True
        if not self.largest and running:
            return False
        return self.usd + (running + 1) * self.cost(self.largest, MAX_TOKENS) <= self.limit

    def add(self, tokens: tuple[int, int] | None) -> None:
        """Count a request and its answer.

        Raises
        ------
        InputError
            If there is a limit and the endpoint does not tell what it counts, or nothing plausible.
        """
        if tokens is None and self.limit is not None:
            raise InputError(
                f"--max-cost {self.limit:g} cannot be kept: the endpoint does not tell how many "
                f"tokens it took (usage), or nothing plausible; limit with --max-images instead"
            )
        tokens_in, tokens_out = tokens or (0, 0)
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out
        self.largest = max(self.largest, tokens_in)

    def __str__(self) -> str:
        text = f"{self.tokens_in:,} tokens in, {self.tokens_out:,} out"
        return text if self.price_in is None else f"{text}, {self.usd:.4f} USD"


@dataclass
class Outcome:
    """The outcome of labelling: what it cost, and numbers of images."""

    spending: Spending
    labelled: int = 0  # refused ones among them
    refused: int = 0  # of which the teacher refused to speak
    unsure: int = 0  # (image, attribute) pairs without a value
    failed: dict[str, str] = field(default_factory=dict)  # those without a label, and why
    left: int = 0  # not asked for, since the money is spent


def label(
    table: Table,
    rows: np.ndarray,
    out: Path,
    *,
    model: str,
    base_url: str | None,
    timeout: float,
    workers: int,
    max_images: int | None,
    spending: Spending,
) -> Outcome:
    """Have a teacher label the images that it has not labelled yet.

    The images are those of (k,) `rows` of the table, the first `max_images` of them or, with None,
    all. There are as many requests at a time as `workers`; `spending` counts them, and limits. All
    else is as of `LabelFile` and `Endpoint`.

    Raises
    ------
    InputError
        If an argument is wrong, or the endpoint cannot be used. Images labelled by then are kept,
        and the same call continues.
    """
    rows = rows[:max_images]
    endpoint = Endpoint(model, base_url, timeout)
    teacher = {
        "model": model,
        "base_url": endpoint.base_url,
        "dataset": table.fingerprint,
        "questions": QUESTIONS_HASH,
    }
    with LabelFile(out, teacher) as file:
        todo = [row for row in rows.tolist() if str(table.image[row]) not in file.done]
        LOG.info("%d of %d images are labelled", len(rows) - len(todo), len(rows))
        progress = Progress("Asking the teacher", len(todo))
        labelling = _Labelling(table, endpoint, file, workers, Outcome(spending), progress)
        try:
            asyncio.run(labelling.run(todo))
        except (InputError, OSError) as error:  # OSError: an image that is gone; it is named
            raise InputError(
                f"{error}. {labelling.outcome.labelled} more images are labelled in {out} "
                f"({spending}); the same command continues"
            ) from error
        return labelling.outcome


@dataclass
class _Labelling:
    """The state of a run: requests under way, in one thread."""

    table: Table
    endpoint: Endpoint
    file: LabelFile
    workers: int
    outcome: Outcome
    progress: Progress
    failed: int = 0  # images in a row

    async def run(self, rows: list[int]) -> None:
        """Ask for `rows` until all are answered or given up, or the money is spent."""
        waiting = deque((row, 1) for row in rows)
        running: dict[asyncio.Task[Reply], tuple[int, int]] = {}
        problem: Exception | None = None
        async with self.endpoint:
            try:
                while waiting or running:
                    while (
                        waiting
                        and len(running) < self.workers
                        and self.outcome.spending.allows(len(running))
                    ):
                        row, attempt = waiting.popleft()
                        running[asyncio.create_task(self._ask(row))] = row, attempt
                    if not running:
                        self.outcome.left = len(waiting)
                        return
                    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        row, attempt = running.pop(task)
                        try:
                            if not self._take(row, task, last=attempt == ATTEMPTS):
                                waiting.appendleft((row, attempt + 1))
                        except (InputError, OSError) as error:  # OSError: an image is gone
                            problem = problem or error
                    if problem:  # what is under way is paid for, and waited for
                        waiting.clear()
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)
        if problem:
            raise problem

    async def _ask(self, row: int) -> Reply:
        return await self.endpoint.ask(self.table.read(row))

    def _take(self, row: int, task: "asyncio.Task[Reply]", last: bool) -> bool:
        """Take a reply; True if its image need not be asked for again."""
        image, outcome = str(self.table.image[row]), self.outcome
        try:
            reply = task.result()
        except BadImageError as error:
            self._give_up(image, f"cannot be read: {error}")
            return True
        if reply.answers is None:
            if not reply.failed:
                outcome.spending.add(reply.tokens)
                if not last:
                    return False
            self._give_up(image, reply.why)
            self.failed += 1
            if self.failed == (FAILED if self.file.done else FAILED_FIRST):
                raise InputError(
                    f"{self.endpoint.base_url} fails at {self.failed} images in a row: {reply.why}"
                )
            return True
        self.failed = 0
        self.file.append(image, reply.answers)
        outcome.labelled += 1
        outcome.refused += reply.answers is UNSURE
        outcome.unsure += sum(answer.value == "" for answer in reply.answers)
        outcome.spending.add(reply.tokens)
        self.progress.advance(note=str(outcome.spending))
        return True

    def _give_up(self, image: str, why: str) -> None:
        self.outcome.failed[image] = why
        self.progress.advance(note=str(self.outcome.spending))
