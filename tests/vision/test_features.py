import numpy as np
from tables import image_table

from celeba_fl.common.files import hash_key
from celeba_fl.vision import features
from celeba_fl.vision.features import FeatureStore, preprocessing_hash
from celeba_fl.vision.views import make_view

NAME, NUMBER = "mobilenet_v2", 24
VIEW = make_view(NAME, "last", 32)
ALL = np.arange(NUMBER)


def test_a_row_does_not_depend_on_the_others(store, home, weights, images, monkeypatch):
    store.fill(ALL, "fail")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr("celeba_fl.vision.store.CHUNK", 5)
    backwards = image_table(images[::-1], fingerprint="backwards")
    other = FeatureStore(home, backwards, VIEW, weights)
    for rows in (ALL[3:4], ALL[7:], ALL[:9]):
        other.fill(rows, "fail")
    np.testing.assert_array_equal(other.read(ALL)[:][::-1], store.read(ALL)[:])


def test_stores_of_other_data_weights_or_sizes_are_apart(store, home, images, weights):
    table = image_table(images)
    assert FeatureStore(home, table, VIEW, weights).folder == store.folder
    others = [
        FeatureStore(home, image_table(images, "other"), VIEW, weights),
        FeatureStore(home, table, VIEW, "0" * 64),
        FeatureStore(home, table, make_view(NAME, "last", 33), weights),
        FeatureStore(home, table, make_view(NAME, "13:1x1", 32), weights),
        FeatureStore(home, table, make_view(NAME, "13:1x1+mirrored", 32), weights),
    ]
    assert len({store.folder, *(other.folder for other in others)}) == 6


def test_preprocessing_hash_tells_views_and_versions_apart(monkeypatch):
    def digest(features="last", size=96):
        return preprocessing_hash(make_view(NAME, features, size))

    first, grid = digest(), digest("13:2x2")
    assert digest("13:2x2") == digest("13:02x2") == grid
    others = [digest(size=97), digest("13:2x2", 97), digest("13:2x1"), digest("last+mirrored")]
    assert len({first, grid, *others}) == 6
    monkeypatch.setattr(features, "POOLING", "maxima")
    assert digest() == first
    assert digest("13:2x2") != grid
    monkeypatch.setattr(features, "PREPROCESSING", "cropped")
    assert digest() != first


def test_stores_and_runs_from_before_there_were_other_views_stay_valid(home, images):
    """What this code made of the same arguments at commit 23b29ce."""
    view = make_view(NAME, "last", 96)
    old = "74f264668ef02c948ba9b454b1c051cb4c5ebeb9fd7d9fdaa58bc95adc365950"
    assert preprocessing_hash(view) == old
    folder = FeatureStore(home, image_table(images, "print"), view, "0" * 64).folder
    assert folder.name == hash_key("print", "0" * 64, old)
