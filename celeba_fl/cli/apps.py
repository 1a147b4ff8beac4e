"""Apps of someone's own: `celeba-fl new`, and `celeba-fl keys` for the keys of an app."""

import keyword
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import tomli_w
import typer

from celeba_fl.cli.printing import Json, print_json
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.launch.app import app_here

TEMPLATE = Path(__file__).with_name("template")
PACKAGE, TASK = "my_app", "MyTask"
# Flower's bundles leave files of these names out, so that the template has none.
RENAMED = {Path("tests/task.py"): Path("tests/test_task.py")}
GITIGNORE = "__pycache__/\n*.egg-info/\n.pytest_cache/\n.venv/\n*.fab\n"


def new(name: Annotated[str, typer.Argument(help="name of the package and its folder")]) -> None:
    """Start a Flower app of your own in a new folder, with a small task that works."""
    if not name.isidentifier() or keyword.iskeyword(name) or name in ("celeba_fl", "flwr", "tests"):
        raise InputError(
            f"NAME = {name!r}: must be a name that Python can import and that is not taken, such "
            f"as my_task: letters, digits and _, not a digit first"
        )
    folder = Path(name)
    if folder.exists():
        raise InputError(f"NAME = {name!r}: {folder.absolute()} exists already; take another name")
    for path in sorted(path for path in TEMPLATE.rglob("*.*") if path.is_file()):
        place = path.relative_to(TEMPLATE)
        if "__pycache__" in place.parts:
            continue
        target = folder / str(RENAMED.get(place, place)).replace(PACKAGE, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text(encoding="utf-8").replace(PACKAGE, name)
        target.write_text(text, encoding="utf-8")
    (folder / ".gitignore").write_text(GITIGNORE, encoding="utf-8")
    general = {key: rules.default for key, rules in RunConfig.keys().items() if not rules.of}
    with (folder / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write(tomli_w.dumps({key: general[key] for key in general if key != "task"}))
    print(f"{folder.absolute()}: go on with\n")
    print(f"cd {name} && pip install -e . && celeba-fl run .")


def keys(as_json: Json = False) -> None:
    """List all run-config keys of the app in the current directory, as a table in Markdown."""
    config = type(RunConfig.load(app_here().config))
    if as_json:
        print_json({name: asdict(rules) for name, rules in config.keys().items()})
    else:
        print(key_table(config))


def key_table(config: type[RunConfig]) -> str:
    """The keys of a task's run config as a table in Markdown."""
    rows = [("key", "type and range", "default", "meaning", "read by"), ("---",) * 5]
    for name, rules in config.keys().items():
        default = str(rules.default).lower() if isinstance(rules.default, bool) else rules.default
        readers = ", ".join(rules.of.split()) or "every task"
        if name in config.own_keys():
            readers = "this app"
        shown = f"`{default}`" if default != "" else "empty"
        rows.append((f"`{name}`", rules.range, shown, rules.meaning, readers))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
