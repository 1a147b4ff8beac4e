"""The server that learns totals alone: exchanges as `celeba_fl.rounds.exchange` does them, summed.

An exchange is up to three messages to a client. What it is asked for, with what it needs to mask
its reply, is one; what takes the masks off is the next. Shares of secrets for an exchange to come
ride on that one if the exchange is of all clients, else they are asked for before.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from flwr.app import Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from celeba_fl.common.errors import InputError
from celeba_fl.common.flower import altered
from celeba_fl.common.log import LOG
from celeba_fl.privacy.encoding import decode
from celeba_fl.privacy.graph import least
from celeba_fl.privacy.packets import KEYS, MASK, SECURE, packed, unpacked
from celeba_fl.privacy.party import Packet
from celeba_fl.privacy.steps import Steps
from celeba_fl.privacy.summands import together, totals
from celeba_fl.privacy.tally import Tally
from celeba_fl.rounds.checking import FINAL_EVALUATION, Check, Client, Judge, fault
from celeba_fl.rounds.exchange import TOTAL, PhaseProgress, Replies, Take, send_and_wait
from celeba_fl.rounds.messages import METRICS, QUERY, SECONDS, SITS_OUT, SUMS, TRAIN, num_examples
from celeba_fl.rounds.parts import join

OTHER_FORM = "its numbers are of another form than those of most clients"
Requests = Mapping[str, Iterable[Message]]
Names = frozenset[str]


@dataclass
class SecureSums:
    """The secure exchanges of a run.

    A total in it is over `min_cohort` clients at least, and one of trained models over as many as
    make a round count, the fraction `min_replies`. What does not count is not opened either: the
    total of another attempt would differ from it by the models of single clients.
    """

    run: str
    min_cohort: int = 0
    min_replies: float = 0.0
    keys: dict[int, Packet] = field(default_factory=dict)  # what each node has advertised
    counted: Names = frozenset()  # who is in the total of the roll call
    everyone: Client = field(init=False)  # the client that they are together
    behind: dict[str, Names] = field(default_factory=dict)  # who is in the last total of a part
    _serial: int = 0
    _begun: dict[Names, Tally] = field(default_factory=dict)  # ahead of their exchange

    def introduce(
        self, grid: Grid, requests: Requests, names: Mapping[int, str], **options: Any
    ) -> dict[str, Replies]:
        """Do the exchange of the roll call, in which nodes advertise their keys."""
        asked = {part: [*messages] for part, messages in requests.items()}
        for message in (one for of_part in asked.values() for one in of_part):
            message.content[SECURE] = packed({"step": KEYS})
        done = send_and_wait(grid, asked, names, **options)
        nodes = {name: node for node, name in names.items()}
        for replies in done.values():
            for name, reply in [*replies.usable.items()]:
                sits_out = SITS_OUT in reply.content.config_records
                if why := "" if sits_out else fault(self._meet, nodes[name], reply.content):
                    del replies.usable[name]
                    replies.failures[name] = why
        return done

    def _meet(self, node: int, content: RecordDict) -> None:
        said = unpacked(content)
        self.keys[node] = {"key": str(said["key"]), "signature": str(said.get("signature", ""))}

    def describe(
        self,
        grid: Grid,
        clients: Mapping[str, Client],
        timeout: float,
        check: Callable[[Client], None],
    ) -> Client:
        """What all clients together have said of themselves in the roll call.

        Who is not in that total takes part in no other: it would be the difference.

        Raises
        ------
        InputError
            If there is no such total, or it cannot be right.
        """
        names = {client.node_id: name for name, client in clients.items()}
        requests = {QUERY: [Message(RecordDict(), node, QUERY) for node in names]}
        done = self.send_and_wait(
            grid, requests, names, server_round=0, phase=QUERY, timeout=timeout
        )[QUERY]
        for name, why in done.failures.items():
            LOG.warning("client %s cannot be counted and does not take part: %s", name, why)
        if done.total is None:
            why = next(iter(done.failures.values()))
            raise InputError(f"secure-aggregation: the clients cannot be counted: {why}")
        self.counted, self.everyone = self.behind[QUERY], together(done.total.content)
        if wrong := fault(check, self.everyone):
            raise InputError(f"secure-aggregation: the total of all clients: {wrong}")
        return self.everyone

    def check_sizes(self, sizes: Mapping[str, int]) -> None:
        """Raise InputError unless so many clients, by what asks for them, can make a total."""
        for asks, number in sizes.items():
            if 0 < number < (needed := least(self.min_cohort, number)):
                raise InputError(
                    f"secure-aggregation: a total takes {needed} clients (min-cohort), and {asks} "
                    f"asks {number}; have more of them take part"
                )

    def check_by(self, judge: Judge) -> Check:
        """The check of a run: totals are held to what those behind them have said of themselves."""

        def check(name: str, phase: str, content: RecordDict) -> None:
            behind = self.behind[phase]
            client = replace(self.everyone, at_most=behind != self.counted)
            judge.check(client, phase, content, len(behind))

        return check

    def send_and_wait(
        self,
        grid: Grid,
        requests: Requests,
        names: Mapping[int, str],
        *,
        server_round: int,
        phase: str,
        timeout: float,
        on_progress: Callable[[PhaseProgress], None] = lambda _: None,
        meanwhile: Callable[[], None] = lambda: None,
        take: Mapping[str, Take] = MappingProxyType({}),
    ) -> dict[str, Replies]:
        """Do an exchange as `celeba_fl.rounds.exchange.send_and_wait` does, for totals alone.

        Parts that are for the same clients are summed as one. A client that fails at one part is
        missed in all. The traffic of all parts counts for the last.
        """
        asked = {
            part: {names[message.metadata.dst_node_id]: message for message in messages}
            for part, messages in requests.items()
        }
        parts_of: dict[Names, list[str]] = {}
        for part, of_part in asked.items():
            if of_part:
                parts_of.setdefault(frozenset(of_part), []).append(part)
        keys = {name: self.keys[node] for node, name in names.items()}
        tallies = {members: self._tally(members, keys) for members in parts_of}
        steps = Steps(grid, names, server_round, phase, timeout)
        steps.share(tallies.values())
        steps.mask(_requests(asked, parts_of, tallies), tallies.values(), on_progress, meanwhile)
        wrong = {
            members: fault(self._check_enough, tally, parts_of[members])
            for members, tally in tallies.items()
        }
        coming: list[Tally] = []
        last, everyone = phase == FINAL_EVALUATION, frozenset(keys)
        if wrong.get(everyone) == "" and not last:
            coming = [self._tally(everyone, keys)]
        steps.unmask([tallies[of] for of, why in wrong.items() if not why], coming, last=last)
        # Where one has not shared, nobody knows whether it has tried to, which it does once.
        self._begun.update((everyone, one) for one in coming if one.shared.keys() == everyone)

        replies = {part: Replies() for part in asked}
        for members, tally in tallies.items():
            of_group = {part: replies[part] for part in parts_of[members]}
            there = tally.survivors
            left_out = members - {*there}
            for part, summed in of_group.items():
                # One that answers several parts says once how long it took for all of them.
                says = part == parts_of[members][-1]
                summed.usable = {name: _shown(steps.seconds[name] * says) for name in there}
                summed.opened = not wrong[members]
                summed.failures = {name: steps.failures.get(name, OTHER_FORM) for name in left_out}
            silent = {name: steps.failures[name] for name in there if name in steps.failures}
            if why := wrong[members] or fault(self._open, tally, of_group):
                for summed in of_group.values():
                    summed.fail("; ".join([why, *sorted({*silent.values()})]))
            elif silent:
                LOG.info("In the total, but gone before its masks were off: %s", silent)
        for part, summed in replies.items():
            if summed.total and part in take and (why := take[part](TOTAL, summed.total.content)):
                summed.fail(f"the total of all: {why}")
            summed.sort()
        if replies:
            traffic = [*replies.values()][-1]
            traffic.bytes_down, traffic.bytes_up = steps.bytes_down, steps.bytes_up
        return replies

    def _tally(self, members: Names, keys: Mapping[str, Packet]) -> Tally:
        """An exchange of these, which may have been begun with the one before."""
        if members in self._begun:
            return self._begun.pop(members)
        self._serial += 1
        of_members = {name: keys[name] for name in sorted(members)}
        return Tally(self.run, self._serial, of_members, self.min_cohort)

    def _check_enough(self, tally: Tally, parts: Iterable[str]) -> None:
        """Raise InputError if a total would be over too few, or of a round that does not count."""
        tally.check_enough()
        there, asked = len(tally.survivors), len(tally.keys)
        if {TRAIN, SUMS} & {*parts} and there / asked < self.min_replies:
            raise InputError(
                f"the words of {there} of {asked} clients are there, and {self.min_replies:.0%} "
                f"must be (min-replies)"
            )

    def _open(self, tally: Tally, replies: Mapping[str, Replies]) -> None:
        """Put the total of an exchange into the replies of its parts."""
        contents = totals(decode(tally.layout, tally.open()))
        there = frozenset(tally.survivors)
        for part, of_part in replies.items():
            of_part.total = Message(contents[part], 0, QUERY)
            self.behind[part] = there
            if there == self.counted:
                of_part.behind = self.everyone.num_train, self.everyone.num_valid
            else:
                of_part.behind = num_examples(contents[part]), 0


def _requests(
    asked: Mapping[str, Mapping[str, Message]],
    parts_of: Mapping[Names, list[str]],
    tallies: Mapping[Names, Tally],
) -> list[Message]:
    """One message for each client that has shared: what it is asked for, and how to mask that."""
    messages = []
    for name in sorted({name for tally in tallies.values() for name in tally.shared}):
        requests: dict[str, Message] = {}
        sums = []
        for members, tally in tallies.items():
            if name in tally.shared:
                own = {part: asked[part][name] for part in parts_of[members]}
                parts = [part for part in own if part != QUERY]
                sums.append({**tally.ask_to_mask(name), "parts": parts})
                requests |= own
        joined = join({part: requests[part] for part in asked if part in requests})
        content = RecordDict({**joined.content})
        content[SECURE] = packed({"step": MASK, "sums": sums})
        messages.append(altered(joined, content, joined.metadata.message_type))
    return messages


def _shown(seconds: float) -> Message:
    """All that a client's own reply says."""
    return Message(RecordDict({METRICS: MetricRecord({SECONDS: seconds})}), 0, QUERY)
