"""What holds for all pages of the dashboard."""

from pathlib import Path

import pytest
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.testing.v1 import AppTest

from celeba_fl.dashboard import all_runs


def test_parts_of_the_page_before_are_gone_when_a_page_begins(
    app: AppTest, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = app.run()._fragment_storage
    before = list(kept._fragments)
    assert before  # the list of runs, which shows itself again
    seen: list[bool] = []

    def show_page() -> None:
        context = get_script_run_ctx()
        assert context
        seen.extend(context.fragment_storage.contains(part) for part in before)

    monkeypatch.setattr(all_runs, "show_page", show_page)
    app.run()
    assert not app.exception
    assert seen == [False] * len(before)
