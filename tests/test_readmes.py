"""What the READMEs show exists: links, pictures, commands, flags, settings and files."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tomli
import typer
from private import flwr_app

from celeba_fl.cli.app import app as celeba_fl_app
from celeba_fl.config import RunConfig

APP = Path(__file__).parents[1]
FOLDERS = ("celeba_fl", "tests")
PAGES = sorted(page for folder in FOLDERS for page in (APP / folder).rglob("*.md"))
READMES = ["README.md", *(page.relative_to(APP).as_posix() for page in PAGES)]

KEYS = set(RunConfig.load().to_dict())
# Settings that are not run-config keys: those of a node and those of a federation.
NODE_KEYS = {"site", "data-path", "partition-id", "num-partitions", "teacher"}
NODE_KEYS |= {"roster", "signing-key", "privacy-limit"}
FEDERATION_KEYS = {
    "num-supernodes",
    "client-resources-num-cpus",
    "client-resources-num-gpus",
    "init-args-num-cpus",
}
# Keys of somebody's own task: those in the pyproject.toml of the app that `celeba-fl new` makes.
OWN_KEYS = {
    key
    for project in (APP / "celeba_fl").rglob("pyproject.toml")
    for key in tomli.loads(project.read_text(encoding="utf-8"))["tool"]["flwr"]["app"]["config"]
}
# Not settings: how partitions.csv names a class (`label=cat`), and what a task's `key` is given.
NO_SETTINGS = {"label", "kind", "of"}
# A benchmark's own argument, beside run-config keys.
BENCHMARK_KEYS = {"cifar10"}

ASSIGNMENT = re.compile(r"(?P<key>[a-z][a-z0-9-]*)=(?P<value>.*)", re.DOTALL)
ENVIRONMENT = re.compile(r"[A-Z_]+=\S*")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)", re.DOTALL)
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*|\.\.\.|key=value|KEY=VALUE")


@dataclass(frozen=True)
class Readme:
    """A README: its path from the checkout, its prose, and its code by language."""

    path: Path
    prose: str
    blocks: tuple[tuple[str, str], ...]

    @property
    def spans(self) -> list[str]:
        """Code within the prose, on one line each."""
        return [" ".join(span.split()) for span in SPAN.findall(self.prose)]

    @property
    def anchors(self) -> set[str]:
        """What GitHub makes of the headings."""
        anchors: set[str] = set()
        for heading in re.findall(r"^#+ +(.*)$", self.prose, re.MULTILINE):
            text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
            slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            number = 0
            while (anchor := f"{slug}-{number}" if number else slug) in anchors:
                number += 1
            anchors.add(anchor)
        return anchors


@cache
def read(name: str) -> Readme:
    """Read a README of the checkout."""
    text = (APP / name).read_text(encoding="utf-8")
    return Readme(Path(name), FENCE.sub("", text), tuple(FENCE.findall(text)))


def commands(readme: Readme) -> Iterator[list[str]]:
    """The words of every command in code blocks, and in code within the prose."""
    for language, block in readme.blocks:
        if language in ("bash", "console", "sh"):
            # A heredoc holds a file, no commands.
            script = re.sub(r"<<(\w+)\n.*?^\1$", "", block, flags=re.DOTALL | re.MULTILINE)
            yield from split(script)
    for span in readme.spans:
        if re.match(r"(\w+=\S+ )*(celeba-fl|flwr|python) ", f"{span} "):
            yield from split(span)


def split(script: str) -> Iterator[list[str]]:
    """The commands of a script, without the variables that are set for one of them."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>()")
        lexer.whitespace_split, lexer.commenters = True, "#"
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("&|;()"):
                while words and ENVIRONMENT.fullmatch(words[0]):
                    words.pop(0)
                if words:
                    yield words
                words = []
            else:
                words.append(word)


@cache
def application(name: str) -> Any:
    """The click command behind `celeba-fl` or `flwr`."""
    if name == "celeba-fl":
        return typer.main.get_command(celeba_fl_app)
    return typer.main.get_command(flwr_app())


def parse(words: list[str]) -> dict[str, Any]:
    """The parameters that a command is called with; raises AssertionError if it refuses them.

    A command named within a sentence may lack its arguments.
    """
    line, command, context = " ".join(words), application(words[0]), None
    rest = [word for word in words[1:] if word != "..."]
    while rest and not rest[0].startswith("-") and hasattr(command, "get_command"):
        context = command.context_class(command, info_name=words[0], parent=context)
        command = command.get_command(context, rest.pop(0))
        assert command is not None, f"{line}: there is no such command"
    options = {"--help", *(option for parameter in command.params for option in parameter.opts)}
    unknown = [word for word in rest if word.startswith("--") and word not in options]
    assert not unknown, f"{line}: there is no option {unknown[0]}"
    if not rest or "--help" in rest:
        return {}
    try:
        return dict(command.make_context(words[0], list(rest), parent=context).params)
    except Exception as error:
        raise AssertionError(f"{line}: {error}") from error


@pytest.mark.parametrize(
    "line",
    [
        "celeba-fl rum drawn-iid",
        "celeba-fl run drawn-iid --inlined",
        "celeba-fl deploy locally",
        "celeba-fl deploy local --nodes three",
        "flwr run . --stram",
    ],
)
def test_what_does_not_exist_is_refused(line: str) -> None:
    with pytest.raises(AssertionError):
        parse(line.split())


