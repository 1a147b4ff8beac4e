"""A process that answers requests."""

from pathlib import Path
from sysconfig import get_path

import pytest

from celeba_fl.report import helper as helper_module
from celeba_fl.report.helper import Helper

MODULE = """
from celeba_fl.report.helper import serve

def halve(number):
    print("this is no answer")
    return {"half": number / 2}

if __name__ == "__main__":
    serve(halve)
"""


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Helper:
    (tmp_path / "halving.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Helper("halving")


def test_requests_are_answered_in_turn(helper: Helper) -> None:
    assert [helper.ask(number=n) for n in (1, 4)] == [{"half": 0.5}, {"half": 2.0}]


def test_an_error_there_is_one_here_and_the_next_request_is_answered(helper: Helper) -> None:
    with pytest.raises(ValueError, match=r"^TypeError\(.*str.*int"):
        helper.ask(number="a")
    with pytest.raises(ValueError, match="unexpected keyword argument"):
        helper.ask(figure=1)
    assert helper.ask(number=3) == {"half": 1.5}


def test_a_process_that_has_ended_is_named(helper: Helper) -> None:
    helper._process.kill()
    helper._process.wait()
    with pytest.raises(ValueError, match=r"^the process of halving has ended$"):
        helper.ask(number=1)


def test_it_ends_with_what_it_is_told(helper: Helper) -> None:
    """As when the process that asks is killed."""
    assert helper._process.stdin is not None
    helper._process.stdin.close()
    assert helper._process.wait(60) == 0


def test_it_has_the_package_of_the_one_that_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which may be a bundle of Flower's, and not what is installed."""
    bundle = tmp_path / "celeba_fl"
    bundle.mkdir()
    (bundle / "__init__.py").touch()
    (bundle / "told.py").write_text('print(\'{"from": "the bundle"}\')')
    monkeypatch.setattr(helper_module, "PACKAGE", bundle)
    assert Helper("celeba_fl.told").ask() == {"from": "the bundle"}


def test_what_is_installed_does_not_come_before_pythons_own_modules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(helper_module, "PACKAGE", Path(get_path("purelib")) / "celeba_fl")
    monkeypatch.setenv("PYTHONPATH", "/mine")
    assert helper_module._environment()["PYTHONPATH"] == "/mine"
