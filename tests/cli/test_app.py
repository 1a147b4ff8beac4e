"""The `celeba-fl` command as a whole."""

import errno
from collections.abc import Callable

import pytest

Call = Callable[..., int]
Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "nothing"], "no experiment 'nothing'"),
        (["run", "drawn-iid", "sede=1"], "did you mean 'seed'?"),
        (["run", "drawn-iid", "seed=-1"], "seed = -1: must be at least 0"),
        (["run", "drawn-iid", "seed=x"], "seed = 'x': must be a whole number"),
        (["run", "drawn-iid", "one", "two"], "one SuperLink at most"),
    ],
)
def test_wrong_words_get_one_line_and_status_2(
    call: Call, capsys: Capture, words: list[str], message: str
) -> None:
    assert call(*words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("celeba-fl: ")
    assert message in said.err
    assert said.err.count("\n") == 1


def test_a_disk_that_the_user_can_mend_gets_one_line(
    call: Call, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/runs/model")

    monkeypatch.setattr("celeba_fl.cli.app.app", full)
    assert call() == 2
    right = "celeba-fl: /runs/model: No space left on device; make room there, and repeat"
    assert capsys.readouterr().err.startswith(right)


def test_help_names_the_commands(call: Call, capsys: Capture) -> None:
    call("--help")
    said: Callable[[str], bool] = capsys.readouterr().out.__contains__
    assert all(map(said, ("run", "runs", "--help")))


@pytest.mark.parametrize("words", [("predict", "a.jpg"), ("baseline",), ("sample",)])
def test_without_a_run(call: Call, capsys: Capture, words: tuple[str, ...]) -> None:
    assert call(*words) == 2
    assert "celeba-fl: there is no run in " in capsys.readouterr().err
