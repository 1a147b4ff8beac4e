"""One picture that every site sees alike, and what a backbone makes of it here.

A client whose features come from another runtime, such as a browser's, shows by it how far they are
from the server's own. It is the same in `browser/page/vision/probe.js`.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from celeba_fl.data.images import encode
from celeba_fl.vision.extractor import FeatureExtractor
from celeba_fl.vision.views import View

WIDTH, HEIGHT = 218, 178


def probe() -> np.ndarray:
    """Its pixels, (3, height, width) uint8: two gradients, and rings around the middle."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    rings = ((x - 109) ** 2 + (y - 89) ** 2) // 16 % 256
    planes = x * 255 // (WIDTH - 1), y * 255 // (HEIGHT - 1), rings
    return np.stack(planes).astype(np.uint8)


@lru_cache(maxsize=1)
def probe_features(home: Path, view: View, weights: str) -> np.ndarray:
    """Its features, (dim,) float32."""
    with FeatureExtractor(home, view, weights) as extractor:
        (features,) = extractor(iter([encode(probe())]))
    assert features is not None
    return features
