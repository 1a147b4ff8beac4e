"""Keys: where a run is kept."""

from dataclasses import dataclass

from celeba_fl.common.keys import Keyed, key

DEFAULT_HOME = "~/.celeba-fl"


@dataclass(frozen=True)
class PlaceKeys(Keyed):
    """Where a run is kept."""

    home: str = key(
        "folder for data, weights and features; CELEBA_FL_HOME moves it", DEFAULT_HOME, kind="place"
    )
    results_dir: str = key(
        "folder for run directories; CELEBA_FL_HOME moves it too",
        f"{DEFAULT_HOME}/runs",
        kind="place",
    )
