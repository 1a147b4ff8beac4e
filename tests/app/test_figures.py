"""Every figure of a run, computed again from its test scores with scikit-learn and fairlearn."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest
from fairlearn import metrics as fairlearn
from pyarrow import parquet
from safetensors import safe_open
from scipy.special import expit, logit
from scipy.stats import t as student_t
from sklearn import metrics as sklearn
from toys import spread_head, write_celeba

from celeba_fl import server_app
from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.evaluation.intervals import wilson
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import read_runs
from celeba_fl.tasks.attributes import Attributes

average_precision = sklearn.average_precision_score
GROUPINGS = ("Male", "Male,Young", "Young,Bald")
METRICS = {
    "accuracy": sklearn.accuracy_score,
    "tpr": fairlearn.true_positive_rate,
    "fpr": fairlearn.false_positive_rate,
    "selection_rate": fairlearn.selection_rate,
}
NAN = math.nan


def without_some(folder: Path) -> Path:
    """Nobody is bald, everybody smiles, and no woman is young."""
    path = folder / "list_attr_celeba.txt"
    number, names, *rows = path.read_text().splitlines()
    columns = {name: i + 1 for i, name in enumerate(names.split())}
    changed = []
    for row in rows:
        cells = row.split()
        cells[columns["Bald"]], cells[columns["Smiling"]] = "-1", "1"
        if cells[columns["Male"]] == "-1":
            cells[columns["Young"]] = "-1"
        changed.append(" ".join(cells))
    path.write_text("\n".join([number, names, *changed, ""]))
    return folder


@pytest.fixture(scope="module", params=["zero", "valid"])
def run(request, toy, tmp_path_factory):
    """A run whose head, not trained any further, is right here and wrong there."""
    folder = tmp_path_factory.mktemp("figures")
    splits = "0" * 60 + "1" * 12 + "2" * 40
    config = RunConfig.load(
        {
            **toy,
            "dataset": str(without_some(write_celeba(folder / "celeba", splits=splits))),
            "results-dir": str(folder / "runs"),
            "groupings": "; ".join(GROUPINGS),
            "thresholds": request.param,
            "num-server-rounds": 1,
            "optimizer": "sgd",
            "learning-rate": 1e-12,
        }
    )
    task = Attributes(config)
    told = task.prepare().instructions
    task.describe({"partition-id": 0, "num-partitions": 1}, told)
    table = task.faces.table
    store = task.features.open(table, told["weights"])
    head = spread_head(store.read(np.arange(len(table)))[:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Attributes, "initial_arrays", lambda self: head)
        patch.setattr("celeba_fl.evaluation.thresholds.FEW", 1)  # there are 12 validation images
        run_inline(config, 3, server_app.app, client_app)
    return read_runs(folder / "runs")[0].path


@pytest.fixture(scope="module")
def saved(run):
    table = parquet.read_table(run / "test_scores.parquet")
    return {name: table[name].to_numpy() for name in table.column_names}


def rows(path, split="test"):
    """Rows of a CSV file with figures as numbers, empty ones as NaN."""
    texts = {"split", "attribute", "grouping", "group", "worst_group", "compared"}
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {k: v if k in texts else float(v or "nan") for k, v in row.items()}
            for row in csv.DictReader(file)
            if row["split"] == split
        ]


@pytest.fixture(scope="module")
def thresholds(run):
    return {row["attribute"]: row["threshold"] for row in rows(run / "attributes.csv")}


@pytest.fixture(scope="module")
def predicted(saved, thresholds):
    return {name: saved[f"{name}_score"] > above for name, above in thresholds.items()}


@pytest.fixture(scope="module")
def frames(saved, predicted):
    """Fairlearn's rates by grouping and attribute, a group a row; NaN where there is none."""
    found = {}
    for grouping in GROUPINGS:
        groups = grouped(saved, grouping)
        for name in ATTRIBUTES:
            truth, yes = saved[name], predicted[name]
            # A MetricFrame says the same, and takes ten times as long.
            frame = pd.DataFrame.from_dict(
                {
                    group: {
                        metric: rate(truth[here], yes[here]) for metric, rate in METRICS.items()
                    }
                    for group, here in ((group, groups == group) for group in np.unique(groups))
                },
                orient="index",
            )
            frame.loc[~frame.index.isin(groups[truth]), "tpr"] = NAN
            frame.loc[~frame.index.isin(groups[~truth]), "fpr"] = NAN
            found[grouping, name] = frame
    return found


