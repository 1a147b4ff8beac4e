import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sklearn
from sklearn.calibration import calibration_curve
from toys import nothing_counted, spread_head, write_sites

from celeba_fl.common.arrays import sum_counts
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.data import partitions
from celeba_fl.data.draws import valid_mask
from celeba_fl.data.schema import ATTRIBUTES, group_names
from celeba_fl.data.sources import load
from celeba_fl.evaluation.bins import NUM_BINS
from celeba_fl.evaluation.calibration import fit
from celeba_fl.evaluation.curves import ExactCurves
from celeba_fl.evaluation.metrics import EACH_ROUND, Counts, bce_with_logits, mean
from celeba_fl.evaluation.thresholds import best_thresholds
from celeba_fl.models import ridge
from celeba_fl.models.head_training import train_head
from celeba_fl.models.heads import initial_head, scores
from celeba_fl.rounds.checking import Client
from celeba_fl.tasks.attributes import Attributes
from celeba_fl.vision import extractor, precision
from celeba_fl.vision.features import FeatureStore, preprocessing_hash
from celeba_fl.vision.views import make_view

NODES = 4
VIEW = make_view("mobilenet_v2", "last", 32)
METRICS = tuple(metric.name for metric in EACH_ROUND)


@pytest.fixture
def make(toy):
    """Make the task of the toy config, with changes."""
    return lambda **changes: Attributes(
        RunConfig.load({**toy, **{key.replace("_", "-"): v for key, v in changes.items()}})
    )


@pytest.fixture
def server(make):
    return make()


@pytest.fixture
def prepared(server):
    return server.prepare()


@pytest.fixture
def told(prepared):
    """What clients are told."""
    return prepared.instructions


@pytest.fixture
def described(server, told):
    return [server.describe(node(number), told) for number in range(NODES)]


@pytest.fixture
def table(toy):
    return load(toy["dataset"], Path(toy["home"]))


@pytest.fixture
def held(toy, table):
    """Rows that each client trains on and that it validates on."""
    dealt = partitions.assign(
        table, partitioner="iid", num_partitions=NODES, seed=42, home=Path(toy["home"])
    )
    rows = [np.flatnonzero(dealt == number) for number in range(NODES)]
    valid = [valid_mask(table, part, 0.2, 42) for part in rows]
    return [(part[~mask], part[mask]) for part, mask in zip(rows, valid, strict=True)]


@pytest.fixture
def x(toy, table, told):
    """The features of all images of the toy."""
    store = FeatureStore(Path(toy["home"]), table, VIEW, told["weights"])
    store.fill(np.arange(96), "fail")
    return store.read(np.arange(96))[:]


@pytest.fixture
def head():
    """A head whose scores are on both sides of 0."""
    rng = np.random.default_rng(3)
    return {
        "weight": rng.normal(size=(40, 1280)).astype(np.float32),
        "bias": rng.normal(size=40).astype(np.float32),
    }


@pytest.fixture
def no_decoding(monkeypatch):
    def decode(data, size, **_):
        raise AssertionError("features are computed again")

    return lambda: monkeypatch.setattr(extractor, "decode", decode)


def node(number, of=NODES):
    return {"partition-id": number, "num-partitions": of}


def assert_equal(one, two):
    assert one.keys() == two.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], two[key])


def test_count_names_are_groups_then_attributes(make):
    assert make(partition_by="Bald").count_names == ("Bald=0", "Bald=1", *ATTRIBUTES)


def test_prepare_says_what_is_used(prepared, table, toy):
    assert prepared.instructions.keys() == {"weights", "preprocessing", "precision"}
    assert prepared.instructions["precision"] == "fp32"
    assert prepared.instructions["preprocessing"] == preprocessing_hash(VIEW)
    assert prepared.provenance == {
        "dataset": {
            "name": toy["dataset"],
            "fingerprint": table.fingerprint,
            "splits": {"train": 60, "valid": 12, "test": 24},
        },
        "weights": {"name": toy["weights"], "sha256": prepared.instructions["weights"]},
        "features": {"name": "last", "spec": "last", "image_size": 32, "dim": 1280},
    }


def test_initial_head_is_a_function_of_the_runs_seed(make):
    assert_equal(make(seed=7).initial_arrays(), initial_head(1280, 40, 7))
    assert make().initial_arrays()["weight"].shape == (40, 1280)


def test_other_features_are_as_many_as_the_view_has(make, toy):
    task = make(features="13:2x2+17:1x1+folded")
    told = task.prepare()
    assert told.provenance["features"] == {
        "name": "13:2x2+17:1x1+folded", "spec": "13:2x2+17:1x1+folded",
        "image_size": 32, "dim": 96 * 2 + 320,
    }  # fmt: skip
    head = task.initial_arrays()
    assert head["weight"].shape == (40, 512)
    assert task.zero_sums()["train_xy"].shape == ridge.zero_sums(512, 40)["xy"].shape
    metadata = task.finish(head, {}).model_metadata
    assert (metadata["features"], metadata["image-size"]) == ("13:2x2+17:1x1+folded", "32")


