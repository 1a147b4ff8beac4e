"""Secure sums under real SuperNodes, each with a roster and a signing key of its own."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from safetensors.numpy import load_file

from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.deployment.credentials import ROSTER
from celeba_fl.deployment.local import LocalDeployment, node_configs
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import RunInfo, read_runs
from celeba_fl.server_app import app as server_app

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDeployment]:
    """Three nodes, of which the first has a roster of its own in the folder `of-0`."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("processes are found through /proc, which is not here")
    folder = tmp_path_factory.mktemp("secure")
    nodes = node_configs(3, [])
    nodes[0]["roster"] = str(folder / "of-0" / ROSTER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLWR_HOME", str(folder / "flwr"))
        with LocalDeployment(folder / "here", "secure", nodes) as deployed:
            yield deployed


def roster_without(deployment: LocalDeployment, name: str) -> None:
    """Give the first node the roster of all, but for a client."""
    lines = (deployment.credentials / ROSTER).read_text().splitlines()
    path = Path(str(deployment.nodes[0]["roster"]))
    path.parent.mkdir(exist_ok=True)
    kept = [line for line in lines if line.split("=")[0].strip(' "') != name]
    assert len(kept) == len(lines) - bool(name)
    path.write_text("\n".join(kept))


def run_of(toy: dict[str, Any], folder: Path) -> tuple[str, RunInfo]:
    """The output of `celeba-fl run` with the secure closed form, and its run."""
    keys = {
        **toy,
        "strategy": "closed-form",
        "num-server-rounds": 1,
        "secure-aggregation": True,
        "min-available-clients": 3,
        "min-replies": 1.0,
        "round-retries": 0,
        "results-dir": str(folder / "runs"),
    }
    experiment = folder / "experiment.toml"
    experiment.write_text(tomli_w.dumps(keys))
    done = subprocess.run(
        ["celeba-fl", "run", str(experiment), "secure"],
        env=LocalDeployment.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    runs = read_runs(folder / "runs")
    assert len(runs) == 1, done.stdout + done.stderr
    return done.stdout + done.stderr, runs[0]


def test_the_closed_form_of_sites_that_know_each_other_is_that_of_a_plain_run(
    deployment: LocalDeployment, toy: dict[str, Any], tmp_path: Path
) -> None:
    roster_without(deployment, "")
    output, run = run_of(toy, tmp_path)
    assert run.status == "completed", output
    plain = {**toy, "strategy": "closed-form", "num-server-rounds": 1}
    config = RunConfig.load({**plain, "results-dir": str(tmp_path / "plain")})
    run_inline(config, 3, server_app, client_app)
    (other,) = read_runs(tmp_path / "plain")
    models = [load_file(one.path / "model.safetensors") for one in (run, other)]
    assert models[0].keys() == models[1].keys()
    for key, array in models[0].items():
        assert (array == models[1][key]).all(), key


def test_a_site_refuses_a_client_that_is_not_in_its_roster_by_name(
    deployment: LocalDeployment, toy: dict[str, Any], tmp_path: Path
) -> None:
    roster_without(deployment, "2")
    output, run = run_of(toy, tmp_path)
    assert run.status == "failed", output
    assert "client 2 is not in the roster of 0" in output