def grouped(saved, grouping):
    names = grouping.split(",")
    return np.array(
        [
            ",".join(f"{name}={int(value)}" for name, value in zip(names, values, strict=True))
            for values in zip(*(saved[name] for name in names), strict=True)
        ]
    )


def assert_close(row, expected):
    assert expected.keys() <= row.keys()
    np.testing.assert_allclose([row[key] for key in expected], [*expected.values()], rtol=1e-12)


def test_the_cases_that_count_are_there(saved):
    assert not saved["Bald"].any()
    assert saved["Smiling"].all()
    assert set(grouped(saved, "Male,Young")) == {
        "Male=0,Young=0",
        "Male=1,Young=0",
        "Male=1,Young=1",
    }
    right = [((saved[f"{name}_score"] > 0) == saved[name]).mean() for name in ATTRIBUTES]
    assert 0.3 < np.mean(right) < 0.7
    assert len(saved["celeb_id"]) == 40


def test_attributes(run, saved, predicted):
    found = rows(run / "attributes.csv")
    assert [row["attribute"] for row in found] == [*ATTRIBUTES]
    for row in found:
        name = row["attribute"]
        truth, yes, score = saved[name], predicted[name], saved[f"{name}_score"]
        some, both = truth.any(), truth.any() and not truth.all()
        assert_close(
            row,
            {
                "n": 40,
                "positives": truth.sum(),
                "majority_accuracy": max(truth.mean(), 1 - truth.mean()),
                "accuracy": sklearn.accuracy_score(truth, yes),
                "balanced_accuracy": sklearn.balanced_accuracy_score(truth, yes) if both else NAN,
                "f1": sklearn.f1_score(truth, yes, zero_division=0) if some else NAN,
                "auroc": sklearn.roc_auc_score(truth, score) if both else NAN,
                "auroc_error": 0 if both else NAN,
                "average_precision": average_precision(truth, score) if some else NAN,
                "average_precision_error": 0 if some else NAN,
            },
        )


def test_summary(run, saved):
    summary = json.loads((run / "summary.json").read_text())
    found = rows(run / "attributes.csv")
    names = {"macro_f1": "f1"} | {
        name: name
        for name in (
            "accuracy", "majority_accuracy", "balanced_accuracy", "auroc", "average_precision",
        )
    }  # fmt: skip
    for name, column in names.items():
        mean = np.nanmean([row[column] for row in found])
        assert summary.pop(f"test_{name}") == pytest.approx(mean)
    losses = [
        sklearn.log_loss(saved[a], 1 / (1 + np.exp(-saved[f"{a}_score"])), labels=[False, True])
        for a in ATTRIBUTES
    ]
    assert summary.pop("test_loss") == pytest.approx(np.mean(losses))
    at_zero = {
        name: summary.pop(f"test_{name}_at_0", None)
        for name in ("accuracy", "balanced_accuracy", "macro_f1")
    }
    assert summary.keys() == {"test_base_rates_loss", "test_calibration_error"}
    if at_zero["accuracy"] is not None:
        right = [((saved[f"{a}_score"] > 0) == saved[a]).mean() for a in ATTRIBUTES]
        assert at_zero["accuracy"] == pytest.approx(np.mean(right))


def test_groups(run, saved, frames):
    found = rows(run / "groups.csv")
    assert len(found) == (2 + 4 + 4) * 40
    for row in found:
        here = grouped(saved, row["grouping"]) == row["group"]
        sizes = {
            "n": here.sum(),
            "positives": saved[row["attribute"]][here].sum(),
            "identities": len(set(saved["celeb_id"][here])),
        }
        frame = frames[row["grouping"], row["attribute"]]
        rates = frame.loc[row["group"]] if here.any() else dict.fromkeys(METRICS, NAN)
        assert_close(row, {**sizes, **rates})


def test_fairness(run, saved, predicted, frames):
    found = rows(run / "fairness.csv")
    assert len(found) == 3 * 40
    for row in found:
        frame = frames[row["grouping"], row["attribute"]]
        apart = (frame.max() - frame.min()).where(frame.count() > 1)
        assert_close(
            row,
            {
                "demographic_parity_difference": apart["selection_rate"],
                "equal_opportunity_difference": apart["tpr"],
                "equalized_odds_difference": np.maximum(apart["tpr"], apart["fpr"]),
                "worst_group_accuracy": frame["accuracy"].min(),
            },
        )
        assert frame["accuracy"][row["worst_group"]] == frame["accuracy"].min()


