"""The systemd units name options that Flower has."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from celeba_fl import deployment

UNITS = sorted(Path(deployment.__file__).parent.glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_every_option_is_one_of_the_commands(unit):
    text = unit.read_text()
    (command,) = re.findall(r"^ExecStart=/opt/celeba-fl/\.venv/bin/(.*?[^\\])$", text, re.M | re.S)
    name, options = command.split()[0], re.findall(r"--[\w-]+", command)
    help = subprocess.run(
        [Path(sys.executable).parent / name, "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert len(options) > 3
    assert [
        option for option in options if f"[{option} " not in help and f"[{option}]" not in help
    ] == []


def test_there_is_one_for_the_server_and_one_for_a_site():
    assert [unit.stem for unit in UNITS] == ["celeba-fl-superlink", "celeba-fl-supernode"]
