"""The tests of the page's JavaScript, by node's test runner."""

import shutil
import subprocess
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parent / "js").glob("*.test.js"))
PAGE = Path(__file__).parents[2] / "celeba_fl" / "browser" / "page"
pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_javascript(file):
    command = ["node", "--test-timeout=60000", "--test", "--test-reporter=tap", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_of_the_page_are_short():
    """As short as those of Python: at most 350 lines, none of them longer than 100 characters."""
    for file in PAGE.rglob("*.js"):
        lines = file.read_text().splitlines()
        assert len(lines) <= 350, file.name
        assert max(map(len, lines)) <= 100, file.name
