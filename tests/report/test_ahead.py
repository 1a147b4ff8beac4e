"""The process that writes the report of a run."""

import shutil
from pathlib import Path

import pytest
from pages import PageParser, check_page

from celeba_fl.common.log import FLOWER, LOG
from celeba_fl.report import ahead, page
from celeba_fl.report.ahead import writer


def test_it_writes_the_page_of_a_run(toy_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(toy_run, tmp_path / toy_run.name))
    made = writer().ask(path=str(run))
    assert made == {"report": str(run / "report.html"), "warnings": []}
    check_page(PageParser(run / "report.html"))


def test_warnings_are_for_the_log_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path) -> Path:
        LOG.warning("Report: %s", "no ink")
        LOG.info("Nothing else")
        return path

    monkeypatch.setattr(FLOWER, "handlers", FLOWER.handlers)
    monkeypatch.setattr(page, "write_report", write)
    assert ahead._write("a") == {"report": "a", "warnings": ["Report: no ink"]}
