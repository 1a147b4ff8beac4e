import cProfile
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from tables import make_table

from celeba_fl.common.errors import InputError
from celeba_fl.data import partitions
from celeba_fl.data.draws import public_rows
from celeba_fl.data.partitions import assign, combination
from celeba_fl.data.schema import ATTRIBUTES, SPLITS
from celeba_fl.data.table import Table

MALE, YOUNG = ATTRIBUTES.index("Male"), ATTRIBUTES.index("Young")


@pytest.fixture
def deal(tmp_path):
    def run(table, partitioner, num_partitions, seed=42, **settings):
        home = tmp_path / "home"
        arguments = {"partitioner": partitioner, "num_partitions": num_partitions, "seed": seed}
        return assign(table, home=home, **arguments, **settings)

    return run


def sizes(dealt, num_partitions):
    return np.bincount(dealt[dealt >= 0], minlength=num_partitions)


@pytest.mark.parametrize("partitioner", ["iid", "dirichlet", "natural"])
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.integers(10, 60), nodes=st.integers(1, 10), seed=st.integers(0, 2**32 - 1))
def test_no_row_is_lost_or_doubled(partitioner, deal, rows, nodes, seed):
    table = make_table(rows, splits=("train", "test", "train", "valid"), identities=7)
    if nodes > len(table.rows("train")):
        return
    dealt = deal(table, partitioner, nodes, seed)
    assert (dealt.shape, dealt.dtype) == ((rows,), np.int32)
    np.testing.assert_array_equal(np.flatnonzero(dealt >= 0), table.rows("train"))
    assert dealt.max() < nodes


@pytest.mark.parametrize("partitioner", ["iid", "dirichlet", "natural"])
def test_the_seed_decides(partitioner, deal, tmp_path):
    table = make_table()
    first = deal(table, partitioner, 5, seed=1).copy()
    other = deal(table, partitioner, 5, seed=2)
    shutil.rmtree(tmp_path / "home")
    np.testing.assert_array_equal(deal(table, partitioner, 5, seed=1), first)
    assert (first != other).any()


def test_iid_parts_are_equal_and_mixed(deal):
    dealt = deal(make_table(103), "iid", 10)
    assert sorted(sizes(dealt, 10)) == [10] * 7 + [11] * 3
    assert (np.diff(dealt) != 0).sum() > 50  # not cut up in the order of the rows


def test_dirichlet_is_flwr_datasets_own(deal):
    from datasets import Dataset
    from flwr_datasets.partitioner import DirichletPartitioner

    table = make_table(400)
    label = [f"Male={row[MALE]:d},Young={row[YOUNG]:d}" for row in table.labels]
    reference = DirichletPartitioner(
        num_partitions=6, partition_by="label", alpha=0.5, min_partition_size=3, seed=7
    )
    reference.dataset = Dataset.from_dict({"row": range(400), "label": label})

    settings = {"seed": 7, "alpha": 0.5, "min_size": 3}
    dealt = deal(table, "dirichlet", 6, order="rows", **settings)
    shuffled = deal(table, "dirichlet", 6, **settings)
    assert (dealt != shuffled).any()
    for partition in range(6):
        expected = sorted(reference.load_partition(partition)["row"])
        assert np.flatnonzero(dealt == partition).tolist() == expected
        mine = sorted(label[row] for row in np.flatnonzero(shuffled == partition))
        assert mine == sorted(label[row] for row in expected)


def test_dirichlet_alpha(deal):
    """A large alpha gives every partition the share of all; a small one gives single labels."""
    table = make_table(4000)
    male = table.labels[:, MALE]
    even = deal(table, "dirichlet", 4, partition_by="Male", alpha=1e5)
    for partition in range(4):
        assert sizes(even, 4)[partition] == pytest.approx(1000, abs=20)
        assert male[even == partition].mean() == pytest.approx(male.mean(), abs=0.01)

    skewed = deal(table, "dirichlet", 4, partition_by="Male", alpha=0.01)
    counts = np.array([sizes(skewed[male == value], 4) for value in (True, False)])
    assert (counts.max(axis=1) > 0.8 * counts.sum(axis=1)).all()


def test_dirichlet_leaves_partitions_empty(deal):
    empty = sizes(deal(make_table(), "dirichlet", 50, alpha=0.01), 50) == 0
    assert empty.sum() > 30


def test_dirichlet_minimum_that_is_within_reach(deal, recwarn):
    dealt = deal(make_table(400), "dirichlet", 4, alpha=0.5, min_size=20)
    assert sizes(dealt, 4).min() >= 20
    assert len(recwarn) == 0


def test_dirichlet_minimum_out_of_reach_tells_what_would_do(deal, recwarn, capfd):
    table = make_table(400)
    with pytest.raises(InputError) as error:
        deal(table, "dirichlet", 4, alpha=0.5, min_size=101)
    message = str(error.value)
    assert message.startswith("min-partition-size = 101 is out of reach with dirichlet-alpha = 0.5")
    reached = int(message.partition("would do is ")[2].partition(".")[0])

    assert sizes(deal(table, "dirichlet", 4, alpha=0.5, min_size=reached), 4).min() == reached
    with pytest.raises(InputError, match=f"= {reached + 1} is out of reach .* do is {reached}\\."):
        deal(table, "dirichlet", 4, alpha=0.5, min_size=reached + 1)
    assert len(recwarn) == 0
    assert capfd.readouterr().err == ""