@pytest.mark.parametrize(
    "measure",
    ["demographic_parity_difference", "equal_opportunity_difference", "equalized_odds_difference"],
)
def test_fairness_is_what_fairlearn_says_where_every_rate_is_defined(
    run, saved, predicted, frames, measure
):
    checked = 0
    for row in rows(run / "fairness.csv")[:60:4]:
        name = row["attribute"]
        if not frames[row["grouping"], name].isna().any(axis=None):
            groups = grouped(saved, row["grouping"])
            said = getattr(fairlearn, measure)
            expected = said(saved[name], predicted[name], sensitive_features=groups)
            assert row[measure] == pytest.approx(expected)
            checked += 1
    assert checked > 7


def test_intervals_of_groups(run, saved, predicted):
    """Every interval, person by person: Student's t on the logit scale."""
    _, person = np.unique(saved["celeb_id"], return_inverse=True)
    ends = {}
    for row in rows(run / "groups.csv"):
        here = grouped(saved, row["grouping"]) == row["group"]
        truth, yes = saved[row["attribute"]], predicted[row["attribute"]]
        pairs = (truth == yes, here), (yes, here & truth), (yes, here & ~truth), (yes, here)
        for rate, (counted, among) in zip(METRICS, pairs, strict=True):
            a, b = (np.bincount(person, mask) for mask in (counted & among, among))
            people, p = np.sum(b > 0), a.sum() / b.sum() if b.any() else NAN
            found = row[f"{rate}_low"], row[f"{rate}_high"]
            ends[row["grouping"], row["attribute"], row["group"], rate] = p, *found
            residuals = np.where(b > 0, a - p * b, 0)
            expected = np.full(2, NAN)
            if people == 1 or (people and np.allclose(residuals, 0)):  # nothing varies
                expected = np.array(wilson(p * people, people))
            elif people:
                error = np.sqrt((residuals**2).sum() * people / (people - 1)) / b.sum()
                half = student_t.ppf(0.975, people - 1) * error / (p * (1 - p))
                expected = expit(logit(p) + np.array([-half, half]))
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-12)
    for row in rows(run / "fairness.csv"):
        for rate in METRICS:
            said = [row[f"{rate}_difference{end}"] for end in ("", "_low", "_high")]
            if row["grouping"] != "Male":
                assert np.isnan(said).all()
                continue
            (p, low, high), (q, below, above) = (
                ends["Male", row["attribute"], f"Male={sex}", rate] for sex in (0, 1)
            )
            by_hand = (
                q - p,
                q - p - np.hypot(q - below, high - p),
                q - p + np.hypot(above - q, p - low),
            )
            np.testing.assert_allclose(said, by_hand, atol=1e-12)
        for gap in ("demographic_parity", "equal_opportunity", "equalized_odds"):
            value, low, high = (row[f"{gap}_difference{end}"] for end in ("", "_low", "_high"))
            assert np.isnan(value) == np.isnan(low) == np.isnan(high)
            assert np.isnan(value) or 0 <= low <= value + 1e-12 <= high + 2e-12
        assert (row["compared"] == "yes") == (row["equalized_odds_difference_p"] > 0)


def test_thresholds_are_kept_for_prediction(run, thresholds):
    with safe_open(run / "model.safetensors", "numpy") as model:
        kept = json.loads(model.metadata()["thresholds"])
    assert kept == [*thresholds.values()]
    chosen = json.loads((run / "run.json").read_text())["config"]["thresholds"]
    assert any(kept) == (chosen == "valid")


def test_clients_have_rows_of_their_own(run):
    for name, number in {"attributes": 40, "groups": 400, "fairness": 120}.items():
        for split in ("train", "valid"):
            assert len(rows(run / f"{name}.csv", split)) == number
    sizes = {row["n"] for row in rows(run / "attributes.csv", "train")}
    for grouping in GROUPINGS:
        found = [row for row in rows(run / "groups.csv", "train") if row["grouping"] == grouping]
        assert {sum(row["n"] for row in found) / 40} == sizes
        assert np.isnan([row["identities"] for row in found]).all()
