"""All that tests use of Flower's private modules, and the package does not."""

import warnings
from typing import Any

from flwr.cli.app_cmd.publish import _collect_file_paths as collect_file_paths
from flwr.cli.app_cmd.publish import _validate_files as validate_files
from flwr.common.constant import FAB_MAX_SIZE
from flwr.supercore.constant import MAX_FILE_BYTES, MAX_FILE_COUNT, MAX_TOTAL_BYTES

__all__ = [
    "FAB_MAX_SIZE",
    "MAX_FILE_BYTES",
    "MAX_FILE_COUNT",
    "MAX_TOTAL_BYTES",
    "collect_file_paths",
    "flwr_app",
    "validate_files",
]


def flwr_app() -> Any:
    """The Typer app behind the command `flwr`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # not ours
        from flwr.cli.app import app
    return app
