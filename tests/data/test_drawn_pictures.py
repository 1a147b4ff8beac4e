import io

import numpy as np
import pytest
from PIL import Image

from celeba_fl.data import drawn_pictures
from celeba_fl.data.drawn_labels import BEARDS, SAMPLED
from celeba_fl.data.schema import ATTRIBUTES

COLUMN = {name: position for position, name in enumerate(ATTRIBUTES)}
WOMAN = {"No_Beard", "Young"}
MAN = WOMAN | {"Male"}


def render(names: set[str]) -> bytes:
    labels = np.array([name in names for name in ATTRIBUTES])
    return drawn_pictures.render(drawn_pictures.Face("000001.jpg", 0, 1, labels), seed=3)


@pytest.mark.parametrize("name", [a for a in ATTRIBUTES if a not in SAMPLED])
def test_drawn_attribute_is_visible(name: str) -> None:
    base = MAN - {"No_Beard"} if COLUMN[name] in BEARDS else MAN
    without, with_ = (
        np.asarray(Image.open(io.BytesIO(render(names))).resize((96, 96)), dtype=int)
        for names in (base - {name}, base | {name})
    )
    # At the size that models see, the smallest thing drawn still covers some pixels.
    assert (np.abs(with_ - without).max(axis=2) > 16).sum() >= 25, name


@pytest.mark.parametrize("name", SAMPLED)
def test_sampled_attribute_is_not_drawn(name: str) -> None:
    assert render(WOMAN | {name}) == render(WOMAN)


def test_person_is_recognisable_across_images() -> None:
    """Skin and hair, unlike the background, are those of the person."""
    labels = np.array([name in WOMAN for name in ATTRIBUTES])
    pixels = [
        np.asarray(
            Image.open(
                io.BytesIO(drawn_pictures.render(drawn_pictures.Face(name, 0, 1, labels), 3))
            )
        )
        for name in ("000001.jpg", "000002.jpg", "000003.jpg")
    ]
    nose_bridge = np.array([image[85:95, 85:93].mean(axis=(0, 1)) for image in pixels])
    assert np.ptp(nose_bridge, axis=0).max() < 5