def test_clients_count_their_train_images(described, server, table, held):
    assert [said.num_train for said in described] == [len(train) for train, _ in held]
    assert [said.num_valid for said in described] == [len(valid) for _, valid in held]
    assert sum(said.num_train + said.num_valid for said in described) == 60
    for said, (train, _) in zip(described, held, strict=True):
        labels = table.labels[train]
        counts = dict(zip(server.count_names, said.counts.tolist(), strict=True))
        male, young = (labels[:, ATTRIBUTES.index(name)] for name in ("Male", "Young"))
        assert counts["Male=1,Young=0"] == (male & ~young).sum()
        assert sum(counts[name] for name in group_names(("Male", "Young"))) == len(train)
        assert [counts[name] for name in ATTRIBUTES] == labels.sum(axis=0).tolist()
        assert said.counts.dtype == np.int64
        assert said.missing == ""


def test_one_instance_serves_runs_of_any_number_of_nodes(server, told):
    whole = server.describe(node(0, of=1), told)
    half = server.describe(node(0, of=2), told)
    assert whole.num_train + whole.num_valid == 60
    assert half.num_train + half.num_valid == 30


@pytest.mark.parametrize(
    "changes",
    [{"seed": 7}, {"partitioner": "dirichlet"}, {"valid_fraction": 0.5}, {"learning_rate": 0.1}],
)
def test_another_run_computes_no_features(make, described, no_decoding, changes):
    no_decoding()
    again = make(**changes)
    told = again.prepare().instructions
    said = [again.describe(node(number), told) for number in range(NODES)]
    assert sum(one.num_train + one.num_valid for one in said) == 60


def test_a_client_prepares_images_as_the_server_does(make, told):
    with pytest.raises(InputError, match="prepares images in another way than the server"):
        make(image_size=33).describe(node(0), told)
    with pytest.raises(InputError, match="prepares images in another way than the server"):
        make(features="last+mirrored").describe(node(0), told)
    with pytest.raises(InputError, match="prepares images in another way than the server"):
        make().describe(node(0), {**told, "preprocessing": "0" * 64})


def test_the_server_says_how_exactly_features_are_computed(make, monkeypatch):
    """Under `auto` by what its own processor has; whatever that of a client has."""
    server, client = make(precision="auto"), make(precision="auto")
    for lacking, settled in (("", "bf16"), ("the processor is old", "fp32")):
        monkeypatch.setattr(precision, "lacking_bf16", lambda said=lacking: said)
        monkeypatch.setattr(FeatureStore, "fill", lambda *_: None)
        monkeypatch.setattr(FeatureStore, "readable", lambda _, rows: rows)
        prepared = server.prepare()
        assert prepared.instructions["precision"] == settled
        assert prepared.provenance["features"].get("precision", "fp32") == settled
        assert prepared.instructions["preprocessing"] == preprocessing_hash(
            replace(VIEW, precision=settled)
        )
        client.describe(node(0), prepared.instructions)
        assert client.features.view.precision == settled
    with pytest.raises(InputError, match="prepares images in another way than the server"):
        client.describe(
            node(0), {**prepared.instructions, "precision": "int8"} | {"preprocessing": "0" * 64}
        )


@pytest.fixture
def elsewhere(make, toy, prepared, tmp_path):
    """A client on a machine of its own, without weights."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "onnx").symlink_to(Path(toy["home"]) / "onnx")
    return make(home=str(home))


def test_a_client_without_the_weights_is_given_them(server, elsewhere, told, described):
    said = elsewhere.describe(node(1), told)
    assert said.missing == told["weights"]
    assert (said.num_train, said.num_valid, said.counts.sum()) == (0, 0, 0)
    assert said.counts.shape == described[1].counts.shape

    elsewhere.receive(said.missing, server.deliver(said.missing))
    said = elsewhere.describe(node(1), told)
    assert said.missing == ""
    assert (said.num_train, said.num_valid) == (described[1].num_train, described[1].num_valid)
    np.testing.assert_array_equal(said.counts, described[1].counts)


def test_weights_that_were_damaged_on_their_way_are_noticed(server, elsewhere, told):
    (elsewhere.config.home_dir / "onnx").unlink()
    delivered = bytearray(server.deliver(told["weights"]))
    delivered[-1] ^= 1
    for data in (bytes(delivered), b"no weights"):
        with pytest.raises(InputError, match="is another one"):
            elsewhere.receive(told["weights"], data)
    assert elsewhere.describe(node(1), told).missing


def test_training_is_the_heads_on_the_clients_images(make, held, table, x, told, head):
    train, _ = held[1]
    settings = {
        "epochs": 3, "batch_size": 4, "learning_rate": 0.02, "optimizer": "sgd", "dropout": 0.3,
    }  # fmt: skip
    task = make(local_epochs=3, **{k: v for k, v in settings.items() if k != "epochs"})
    weight = np.linspace(0.5, 2, 40)
    told = {**told, "positive-weight": weight.tolist(), "proximal-mu": 0.7}

    trained, number, loss = task.train(head, node(1), told, seed=9)

    expected, expected_loss = train_head(
        head,
        x[train],
        table.labels[train],
        **settings,
        positive_weight=weight,
        example_weight=np.ones(len(train)),
        proximal_mu=0.7,
        seed=9,
    )
    assert_equal(trained, expected)
    assert (number, loss) == (len(train), expected_loss)


def train_as_told(config, head, features, labels, example_weight=None):
    """The head that the run config's keys give by themselves, with seed 9."""
    return train_head(
        head,
        features,
        labels,
        epochs=config.local_epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        optimizer=config.optimizer,
        dropout=config.dropout,
        positive_weight=None,
        example_weight=np.ones(len(labels)) if example_weight is None else example_weight,
        proximal_mu=0,
        seed=9,
    )


