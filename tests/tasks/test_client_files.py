"""What a client keeps to itself, and for how long."""

import numpy as np
import pytest

from celeba_fl.tasks.client_files import ClientFiles


def arrays(value):
    return {"weight": np.full(3, value, np.float32)}


def test_the_newest_of_a_round_or_before_is_found(tmp_path):
    own = ClientFiles(tmp_path / "own", 2)
    assert own.load(5) is None
    own.save(1, arrays(1))
    own.save(3, arrays(3))
    assert own.load(0) is None
    assert own.load(1)["weight"][0] == own.load(2)["weight"][0] == 1
    assert own.load(3)["weight"][0] == own.load(9)["weight"][0] == 3


def test_the_last_two_are_kept_and_none_of_a_future_that_is_void(tmp_path):
    own = ClientFiles(tmp_path, 2)
    for number in range(1, 6):
        own.save(number, arrays(number))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "round-0004.safetensors",
        "round-0005.safetensors",
    ]
    own.save(4, arrays(40))
    assert own.load(9)["weight"][0] == 40
    assert [path.name for path in tmp_path.iterdir()] == ["round-0004.safetensors"]


def test_what_is_broken_is_named_and_passed_over(tmp_path, caplog):
    own = ClientFiles(tmp_path, 2)
    own.save(1, arrays(1))
    (tmp_path / "round-0002.safetensors").write_bytes(b"broken")
    assert own.load(2)["weight"][0] == 1
    assert "round-0002.safetensors cannot be read" in caplog.text


@pytest.mark.parametrize("client", ["../../hospital", "..", "."])
def test_names_of_runs_and_clients_cannot_leave_their_folder(client, tmp_path):
    own = ClientFiles.of(tmp_path, "dcgan", "..", client, 2)
    assert own.folder.resolve().parent.parent == tmp_path / "dcgan"
    assert ClientFiles.of(tmp_path, "dcgan", "..", "other", 2).folder != own.folder


def test_one_more_is_kept_than_there_are_checkpoints(tmp_path):
    assert ClientFiles.of(tmp_path, "dcgan", "a run", "0", checkpoints=2).keep == 3
