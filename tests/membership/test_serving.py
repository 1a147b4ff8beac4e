"""A federation that stays open."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from adding import info
from flwr.app import Context, RecordDict
from late import Late, figures, keys, nodes, solve, weight

from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import InlineGrid
from celeba_fl.membership import joining, serving
from celeba_fl.membership.solving import make_head
from celeba_fl.runs.tables import read_csv
from celeba_fl.server_app import app as server_app

Patch = pytest.MonkeyPatch


class Coming(InlineGrid):
    """A grid whose nodes are there as they are at each look."""

    looks: Iterator[Callable[[], Iterable[int]]]

    def get_node_ids(self) -> Iterable[int]:
        ids = list(super().get_node_ids())
        return [ids[i] for i in next(self.looks)()]


def serve(path: Path, *plan: Callable[[], Iterable[int]], of: int = 4) -> None:
    """Serve a run while nodes come and go; each step of the plan is a look at who is there."""
    config = RunConfig.load(keys(path.parent, join=str(path), stay_open=True))
    grid = Coming(client_app, nodes(*range(of)), config.to_dict())
    grid.looks = iter(plan)
    server_app(grid, Context(grid.run.run_id, 0, {}, RecordDict(), {**config.to_dict()}))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: Patch) -> None:
    monkeypatch.setattr(serving, "POLL_SECONDS", 0)


def test_sites_come_when_they_like(tmp_path: Path, monkeypatch: Patch) -> None:
    path = solve(tmp_path / "open", (0,))
    seen: list[tuple[float, str]] = []

    def here(*at: int) -> Callable[[], Iterable[int]]:
        def look() -> Iterable[int]:
            state = json.loads((path / "serving.json").read_text())["state"]
            seen.append((weight(path), state))
            return at

        return look

    def stop() -> Iterable[int]:
        (path / "stop").touch()
        return (0, 1, 2, 3)

    (path / "serving.json").write_text('{"state": "before"}')

    def broken(client: int, number: int) -> None:
        if client == 2:
            raise RuntimeError("no power")

    monkeypatch.setattr(Late, "fault", staticmethod(broken))
    serve(path, lambda: (0,), here(0, 1), here(0, 1), here(1, 2, 3), stop)
    # 2 cannot describe itself: that harms nobody.
    assert [value for value, _ in seen] == [1, 11, 11]
    monkeypatch.undo()
    assert weight(path) == 1011
    assert not (path / "stop").exists()
    assert json.loads((path / "serving.json").read_text())["state"] == "ended"
    assert info(path)["status"] == "completed"
    heads = [(row["clients"], row["joined"]) for row in read_csv(path / "heads.csv")]
    assert heads == [("1", ""), ("2", "1"), ("3", "3")]
    assert len(list((path / "heads").iterdir())) == 3
    # The last head was evaluated by those that were there then.
    assert {row["client"] for row in read_csv(path / "clients.csv")} == {"1", "3"}


def test_it_ends_by_an_interrupt(tmp_path: Path) -> None:
    def interrupt() -> Iterable[int]:
        raise KeyboardInterrupt

    path = solve(tmp_path, (0, 1))
    before = figures(path)
    serve(path, lambda: (0, 1), interrupt)
    assert figures(path) == before
    assert json.loads((path / "serving.json").read_text())["state"] == "ended"


def test_a_head_that_cannot_be_made_is_made_later(tmp_path: Path, monkeypatch: Patch) -> None:
    path = solve(tmp_path, (0,))
    left = [OSError("no space")]

    def full(*arguments: Any) -> None:
        if left:
            raise left.pop()
        make_head(*arguments)

    monkeypatch.setattr(joining, "make_head", full)
    monkeypatch.setattr(serving, "AGAIN_SECONDS", 0)

    def stop() -> Iterable[int]:
        (path / "stop").touch()
        return (0, 1)

    serve(path, lambda: (0, 1), stop)
    assert weight(path) == 11