def test_training_without_weights_or_proximal_term(server, held, table, x, told, head):
    train, _ = held[0]
    trained, _, _ = server.train(head, node(0), told, seed=9)
    expected, _ = train_as_told(server.config, head, x[train], table.labels[train])
    assert_equal(trained, expected)
    other, _, _ = server.train(head, node(0), told, seed=10)
    assert (other["weight"] != trained["weight"]).any()


def test_counts_of_all_clients_are_those_of_the_pool(server, described, held, table, x, told, head):
    replies = [server.evaluate(head, node(number), told) for number in range(NODES)]
    assert [number for _, number in replies] == [len(valid) for _, valid in held]
    for i, part in enumerate(("train", "valid")):
        total = Counts.from_arrays(sum_counts([counts[part] for counts, _ in replies]))
        rows = np.concatenate([rows[i] for rows in held])
        pooled = Counts.of(scores(head, x[rows]), table.labels[rows])
        np.testing.assert_array_equal(total.positives, pooled.positives)
        np.testing.assert_array_equal(total.negatives, pooled.negatives)
        np.testing.assert_allclose(total.loss, pooled.loss, rtol=1e-9)
        found = server.metrics(pooled.to_arrays())
        assert tuple(found) == server.metric_names == METRICS
        assert server.lower_is_better[0] == "loss"
        truth, yes = table.labels[rows], scores(head, x[rows]) > 0
        assert found["accuracy"] == pytest.approx((truth == yes).mean())
        assert found["auroc"] == mean(pooled.auroc())
        of_client = {key: found[key] for key in ("loss", "accuracy")}
        assert server.client_metrics(pooled.to_arrays()) == of_client


def test_metrics_of_nothing_are_undefined(server):
    found = server.metrics(nothing_counted(40).to_arrays())
    assert all(np.isnan(value) for value in found.values())


@pytest.fixture
def empty(make, table):
    """A client without images: 60 train images are of 30 identities."""
    task = make(partitioner="natural")
    dealt = partitions.assign(
        table, partitioner="natural", num_partitions=40, seed=42, home=task.config.home_dir
    )
    (number, *_) = set(range(40)) - set(dealt.tolist())
    return task, node(number, of=40)


def test_a_client_without_images_answers_with_zeros(empty, server, described, told, head):
    task, here = empty
    said = task.describe(here, told)
    assert (said.num_train, said.num_valid) == (0, 0)
    assert said.counts.tolist() == [0] * 44

    trained, number, loss = task.train(head, here, told, seed=1)
    assert_equal(trained, head)
    assert number == 0
    assert np.isnan(loss)

    counts, number = task.evaluate(head, here, told)
    others, _ = server.evaluate(head, node(0), told)
    assert number == 0
    for part in ("train", "valid"):
        assert counts[part].keys() == others[part].keys()
        for key, array in counts[part].items():
            assert array.shape == others[part][key].shape
            assert not array.any()


def test_a_client_without_validation_images(make, told, head):
    task = make(valid_fraction=0.0)
    said = task.describe(node(0), told)
    assert (said.num_train, said.num_valid) == (15, 0)
    counts, number = task.evaluate(head, node(0), told)
    assert number == 0
    assert Counts.from_arrays(counts["train"]).n.tolist() == [15] * 40
    assert Counts.from_arrays(counts["valid"]).n.tolist() == [0] * 40


def test_unreadable_images_are_left_out_everywhere(make, celeba_folder, head):
    folder = celeba_folder(splits="0" * 8 + "1" * 2 + "2" * 3)
    for name in ("000002.jpg", "000012.jpg"):
        path = folder / "img_align_celeba" / name
        path.write_bytes(path.read_bytes()[:300])
    task = make(dataset=str(folder), valid_fraction=0.0)
    told = task.prepare().instructions
    said = task.describe(node(0, of=1), told)
    assert said.num_train == 7
    assert said.counts[:4].sum() == 7
    assert task.train(head, node(0, of=1), told, seed=0)[1] == 7
    assert len(task.finish(head, {}).parquet["test_scores.parquet"]["image"]) == 2

    with pytest.raises(InputError, match=r"000012\.jpg"):
        make(dataset=str(folder), bad_images="fail").prepare()
    with pytest.raises(InputError, match=r"000002\.jpg"):
        make(dataset=str(folder), bad_images="fail").describe(node(0, of=1), told)


def test_class_weights_are_negatives_by_positives_over_all_clients(make, described):
    assert make().instruct(np.ones(44, np.int64), 10) == {}
    task = make(class_weights=True)
    counts = np.concatenate([np.full(4, 999), np.zeros(40, np.int64)])
    counts[4:8] = 1, 4, 5, 10
    weights = task.instruct(counts, 10)["positive-weight"]
    assert weights[:4] == [9, 1.5, 1, 1]
    assert weights[4:] == [1] * 36

    total = sum(said.counts for said in described)
    number = sum(said.num_train for said in described)
    weights = task.instruct(total, number)["positive-weight"]
    positives = total[4:]
    assert weights == pytest.approx((number - positives) / positives)


