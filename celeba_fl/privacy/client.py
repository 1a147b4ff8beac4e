"""A client that answers in masked words alone: what its app replies becomes numbers in a sum.

All that it remembers between messages is in the state of Flower's context, which an engine keeps
for a client as long as the run lasts, wherever the next message is answered.
"""

import json
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict

from celeba_fl.common.errors import InputError
from celeba_fl.common.flower import altered
from celeba_fl.privacy.encoding import encode
from celeba_fl.privacy.graph import least
from celeba_fl.privacy.noise import NOISE_PARTS
from celeba_fl.privacy.packets import KEYS, MASK, MASKED, SECURE, SHARE, UNMASK, packed, unpacked
from celeba_fl.privacy.party import Memory, Packet, Party
from celeba_fl.privacy.roster import Identity
from celeba_fl.privacy.summands import introduced, summands
from celeba_fl.rounds.checking import FINAL_EVALUATION
from celeba_fl.rounds.messages import (
    CONFIG,
    EVALUATE,
    METRICS,
    QUERY,
    SECONDS,
    SERVER_ROUND,
    SITS_OUT,
    SUMS,
    TRAIN,
    Introduction,
    received_config,
    seconds,
    to_record,
)
from celeba_fl.rounds.parts import FAILURE, PARTS, REASON, split

# In the context's state: a party's memory, and the records of how the client introduced itself.
MEMORY, INTRODUCED = "secure-memory", "secure-introduced/"
# In that memory: the round that it trained in, by exchange, and the last of which a total was made.
# What it says in the roll call is of the round before all others.
ROUNDS, SUMMED, ROLL_CALL = "rounds", "summed", -1
Answer = Callable[[Message, Context], Message]
_inside: ContextVar[bool] = ContextVar("inside", default=False)


@dataclass(frozen=True)
class SecureClient:
    """The secure side of a client's app.

    Parameters
    ----------
    name : str
        The client's own name.
    min_cohort, own_cohort : int
        How many clients must be in a total, by the run config, and by the client's own config.
    uniform : bool
        Whether clients with examples weigh alike in a mean.
    identity : Identity | None (default: None)
        Its signing key and the public ones of others, if there is a roster.
    """

    name: str
    min_cohort: int
    own_cohort: int
    uniform: bool
    identity: Identity | None = None

    def answer(self, message: Message, context: Context, app: Answer) -> Message:
        """Reply to a message of secure sums; `app` answers what is in it.

        Raises
        ------
        InputError
            If the message is another, or asks for what would say more than a sum.
        """
        if _inside.get():  # a part of a message that is answered as a whole
            return app(message, context)
        said = unpacked(message.content)
        memory: Memory = {}
        if MEMORY in context.state:
            memory = json.loads(str(context.state.config_records[MEMORY][MEMORY]))
        fewest = max(self.min_cohort, self.own_cohort)
        party = Party(str(context.run_id), self.name, memory, fewest, self.identity)
        steps = {KEYS: self._keys, SHARE: _share, MASK: self._mask, UNMASK: _unmask}
        plain = RecordDict({name: one for name, one in message.content.items() if name != SECURE})
        inner = altered(message, plain, message.metadata.message_type)
        try:
            content = steps[said["step"]](party, said, inner, context, app)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"the message of secure sums cannot be answered: {type(error).__name__}",
                open_to_all=True,
            ) from error
        finally:
            if memory:
                context.state[MEMORY] = ConfigRecord({MEMORY: json.dumps(memory)})
            else:
                _forget(context)
        return Message(content, reply_to=message)

    def _keys(
        self, party: Party, said: Packet, inner: Message, context: Context, app: Answer
    ) -> RecordDict:
        """Introduce the client without its numbers, which are kept here, and with new keys."""
        content = _call(app, inner, context)
        if SITS_OUT in content.config_records:
            return content
        _forget(context)
        context.state.update({f"{INTRODUCED}{name}": one for name, one in content.items()})
        client = Introduction.of(content)
        shown = replace(
            client,
            num_train=0,
            num_valid=0,
            counts=np.zeros_like(client.counts),
            sums={key: np.zeros_like(array) for key, array in client.sums.items()},
        ).to_content()
        shown[SECURE] = packed(party.advertise())
        return shown

    def _mask(
        self, party: Party, said: Packet, inner: Message, context: Context, app: Answer
    ) -> RecordDict:
        """What the app replies, masked; to a message without parts, how it introduced itself."""
        names = [part for one in said["sums"] for part in one["parts"]]
        if not {*names} <= {QUERY, TRAIN, SUMS, EVALUATE, FINAL_EVALUATION}:
            raise InputError(f"nobody knows the parts {sorted(names)}", open_to_all=True)
        contents: dict[str, RecordDict] = {}
        taken = 0.0
        together = PARTS in inner.content.config_records
        asked = split(inner.content, names) if together else dict.fromkeys(names, inner.content)
        for one in said["sums"]:
            trains = {TRAIN, SUMS} & {*one["parts"]}
            if trains or not one["parts"]:
                config = [received_config(asked[part]) for part in trains]
                number = int(str(config[0][SERVER_ROUND])) if config else ROLL_CALL
                _check_not_summed(party.memory, number)
                party.memory.setdefault(ROUNDS, {})[str(one["serial"])] = number
        if names:
            reply = _call(app, self._with_parts(inner, party, said), context)
            contents = split(reply, names) if together else {names[0]: reply}
        for content in contents.values():
            if FAILURE in content.config_records:
                reason = str(content.config_records[FAILURE][REASON])
                raise InputError(reason, open_to_all=True)
            taken += seconds(content)
        client = Introduction.of(
            RecordDict(
                {
                    name.removeprefix(INTRODUCED): record
                    for name, record in context.state.items()
                    if name.startswith(INTRODUCED)
                }
            )
        )
        layouts, masked = {}, {}
        for one in said["sums"]:
            serial, found = one["serial"], {} if one["parts"] else introduced(client)
            for part in one["parts"]:
                found |= summands(part, contents[part], self.uniform)
            layouts[serial], words = encode(found, party.number(serial))
            party.mask(serial, one["peers"], words)
            masked[str(serial)] = words
        return RecordDict(
            {
                MASKED: to_record(masked),
                SECURE: packed({"layouts": layouts}),
                METRICS: MetricRecord({SECONDS: taken}),
            }
        )

    def _with_parts(self, message: Message, party: Party, said: Packet) -> Message:
        """The message; if sums are asked for, it says how many parts of noise their total has.

        So many clients must be in it at least by the run config, and so for all of them, whatever
        the server wrote, and whatever more one of them wants for itself.
        """
        serials = [one["serial"] for one in said["sums"] if SUMS in one["parts"]]
        parts = {NOISE_PARTS: least(self.min_cohort, party.number(serials[0]))} if serials else {}
        content = RecordDict({**message.content})
        for name, record in message.content.config_records.items():
            if name.rpartition("/")[2] == CONFIG:
                told = {key: value for key, value in record.items() if key != NOISE_PARTS}
                content[name] = ConfigRecord({**told, **parts})
        return altered(message, content, message.metadata.message_type)


