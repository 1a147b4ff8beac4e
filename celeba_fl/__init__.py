"""Federated learning of CelebA's attributes on frozen features, as a Flower app."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celeba_fl.notebook.loaded import load_run
    from celeba_fl.notebook.running import run

__all__ = ["load_run", "run"]


def __getattr__(name: str) -> Any:
    """`run` and `load_run`, loaded when people ask for them: a client needs neither."""
    if name == "run":
        from celeba_fl.notebook.running import run

        return run
    if name == "load_run":
        from celeba_fl.notebook.loaded import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
