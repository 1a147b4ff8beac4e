"""A `flwr` that says what it is told to, and notes what it was asked."""

import json
import sys
from pathlib import Path
from typing import Any

PYTHON = sys.executable
FLWR = """#!{python}
import json, os, shutil, sys
words = sys.argv[1:]
said = {said!r}
with open({log!r}, "a+") as file:
    file.seek(0)
    asked = sum(json.loads(line)[0][0] == words[0] for line in file)
    file.write(json.dumps([words, os.environ.get("FLWR_TELEMETRY_ENABLED")]) + "\\n")
if "--run-config" in words:
    shutil.copy(words[words.index("--run-config") + 1], {config!r})
print("a line of Flower's own")
answer = said.get(words[0], "the log")
if isinstance(answer, list):
    answer = answer[asked]
print(answer if isinstance(answer, str) else json.dumps(answer))
"""


class Flwr:
    """A `flwr` on the PATH that says what it is told to, and notes what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.toml"

    def says(self, **said: Any) -> None:
        """Have a command answer so; a list has its answer to each time that it is asked."""
        run = {"success": True, "run-id": "77"}
        ls = {"success": True, "runs": [{"status": "finished:completed", "status-details": ""}]}
        script = FLWR.format(
            python=PYTHON,
            said={"run": run, "ls": ls, **said},
            log=str(self.folder / "log"),
            config=str(self.config),
        )
        (self.folder / "flwr").write_text(script)
        (self.folder / "flwr").chmod(0o755)

    @property
    def asked(self) -> list[list[str]]:
        return [json.loads(line)[0] for line in (self.folder / "log").read_text().splitlines()]
