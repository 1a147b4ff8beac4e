"""A process that writes reports: it loads what that takes while a run goes on.

The one of the run then has nothing to do but to wait for it.
"""

import logging
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from celeba_fl.common.log import FLOWER
from celeba_fl.report.helper import Helper, serve


@cache
def writer() -> Helper:
    """The one of this process; it starts, and loads what it needs, when this is called first.

    It is asked with the ``path`` of a run directory, and answers with the ``report`` and with the
    ``warnings`` that there were.
    """
    return Helper("celeba_fl.report.ahead")


class _Warnings(logging.Handler):
    """Keeps them for the log of the run."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.kept: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record.getMessage())


def _write(path: str) -> dict[str, Any]:
    from celeba_fl.report.page import write_report

    FLOWER.handlers = [warnings := _Warnings()]
    return {"report": str(write_report(Path(path))), "warnings": warnings.kept}


if __name__ == "__main__":
    with suppress(ImportError, OSError):  # then the request says why
        import pyarrow.compute
        import pyarrow.parquet  # noqa: F401

        from celeba_fl.report import page  # noqa: F401
        from celeba_fl.report.drawing import drawer

        drawer()
    serve(_write)