def test_groups_that_are_weighted_are_counted_too(make, server, told):
    task = make(group_weighting="Male")
    names = (*group_names(("Male", "Young")), "Male=0", "Male=1", *ATTRIBUTES)
    assert task.count_names == names
    counts = dict(zip(names, task.describe(node(1), told).counts, strict=True))
    assert counts["Male=1"] == counts["Male=1,Young=0"] + counts["Male=1,Young=1"]
    assert counts["Male=1"] == counts["Male"]
    # Once, if they are those of partition-by.
    assert make(group_weighting="Male,Young").count_names == server.count_names


def test_groups_with_examples_count_equally(make):
    task = make(group_weighting="Male,Young")
    counts = np.concatenate([[10, 0, 20, 30], np.zeros(40, np.int64)])
    # 60 / (3 * 10) and so on: each of the three groups has a weight of 20 in all.
    assert task.instruct(counts, 60) == {"group-weights": pytest.approx([2, 0, 1, 2 / 3])}
    assert task.instruct(np.zeros(44, np.int64), 0) == {"group-weights": [0, 0, 0, 0]}


def test_training_weighs_examples_by_their_group(make, held, table, x, told, head):
    train, _ = held[1]
    task = make(group_weighting="Male")
    weight = np.where(table.labels[train, ATTRIBUTES.index("Male")], 5.0, 0.4)
    trained, number, loss = task.train(head, node(1), {**told, "group-weights": [0.4, 5.0]}, seed=9)
    expected, expected_loss = train_as_told(
        task.config, head, x[train], table.labels[train], weight
    )
    assert_equal(trained, expected)
    assert (number, loss) == (round(weight.sum()), expected_loss)


@pytest.mark.parametrize("weights", [None, [0.5, 3.0]])
def test_sums_are_those_of_the_clients_images(make, held, table, x, told, weights):
    task = make(group_weighting="Male") if weights else make()
    told = {**told, **({"group-weights": weights} if weights else {})}

    def of(rows):
        group = table.labels[rows, ATTRIBUTES.index("Male")].astype(int)
        weight = np.array(weights)[group] if weights else np.ones(len(rows))
        return ridge.sums_of(x[rows], table.labels[rows], weight)

    train, valid = held[1]
    sums, number = task.summarise(node(1), {**told, "sums": ["train_xx", "train_xy"]})
    assert_equal(sums, {f"train_{key}": array for key, array in of(train).items()})
    assert number == len(train)
    wanted = [f"{part}_{key}" for part in ("train", "valid") for key in ("xx", "xy")]
    sums, _ = task.summarise(node(1), {**told, "sums": wanted})
    assert list(sums) == wanted
    assert_equal({key: sums[f"valid_{key}"] for key in ("xx", "xy")}, of(valid))


def test_a_client_without_images_sends_zeros(make):
    task = make(partitioner="natural")
    told, zeros = task.prepare().instructions, task.zero_sums()
    assert list(zeros) == ["train_xx", "train_xy"]
    sums, number = task.summarise(node(99, of=100), {**told, "sums": list(zeros)})
    assert number == 0
    assert_equal(sums, zeros)


def test_the_closed_form_without_a_validation_split_asks_the_clients(make, celeba_folder, held):
    folder = str(celeba_folder(splits="0" * 40))
    task = make(dataset=folder)
    told = {**task.prepare().instructions}
    zeros = task.zero_sums()
    assert list(zeros) == ["train_xx", "train_xy", "valid_xx", "valid_xy"]
    task.describe(node(0, of=1), told)
    sums, _ = task.summarise(node(0, of=1), {**told, "sums": list(zeros)})
    parts = [{key: sums[f"{part}_{key}"] for key in ("xx", "xy")} for part in ("train", "valid")]
    assert_equal(task.solve(sums, told), ridge.solve(*parts)[0])

    none = sums | {key: zeros[key] for key in ("valid_xx", "valid_xy")}
    with pytest.raises(InputError, match=r"chooses lambda on validation .*valid-fraction = 0.2"):
        task.solve(none, told)


def test_central_metrics_are_those_of_the_official_splits(server, prepared, table, x, head):
    found = server.evaluate_centrally(head)
    assert tuple(found) == server.central_parts == ("server_valid", "test")
    for part, rows in (("server_valid", np.arange(60, 72)), ("test", np.arange(72, 96))):
        outputs, truth = scores(head, x[rows]), table.labels[rows]
        yes, rate = outputs > 0, truth.mean(axis=0)
        assert found[part]["accuracy"] == pytest.approx((yes == truth).mean())
        assert found[part]["majority_accuracy"] == pytest.approx(np.maximum(rate, 1 - rate).mean())
        assert found[part]["auroc"] == pytest.approx(
            np.nanmean(ExactCurves(outputs, truth).auroc())
        )
        assert found[part]["loss"] == pytest.approx(
            np.mean([sklearn.log_loss(t, 1 / (1 + np.exp(-o)), labels=[False, True])
                     for t, o in zip(truth.T, outputs.T, strict=True)])
        )  # fmt: skip
        assert found[part].keys() == set(METRICS)