def test_dirichlet_minimum_where_nothing_but_zero_will_do(deal):
    with pytest.raises(InputError, match=r"the largest that would do is 0\."):
        deal(make_table(), "dirichlet", 50, min_size=1)


def test_natural_keeps_identities_together(deal, capfd):
    table = make_table(120, identities=10)
    dealt = deal(table, "natural", 4)
    holders = [np.unique(dealt[table.celeb_id == person]) for person in range(10)]
    assert all(len(holder) == 1 for holder in holders)
    # 10 identities of 12 rows: two nodes hold 3 of them, two hold 2.
    assert sorted(sizes(dealt, 4)) == [24, 24, 36, 36]
    assert capfd.readouterr().err == ""


def test_natural_with_a_node_an_identity_is_leaf(deal):
    table = make_table(120, identities=10)
    dealt = deal(table, "natural", 10)
    assert sizes(dealt, 10).tolist() == [12] * 10


def test_natural_with_more_nodes_than_identities(deal):
    dealt = deal(make_table(6, identities=3), "natural", 8)
    assert sorted(sizes(dealt, 8)) == [0] * 5 + [2] * 3


@pytest.mark.parametrize("partitioner", ["iid", "dirichlet"])
def test_more_nodes_than_rows(deal, partitioner):
    with pytest.raises(InputError, match=f"^13 nodes are too many .*'{partitioner}' and the 12 tr"):
        deal(make_table(12), partitioner, 13)


@pytest.mark.parametrize("partitioner", ["iid", "dirichlet", "natural"])
def test_nothing_to_deal(deal, partitioner):
    with pytest.raises(InputError, match="numbers has no train images"):
        deal(make_table(12, splits=("test",)), partitioner, 2)


def test_unknown_partitioner(deal):
    with pytest.raises(InputError, match="partitioner = 'IID' should be iid, dirichlet or natural"):
        deal(make_table(), "IID", 2)


def test_combination_by_hand():
    labels = np.zeros((4, 40), bool)
    labels[[0, 1], MALE] = labels[[1, 2], YOUNG] = True
    assert combination(labels, "Male, Young").tolist() == [
        "Male=1,Young=0", "Male=1,Young=1", "Male=0,Young=1", "Male=0,Young=0",
    ]  # fmt: skip
    assert combination(labels, "Young").tolist() == ["Young=0", "Young=1", "Young=1", "Young=0"]


@given(st.lists(st.sampled_from(ATTRIBUTES), min_size=1, max_size=40, unique=True))
def test_combination_tells_rows_apart_as_the_attributes_do(names):
    labels = np.random.default_rng(0).random((30, 40)) < 0.5
    columns = labels[:, [ATTRIBUTES.index(name) for name in names]]
    texts = combination(labels, ",".join(names))
    equal = (columns[:, None] == columns[None]).all(axis=2)
    np.testing.assert_array_equal(texts[:, None] == texts[None], equal)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("Male,Yuong", r"'Male,Yuong': 'Yuong' .*'Young'"),
        ("male", r"'male' .*'Male'"),
        ("", "partition-by = ''"),
    ],
)
def test_combination_of_something_else(value, message):
    with pytest.raises(InputError, match=message):
        combination(np.zeros((2, 40), bool), value)


def test_dealt_once(deal, monkeypatch):
    table = make_table()
    first = deal(table, "dirichlet", 5)
    monkeypatch.setattr(partitions, "_run", None)
    again = deal(table, "dirichlet", 5)
    np.testing.assert_array_equal(first, again)
    assert isinstance(again, np.memmap)
    assert not again.flags.writeable


def test_every_setting_has_partitions_of_its_own(deal, tmp_path):
    table = make_table()
    deal(table, "dirichlet", 5)
    deal(make_table(seed=1), "dirichlet", 5)
    deal(table, "iid", 5)
    deal(table, "dirichlet", 6)
    deal(table, "dirichlet", 5, seed=1)
    deal(table, "dirichlet", 5, alpha=0.2)
    deal(table, "dirichlet", 5, partition_by="Male")
    deal(table, "dirichlet", 5, alpha=10.0, min_size=1)
    assert len([*(tmp_path / "home" / "partitions").glob("*.npy")]) == 8


def test_same_image_in_two_partitions_is_warned_about_once(deal, caplog):
    content = np.arange(40, dtype=np.uint64)
    content[:20] = 7
    table = make_table(40, content=content)
    with caplog.at_level(logging.WARNING, "flwr.celeba_fl"):
        dealt = deal(table, "iid", 2)
        deal(table, "iid", 2)
    assert set(dealt[:20]) == {0, 1}
    (message,) = caplog.messages
    assert message.startswith("1 train images are, byte for byte, in more than one partition")
    assert "(partition 0) and" in message


