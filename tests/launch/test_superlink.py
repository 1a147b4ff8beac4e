"""A local SuperLink of an environment that is gone is recognised, and no other is."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeba_fl.common.errors import InputError
from celeba_fl.launch.superlink import check_local_superlink

PORT = "1"  # on which nobody listens
HERE = {"FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": PORT}


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Path]:
    """An environment with a process that calls itself a local SuperLink."""
    folder = tmp_path / "old"
    (folder / "bin").mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text(f"home = {Path(sys.base_prefix) / 'bin'}\n")
    python = folder / "bin" / "python"
    python.symlink_to(os.path.realpath(sys.executable))
    waits = "import time; print(flush=True); time.sleep(600)"
    words = [str(python), "-c", waits, "flower-superlink", "--simulation", "--port", PORT]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield folder
        process.kill()


def test_one_that_is_as_it_was_is_taken(old: Path) -> None:
    check_local_superlink(HERE)


def test_one_whose_environment_is_gone_is_refused_with_the_cure(old: Path) -> None:
    shutil.rmtree(old)
    with pytest.raises(
        InputError,
        match=r"was started with .*old/bin/python, which is there "
        r"no more; end it with: kill \d+, and run this again",
    ):
        check_local_superlink(HERE)
    check_local_superlink({"FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": "2"})