def test_final_rows_are_scikit_learns_on_the_test_scores(server, prepared, table, x, head):
    counted = np.concatenate([np.zeros(4, np.int64), table.labels[:60].sum(axis=0)])
    server.instruct(counted, 60)
    tables = server.finish(head, {})
    saved = tables.parquet["test_scores.parquet"]
    assert [*saved][:3] == ["image", "celeb_id", ATTRIBUTES[0]]
    assert len(saved) == 2 + 40 + 40
    assert saved["image"].tolist() == table.image[72:].tolist()
    assert saved["celeb_id"].tolist() == table.celeb_id[72:].tolist()
    rows = tables.csv["attributes.csv"]
    assert [(row["split"], row["attribute"]) for row in rows] == [("test", a) for a in ATTRIBUTES]
    for i, row in enumerate(rows):
        truth, score = saved[row["attribute"]], saved[f"{row['attribute']}_score"]
        np.testing.assert_array_equal(truth, table.labels[72:, i])
        np.testing.assert_array_equal(score, scores(head, x[72:])[:, i])
        yes, chance = score > 0, 1 / (1 + np.exp(-score))
        observed, said = calibration_curve(truth, chance, n_bins=10)
        of_band = np.histogram(chance, np.linspace(0, 1, 11))[0]
        of_band = of_band[of_band > 0] / 24
        assert (row["n"], row["positives"]) == (24, truth.sum())
        figures = [key for key in [*row][4:] if not key.endswith(("_low", "_high"))]
        assert {key: row[key] for key in figures} == pytest.approx(
            {
                "loss": sklearn.log_loss(truth, chance, labels=[False, True]),
                "base_rates_loss": sklearn.log_loss(
                    truth, np.full(24, (table.labels[:60, i].sum() + 0.5) / 61)
                ),
                "calibration_error": (of_band * np.abs(observed - said)).sum(),
                "majority_accuracy": max(truth.mean(), 1 - truth.mean()),
                "accuracy": sklearn.accuracy_score(truth, yes),
                "balanced_accuracy": sklearn.balanced_accuracy_score(truth, yes),
                "f1": sklearn.f1_score(truth, yes, zero_division=0),
                "auroc": sklearn.roc_auc_score(truth, score),
                "average_precision": sklearn.average_precision_score(truth, score),
                "auroc_error": 0,
                "average_precision_error": 0,
                "threshold": 0,
            }
        )


def test_summary_is_the_mean_over_the_attributes(server, prepared, head):
    tables = server.finish(head, {})
    rows = tables.csv["attributes.csv"]
    central = server.evaluate_centrally(head)["test"]
    at_the_end = {
        f"test_{key}": np.mean([row[key] for row in rows])
        for key in ("average_precision", "calibration_error")
    }
    assert tables.summary == pytest.approx(
        {f"test_{key}": value for key, value in central.items()} | at_the_end, nan_ok=True
    )
    assert tables.summary["test_macro_f1"] == pytest.approx(np.mean([row["f1"] for row in rows]))


def test_final_rows_of_the_clients_are_from_their_counts(server, told, described, head):
    replies = [server.evaluate(head, node(number), told)[0] for number in range(NODES)]
    total = {part: sum_counts([reply[part] for reply in replies]) for part in ("train", "valid")}
    rows = server.finish(head, total).csv["attributes.csv"]
    splits = ["train"] * 40 + ["valid"] * 40 + ["test"] * 40
    assert [row["split"] for row in rows] == splits
    counts = Counts.from_arrays(total["valid"])
    for i, row in enumerate(rows[40:80]):
        assert row["attribute"] == ATTRIBUTES[i]
        assert row["n"] == counts.n[i] == sum(said.num_valid for said in described)
        assert row["positives"] == counts.p[i]
        np.testing.assert_equal(row["auroc"], counts.auroc()[i])
        np.testing.assert_equal(row["auroc_error"], counts.auroc_error()[i])
        np.testing.assert_equal(row["average_precision"], counts.average_precision()[i])
        error = counts.average_precision_error()[i]
        np.testing.assert_equal(row["average_precision_error"], error)


def test_clients_count_groups_of_the_final_model_only(server, told, described, head):
    usual, number = server.evaluate(head, node(0), told)
    final, same = server.evaluate(head, node(0), {**told, "final": True})
    assert number == same
    for part in ("train", "valid"):
        for key, array in usual[part].items():
            np.testing.assert_array_equal(final[part].pop(key), array)
        assert final[part].keys() == {"group_positives", "group_negatives"}
        for array in final[part].values():
            assert array.shape == (2 + 2 + 4, 40, NUM_BINS)
            assert array.dtype == np.uint8


