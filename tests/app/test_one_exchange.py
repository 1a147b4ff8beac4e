"""One exchange a round leaves what two leave, to the last digit; and a kill changes nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from kinds import keys_of_kinds, left
from toys import write_sites
from two_exchanges import TwoExchanges

from celeba_fl import server_app
from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import run_inline
from celeba_fl.rounds.parts import answer_together
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.recorder import Recorder

BYTES = {"bytes_up", "bytes_down"}
# Who fails at what, in which round: one that cannot train counts all the same, and the reverse.
FAILURES = {("evaluate", 0, 1), ("train", 1, 2), ("evaluate", 2, 2), ("evaluate", 1, 3)}


@pytest.fixture(scope="module")
def kinds(
    toy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """The run-config keys of each kind of run."""
    folder = tmp_path_factory.mktemp("kinds")
    kinds = keys_of_kinds(toy, folder)
    kinds["cohorts"] = {
        **kinds["fedadam"],
        "strategy": "fedyogi",
        "fraction-train": 0.7,
        "fraction-evaluate": 0.4,
    }
    kinds["closed form"] = {**kinds["fedavg"], "strategy": "closed-form"}
    kinds["none"] = {**kinds["fedavg"], "dataset": "none", "thresholds": "valid"}
    kinds["stops"] = {**kinds["none"], "watch": "accuracy", "patience": 1, "learning-rate": 0.3}
    kinds["failures"] = kinds["fedadam"]
    sites = write_sites(folder / "sites", Path(toy["dataset"]))
    kinds["sites"] = {str(site.name): str(site) for site in sites}
    return {kind: {**keys, "num-server-rounds": 3} for kind, keys in kinds.items()}


def failing(message: Message, context: Context) -> Message:
    """Answer, unless it is in `FAILURES`."""
    kind, client = message.metadata.message_type, int(context.node_config["partition-id"])
    config = message.content.config_records["config"]
    if (kind, client, config.get("server-round")) in FAILURES:
        raise RuntimeError("no power")
    return client_app(message, context)


def with_failures() -> ClientApp:
    app = ClientApp()
    for register in (app.query, app.train, app.evaluate):
        register()(failing)
    answer_together(app)
    return app


def run(kinds: Mapping[str, Any], kind: str, folder: Path, **keys: Any) -> Path:
    """Run it, on sites where the server has no data."""
    nodes: int | Sequence[Mapping[str, Any]] = 3
    if kind in ("none", "stops"):
        sites = {k: v for k, v in kinds["sites"].items() if k != "num-server-rounds"}
        nodes = [{"site": name, "data-path": path} for name, path in sites.items()]
    app = with_failures() if kind == "failures" else client_app
    config = RunConfig.load({**kinds[kind], "results-dir": str(folder), **keys})
    run_inline(config, nodes, server_app.app, app)
    return read_runs(folder)[0].path


def figures(path: Path) -> dict[str, Any]:
    """All that a run has left, but for what depends on when and in which messages."""
    found = left(path)
    rows = [{k: v for k, v in row.items() if k not in BYTES} for row in found["rounds.csv"]]
    return {k: v for k, v in found.items() if "checkpoints" not in k} | {"rounds.csv": rows}


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "kind",
    [
        *("fedavg", "cohorts", "init", "closed form", "stops", "failures"),
        *(pytest.param(one, marks=SLOW) for one in ("lenet", "dcgan", "corrections", "none")),
    ],
)
def test_one_exchange_leaves_what_two_leave(
    kinds: dict[str, Any], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = figures(run(kinds, kind, tmp_path / "one"))
    monkeypatch.setattr(server_app, "Loop", TwoExchanges)
    two = figures(run(kinds, kind, tmp_path / "two"))
    for name in two:
        assert one[name] == two[name], name
    assert one.keys() == two.keys()
    if kind == "stops":
        assert one["run.json"]["status"] == "stopped"


class Killed(BaseException):
    """Not even `except Exception` hears of it."""


@pytest.mark.parametrize("kind", ["cohorts", pytest.param("dcgan", marks=pytest.mark.slow), "none"])
def test_a_run_killed_between_the_halves_ends_as_if_it_had_not_been(
    kinds: dict[str, Any], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All have trained round 3 and counted for round 2, of which there is no record yet."""
    whole = left(run(kinds, kind, tmp_path / "whole"))
    record = Recorder.record

    def kill(self: Recorder, done: Any) -> dict[str, float]:
        if done.server_round == 2:
            raise Killed
        return record(self, done)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "record", kill)
        with pytest.raises(Killed):
            run(kinds, kind, tmp_path / "killed")
    assert read_runs(tmp_path / "killed")[0].rounds == 1
    assert left(run(kinds, kind, tmp_path / "killed", resume="latest")) == whole
