"""The ServerApp: what a whole run says and records beside its figures."""

from pathlib import Path

import adding
import pytest

from celeba_fl.common.bundle import code_hash
from celeba_fl.common.errors import InputError
from celeba_fl.runs.reading import read_json


def test_the_code_of_a_task_from_outside_is_recorded(tmp_path: Path) -> None:
    path = adding.run(tmp_path, num_server_rounds=1)
    code = read_json(path / "run.json")["code"]
    assert code["sha256"] == code_hash("adding") != code_hash()
    assert code["task_path"] == str(Path(adding.__file__))


def test_the_log_has_a_line_for_each_round_and_none_of_flowers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "flwr"):
        adding.run(tmp_path, num_server_rounds=2)
    lines = [record.getMessage() for record in caplog.records]
    rounds = [line.partition(":")[0] for line in lines if line.startswith("round")]
    assert rounds == ["round 0", "round 1", "round 2"]
    assert not [line for line in lines if "Sampled" in line or "Received" in line]


@pytest.mark.parametrize("where", ["server", "client"])
def test_what_kills_have_left_is_removed_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    home = tmp_path / "home"
    litter = [home / "tables" / ".x.unfinished", home / "lenet" / "r" / ".0.safetensors.abcd1234"]
    for path in litter:
        path.parent.mkdir(parents=True)
        path.write_text("half")
    if where == "client":
        monkeypatch.setattr("celeba_fl.server_app.clean_up", lambda folder: None)
    adding.run(tmp_path / "runs", num_server_rounds=1, home=str(home))
    assert not [path for path in litter if path.exists()]


def test_a_node_without_a_listed_key_takes_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "client-keys").touch()
    monkeypatch.setenv("CELEBA_FL_CLIENT_KEYS", str(tmp_path / "client-keys"))
    with pytest.raises(InputError, match="only 0 clients can take part"):
        adding.run(tmp_path / "runs", num_server_rounds=1)
    assert "client 0: its key is not listed" in caplog.text
