"""Several requests to a client in one message, which it answers one after the other in one reply.

Such a message has the type `TOGETHER` and a record ``parts`` with the ``names`` of the requests and
their ``types``, in their order. Records of a request are called ``<name>/<record>``, but those that
all requests share, such as the model, travel once, by their own name. So are those of the reply,
where ``<name>/failure`` takes the place of an answer.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from celeba_fl.common.errors import InputError
from celeba_fl.common.flower import altered, failure
from celeba_fl.rounds.messages import of_kind

ACTION = "together"
TOGETHER = f"train.{ACTION}"
PARTS, NAMES, TYPES = "parts", "names", "types"
FAILURE, REASON = "failure", "reason"
# In a reason, it parts what a server may read from what a run's own log may have.
DETAILS = "\n\x1e\n"


def answer_together(app: ClientApp) -> None:
    """Have a ClientApp answer messages of several requests by what it has for each of them.

    If it fails at one, it answers the others all the same.
    """

    @app.train(ACTION)
    def together(message: Message, context: Context) -> Message:
        parts: dict[str, Any] = dict(of_kind(message.content, ConfigRecord)[PARTS])
        types, contents = dict(zip(parts[NAMES], parts[TYPES], strict=True)), {}
        for name, content in split(message.content, types).items():
            try:
                contents[name] = app(altered(message, content, types[name]), context).content
            except Exception as error:
                reason = str(error) if isinstance(error, InputError) else repr(error)
                contents[name] = RecordDict({FAILURE: ConfigRecord({REASON: reason})})
        return Message(joined(contents), reply_to=message)


def join(requests: Mapping[str, Message]) -> Message:
    """One message for requests to a node, by name; of a single one it is that itself."""
    first, *others = requests.values()
    if not others:
        return first
    content = joined({name: message.content for name, message in requests.items()})
    types = [message.metadata.message_type for message in requests.values()]
    content[PARTS] = ConfigRecord({NAMES: list(requests), TYPES: types})
    return altered(first, content, TOGETHER)


def answers(reply: Message, requests: Mapping[str, Message]) -> dict[str, Message]:
    """The replies in a reply to requests, by name; an error where there is none."""
    if len(requests) == 1 or not reply.has_content():
        return dict.fromkeys(requests, reply)
    found = {}
    for name, content in split(reply.content, requests).items():
        failed = of_kind(content, ConfigRecord).get(FAILURE)
        what = content if failed is None else failure(str(failed.get(REASON)))
        found[name] = altered(reply, what, requests[name].metadata.message_type)
    return found


def joined(contents: Mapping[str, RecordDict]) -> RecordDict:
    """One content of several; records that all of them share by their own name."""
    first, *others = contents.values()
    shared = [n for n, one in first.items() if all(other.get(n) is one for other in others)]
    content = RecordDict({name: first[name] for name in shared})
    for name, records in contents.items():
        content.update({f"{name}/{r}": one for r, one in records.items() if r not in shared})
    return content


def split(content: RecordDict, names: Iterable[str]) -> dict[str, RecordDict]:
    """The contents that `joined` made one of, in the order of their names."""
    contents = {name: RecordDict() for name in names}
    for key, record in content.items():
        name, _, own = key.partition("/")
        if name in contents:
            contents[name][own] = record
        elif key != PARTS:
            for each in contents.values():
                each[key] = record
    return contents
