"""A run gets its name: one that no other run beside it has."""

from pathlib import Path

from filelock import FileLock

from celeba_fl.common.files import write_json
from celeba_fl.common.names import check_note, check_run_name
from celeba_fl.runs.names import numbered
from celeba_fl.runs.reading import LABEL, names_in, read_run


def give_name(path: Path, name: str, note: str | None = None) -> str:
    """Call a run so, with a number behind it if another one beside it is called that; its name.

    It may be going on meanwhile. Without a `note`, it keeps the one that it has.

    Raises
    ------
    InputError
        If no run can be called so, or the note is none.
    """
    check_run_name("name", name)
    note = check_note("note", read_run(path).note if note is None else note)
    with FileLock(path.parent / ".names.lock"):
        others = {one: other for one, other in names_in(path.parent).items() if one != path}
        given = numbered(name, {*others.values(), *(one.name for one in others)})
        write_json(path / LABEL, {"name": given, "note": note})
    return given
