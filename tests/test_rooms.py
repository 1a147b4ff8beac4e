"""The architecture, held by a table: a module imports from the rooms below its own alone."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from celeba_fl.common.bundle import PACKAGE

# From the bottom to the top. A room is a folder or a file of `celeba_fl/`.
ROOMS = (
    *("common", "rounds", "privacy", "keys", "config", "results", "task", "attacks", "robust"),
    *("data", "evaluation"),
    *("client_app", "strategy", "launch", "runs", "vision", "models", "teach", "deployment"),
    *("report", "inference", "export", "tasks", "membership", "server_app", "studies"),
    *("browser", "notebook", "dashboard", "cli"),
)
FLOOR = {room: floor for floor, room in enumerate(ROOMS)}


def name_of(path: Path) -> str:
    """The module of a file."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def package() -> dict[str, str]:
    """The source of every module, by its name."""
    return {name_of(path): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def imports(source: str, anywhere: bool) -> Iterator[str]:
    """What a module imports of the package, as ``celeba_fl.room.module.name``.

    With `anywhere`, in functions and for the type checker too; else only what is imported with it.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("celeba_fl"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("celeba_fl."))


def room_of(module: str) -> str:
    """The room of a module; the package itself has none."""
    return f"{module}..".split(".")[1]


def upward(modules: Mapping[str, str]) -> list[str]:
    """Imports that do not lead down, one line each."""
    return [
        f"{module} imports {target}"
        for module, source in modules.items()
        for target in imports(source, anywhere=True)
        if room_of(module) not in ("", room_of(target))  # the package shows what is on top
        if FLOOR[room_of(module)] <= FLOOR[room_of(target)]
    ]


def circle(modules: Mapping[str, str]) -> list[str]:
    """Modules that import each other as they are loaded; empty if there are none."""
    graph = {
        module: {
            next(name for name in (target, target.rpartition(".")[0]) if name in modules)
            for target in imports(source, anywhere=False)
        }
        for module, source in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_room_has_a_floor() -> None:
    assert {room_of(module) for module in package()} - {""} == set(ROOMS)


def test_imports_lead_down() -> None:
    assert upward(package()) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circle(package()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("celeba_fl.rounds.loop", "from celeba_fl.task import Task"),
        ("celeba_fl.rounds.loop", "from celeba_fl.config import RunConfig"),
        ("celeba_fl.config", "from celeba_fl.data.schema import ATTRIBUTES"),
        ("celeba_fl.report.page", "def late():\n    from celeba_fl.server_app import main"),
        ("celeba_fl.client_app", "import celeba_fl.vision.features"),
    ],
)
def test_an_import_that_leads_up_is_found(module: str, line: str) -> None:
    modules = package()
    modules[module] += f"\n{line}\n"
    (found,) = upward(modules)
    assert found.startswith(f"{module} imports celeba_fl.")


def test_a_circle_is_found() -> None:
    modules = {
        "celeba_fl.data.one": "from celeba_fl.data.other import a",
        "celeba_fl.data.other": "from celeba_fl.data.one import b",
    }
    assert set(circle(modules)) == set(modules)


def test_the_hall_is_small() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 7


def test_no_file_is_too_long_to_be_read_in_one_go() -> None:
    long = {m: n for m, source in package().items() if (n := source.count("\n")) > 350}
    assert long == {}