@pytest.mark.parametrize("thresholds", ["zero", "valid"])
def test_groups_of_the_clients_are_those_of_the_pool(
    make, described, held, table, x, thresholds, monkeypatch
):
    monkeypatch.setattr("celeba_fl.evaluation.thresholds.FEW", 1)
    head = spread_head(x)
    task = make(thresholds=thresholds, groupings="Young,Bald; Male")
    told = {**task.prepare().instructions, "final": True}
    replies = [task.evaluate(head, node(number), told)[0] for number in range(NODES)]
    total = {part: sum_counts([reply[part] for reply in replies]) for part in ("train", "valid")}
    tables = task.finish(head, total)
    above = np.array(json.loads(tables.model_metadata["thresholds"]))
    assert above.any() == (thresholds == "valid")
    for i, part in enumerate(("train", "valid")):
        rows = np.concatenate([rows[i] for rows in held])
        truth, yes = table.labels[rows], scores(head, x[rows]) > above
        groups = [row for row in tables.csv["groups.csv"] if row["split"] == part]
        assert len(groups) == (4 + 2) * 40
        young, bald = (truth[:, ATTRIBUTES.index(name)] for name in ("Young", "Bald"))
        for a, row in enumerate(groups[40:80]):
            assert (row["grouping"], row["group"]) == ("Young,Bald", "Young=0,Bald=1")
            here = ~young & bald
            assert (row["attribute"], row["n"]) == (ATTRIBUTES[a], here.sum())
            assert row["positives"] == truth[here, a].sum()
            np.testing.assert_equal(row["accuracy"], (truth == yes)[here, a].mean())
            assert np.isnan([row["accuracy_low"], row["accuracy_high"]]).all()
        attributes = [row for row in tables.csv["attributes.csv"] if row["split"] == part]
        for a, row in enumerate(attributes):
            assert row["threshold"] == above[a]
            assert row["accuracy"] == pytest.approx((truth == yes)[:, a].mean())
    fairness = [row["split"] for row in tables.csv["fairness.csv"]]
    assert fairness == ["train"] * 80 + ["valid"] * 80 + ["test"] * 80


@pytest.mark.parametrize("partitioner", ["natural", "iid"])
def test_clients_that_share_nobody_tell_how_sure_their_rates_are(
    make, described, told, x, partitioner
):
    head, task = spread_head(x), make(partitioner=partitioner)
    task.prepare()
    replies = [task.evaluate(head, node(i), {**told, "final": True})[0] for i in range(NODES)] * 10
    total = {part: sum_counts([reply[part] for reply in replies]) for part in ("train", "valid")}
    rows = task.finish_by_clients(head, total, iter(replies)).csv["groups.csv"]
    (row,) = (
        row
        for row in rows
        if (row["split"], row["group"], row["attribute"]) == ("train", "Male=1", "Smiling")
    )
    if partitioner == "natural":
        assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
    else:
        assert np.isnan([row["accuracy_low"], row["accuracy_high"]]).all()


def test_thresholds_are_the_best_on_the_official_validation_split(
    make, server, prepared, table, x, monkeypatch
):
    monkeypatch.setattr("celeba_fl.evaluation.thresholds.FEW", 1)
    head = spread_head(x)
    task = make(thresholds="valid")
    task.prepare()
    tables = task.finish(head, {})
    found = json.loads(tables.model_metadata["thresholds"])
    valid = Counts.of(scores(head, x[60:72]), table.labels[60:72])
    np.testing.assert_array_equal(found, best_thresholds(valid))
    assert np.any(found)
    truth, yes = table.labels[72:], scores(head, x[72:]) > found
    assert tables.summary["test_accuracy"] == pytest.approx((truth == yes).mean())
    at_zero = server.evaluate_centrally(head)["test"]
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert tables.summary[f"test_{name}_at_0"] == pytest.approx(at_zero[name])
    # Rounds are judged at 0, as they are for everyone.
    np.testing.assert_equal(task.evaluate_centrally(head), server.evaluate_centrally(head))


def test_a_capped_threshold_costs_no_more_than_it_may(make, prepared, table, x, monkeypatch):
    monkeypatch.setattr("celeba_fl.evaluation.thresholds.FEW", 1)
    truth, outputs = table.labels[60:72], scores(spread_head(x), x[60:72])
    right = ((outputs > 0) == truth).mean(axis=0)
    costs = {}
    for cost in (0.0, 10.0, 100.0):
        task = make(thresholds="capped", **{"accuracy-cost": cost})
        task.prepare()
        metadata = task.finish(spread_head(x), {}).model_metadata
        above = np.array(json.loads(metadata["thresholds"]))
        costs[cost] = (right - ((outputs > above) == truth).mean(axis=0)).max()
        assert costs[cost] <= cost / 100 + 1e-9
    assert costs[0.0] < costs[10.0] < costs[100.0]
    with pytest.raises(
        InputError, match=r"accuracy-cost = 2\.0: is read with thresholds = 'capped'"
    ):
        make(thresholds="valid", **{"accuracy-cost": 2.0})


