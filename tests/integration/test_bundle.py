"""The bundle that `flwr build` makes is all that a run needs."""

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import tomli_w
from engine import APP, BIN

from celeba_fl.runs.reading import read_runs

# The checkout is on the path of an editable installation; here it is taken off.
RUN = """
import sys
bundle, checkout, experiment = sys.argv[1:]
sys.path = [bundle, *(path for path in sys.path if path not in ("", checkout))]
import celeba_fl
assert celeba_fl.__file__.startswith(bundle), celeba_fl.__file__
from celeba_fl.cli.app import app
app(["run", experiment, "--inline"])
"""


def test_a_run_from_the_bundle_alone(toy: dict[str, Any], tmp_path: Path) -> None:
    subprocess.run([BIN / "flwr", "build", "--app", APP], cwd=tmp_path, check=True)
    (built,) = tmp_path.glob("*.fab")
    bundle = tmp_path / "bundle"
    zipfile.ZipFile(built).extractall(bundle)
    experiment = tmp_path / "experiment.toml"
    experiment.write_text(tomli_w.dumps({**toy, "results-dir": str(tmp_path / "runs")}))

    command = [sys.executable, "-c", RUN, str(bundle), str(APP), str(experiment)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = read_runs(tmp_path / "runs")
    assert run.status == "completed"
    assert run.code["path"] == str(bundle / "celeba_fl")
    assert (run.path / "report.html").exists()