def _share(party: Party, said: Packet, inner: Message, context: Context, app: Answer) -> RecordDict:
    """Shares of secrets, for each exchange that is to come."""
    return RecordDict({SECURE: packed({"shared": _shared(party, said)})})


def _shared(party: Party, said: Packet) -> dict[int, Packet]:
    return {one["serial"]: party.share(**one) for one in said[SHARE]}


def _unmask(
    party: Party, said: Packet, inner: Message, context: Context, app: Answer
) -> RecordDict:
    """What takes the masks off, and shares for exchanges to come; at the end no keys are left."""
    unmasked = {}
    for one in said["sums"]:
        number = party.memory.get(ROUNDS, {}).pop(str(one["serial"]), None)
        if number is not None:
            _check_not_summed(party.memory, number)
        unmasked[one["serial"]] = party.unmask(**one)
        if number is not None:
            party.memory[SUMMED] = number
    shared = _shared(party, said)
    if said["last"]:
        party.forget()
    return RecordDict({SECURE: packed({"unmasked": unmasked, "shared": shared})})


def _check_not_summed(memory: Memory, number: int) -> None:
    """Raise InputError if what a client says in a round is in a total that could be opened.

    Two totals of the same models or counts, over others each time, differ by those of single ones.
    """
    if number <= memory.get(SUMMED, ROLL_CALL - 1):
        which = "the roll call" if number == ROLL_CALL else f"round {number}"
        raise InputError(
            f"{which}: what this client said is in a total, and goes into no second one",
            open_to_all=True,
        )


def _call(app: Answer, message: Message, context: Context) -> RecordDict:
    """What the app replies to a message, and to its parts, without this module."""
    token = _inside.set(True)
    try:
        return app(message, context).content
    finally:
        _inside.reset(token)


def _forget(context: Context) -> None:
    """Delete all that was kept for secure sums."""
    for name in [one for one in context.state if one == MEMORY or one.startswith(INTRODUCED)]:
        del context.state[name]
