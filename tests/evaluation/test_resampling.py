"""Intervals of the test figures: by hand, and against scikit-learn."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy.special import expit, logit
from scipy.stats import t as student_t
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score
from toys import leave_out_weights

from celeba_fl.evaluation import resampling
from celeba_fl.evaluation.intervals import wilson
from celeba_fl.evaluation.resampling import (
    Scores,
    attribute_difference_intervals,
    attribute_intervals,
    difference_intervals,
    intervals,
    read_scores,
)


def make(scores: np.ndarray, labels: np.ndarray, people: np.ndarray | None = None) -> Scores:
    n, attributes = scores.shape
    names = tuple(f"a{i}" for i in range(attributes))
    image = np.array([f"{i:06d}" for i in range(n)])
    return Scores(image, np.arange(n) if people is None else people, names, labels, scores)


@pytest.fixture
def random_scores() -> Scores:
    rng = np.random.default_rng(0)
    labels = rng.random((100, 3)) < (0.5, 0.3, 0.7)
    return make(rng.normal(size=(100, 3)) + labels, labels, rng.integers(0, 20, 100))


def test_values_are_those_of_scikit_learn(random_scores: Scores) -> None:
    labels, scores = random_scores.labels.T, random_scores.scores.T
    pairs = list(zip(labels, scores, strict=True))
    balanced = [balanced_accuracy_score(y, s > 0) for y, s in pairs]
    values = random_scores.values
    assert values["balanced_accuracy"] == pytest.approx(np.mean(balanced))
    assert values["accuracy"] == pytest.approx(np.mean((scores > 0) == labels))
    # 100 images have a bin of their own each: nothing is lost.
    assert values["auroc"] == pytest.approx(np.mean([roc_auc_score(y, s) for y, s in pairs]))
    precision = [average_precision_score(y, s) for y, s in pairs]
    assert values["average_precision"] == pytest.approx(np.mean(precision))


def test_thresholds_move_what_is_predicted() -> None:
    scores = np.array([[0.1], [0.3], [0.6], [0.9]])
    labels = np.array([[False], [False], [True], [True]])
    at_zero = make(scores, labels)
    moved = Scores(*vars(at_zero).values())
    moved = Scores(
        moved.image, moved.celeb_id, moved.attributes, labels, scores, thresholds=np.array([0.5])
    )
    assert at_zero.values["accuracy"] == 0.5
    assert moved.values["accuracy"] == 1.0
    assert moved.values["auroc"] == at_zero.values["auroc"] == 1.0


def jackknife(replicates: np.ndarray) -> np.ndarray:
    n = len(replicates)
    return np.sqrt((n - 1) / n * ((replicates - replicates.mean(axis=0)) ** 2).sum(axis=0))


def test_intervals_are_those_of_leaving_people_out(random_scores: Scores) -> None:
    """Each metric from scikit-learn's sample weights, then Student's t on the logit scale."""
    right = (random_scores.scores > 0) == random_scores.labels
    weights = leave_out_weights(random_scores.celeb_id)
    without = (weights @ right.mean(axis=1)) / weights.sum(axis=1)
    assert random_scores.replicates["accuracy"] == pytest.approx(without)
    aurocs = [
        np.mean(
            [
                roc_auc_score(y, s, sample_weight=weight)
                for y, s in zip(random_scores.labels.T, random_scores.scores.T, strict=True)
            ]
        )
        for weight in weights
    ]
    for name, found in (("accuracy", without), ("auroc", np.array(aurocs))):
        value = random_scores.values[name]
        half = student_t.ppf(0.975, len(weights) - 1) * jackknife(found) / (value * (1 - value))
        expected = expit(logit(value) - half), expit(logit(value) + half)
        assert intervals(random_scores)[name] == pytest.approx(expected, rel=1e-4)
    low, high = intervals(random_scores)["loss"]
    assert low + high == pytest.approx(2 * random_scores.values["loss"])


def test_images_of_one_person_count_as_one_person() -> None:
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(40) < 0.5, 10)[:, None]
    scores, labels = np.where(right, 1.0, -1.0), np.ones((400, 1), bool)
    people = np.repeat(np.arange(40), 10)
    by_person = intervals(make(scores, labels, people))["accuracy"]
    by_image = intervals(make(scores, labels))["accuracy"]
    ratio = (by_person[1] - by_person[0]) / (by_image[1] - by_image[0])
    assert ratio == pytest.approx(np.sqrt(10), rel=0.1)


def test_an_attribute_rests_on_the_people_who_show_it() -> None:
    people = np.repeat(np.arange(6), 4)
    labels = np.zeros((24, 1), bool)
    labels[[0, 4, 5]] = True  # two people with it, six without
    rng = np.random.default_rng(0)
    scores = make(rng.normal(size=(24, 1)), labels, people)
    assert scores.people_of("balanced_accuracy").tolist() == [2]
    assert scores.people_of("accuracy").tolist() == [6]
    values = {name: scores.attribute_values[name] for name in ("balanced_accuracy", "accuracy")}
    low, high = attribute_intervals(scores, values)["balanced_accuracy"]
    replicates = scores.attribute_replicates["balanced_accuracy"]
    value = values["balanced_accuracy"]
    half = student_t.ppf(0.975, 1) * jackknife(replicates) / (value * (1 - value))
    np.testing.assert_allclose(low, expit(logit(value) - half), rtol=1e-4)
    np.testing.assert_allclose(high, expit(logit(value) + half), rtol=1e-4)


def test_a_perfect_model_is_not_sure_of_other_people() -> None:
    labels = np.tile([[True], [False]], (5, 1))
    perfect = make(np.where(labels, 1.0, -1.0), labels, np.repeat(np.arange(5), 2))
    five = tuple(float(end) for end in wilson(np.array(5), np.array(5)))
    assert intervals(perfect)["accuracy"] == intervals(perfect)["auroc"] == five


def test_more_people_are_left_out_in_sets(
    random_scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = intervals(random_scores)["accuracy"]
    monkeypatch.setattr(resampling, "MOST_REPLICATES", 10)
    again = make(random_scores.scores, random_scores.labels, random_scores.celeb_id)
    assert len(again.replicates["accuracy"]) == 10
    assert intervals(again)["accuracy"] == pytest.approx(wide, abs=0.05)


def test_differences_are_paired() -> None:
    # The other model is right on one more image of each of four people: always + 1/2.
    labels = np.ones((8, 1), bool)
    people = np.repeat(np.arange(4), 2)
    one = make(np.tile([[1.0], [-1.0]], (4, 1)), labels, people)
    other = make(np.ones((8, 1)), labels, people)
    assert difference_intervals(one, other)["accuracy"] == (0.5, 0.5)
    assert difference_intervals(one, one)["loss"] == (0, 0)


def test_differences_by_attribute(random_scores: Scores) -> None:
    other = make(-random_scores.scores, random_scores.labels, random_scores.celeb_id)
    low, high = attribute_difference_intervals(random_scores, other, "balanced_accuracy")
    gap = 1 - 2 * random_scores.attribute_values["balanced_accuracy"]
    replicates = 1 - 2 * random_scores.attribute_replicates["balanced_accuracy"]
    people = random_scores.people_of("balanced_accuracy")
    half = student_t.ppf(0.975, people - 1) * jackknife(replicates)
    np.testing.assert_allclose((low, high), (gap - half, gap + half), rtol=1e-4)


def test_what_can_be_paired(random_scores: Scores) -> None:
    other = vars(random_scores).copy()
    assert random_scores.pairs_with(Scores(**{**other, "scores": -random_scores.scores}))
    for key in ("image", "celeb_id", "labels"):
        changed = getattr(random_scores, key)[::-1]
        assert not random_scores.pairs_with(Scores(**{**other, key: changed}))


def test_rows_are_sorted_by_image(tmp_path: Path) -> None:
    table = {"image": ["b", "a"], "celeb_id": [1, 2], "x": [True, False], "x_score": [0.5, -2.0]}
    parquet.write_table(pa.table(table), tmp_path / "s.parquet")
    read = read_scores(tmp_path / "s.parquet")
    assert read.image.tolist() == ["a", "b"]
    assert read.celeb_id.tolist() == [2, 1]
    assert read.labels.tolist() == [[False], [True]]
    assert read.scores.tolist() == [[-2.0], [0.5]]
    assert read.num_identities == 2


@pytest.mark.parametrize("content", [b"", b"PAR1 garbage PAR1"])
def test_a_broken_file_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        read_scores(tmp_path / "s.parquet")


def test_a_file_of_other_columns_is_a_value_error(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"image": ["a"]}), tmp_path / "s.parquet")
    with pytest.raises(ValueError, match=r"."):
        read_scores(tmp_path / "s.parquet")
