"""A task from outside with keys of its own."""

from dataclasses import dataclass

from adding import Adding

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.keys import key
from celeba_fl.config import RunConfig


@dataclass(frozen=True)
class Keys(RunConfig):
    """Keys of `Scaled`."""

    scale: float = key("factor of what a client adds", 1.0, above=0)
    table_file: str = key("file of rows to add", "none", kind="path", words=("none",))


@dataclass(frozen=True)
class OtherFeatures(RunConfig):
    """A key of `Measured` whose name celeba-fl took later, for something else."""

    features: int = key("number of measurements", 8, low=1)  # type: ignore[assignment]


class Measured(Adding):
    """As `Adding`, with a key of its own that celeba-fl has too."""

    config_class = OtherFeatures


class Scaled(Adding):
    """As `Adding`, with keys of its own."""

    config_class = Keys
    config: Keys

    def metrics(self, counts: Arrays) -> dict[str, float]:
        """The scaled score."""
        score = self.config.scale * float(counts["sum"][0] / counts["n"])
        return {"loss": 100 - score, "score": score}
