"""A virtual clock: what clients take is said."""

from pathlib import Path

import pytest
from adding import Nodes, adding_app, column, run

from celeba_fl.common.errors import InputError
from celeba_fl.launch.virtual import VirtualClock, client_seconds
from celeba_fl.rounds.clock import Clock, clock_of


def test_time_goes_on_to_the_next_reply_but_not_beyond() -> None:
    clock = VirtualClock()
    clock.expect("late", 5.0)
    clock.expect("soon", 2.0)
    clock.wait(0.1, until=1.0)
    assert clock.now() == 1.0
    clock.wait(0.1, until=9.0)
    assert clock.now() == 2.0
    assert [clock.is_due(key) for key in ("late", "soon", "unknown")] == [False, True, True]
    clock.wait(0.1, until=9.0)
    assert clock.now() == 5.0
    clock.wait(0.1, until=9.0)  # nobody has asked for what was due at 5
    assert clock.now() == 9.0


def test_a_grid_has_its_clock_or_that_of_everyone() -> None:
    grid = Nodes(adding_app(), 2)
    assert type(clock_of(grid)) is Clock
    grid.clock = VirtualClock()
    assert clock_of(grid) is grid.clock


@pytest.mark.parametrize(
    ("text", "usual", "seconds"),
    [
        ("", 1.0, {}),
        ("0.5", 0.5, {}),
        ("2, 3=20", 2.0, {"3": 20.0}),
        ("hospital-a = 20, b=1e3", 1.0, {"hospital-a": 20.0, "b": 1000.0}),
    ],
)
def test_seconds_by_client(text: str, usual: float, seconds: dict[str, float]) -> None:
    assert client_seconds(text) == (usual, seconds)


@pytest.mark.parametrize("text", ["0", "-1", "a", "3=", "1, 2=nan", "inf", "none.csv", "1;2"])
def test_other_seconds_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=f"client-seconds = '{text}': "):
        client_seconds(text)


def test_seconds_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "clients.csv"
    file.write_text("round,client,seconds\n1,a,2\n1,b,9\n2,a,4\n")
    assert client_seconds(str(file)) == (1.0, {"a": 3.0, "b": 9.0})
    for wrong in ("client,time\na,1\n", "client,seconds\na,x\n", "client,seconds\na,0\n", "\xff"):
        file.write_text(wrong)
        if wrong != "\xff":
            with pytest.raises(InputError, match="client-seconds"):
                client_seconds(str(file))


def test_a_synchronous_round_takes_as_long_as_its_slowest_client(tmp_path: Path) -> None:
    path = run(tmp_path, client_seconds="2, 1=30.5")
    assert column(path, "seconds") == [0, 30.5, 30.5, 30.5, 30.5]
    late = run(tmp_path / "late", client_seconds="2, 1=30.5", round_timeout=9.0)
    assert column(late, "seconds") == [0, 9, 9, 9, 9]
    assert column(late, "failures") == [1] * 5
