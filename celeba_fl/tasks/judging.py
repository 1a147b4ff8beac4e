"""Distance of generated faces from held-out ones, as a frozen backbone sees them.

The Fréchet distance (see `celeba_fl.evaluation.frechet`) is between features of generated and of
real faces. Real ones go through the same 64 pixels before the backbone, or their sharpness alone
would tell them apart.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from celeba_fl.common.log import LOG
from celeba_fl.config import RunConfig
from celeba_fl.data.images import encode
from celeba_fl.evaluation.frechet import frechet_distance
from celeba_fl.tasks.examples import CENTRAL, backbone_weights
from celeba_fl.vision.extractor import FeatureExtractor
from celeba_fl.vision.features import FeatureStore
from celeba_fl.vision.pixels import PixelStore
from celeba_fl.vision.views import View

DISTANCE, REAL_DISTANCE = "frechet_distance", "real_frechet_distance"
# More faces would take a round's time to judge it.
MAX_FACES = 2000


@dataclass(frozen=True)
class Judge:
    """Real faces that generated ones are compared with, in a view of a backbone of these weights.

    `real` are features of faces by part, (number, dim) each: equally many of each, since the
    distance depends on how many there are.
    """

    home: Path
    view: View
    weights: str
    real: Mapping[str, np.ndarray]

    @classmethod
    def prepare(cls, config: RunConfig, view: View, store: PixelStore) -> "Judge | None":
        """Compute the features of held-out faces; None where there are too few of every split."""
        held_out = {}
        for part, split in CENTRAL.items():
            rows = evenly_spaced(store.table.rows(split), MAX_FACES)
            store.fill(rows, config.bad_images)
            readable = store.readable(rows)
            if len(readable) > 1:
                held_out[part] = readable
            elif len(rows):
                LOG.warning(
                    "The %s split has %d readable faces; a Fréchet distance needs two or more, so "
                    "there is none to that split",
                    *(split, len(readable)),
                )
        if not held_out:
            return None
        number, weights = min(map(len, held_out.values())), backbone_weights(config)
        features = FeatureStore(config.home_dir, store.as_table(), view, weights)
        real = {}
        for part, rows in held_out.items():
            chosen = evenly_spaced(rows, number)
            features.fill(chosen, config.bad_images)
            real[part] = features.read(chosen)[:]
        return cls(config.home_dir, view, weights, real)

    @property
    def number(self) -> int:
        """Number of faces of each part, and of the generated ones that are compared with them."""
        return len(next(iter(self.real.values())))

    def distances(self, faces: Iterable[np.ndarray]) -> dict[str, dict[str, float]]:
        """Distances of generated faces, (3, SIZE, SIZE) uint8 each, to the real ones of each part.

        And with those of the test split, how far these are from the real ones of the other.
        """
        with FeatureExtractor(self.home, self.view, self.weights) as extract:
            made = np.stack([row for row in extract(map(encode, faces)) if row is not None])
        parts = {part: {DISTANCE: frechet_distance(made, real)} for part, real in self.real.items()}
        if len(self.real) == len(CENTRAL):
            parts["test"][REAL_DISTANCE] = self._real_distance
        return parts

    @cached_property
    def _real_distance(self) -> float:
        """Between the validation and the test split, which have no person in common."""
        return frechet_distance(*self.real.values())


def evenly_spaced(rows: np.ndarray, number: int) -> np.ndarray:
    """At most so many of some rows, from the first to the last."""
    return rows[np.linspace(0, len(rows) - 1, min(number, len(rows))).astype(int)]
