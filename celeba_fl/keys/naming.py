"""Keys: what people call a run."""

from dataclasses import dataclass

from celeba_fl.common.keys import Keyed, key
from celeba_fl.common.names import check_note, check_run_name

LABELS = ("name", "note")


@dataclass(frozen=True)
class NamingKeys(Keyed):
    """What people call a run."""

    name: str = key(
        "what the run is called, with a number behind it where that is taken; empty: the "
        "experiment and what differs from it",
        "",
        empty=True,
    )
    note: str = key("what there is to say of the run, for whoever reads of it", "", empty=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name:
            check_run_name("name", self.name)
        check_note("note", self.note)
