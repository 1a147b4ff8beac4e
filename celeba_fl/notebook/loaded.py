"""A run directory as tables and arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celeba_fl.common.errors import InputError
from celeba_fl.launch.app import app_here
from celeba_fl.runs.reading import RunInfo, final_model, find_run, read_run
from celeba_fl.runs.tables import read_csv

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd  # type: ignore[import-untyped]


class LoadedRun:
    """A run as its directory `path` describes it, read anew at each look, also while it goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"<{self.name}: {self.info.standing}>"

    @property
    def info(self) -> RunInfo:
        """All that `run.json` says."""
        return read_run(self.path)

    @property
    def name(self) -> str:
        """What people call it."""
        return self.info.name

    @property
    def settings(self) -> Mapping[str, Any]:
        """The run-config keys."""
        return self.info.config

    @property
    def test(self) -> dict[str, Any]:
        """The final figures on the test split, by metric; empty while there are none."""
        return {key.removeprefix("test_"): one for key, one in self.info.summary.items()}

    @property
    def rounds(self) -> "pd.DataFrame":
        """A row for each round."""
        return self.table("rounds")

    def table(self, name: str) -> "pd.DataFrame":
        """A CSV or parquet file of the run, such as ``clients`` or ``test_scores``.

        Raises
        ------
        InputError
            If there is none; the message names those that there are.
        """
        import pandas as pd

        found = {path.stem: path for path in self.path.glob("*.*") if _is_table(path)}
        if name not in found:
            raise InputError(f"{name!r}: {self.path} has no such table, but {sorted(found)}")
        if found[name].suffix == ".parquet":
            return pd.read_parquet(found[name])
        rows = pd.DataFrame(read_csv(found[name]))
        return rows.apply(lambda column: column if column.name == "client" else _numbers(column))

    def model(self) -> "dict[str, np.ndarray]":
        """The arrays of the final model."""
        return final_model(self.info)[0]

    def predict(self, *images: str | Path) -> "pd.DataFrame":
        """The probability of each attribute for files of faces, as `celeba-fl predict` gives it.

        Raises
        ------
        InputError
            If the model is of another task, or an image cannot be read.
        """
        import pandas as pd

        from celeba_fl.inference.predict import load_model, predict_files

        rows = {}
        for path, answer in predict_files(load_model(self.info), [*map(Path, images)]):
            if isinstance(answer, str):
                raise InputError(f"{path}: {answer}")
            rows[str(path)] = {name: one.probability for name, one in answer.items()}
        return pd.DataFrame.from_dict(rows, orient="index")


def load_run(run: str | Path = "latest", folder: str | Path | None = None) -> LoadedRun:
    """A run: its directory, its name or how it begins; in a `folder`, or where commands look.

    Raises
    ------
    InputError
        If there is none, there are several, or its files cannot be read.
    """
    where = app_here().places().runs_dir if folder is None else Path(folder).expanduser()
    return LoadedRun(find_run(str(run), where).path)


def _is_table(path: Path) -> bool:
    return path.suffix in (".csv", ".parquet")


def _numbers(column: "pd.Series") -> "pd.Series":
    """A column of numbers, if it is one; an empty cell is NaN."""
    import pandas as pd

    try:
        return pd.to_numeric(column)
    except ValueError:
        return column
