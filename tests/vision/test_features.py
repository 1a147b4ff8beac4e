import re

import numpy as np
from tables import image_table

from celeba_fl.vision import features
from celeba_fl.vision.features import FeatureStore, preprocessing_hash

NAME, SIZE, NUMBER = "mobilenet_v2", 32, 24
ALL = np.arange(NUMBER)


def test_a_row_does_not_depend_on_the_others(store, home, weights, images, monkeypatch):
    store.fill(ALL, "fail")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr("celeba_fl.vision.store.CHUNK", 5)
    backwards = image_table(images[::-1], fingerprint="backwards")
    other = FeatureStore(home, backwards, NAME, weights, SIZE)
    for rows in (ALL[3:4], ALL[7:], ALL[:9]):
        other.fill(rows, "fail")
    np.testing.assert_array_equal(other.read(ALL)[:][::-1], store.read(ALL)[:])


def test_stores_of_other_data_weights_or_sizes_are_apart(store, home, images, weights):
    table = image_table(images)
    assert FeatureStore(home, table, NAME, weights, SIZE).folder == store.folder
    others = [
        FeatureStore(home, image_table(images, "other"), NAME, weights, SIZE),
        FeatureStore(home, table, NAME, "0" * 64, SIZE),
        FeatureStore(home, table, NAME, weights, SIZE + 1),
    ]
    assert len({store.folder, *(other.folder for other in others)}) == 4


def test_preprocessing_hash_tells_sizes_and_versions_apart(monkeypatch):
    first = preprocessing_hash(NAME, 96)
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert preprocessing_hash(NAME, 96) == first
    assert preprocessing_hash(NAME, 97) != first
    monkeypatch.setattr(features, "PREPROCESSING", "cropped")
    assert preprocessing_hash(NAME, 96) != first
