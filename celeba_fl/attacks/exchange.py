"""Attacks between the clients and the server: what the server gets is what attackers would send."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from celeba_fl.attacks.labels import FLIP
from celeba_fl.attacks.sums import STRENGTH, falsify
from celeba_fl.attacks.updates import ATTACKS
from celeba_fl.common.arrays import Arrays, Floats
from celeba_fl.common.errors import InputError
from celeba_fl.common.flower import altered, simulation
from celeba_fl.config import RunConfig
from celeba_fl.rounds.checking import difference
from celeba_fl.rounds.cohort import draw_cohort
from celeba_fl.rounds.exchange import Replies, Take, send_and_wait
from celeba_fl.rounds.messages import ARRAYS, CONFIG, SUMS, TRAIN, to_arrays, to_record
from celeba_fl.task import derived_seed


@dataclass(frozen=True)
class Attackers:
    """The clients of a simulation that attack, and how. They evaluate as everyone does."""

    attack: str
    clients: frozenset[str]
    strength: float
    seed: int

    @classmethod
    def of(cls, config: RunConfig, clients: Iterable[str]) -> "Attackers":
        """Those of a run, drawn among these clients; the same in every run with the same seed."""
        usual = ATTACKS[config.attack][1] if config.attack in ATTACKS else STRENGTH
        drawn = draw_cohort(clients, config.attackers, 1, config.seed, "attackers")
        return cls(config.attack, frozenset(drawn), config.attack_strength or usual, config.seed)

    def send_and_wait(
        self,
        grid: Grid,
        requests: Mapping[str, Iterable[Message]],
        names: Mapping[int, str],
        *,
        server_round: int,
        take: Mapping[str, Take] = MappingProxyType({}),
        **options: Any,
    ) -> dict[str, Replies]:
        """An exchange as `celeba_fl.rounds.exchange` does it, in which attackers have their way.

        So all that the loop does against bad replies comes after them: it checks and measures what
        they send, and tries a round again.
        """
        asked = {part: [*messages] for part, messages in requests.items()}
        if self.attack == "label-flip" and TRAIN in asked:
            asked[TRAIN] = [self._told(message, names) for message in asked[TRAIN]]
        if self.attack == "sums" and SUMS in take:
            take = {**take, SUMS: self._falsifying(take[SUMS])}
        told = {"server_round": server_round, "take": take, **options}
        replies = send_and_wait(grid, asked, names, **told)
        if self.attack in ATTACKS and asked.get(TRAIN):
            sent = to_arrays(asked[TRAIN][0].content.array_records[ARRAYS])
            self._poison(replies[TRAIN].usable, sent, server_round)
        return replies

    def _told(self, message: Message, names: Mapping[int, str]) -> Message:
        """A request to train, with the word to an attacker that it is to flip labels."""
        if names[message.metadata.dst_node_id] not in self.clients:
            return message
        records = dict(message.content.items())
        config = message.content.config_records[CONFIG]
        content = RecordDict({**records, CONFIG: ConfigRecord({**config, FLIP: True})})
        return altered(message, content, message.metadata.message_type)

    def _falsifying(self, take: Take) -> Take:
        """What takes sums, of which those of attackers are falsified first."""

        def falsifying(client: str, content: RecordDict) -> str:
            if client in self.clients:
                for name, sums in content.array_records.items():
                    content[name] = to_record(falsify(to_arrays(sums), self.strength))
            return take(client, content)

        return falsifying

    def _poison(self, usable: Mapping[str, Message], sent: Arrays, server_round: int) -> None:
        """Replace the models of attackers by what they make of those of all."""
        updates = {
            client: _update(to_arrays(record), sent)
            for client, reply in usable.items()
            for record in reply.content.array_records.values()
            if not difference(record, sent)
        }
        known = [update for client, update in updates.items() if client not in self.clients]
        if not known:
            return
        honest, make = np.stack(known), ATTACKS[self.attack][0]
        for client in self.clients & updates.keys():
            seed = derived_seed(self.seed, server_round, client, self.attack)
            update = make(updates[client], honest, self.strength, seed)
            (name,) = usable[client].content.array_records
            usable[client].content[name] = to_record(_moved(sent, update))


def check_simulation(config: RunConfig, grid: Grid) -> None:
    """Raise InputError if there is to be an attack and the clients are not simulated."""
    if config.attack != "none" and simulation(grid) is None:
        raise InputError(
            f"attack = {config.attack!r}: is for simulations alone, and these are sites that are "
            f"deployed; set it to none"
        )


def _update(model: Arrays, sent: Arrays) -> Floats:
    """What training has added to the model that was sent, as one row."""
    steps = [(model[key] - array.astype(float)).ravel() for key, array in sent.items()]
    return np.concatenate(steps)


def _moved(sent: Arrays, update: Floats) -> Arrays:
    """A model and an update, in the types of the model; counters are rounded."""
    model: Arrays = {}
    for key, array in sent.items():
        step, update = np.split(update, [array.size])
        values = array + step.reshape(array.shape)
        whole = array.dtype.kind in "iu"
        with np.errstate(over="ignore"):  # infinity is refused as any client's is
            model[key] = (np.rint(values) if whole else values).astype(array.dtype)
    return model
