from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toys import write_cifar10

from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.data import cifar10, sources
from celeba_fl.data.draws import valid_mask
from celeba_fl.tasks.client_data import ClientData, train_rows

NODE = {"partition-id": 0, "num-partitions": 3}


@pytest.fixture
def make(celeba_folder: Callable[..., Path], tmp_path: Path) -> Callable[..., RunConfig]:
    """Make a config of a folder of eight train images."""
    folder = celeba_folder()
    keys = {"dataset": str(folder), "home": str(tmp_path / "home"), "valid-fraction": 0.4}
    return lambda **more: RunConfig.load(keys | more)


def test_train_rows_are_those_of_all_clients_without_their_validation_parts(
    make: Callable[..., RunConfig],
) -> None:
    config = make()
    data = ClientData(config, sources.load)
    nodes = [{"partition-id": i, "num-partitions": 3} for i in range(3)]
    held = np.sort(np.concatenate([data.held(node) for node in nodes]))
    np.testing.assert_array_equal(held, np.arange(8))
    valid = valid_mask(data.table, held, 0.4, config.seed)
    assert 0 < valid.sum() < 8
    table, rows = train_rows(config, 3)
    assert table.fingerprint == data.table.fingerprint
    np.testing.assert_array_equal(rows, held[~valid])
    parts = [data.parts(node)[0] for node in nodes]
    np.testing.assert_array_equal(rows, np.sort(np.concatenate(parts)))


def test_people_who_validate_are_not_trained_on(
    make: Callable[..., RunConfig], celeba_folder: Callable[..., Path]
) -> None:
    folder = celeba_folder("many", splits="0" * 60, images_each=5)
    config = make(**{"dataset": str(folder), "valid-by": "identity"})
    data = ClientData(config, sources.load)
    parts = [data.parts({"partition-id": i, "num-partitions": 3}) for i in range(3)]
    train, valid = (
        {*data.table.celeb_id[np.concatenate(rows)].tolist()} for rows in zip(*parts, strict=True)
    )
    assert train
    assert valid
    assert not train & valid
    by_image = make(dataset=str(folder))
    assert (
        len(train_rows(by_image, 3)[1])
        != len(train_rows(config, 3)[1])
        == sum(len(rows) for rows, _ in parts)
    )


def test_rows_that_no_client_holds_are_no_train_rows(make: Callable[..., RunConfig]) -> None:
    table, rows = train_rows(make(**{"partition-size": 2, "valid-fraction": 0.0}), 3)
    assert (len(table.rows("train")), len(rows)) == (8, 6)


@pytest.mark.parametrize("dataset", ["none", "faces"])
def test_a_node_that_does_not_say_what_it_holds(
    dataset: str, make: Callable[..., RunConfig]
) -> None:
    config = make(dataset="none") if dataset == "none" else make()
    node = NODE if dataset == "none" else {"site": "hospital-a"}
    with pytest.raises(InputError, match=r"dataset = .*data-path=.*partition-id=0"):
        ClientData(config, sources.load).held(node)


def test_a_folder_of_a_node_that_is_not_there_is_named(
    make: Callable[..., RunConfig], tmp_path: Path
) -> None:
    site = {"data-path": str(tmp_path / "nothing")}
    for load in (sources.load, cifar10.load):
        with pytest.raises(InputError, match=f"data-path = '{tmp_path}/nothing'"):
            ClientData(make(), load).held(site)


def test_a_data_set_is_opened_once(make: Callable[..., RunConfig], tmp_path: Path) -> None:
    opened = []

    def load(dataset: str, home: Path) -> cifar10.Pictures:
        opened.append(dataset)
        return cifar10.load(dataset, home)

    own = str(write_cifar10(tmp_path / "own", train=30))
    data = ClientData(make(dataset="none"), load)
    site = {"site": "b", "data-path": own}
    train, valid = data.parts(site)
    assert sorted([*train, *valid]) == data.of(site).rows("train").tolist()
    assert data.parts(site)[0] is train
    assert data.provenance(("train",))["splits"] == {"train": 0}
    assert opened == [own, "none"]


def test_it_is_said_where_nobody_knows_who_is_who(
    make: Callable[..., RunConfig], caplog: pytest.LogCaptureFixture
) -> None:
    config = make()
    assert "identities" not in ClientData(config, sources.load).provenance()
    (Path(config.dataset) / "identity_CelebA.txt").unlink()
    assert ClientData(config, sources.load).provenance()["identities"] == "unknown"
    assert "does not say who is who: each image is taken for another person" in caplog.text
