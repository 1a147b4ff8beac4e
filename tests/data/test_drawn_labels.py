import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest

from celeba_fl.data import drawn_labels
from celeba_fl.data.schema import ATTRIBUTES, SPLITS

TABLE = json.loads(Path(drawn_labels.__file__).with_name("drawn.json").read_text())
COLUMN = {name: position for position, name in enumerate(ATTRIBUTES)}


@pytest.fixture(scope="module", params=SPLITS)
def many(request: pytest.FixtureRequest) -> tuple[str, np.ndarray, np.ndarray]:
    """Sample so many persons of a split that its rates are steady."""
    return request.param, *drawn_labels.sample(request.param, 2000, seed=1)


def column(labels: np.ndarray, name: str) -> np.ndarray:
    return labels[:, COLUMN[name]]


def test_table_is_celebas(shared_data: Callable[[str], Path]) -> None:
    frame = pd.read_parquet(shared_data("celeba_labels.parquet"))
    groups = frame.groupby(["Male", "Young"])
    assert TABLE["joint"] == (groups.size() / len(frame)).round(4).tolist()
    others = [name for name in ATTRIBUTES if name not in ("Male", "Young")]
    assert list(TABLE["rates"]) == others
    for name in others:
        assert TABLE["rates"][name] == groups[name].mean().round(3).tolist(), name


def test_rates_are_the_tables(many: tuple[str, np.ndarray, np.ndarray]) -> None:
    split, _, labels = many
    if split == "pretrain":
        pytest.skip("balanced instead")
    group = 2 * column(labels, "Male") + column(labels, "Young")
    np.testing.assert_allclose(np.bincount(group) / len(group), TABLE["joint"], atol=1e-3)
    for name, rates in TABLE["rates"].items():
        for value, rate in enumerate(rates):
            # 0.01: rates below are taken as 0, those over 0.99 as 1.
            assert column(labels, name)[group == value].mean() == pytest.approx(rate, abs=0.0125)


def test_pretrain_is_balanced() -> None:
    _, labels = drawn_labels.sample("pretrain", 2000, seed=1)
    bare = ~column(labels, "Wearing_Hat")
    haired = bare & ~column(labels, "Bald")
    bearded = ~column(labels, "No_Beard")
    men = column(labels, "Male")
    for name in ("Male", "Young", "Wearing_Hat", "Eyeglasses", "Smiling", "Pale_Skin"):
        assert column(labels, name).mean() == pytest.approx(0.5, abs=0.01)
    assert bearded[men].mean() == pytest.approx(0.5, abs=0.01)
    assert column(labels, "Bald")[men & bare].mean() == pytest.approx(1 / 6, abs=0.01)
    assert column(labels, "Wavy_Hair")[haired].mean() == pytest.approx(1 / 3, abs=0.02)
    assert column(labels, "Goatee")[bearded].mean() == pytest.approx(0.5, abs=0.01)


def test_labels_fit_together(many: tuple[str, np.ndarray, np.ndarray]) -> None:
    _, _, labels = many
    hair = labels[:, [COLUMN[f"{colour}_Hair"] for colour in ("Black", "Blond", "Brown", "Gray")]]
    cut = labels[:, [COLUMN[name] for name in ("Straight_Hair", "Wavy_Hair", "Bangs")]]
    beards = labels[:, drawn_labels.BEARDS].any(axis=1)
    bald, hat = column(labels, "Bald"), column(labels, "Wearing_Hat")
    assert hair.sum(axis=1).max() == 1
    assert not (hair.any(axis=1) & (bald | hat)).any()
    assert not (cut.any(axis=1) & (bald | hat)).any()
    assert not (cut[:, 0] & cut[:, 1]).any()
    assert not (bald & hat).any()
    assert not (beards & column(labels, "No_Beard")).any()
    assert column(labels, "No_Beard")[~column(labels, "Male")].all()
    assert (beards & column(labels, "Male")).any()


def test_people_keep_their_traits(many: tuple[str, np.ndarray, np.ndarray]) -> None:
    _, people, labels = many
    hat = column(labels, "Wearing_Hat")
    assert np.bincount(people).tolist() == [drawn_labels.IMAGES_EACH] * 2000
    hidden = [
        position
        for position in drawn_labels.FIXED
        if position in drawn_labels.HAIR + drawn_labels.CUT
    ]
    shown = [position for position in drawn_labels.FIXED if position not in hidden]
    kept = [COLUMN["Male"], COLUMN["Young"], *shown]
    assert not pd.DataFrame(labels[:, kept]).groupby(people).nunique().gt(1).any(axis=None)
    bare = pd.DataFrame(labels[~hat][:, hidden]).groupby(people[~hat]).nunique()
    assert not bare.gt(1).any(axis=None)


def test_no_faces_of_a_split() -> None:
    people, labels = drawn_labels.sample("train", 0, seed=1)
    assert people.shape == (0,)
    assert labels.shape == (0, 40)