def test_a_calibrated_model_is_kept_and_judged_as_such(make, prepared, table, x):
    """By the official validation split; thresholds are of the calibrated scores."""
    head = {key: 3 * array for key, array in spread_head(x).items()}
    task = make(calibration="valid", thresholds="valid")
    task.prepare()
    tables = task.finish(head, {})
    about = json.loads(tables.model_metadata["calibration"])
    valid = Counts.of(scores(head, x[60:72]), table.labels[60:72])
    by = fit(valid.positives, valid.negatives)
    assert about == {"by": "server_valid", "slope": by.slope.tolist(), "offset": by.offset.tolist()}
    assert (by.slope < 0.9).all()
    np.testing.assert_array_equal(tables.model["weight"], by.head(head)["weight"])
    saved = tables.parquet["test_scores.parquet"]
    outputs = scores(tables.model, x[72:])
    np.testing.assert_array_equal(saved["Smiling_score"], outputs[:, ATTRIBUTES.index("Smiling")])
    assert tables.summary["test_loss"] == pytest.approx(
        bce_with_logits(outputs, table.labels[72:]).mean()
    )
    raw = bce_with_logits(scores(head, x[72:]), table.labels[72:]).mean()
    assert tables.summary["test_loss"] < raw


def test_clients_of_a_server_without_images_calibrate_by_histograms(make, celeba_folder, head):
    """Their figures are of the calibrated scores too."""
    task = make(dataset=str(celeba_folder(splits="0" * 12)), calibration="valid")
    told = task.prepare().instructions
    task.describe(node(0, of=1), told)
    counts, _ = task.evaluate(head, node(0, of=1), {**told, "final": True})
    tables = task.finish(head, counts)
    assert json.loads(tables.model_metadata["calibration"])["by"] == "valid"
    raw = Counts.from_arrays(counts["valid"])
    by = fit(raw.positives, raw.negatives)
    rows = [row for row in tables.csv["attributes.csv"] if row["split"] == "valid"]
    found = [row["loss"] for row in rows]
    np.testing.assert_allclose(found, raw.calibrated(by).mean_loss())
    assert np.mean(found) < raw.mean_loss().mean()
    assert json.loads(tables.model_metadata["thresholds"]) == [0] * 40
    # What cannot be decided stays as it is.
    assert "calibration" not in task.finish(head, {}).model_metadata


def test_base_rates_are_those_of_the_train_images_of_all_clients(make, prepared, table, x):
    task = make()
    task.prepare()
    counts = np.concatenate([np.zeros(4, np.int64), table.labels[:60].sum(axis=0)])
    task.instruct(counts, 60)
    share = (table.labels[:60].sum(axis=0) + 0.5) / 61
    for part, rows in (("server_valid", np.arange(60, 72)), ("test", np.arange(72, 96))):
        found = task.evaluate_centrally(spread_head(x))[part]["base_rates_loss"]
        chances = np.tile(share, (len(rows), 1))
        each = [
            sklearn.log_loss(truth, chance, labels=[False, True])
            for truth, chance in zip(table.labels[rows].T, chances.T, strict=True)
        ]
        assert found == pytest.approx(np.mean(each))


def test_what_is_needed_to_predict_goes_with_the_model(server, prepared, head):
    metadata = server.finish(head, {}).model_metadata
    assert json.loads(metadata.pop("attributes")) == list(ATTRIBUTES)
    assert json.loads(metadata.pop("thresholds")) == [0] * 40
    assert metadata == {
        "backbone": "mobilenet_v2",
        "weights": prepared.instructions["weights"],
        "features": "last",
        "image-size": "32",
        "precision": "fp32",
    }


def test_a_server_without_images_of_its_own(make, celeba_folder, head):
    task = make(dataset=str(celeba_folder(splits="0" * 12)))
    told = task.prepare().instructions
    task.describe(node(0, of=1), told)
    assert task.evaluate_centrally(head) == {}
    counts, _ = task.evaluate(head, node(0, of=1), {**told, "final": True})
    tables = task.finish(head, counts)
    assert tables.summary == {}
    assert tables.parquet == {}
    for rows in tables.csv.values():
        assert {row["split"] for row in rows} == {"train", "valid"}


def test_thresholds_of_a_server_without_images_are_the_clients(make, celeba_folder, head):
    task = make(dataset=str(celeba_folder(splits="0" * 12)), thresholds="valid")
    told = task.prepare().instructions
    task.describe(node(0, of=1), told)
    counts, number = task.evaluate(head, node(0, of=1), told)
    assert number > 0
    found = json.loads(task.finish(head, counts).model_metadata["thresholds"])
    np.testing.assert_array_equal(found, best_thresholds(Counts.from_arrays(counts["valid"])))
    assert json.loads(task.finish(head, {}).model_metadata["thresholds"]) == [0] * 40


@pytest.fixture
def sites(toy, tmp_path):
    """Node configs of three sites that hold the toy's train images by identity."""
    folders = write_sites(tmp_path, Path(toy["dataset"]))
    return [{"site": folder.name, "data-path": str(folder)} for folder in folders]


def test_a_site_holds_all_its_own_train_images(make, sites, told, table, toy):
    task = make(dataset="none")
    identity = table.celeb_id[:60] % 3
    chosen = valid_mask(table, np.arange(60), 0.2, 42)
    for number, site in enumerate(sites):
        said = task.describe(site, told)
        mine = identity == number
        assert (said.num_train, said.num_valid) == ((mine & ~chosen).sum(), (mine & chosen).sum())
        np.testing.assert_array_equal(said.counts[-40:], table.labels[:60][mine & ~chosen].sum(0))


