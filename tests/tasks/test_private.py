from dataclasses import replace

import numpy as np
import pytest

from celeba_fl.common.arrays import add_exactly
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.models import private_ridge, private_rows
from celeba_fl.models.private_rows import Public
from celeba_fl.privacy.noise import NOISE_PARTS, noise_multiplier
from celeba_fl.tasks import private
from celeba_fl.tasks.attributes import Attributes

NODES = 3
PRIVATE = {
    "privacy-epsilon": 8.0,
    "strategy": "closed-form",
    "init": "public",
    "public-fraction": 0.2,
    "partitioner": "natural",
    "max-images": 1,
}
BY_SERVER, BY_CLIENTS = {"privacy-noise": "server"}, {"secure-aggregation": True}


def node(number, of=NODES):
    return {"partition-id": number, "num-partitions": of}


@pytest.fixture
def make(toy):
    """A prepared task under a budget, and what its clients are told."""

    def made(**changes):
        changed = {key.replace("_", "-"): value for key, value in changes.items()}
        task = Attributes(RunConfig.load({**toy, **PRIVATE, **changed}))
        told = {**task.prepare().instructions}
        told |= task.instruct_from_sums({})
        for number in range(NODES):
            task.describe(node(number), told)
        return task, {**told, "sums": list(task.zero_sums())}

    return made


def exact(task, number, most):
    """The sums of a client, without noise; of each person as many images as count."""
    train = task._parts(node(number), {"precision": "fp32", "weights": task._weights})["train"]
    units = private_rows.units_of(
        train.celeb_id, train.table.content[train.rows], most, task.config.seed
    )
    return private_rows.sums_of(train.features, train.labels, task._statistics, units)


def test_a_client_sends_sums_over_the_images_that_count(make):
    task, told = make(**BY_SERVER)
    sums, _ = task.summarise(node(0), told)
    one = exact(task, 0, 1)
    assert {key: array.tolist() for key, array in sums.items()} == {
        f"train_{key}": array.tolist() for key, array in one.items()
    }
    train = task._parts(node(0), told)["train"]
    (units,) = private._units(task.config, train)
    people = np.unique(train.celeb_id)
    assert units.shape == (len(people), 1)
    assert len(people) < len(train)
    assert set(train.celeb_id[units[:, 0]]) == set(people)
    assert {key: (a.shape, a.dtype) for key, a in sums.items()} == {
        key: (a.shape, a.dtype) for key, a in task.zero_sums().items()
    }


@pytest.mark.parametrize("unit", ["person", "image"])
def test_its_part_of_the_noise_is_in_them(make, unit):
    task, told = make(**BY_CLIENTS, privacy_unit=unit, max_images=10)
    parts = 4
    sums, _ = task.summarise(node(1), {**told, NOISE_PARTS: parts})
    again, _ = task.summarise(node(1), {**told, NOISE_PARTS: parts})
    multiplier = noise_multiplier(8.0, 1e-5)
    moved = task._statistics.clip
    assert private.noise_of(task.config, task._statistics) == (moved, multiplier * moved)
    scales = private_rows.noise_scales(task._statistics, multiplier * moved)
    own = exact(task, 1, 10)
    if unit == "image":
        train = task._parts(node(1), told)["train"]
        units = private_rows.each_alone(len(train))
        own = private_rows.sums_of(train.features, train.labels, task._statistics, units)
    for key, one in own.items():
        noise = (sums[f"train_{key}"] - one) / scales[key] * np.sqrt(parts)
        assert abs(np.square(noise).mean() - 1) < 6 * np.sqrt(2 / noise.size)
        assert not np.array_equal(sums[f"train_{key}"], again[f"train_{key}"])