def check_pairs(words: list[str], keys: set[str]) -> None:
    """Every key=value among these words is one of `keys`."""
    for word in words:
        if word.startswith("-") or PLACEHOLDER.fullmatch(word):
            continue
        if pair := ASSIGNMENT.fullmatch(word):
            assert pair["key"] in keys, f"{word}: there is no such key"


def is_toml(value: str) -> bool:
    """Tell a value of TOML from other code, such as Python's."""
    try:
        return bool(tomli.loads(f"value = {value}"))
    except tomli.TOMLDecodeError:
        return False


def check_experiment(name: str) -> None:
    """An experiment of ours exists; so may a file, or an app in this folder, of one's own."""
    if not PLACEHOLDER.fullmatch(name) and name != ".":
        ours = APP / "celeba_fl" / "experiments" / f"{name}.toml"
        assert ours.exists() or Path(name).suffix == ".toml", f"there is no experiment {name!r}"


@pytest.mark.parametrize("name", READMES)
def test_links_and_pictures_exist(name: str) -> None:
    readme = read(name)
    prose = SPAN.sub("", readme.prose.replace("[`", "[").replace("`]", "]"))
    targets = re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r'(?:src|href)="([^"]+)"', prose)
    missing = []
    for target in targets:
        if target.startswith(("https://", "http://")):
            continue
        place, _, anchor = target.partition("#")
        path = (APP / readme.path.parent / place).resolve() if place else APP / readme.path
        if not path.exists():
            missing.append(target)
        elif anchor:
            page = path.relative_to(APP).as_posix()
            if anchor not in read(page).anchors:
                missing.append(target)
    assert not missing, f"{name}: {missing}"


@pytest.mark.parametrize("name", READMES)
def test_commands_and_flags_exist(name: str) -> None:
    for words in commands(read(name)):
        if words[0] == "celeba-fl":
            parameters = parse(words)
            check_pairs(words, KEYS | OWN_KEYS)
            if isinstance(experiment := parameters.get("experiment"), str):
                check_experiment(experiment)
        elif words[0] == "flwr":
            parameters = parse(words)
            for overrides in parameters.get("run_config_overrides") or ():
                check_pairs(shlex.split(overrides), KEYS | OWN_KEYS)
        elif words[0] in ("python", "python3") and words[1].startswith("tests/"):
            assert (APP / words[1]).exists(), f"{name}: {words[1]}"
            source = (APP / words[1]).read_text(encoding="utf-8")
            for flag in (word for word in words[2:] if word.startswith("--")):
                assert f'"{flag}"' in source, f"{name}: {words[1]} has no {flag}"
            check_pairs(words[2:], KEYS | BENCHMARK_KEYS)


@pytest.mark.parametrize("name", READMES)
def test_settings_are_keys(name: str) -> None:
    readme = read(name)
    keys = KEYS | NODE_KEYS | FEDERATION_KEYS | OWN_KEYS | NO_SETTINGS
    for span in readme.spans:
        pair = re.match(r"([a-z][a-z0-9-]*)(?: = |=)([\w\"'.].*)", span)
        if pair and (f"{pair[1]}=" in span or is_toml(pair[2])):
            assert pair[1] in keys, f"{name}: `{span}` sets what is no key"
    for language, block in readme.blocks:
        if language == "toml":
            for key, value in tomli.loads(block).items():
                assert isinstance(value, dict) or key in keys, f"{name}: {key} is no key"


@pytest.mark.parametrize("name", READMES)
def test_files_exist(name: str) -> None:
    """Files of the checkout, by their path from it, wherever they are named."""
    text = (APP / name).read_text(encoding="utf-8")
    paths = re.findall(r"(?<![\w/.-])(?:celeba_fl|tests|\.ci|\.github)/[\w./-]*[\w/]", text)
    missing = [path for path in paths if not (APP / path).exists()]
    assert not missing, f"{name}: {missing}"
    federations = re.findall(r"simulation-[\w-]+\.toml", text)
    missing = [
        file for file in federations if not (APP / "celeba_fl" / "federations" / file).exists()
    ]
    assert not missing, f"{name}: {missing}"


@pytest.mark.parametrize("name", READMES)
def test_no_path_of_our_machines(name: str) -> None:
    text = (APP / name).read_text(encoding="utf-8")
    assert "../shared" not in text
    assert "/work/" not in text


def test_the_first_page_is_short() -> None:
    assert len((APP / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_the_house_has_every_room() -> None:
    """The tree of the package's README names its folders and files, and no others."""
    tree = read("celeba_fl/README.md").blocks[0][1]
    rooms = {line.split()[0].rstrip("/") for line in tree.splitlines()}
    package = {
        path.name
        for path in (APP / "celeba_fl").iterdir()
        if path.name
        not in ("__init__.py", "__pycache__", "README.md", "experiments", "federations")
    }
    assert rooms == package


def test_every_experiment_and_federation_is_in_a_readme() -> None:
    for folder in ("experiments", "federations"):
        text = (APP / "celeba_fl" / folder / "README.md").read_text(encoding="utf-8")
        for file in (APP / "celeba_fl" / folder).glob("*.toml"):
            assert file.stem in text, f"{folder}/README.md does not name {file.stem}"
