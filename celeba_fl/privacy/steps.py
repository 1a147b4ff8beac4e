"""The messages of one exchange of secure sums, from the server's side."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from celeba_fl.common.errors import InputError
from celeba_fl.privacy.packets import MASKED, SECURE, SHARE, UNMASK, packed, unpacked
from celeba_fl.privacy.party import Packet
from celeba_fl.privacy.tally import Tally
from celeba_fl.rounds.checking import fault
from celeba_fl.rounds.exchange import PhaseProgress, Replies, send_and_wait
from celeba_fl.rounds.messages import QUERY, seconds

Read = Callable[[str, RecordDict], None]


@dataclass
class Steps:
    """The steps of an exchange, in which several tallies may be at once."""

    grid: Grid
    names: Mapping[int, str]  # client by node id
    server_round: int
    phase: str
    timeout: float
    bytes_down: int = 0
    bytes_up: int = 0
    failures: dict[str, str] = field(default_factory=dict)  # reasons by client, of all steps
    seconds: dict[str, float] = field(default_factory=dict)  # that a reply took a client

    def share(self, tallies: Iterable[Tally]) -> None:
        """Have the members that have not shared yet do so."""
        packets, by_serial = defaultdict(list), {tally.serial: tally for tally in tallies}
        for tally in by_serial.values():
            for name in tally.keys.keys() - tally.shared.keys():
                packets[name].append(tally.ask_to_share(name))
        self._ask(
            {name: {"step": SHARE, SHARE: asked} for name, asked in packets.items()},
            lambda name, content: _take_shared(name, unpacked(content), by_serial),
        )

    def mask(
        self,
        messages: Iterable[Message],
        tallies: Iterable[Tally],
        on_progress: Callable[[PhaseProgress], None],
        meanwhile: Callable[[], None],
    ) -> None:
        """Have messages answered in masked words, which are added up as they arrive."""
        by_serial = {tally.serial: tally for tally in tallies}

        def read(name: str, content: RecordDict) -> None:
            layouts, words = unpacked(content)["layouts"], content.array_records[MASKED]
            self.seconds[name] = seconds(content)
            for serial, layout in layouts.items():
                by_serial[int(serial)].take_masked(name, str(layout), words[serial].numpy())
            del content[MASKED]

        self._send(messages, read, on_progress, meanwhile)

    def unmask(self, tallies: Iterable[Tally], coming: Iterable[Tally], *, last: bool) -> None:
        """Have survivors give what takes the masks off, and share for tallies to come.

        After the `last` exchange of a run they have no keys any more.
        """
        open_, begun = ({tally.serial: tally for tally in of} for of in (tallies, coming))
        packets = {}
        for name in sorted({name for tally in open_.values() for name in tally.survivors}):
            sums = [tally.ask_to_unmask() for tally in open_.values() if name in tally.survivors]
            shares = [tally.ask_to_share(name) for tally in begun.values()]
            packets[name] = {"step": UNMASK, "sums": sums, SHARE: shares, "last": last}

        def read(name: str, content: RecordDict) -> None:
            said = unpacked(content)
            for serial, given in said["unmasked"].items():
                open_[int(serial)].take_shares(name, given)
            _take_shared(name, said, begun)

        self._ask(packets, read)

    def _ask(self, packets: Mapping[str, Packet], read: Read) -> None:
        nodes = {name: node for node, name in self.names.items()}
        messages = [
            Message(RecordDict({SECURE: packed(packet)}), nodes[name], QUERY)
            for name, packet in packets.items()
        ]
        self._send(messages, read, lambda _: None, lambda: None)

    def _send(
        self,
        messages: Iterable[Message],
        read: Read,
        on_progress: Callable[[PhaseProgress], None],
        meanwhile: Callable[[], None],
    ) -> None:
        done: Replies = send_and_wait(
            self.grid,
            {self.phase: messages},
            self.names,
            server_round=self.server_round,
            phase=self.phase,
            timeout=self.timeout,
            on_progress=on_progress,
            meanwhile=meanwhile,
            take={self.phase: lambda name, content: fault(read, name, content)},
        )[self.phase]
        self.failures |= done.failures
        self.bytes_down += done.bytes_down
        self.bytes_up += done.bytes_up


def _take_shared(name: str, said: Packet, by_serial: Mapping[int, Tally]) -> None:
    shared = {int(serial): one for serial, one in said["shared"].items()}
    if not shared.keys() <= by_serial.keys():
        raise InputError("nobody asked it for these shares")
    for serial, one in shared.items():
        by_serial[serial].take_shared(name, one)