@pytest.mark.parametrize("who", [BY_SERVER, BY_CLIENTS])
def test_the_head_is_of_sums_that_have_their_noise(make, monkeypatch, who):
    task, told = make(**who)
    releases = []
    solved = private_ridge.solve

    def solve(release, *images):
        releases.append(release)
        return solved(release, *images)

    monkeypatch.setattr(private_ridge, "solve", solve)
    total = task.zero_sums()
    for number in range(NODES):
        add_exactly(total, task.summarise(node(number), {**told, NOISE_PARTS: NODES})[0])
    head = task.solve(total, told)
    assert {key: array.shape for key, array in head.items()} == {
        "weight": (len(ATTRIBUTES), 1280),
        "bias": (len(ATTRIBUTES),),
    }
    assert all(np.isfinite(array).all() for array in head.values())
    before = task.zero_sums()
    for number in range(NODES):
        add_exactly(before, {f"train_{key}": of for key, of in exact(task, number, 1).items()})
    (release,), public = releases, task._statistics
    assert (release.public, release.sigma) == (public, private.noise_of(task.config, public)[1])
    plain = private_rows.Release.of(
        {key: before[f"train_{key}"] for key in ("xx", "xy")}, public, 0.0
    )
    noise = (release.xy - plain.xy) / release.sigma * public.times
    assert abs(np.square(noise).mean() - 1) < 6 * np.sqrt(2 / noise.size)
    beside = (release.xx - plain.xx)[np.triu_indices(public.k, 1)] / release.sigma
    assert abs(2 * np.square(beside).mean() - 1) < 6 * np.sqrt(2 / beside.size)


def test_a_client_without_images_sends_noise_alone(make):
    task, told = make(**BY_CLIENTS)
    sums, _ = task.summarise(node(99, of=100), {**told, NOISE_PARTS: 2})
    assert all(array.any() for array in sums.values())


def test_it_refuses_what_would_not_hide_anybody(make, celeba_folder):
    task, told = make(**BY_CLIENTS)
    with pytest.raises(InputError, match="how many clients add it"):
        task.summarise(node(0), told)
    other = replace(task._statistics, rates=task._statistics.rates[1:]).to_bytes()
    with pytest.raises(InputError, match="other features"):
        task.summarise(node(0), {**told, NOISE_PARTS: 2, private.PUBLIC: other})
    with pytest.raises(InputError, match="cannot be read"):
        task.summarise(node(0), {**told, NOISE_PARTS: 2, private.PUBLIC: other[:-1]})
    own = celeba_folder(splits="0" * 20 + "1" * 10, images_each=1)
    task, told = make(**BY_CLIENTS, dataset=str(own), partitioner="iid", privacy_unit="image")
    train = task._parts(node(0), told)["train"]
    by_person = RunConfig.load({**task.config.to_dict(), "dataset": "none"})
    by_person = replace(by_person, privacy_unit="person")
    with pytest.raises(InputError, match="privacy-unit"):
        private.sums_of(by_person, train, {**told, NOISE_PARTS: 2})


def test_statistics_are_of_public_images_alone(make):
    task, told = make(**BY_SERVER)
    images, table = task.public_images(), task.faces.table
    public = np.setdiff1d(images.rows, table.rows("valid"))
    assert len(public)
    assert set(public) == set(task.faces.public)
    clients = [task._parts(node(number), told) for number in range(NODES)]
    held = np.concatenate([part.rows for parts in clients for part in parts.values()])
    assert not np.isin(images.rows, held).any()
    assert Public.from_bytes(told[private.PUBLIC]).rates == pytest.approx(images.labels.mean(0))


def test_without_public_images_there_is_no_budget(make, celeba_folder):
    folder = str(celeba_folder(splits="0" * 20, images_each=2))
    with pytest.raises(InputError, match="public-fraction"):
        make(dataset=folder, public_fraction=1e-9, **BY_SERVER)


def test_without_a_budget_nothing_is_public_and_sums_are_of_features(toy):
    task = Attributes(RunConfig.load({**toy, "privacy-epsilon": 0.0}))
    told = {**task.prepare().instructions}
    assert task.instruct_from_sums({}) == {}
    task.describe(node(0), told)
    sums, _ = task.summarise(node(0), {**told, "sums": list(task.zero_sums())})
    assert sums["train_xy"].shape == (1281, len(ATTRIBUTES))
