"""Runs in other people's tools, read back by these tools themselves."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from celeba_fl.common.errors import InputError
from celeba_fl.export import tracking
from celeba_fl.export.crate import write_crate
from celeba_fl.export.tracking import track

ROUNDS = "round,test_auroc,server_valid_loss,seconds\n0,0.5,0.7,\n1,0.75,0.5,2.0\n"
CLIENTS = "round,client,valid_loss,seconds\n0,Ulm,0.8,\n1,Ulm,0.6,1.0\n"
SETTINGS = {"strategy": "fedavg", "seed": 7, "home": "/home/me", "dataset": "/data/celeba"}


@pytest.fixture
def tracked(make_run: Callable[..., Path]) -> Path:
    """A run with one picture."""
    info = {"config": SETTINGS, "dataset": {"name": "/data/celeba", "fingerprint": "ab"}}
    csv = {"rounds": ROUNDS, "clients": CLIENTS}
    return make_run("2026-01-01_one", info=info, csv=csv, summary={"test_auroc": 0.8})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # theirs
def test_tensorboard_has_rounds_clients_settings_and_pictures(tracked: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert track(tracked, "tensorboard") == f"tensorboard --logdir {tracked.parent}"
    events = EventAccumulator(str(tracked / "tensorboard"))
    events.Reload()
    curve = [(one.step, one.value) for one in events.Scalars("test/auroc")]
    assert curve == [(0, 0.5), (1, 0.75)]
    assert [one.value for one in events.Scalars("client Ulm/valid_loss")] == pytest.approx(
        [0.8, 0.6]
    )
    assert [one.value for one in events.Scalars("round/seconds")] == [2.0]
    assert [one.value for one in events.Scalars("final/auroc")] == pytest.approx([0.8])
    assert "rounds_auroc" in events.Tags()["images"]
    assert events.PluginTagToContent("hparams")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # theirs
def test_mlflow_has_rounds_clients_settings_and_pictures(
    tracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    address = f"sqlite:///{tracked.parent / 'mlflow.db'}"
    assert track(tracked, "mlflow") == f"mlflow ui --backend-store-uri {address}"
    client = mlflow.MlflowClient(address)
    experiment = client.get_experiment_by_name("celeba-fl")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == tracked.name
    assert run.info.status == "FINISHED"
    assert run.data.params == {key: str(value) for key, value in SETTINGS.items()}
    curve = client.get_metric_history(run.info.run_id, "test/auroc")
    assert [(one.step, one.value) for one in curve] == [(0, 0.5), (1, 0.75)]
    assert run.data.metrics["client Ulm/valid_loss"] == 0.6
    assert run.data.metrics["final/auroc"] == 0.8
    files = [one.path for one in client.list_artifacts(run.info.run_id, "pictures")]
    assert "pictures/rounds_auroc.png" in files


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # theirs
def test_trackio_has_rounds_clients_and_settings(
    tracked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    assert track(tracked, "trackio") == "trackio show --project celeba-fl"
    [run] = trackio.Api().runs("celeba-fl")
    assert run.name == tracked.name
    assert run.config is not None
    assert run.config["strategy"] == "fedavg"
    logs = SQLiteStorage.get_logs("celeba-fl", tracked.name)
    curve = [(one["step"], one["test/auroc"]) for one in logs if "test/auroc" in one]
    assert curve == [(0, 0.5), (1, 0.75)]
    assert [one["final/auroc"] for one in logs if "final/auroc" in one] == [0.8]


def test_a_run_is_followed_until_it_ends(
    make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[int, float]] = []
    told: list[Any] = []

    class Tool:
        where = "here"

        def __init__(self, run: Any, settings: Any) -> None:
            told.append(settings)

        def scalars(self, values: Any, step: int) -> None:
            written.append((step, values["test/auroc"]))
            threading.Timer(0.05, goes_on).start()

        def finish(self, values: Any, pictures: Any) -> None:
            told.append(values)

    def goes_on() -> None:
        (path / "rounds.csv").write_text(ROUNDS)
        info = json.loads((path / "run.json").read_text())
        (path / "run.json").write_text(json.dumps({**info, "status": "stopped"}))

    monkeypatch.setitem(tracking.TRACKERS, "tool", Tool)
    monkeypatch.setattr(tracking, "WAIT", 0.1)
    monkeypatch.setattr(tracking, "_pictures", lambda run: {})
    info = {"config": SETTINGS, "status": "running", "updated": datetime.now(UTC).isoformat()}
    path = make_run("run", info=info, csv={"rounds": ROUNDS.rpartition("1,")[0]})
    assert track(path, "tool", follow=True) == "here"
    assert written == [(0, 0.5), (1, 0.75)]
    assert told == [SETTINGS, {"auroc": 0.75}]


def test_a_tool_that_is_not_installed_is_named_with_its_extra(
    tracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise ImportError("No module named 'mlflow'")

    monkeypatch.setitem(tracking.TRACKERS, "mlflow", missing)
    with pytest.raises(InputError, match=r"pip install 'celeba-fl\[mlflow\]'"):
        track(tracked, "mlflow")


def test_a_crate_says_what_was_done_by_what_to_what(tracked: Path) -> None:
    from rocrate.rocrate import ROCrate

    file = write_crate(tracked)
    assert "/data" not in file.read_text()
    assert "/home/me" not in file.read_text()
    crate = ROCrate(str(tracked))
    [action] = [one for one in crate.get_entities() if one.type == "CreateAction"]
    assert action["instrument"]["name"] == "celeba-fl"
    assert action["actionStatus"] == "http://schema.org/CompletedActionStatus"
    objects = {one.id: one for one in action["object"]}
    assert objects["#data"]["name"] == "celeba"
    assert objects["#seed"]["value"] == "7"
    assert {one.id for one in action["result"]} == {
        *("run.json", "summary.json", "rounds.csv", "clients.csv")
    }
