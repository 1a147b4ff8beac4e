"""The log of a run: lines in Flower's own log, for people."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

# A child of Flower's logger, so that its lines reach `flwr run --stream` in Flower's format.
FLOWER = logging.getLogger("flwr")
LOG = FLOWER.getChild("celeba_fl")
OF_STRATEGIES = re.compile(
    "(configure|aggregate)_(train|evaluate): (Sampled|Received) |aggregate_fit: parameters are "
)


@contextmanager
def only(is_news: Callable[[logging.LogRecord], bool], *loggers: logging.Logger) -> Iterator[None]:
    """Leave out the lines of these loggers that are not news."""
    for logger in loggers:
        logger.addFilter(is_news)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_news)


def quiet_strategies() -> AbstractContextManager[None]:
    """Leave out the lines of Flower's strategies around each round, which a round's own repeats."""
    return only(lambda record: not OF_STRATEGIES.match(record.getMessage()), FLOWER)


class Progress:
    """Logs the progress of a long job: items done, rate and time left, a line every few seconds.

    Flower's logs are uploaded line by line, so this prints lines instead of moving a bar. There are
    `every` seconds between two; a job, such as "Drawing faces", that is shorter logs only its end.
    """

    def __init__(self, what: str, total: int, every: float = 5.0) -> None:
        self.what, self.total, self.every = what, total, every
        self.done = 0
        self.start = self.last = time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more items as done, and log a line, with a note, if one is due."""
        self.done += count
        now = time.monotonic()
        finished = self.done >= self.total
        if now - self.last < self.every and not finished:
            return
        self.last = now
        seconds = max(now - self.start, 1e-9)
        rate = self.done / seconds
        rest = f"{seconds:.0f} s" if finished else f"{(self.total - self.done) / rate:.0f} s left"
        speed = f"{rate:.0f}" if rate >= 1 else f"{rate:.2g}"
        details = ", ".join([f"{speed}/s", rest, *([note] if note else [])])
        LOG.info("%s: %d of %d (%s)", self.what, self.done, self.total, details)
