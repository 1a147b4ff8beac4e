"""A run in this process, for the command as for a notebook."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celeba_fl.config import RunConfig
from celeba_fl.launch.app import app_here
from celeba_fl.launch.experiments import (
    absolute_paths,
    num_supernodes,
    read_experiment,
    read_toml,
)
from celeba_fl.notebook.loaded import LoadedRun
from celeba_fl.runs.names import default_name


def run(experiment: str | Path = ".", *, nodes: int | None = None, **keys: Any) -> LoadedRun:
    """Run an experiment in this process, as `celeba-fl run --inline` does.

    Parameters
    ----------
    experiment : str | Path
        A TOML file, the name of one of ours, or ``.`` for the app's own defaults.
    nodes : int | None
        The number of clients; None is that of the default simulation, 50.
    **keys : Any
        Run-config keys to override, with ``_`` for ``-``: ``learning_rate=0.01``.

    Raises
    ------
    InputError
        Before anything runs, for a key or a value that is refused.
    """
    overrides = {key.replace("_", "-"): value for key, value in keys.items()}
    settings = named_settings(str(experiment), overrides, inline=True)
    settings |= found_here(settings, app_here().load(settings))
    return run_here(settings, num_supernodes(None) if nodes is None else nodes)


def run_here(settings: Mapping[str, Any], nodes: int) -> LoadedRun:
    """Run the app of the current directory in this process; it ends or raises as the run does."""
    from celeba_fl.client_app import app as client_app
    from celeba_fl.launch.inline import run_inline
    from celeba_fl.server_app import app as server_app

    config = app_here().load(settings)
    number = run_inline(config, nodes, server_app, client_app)
    made = config.runs_dir.glob(f"*_{number}")
    return LoadedRun(
        Path(config.resume or config.join) if config.resume or config.join else next(made)
    )


def named_settings(experiment: str, overrides: Mapping[str, Any], inline: bool) -> dict[str, Any]:
    """The keys of an experiment and those that override them, with a name for one's own file.

    Only who starts a run knows the file. An app that was made before runs had names is not asked
    by Flower to give one.
    """
    settings, usual = {**read_experiment(experiment), **overrides}, app_here().config
    file = Path(experiment).expanduser()
    named = settings.keys() & {"name", "resume", "join"} or not (inline or "name" in usual)
    if named or not file.is_file():
        return settings
    defaults = {**RunConfig.defaults(), **usual}
    return {**settings, "name": default_name(settings, defaults, {file.stem: read_toml(file)})}


def found_here(settings: Mapping[str, Any], config: RunConfig) -> dict[str, str]:
    """Settings that name a place from here or a run, as paths; found before anything starts.

    The runs of a deployment are its server's, which finds them before it asks a client.
    """
    found = absolute_paths(settings, config.keys())
    if config.resume:
        from celeba_fl.runs.resuming import directory_to_resume

        found["resume"] = str(directory_to_resume(config))
    if config.join:
        from celeba_fl.membership.joining import run_to_join

        found["join"] = str(run_to_join(config).path)
    return found