def test_a_site_counts_and_trains_as_a_partition_with_its_images(make, sites, told, head, table):
    """Sites together count what one partition of everything counts."""
    lone, task = make(), make(dataset="none")
    lone.describe(node(0, of=1), told)
    whole, _ = lone.evaluate(head, node(0, of=1), told)
    parts = []
    for site in sites:
        task.describe(site, told)
        parts.append(task.evaluate(head, site, told)[0])
    for part in ("train", "valid"):
        summed = sum_counts([counts[part] for counts in parts])
        for key in ("positives", "negatives"):
            np.testing.assert_array_equal(summed[key], whole[part][key])

    trained, number, _ = task.train(head, sites[0], told, 1)
    mine = table.celeb_id[:60] % 3 == 0
    rows = np.flatnonzero(mine)
    rows = rows[~valid_mask(table, rows, 0.2, 42)]
    store = lone.features.open(lone.faces.table, told["weights"])
    expected, _ = train_head(
        head,
        store.read(rows),
        table.labels[rows],
        epochs=1,
        batch_size=16,
        learning_rate=lone.config.learning_rate,
        optimizer="adam",
        dropout=0.2,
        positive_weight=None,
        example_weight=np.ones(len(rows)),
        proximal_mu=0.0,
        seed=1,
    )
    assert number == len(rows)
    assert_equal(trained, expected)


def test_sites_and_partitions_mix(make, sites, told, described):
    task = make()
    own = task.describe(sites[0], told)
    assert own.num_train + own.num_valid == 20
    assert task.describe(node(1), told).num_train == described[1].num_train


def test_a_server_without_a_data_set_of_its_own(make, sites, head):
    task = make(dataset="none")
    prepared = task.prepare()
    splits = {"train": 0, "valid": 0, "test": 0}
    assert prepared.provenance["dataset"] == {
        "name": "none",
        "fingerprint": load("none", task.config.home_dir).fingerprint,
        "splits": splits,
    }
    task.describe(sites[0], prepared.instructions)
    assert task.evaluate_centrally(head) == {}
    counts, _ = task.evaluate(head, sites[0], {**prepared.instructions, "final": True})
    tables = task.finish(head, counts)
    assert (tables.summary, tables.parquet) == ({}, {})
    assert {row["split"] for row in tables.csv["groups.csv"]} == {"train", "valid"}


def test_a_partition_of_no_data_set_is_refused(make, told):
    with pytest.raises(InputError, match=r"dataset = 'none': say where its images are"):
        make(dataset="none").describe(node(0), told)


def test_a_site_whose_data_cannot_be_used_is_refused(make, sites, told, celeba_folder, tmp_path):
    def refused(path, words):
        with pytest.raises(InputError, match=words):
            make(dataset="none").describe({"site": "a", "data-path": str(path)}, told)

    refused(tmp_path / "gone", "data-path = .*gone': there is no such folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty does not hold a data set")
    refused(celeba_folder(splits="1" * 6 + "2" * 6), "data-path = .* holds no train images")
    metadata = Path(sites[0]["data-path"]) / "metadata.csv"
    metadata.write_text(metadata.read_text().replace("Smiling", "Smile"))
    refused(metadata.parent, "lacks the columns Smiling")


def test_a_node_that_does_not_say_what_it_holds_is_refused(make, prepared):
    with pytest.raises(InputError, match="partition-id=0"):
        make().describe({"site": "hospital-a"}, prepared.instructions)


def test_a_site_with_photographs_does_not_take_drawn_weights(
    make: Callable[..., Attributes], tmp_path: Path
) -> None:
    """The server has drawn faces, and cannot know."""
    task = make(dataset="drawn", weights="drawn", image_size=0)
    preprocessing = preprocessing_hash(task.features.view)
    told = {"preprocessing": preprocessing, "precision": "fp32", "weights": "0" * 64}
    with pytest.raises(InputError, match=r"the images of '/srv/faces' are others"):
        task.describe({"site": "a", "data-path": "/srv/faces"}, told)


def test_with_a_teacher_only_who_told_of_no_labels_may_have_them_later(make, tmp_path):
    chance = np.random.default_rng(0)
    logits, labels = chance.normal(size=(9, 40)), chance.random((9, 40)) < 0.5
    answers = {f"teacher_{key}": np.zeros(40, np.int64) for key in ("asked", "answered")}
    answers |= {f"teacher_{key}": np.zeros(40, np.int64) for key in ("agreed", "right")}
    valid = nothing_counted(40).to_arrays()
    counts = {"train": Counts.of(logits, labels).to_arrays() | answers, "valid": valid}
    teacher = {"labels": "teacher", "teacher": str(tmp_path / "answers.csv")}
    task, together = make(**teacher), make(**teacher, secure_aggregation=True)

    def told(positives):
        numbers = [9] + [0] * (len(task.count_names) - 41) + list(positives)
        return Client(1, 9, 0, np.array(numbers))

    for positives in (labels.sum(axis=0), np.zeros(40, int)):
        task.check_counts(told(positives), counts, final=False)
    others = told(labels.sum(axis=0) - (np.arange(40) == 3))
    with pytest.raises(InputError, match="positives: the total is another"):
        task.check_counts(others, counts, final=False)
    together.check_counts(others, counts, final=False)
