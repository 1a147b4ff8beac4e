"""Runs that end before their last round."""

from pathlib import Path
from typing import Any

import pytest
from adding import column, info, outcome, run

from celeba_fl.common.errors import InputError
from celeba_fl.runs.reading import read_runs


@pytest.mark.parametrize(
    ("rule", "rounds", "reason"),
    [
        ({"target": 4.0}, 2, "target: server_valid_score is 4.6667, 4.0 was asked for"),
        ({"target": 97.0, "watch": "loss"}, 2, "target: server_valid_loss is 95.3333, 97.0 was"),
        ({"max_seconds": 1e-9}, 0, "max-seconds: "),
        ({"target": 900.0}, 4, ""),  # as high as the scores of test
    ],
)
def test_stop(tmp_path: Path, rule: dict[str, Any], rounds: int, reason: str) -> None:
    path = run(tmp_path, **rule)
    assert column(path, "round") == list(range(rounds + 1))
    assert info(path)["status"] == ("stopped" if reason else "completed")
    assert info(path)["reason"].startswith(reason)
    assert (path / "model.safetensors").exists()


def test_a_stopped_run_resumes_once_its_rule_has_changed(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", target=9.0)
    run(tmp_path / "parts", target=4.0)
    with pytest.raises(InputError, match="change the rule"):
        run(tmp_path / "parts", target=4.0, resume="latest")
    path = run(tmp_path / "parts", target=9.0, resume="latest")
    assert info(path)["status"] == info(whole)["status"]
    assert outcome(path) == outcome(whole)


def test_watching_a_metric_that_the_task_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="watch = 'auroc': must be one of loss, score"):
        run(tmp_path, watch="auroc")
    (said,) = read_runs(tmp_path)
    assert said.status == "failed"
    assert not (said.path / "partitions.csv").exists()
