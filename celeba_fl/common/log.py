"""The log of a run: lines in Flower's own log, for people."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

# A child of Flower's logger, so that its lines reach `flwr run --stream` in Flower's format.
FLOWER = logging.getLogger("flwr")
LOG = FLOWER.getChild("celeba_fl")
OF_STRATEGIES = re.compile(
    "(configure|aggregate)_(train|evaluate): (Sampled|Received) |aggregate_fit: parameters are "
)
# What the engine of a simulation says of a client that fails, three times with all of its code.
OF_ENGINE = re.compile("An exception was raised when processing a message by |.*ClientAppException")


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


def quiet_flower() -> AbstractContextManager[None]:
    """Leave out the lines of Flower's strategies and of its engine that a round's own repeat."""

    def is_news(record: logging.LogRecord) -> bool:
        words = record.getMessage()
        return not (OF_STRATEGIES.match(words) or OF_ENGINE.match(words.replace("\n", " ")))

    return only(is_news, FLOWER)


class LogFile(logging.FileHandler):
    """A file that gets all lines of Flower's log and ours, from INFO on, at its end.

    On a disk that takes none, lines are missing and the run goes on.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.setLevel(logging.INFO)
        form = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S")
        form.converter = time.gmtime
        self.setFormatter(form)
        FLOWER.addHandler(self)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Leave the line out."""

    def close(self) -> None:
        """Take no more lines."""
        FLOWER.removeHandler(self)
        with suppress(OSError):
            super().close()


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