def test_no_warning_if_copies_are_held_together(deal, caplog):
    table = make_table(40, identities=20, content=np.arange(40, dtype=np.uint64) % 20)
    with caplog.at_level(logging.WARNING, "flwr.celeba_fl"):
        deal(table, "natural", 5)
    assert caplog.messages == []


def full_table(path):
    """All of CelebA's annotations; instead of hashes of pixels, the numbers of the images."""
    full = parquet.read_table(path)
    split = np.array([SPLITS.index(name) for name in full["split"].to_pylist()], np.uint8)
    return Table(
        name="celeba_labels",
        fingerprint="full",
        image=np.array(full["image_id"].to_pylist()),
        celeb_id=full["celeb_id"].to_numpy().astype(np.int32),
        labels=np.stack([full[name].to_numpy() for name in ATTRIBUTES], axis=1),
        split=split,
        content=np.arange(len(split), dtype=np.uint64),
        read=lambda row: b"",
    )


@pytest.mark.parametrize(
    "partitioner",
    ["iid", *(pytest.param(one, marks=pytest.mark.slow) for one in ("dirichlet", "natural"))],
)
def test_thousand_clients_of_the_full_table(shared_data, deal, partitioner):
    table = full_table(shared_data("celeba_labels.parquet"))
    dealt = deal(table, partitioner, 1000)
    np.testing.assert_array_equal(np.flatnonzero(dealt >= 0), np.arange(162770))
    if partitioner == "iid":
        assert set(sizes(dealt, 1000)) == {162, 163}
    if partitioner == "natural":
        assert sizes(dealt, 1000).min() > 50


@pytest.mark.parametrize("partitioner", ["iid", "dirichlet", "natural"])
def test_dealing_costs_as_much_as_there_are_images(deal, partitioner):
    deal(make_table(), partitioner, 5)  # imports what deals
    table = make_table(20_000, identities=2_000)
    with cProfile.Profile() as profile:
        deal(table, partitioner, 100)
    # 15 to 75 calls an image; what is quadratic would make thousands.
    assert sum(entry.callcount for entry in profile.getstats()) < 200 * len(table)


def test_a_warm_process_imports_none_of_what_deals(deal, tmp_path):
    deal(make_table(), "dirichlet", 5)
    code = (
        "import sys; from pathlib import Path; from celeba_fl.data.partitions import assign\n"
        "class Table: fingerprint = {!r}\n"
        "dealt = assign(Table, partitioner='dirichlet', num_partitions=5, seed=42,"
        "               home=Path({!r}))\n"
        "print(len(dealt), [m for m in sys.modules if m.partition('.')[0] in "
        "('datasets', 'flwr_datasets', 'pandas', 'pyarrow', 'torch')])"
    ).format(make_table().fingerprint, os.fspath(tmp_path / "home"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=Path(partitions.__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("120 []", "")


def test_partitions_of_one_size(deal):
    table = make_table(120, splits=("train", "train", "valid"))
    dealt = deal(table, "iid", 3, size=20)
    assert sizes(dealt, 3).tolist() == [20, 20, 20]
    assert (dealt[table.rows("valid")] == -1).all()
    # One holder of as many in all holds the same: central training is on the clients' images.
    np.testing.assert_array_equal(deal(table, "iid", 1, size=60) >= 0, dealt >= 0)
    with pytest.raises(
        InputError, match=r"partition-size = 20: 5 nodes would need 100 train images, and numbers"
    ):
        deal(table, "iid", 5, size=20)


@pytest.mark.parametrize("partitioner", ["iid", "dirichlet", "natural"])
def test_public_rows_are_with_nobody(deal, partitioner):
    table = make_table(1000, splits=("train", "test"))
    public = public_rows(table, 0.4, 42)
    dealt = deal(table, partitioner, 4, public=0.4, alpha=10.0)
    held = np.flatnonzero(dealt >= 0)
    assert 150 < len(public) < 250
    np.testing.assert_array_equal(np.sort([*public, *held]), table.rows("train"))
    assert len(public_rows(table, 0.0, 42)) == 0


def test_nobody_knows_who_is_who(deal: Callable[..., np.ndarray]) -> None:
    with pytest.raises(InputError, match=r"the images of numbers have none; take 'iid'"):
        deal(make_table(40, identities=40), "natural", 4)


@pytest.mark.parametrize("partitioner", ["iid", "dirichlet"])
def test_people_are_with_many_clients_though_the_table_is_sorted_by_person(
    deal: Callable[..., np.ndarray], partitioner: str
) -> None:
    table = make_table(1200, identities=40)
    celeb_id = np.sort(table.celeb_id)
    table = replace(table, celeb_id=celeb_id, fingerprint="sorted")
    dealt = deal(table, partitioner, 20, alpha=100.0)
    clients = [len(np.unique(dealt[celeb_id == person])) for person in range(40)]
    assert np.mean(clients) > 14
