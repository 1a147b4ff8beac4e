"""The Flower app that a command is about: someone's own in the current directory, or ours."""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celeba_fl.common.bundle import PYPROJECT
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig, places
from celeba_fl.launch.experiments import read_toml


@dataclass(frozen=True)
class FlowerApp:
    """A folder that `flwr run` takes."""

    folder: Path  # where its `pyproject.toml` is
    config: Mapping[str, Any]  # the run-config keys that stand there, with their values

    @property
    def is_ours(self) -> bool:
        """Whether it is celeba-fl itself."""
        return self.folder == PYPROJECT.parent

    def load(self, settings: Mapping[str, Any]) -> RunConfig:
        """The config of a run with these settings, see `load_config`."""
        return load_config({**self.config, **settings})

    def places(self) -> RunConfig:
        """A config with the app's places alone, to find its runs."""
        return RunConfig.load({key: self.config[key] for key in places() if key in self.config})

    def submittable(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings without those that are defaults anyway and that Flower would not accept.

        Raises
        ------
        InputError
            If a key has another value and is not in `pyproject.toml`, or there is no such file.
        """
        path, defaults = self.folder / "pyproject.toml", RunConfig.defaults()
        if not path.exists():
            raise InputError(
                f"{path} is not there, so Flower cannot run this installation of celeba-fl: run "
                f"with --inline, in a checkout, or in the folder of an app made by celeba-fl new"
            )
        others = settings.keys() - self.config.keys()
        if missing := sorted(key for key in others if settings[key] != defaults.get(key)):
            raise InputError(
                f"{', '.join(missing)}: Flower accepts only the keys in {path}; add it "
                f"there under [tool.flwr.app.config], with its default"
            )
        return {key: value for key, value in settings.items() if key in self.config}


def load_config(settings: Mapping[str, Any]) -> RunConfig:
    """A config that its task and its strategy accept; before a run, so that it fails here.

    Raises
    ------
    InputError
        If a key, a value, the task or the strategy is refused.
    """
    from celeba_fl.strategy import check_strategy  # Flower, for which a list of runs need not wait
    from celeba_fl.task import load_task

    config = load_task(RunConfig.load(settings)).config
    check_strategy(config.strategy)
    return config


def app_here() -> FlowerApp:
    """The app of the current directory if it depends on celeba-fl, else ours.

    The package of an app of someone's own can be imported from then on.

    Raises
    ------
    InputError
        If it is ours, which is installed without the `pyproject.toml` that Flower needs.
    """
    here = Path.cwd()
    app, needs = _read(here / "pyproject.toml")
    if app and any(re.match(r"celeba[-_.]fl(?![\w.-])", str(one), re.I) for one in needs):
        if str(here) not in sys.path:
            sys.path.insert(0, str(here))
        return FlowerApp(here, app.get("config", {}))
    return FlowerApp(PYPROJECT.parent, _read(PYPROJECT)[0].get("config", {}))


def _read(pyproject: Path) -> tuple[dict[str, Any], list[Any]]:
    """The app that a `pyproject.toml` describes, and the packages that it needs."""
    read = read_toml(pyproject) if pyproject.exists() else {}
    app = read.get("tool", {}).get("flwr", {}).get("app", {})
    return app, read.get("project", {}).get("dependencies", [])
