"""The roll call before round 1."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from adding import Nodes, record
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from celeba_fl.common.errors import InputError
from celeba_fl.rounds import messages
from celeba_fl.rounds.checking import Client
from celeba_fl.rounds.cohort import CohortGrid
from celeba_fl.rounds.exchange import PhaseProgress
from celeba_fl.rounds.roll_call import natural_order, roll_call, wait_for_nodes

HASH = "ab" * 32


def present(message: Message, name: str, **changed: Any) -> Message:
    """An answer as the app's own clients give it."""
    said = {"name": name, "missing": "", "code": "of today", "path": "/here"}
    said |= {key: value for key, value in changed.items() if key in said}
    numbers = {"num-examples": changed.get("train", 7), "num-valid": changed.get("valid", 2)}
    content = RecordDict(
        {
            "client": ConfigRecord(said),
            "counts": record({"counts": changed.get("counts", np.array([3, 4]))}),
            "metrics": MetricRecord(numbers),
        }
    )
    return Message(content, reply_to=message)


def clients_who(
    answer: Callable[[Message, int], Message] = lambda message, i: present(message, str(i)),
) -> ClientApp:
    """A ClientApp that answers queries."""
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        return answer(message, int(context.node_config["partition-id"]))

    return app


def no_file(sha256: str) -> bytes:
    pytest.fail(f"no one lacks {sha256}")


def call(nodes: Nodes, **options: Any) -> dict[str, Client]:
    deliver, told = options.pop("deliver", no_file), options.pop("told", {})
    always = {"code": "of today", "minimum": 1, "timeout": 9, "num_counts": 2}
    return roll_call(nodes, {"a": 1, **told}, deliver, **{**always, **options})


def test_clients_describe_themselves() -> None:
    def answer(message: Message, i: int) -> Message:
        assert message.content["config"] == {"a": 1}
        return present(message, f"site {i}", train=i, valid=i + 1, counts=np.array([i, 0]))

    nodes = Nodes(clients_who(answer), 2)
    clients = call(nodes)

    assert list(clients) == ["site 0", "site 1"]
    client = clients["site 1"]
    assert (client.node_id, client.num_train, client.num_valid) == (nodes.by_name["1"], 1, 2)
    assert client.counts.tolist() == [1, 0]


def test_clients_send_the_sums_that_are_asked_for_or_are_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sums = [{"s": np.array([i])} for i in range(3)] + [{"s": np.array([0.5])}]

    def answer(message: Message, i: int) -> Message:
        said = present(message, f"site {i}")
        said.content["sums"] = record(sums[i])
        return said

    clients = call(Nodes(clients_who(answer), 4), sums={"s": np.zeros(1, np.int64)})
    assert {name: client.sums["s"].tolist() for name, client in clients.items()} == {
        "site 0": [0],
        "site 1": [1],
        "site 2": [2],
    }
    assert "site 3: it sent other sums than were asked for: array 's' is ((1,), 'float64')" in (
        caplog.text
    )


def test_clients_are_sorted_by_number_and_name() -> None:
    names = ["b", "10", "9", "a", "2"]
    app = clients_who(lambda message, i: present(message, names[i]))
    assert list(call(Nodes(app, 5))) == ["2", "9", "10", "a", "b"]
    assert sorted(names, key=natural_order) == ["2", "9", "10", "a", "b"]


def test_two_clients_of_one_name_are_refused() -> None:
    app = clients_who(lambda message, i: present(message, "Berlin"))
    with pytest.raises(InputError, match="two clients are called 'Berlin'"):
        call(Nodes(app, 2))


def test_a_name_that_belongs_to_another_key_is_refused_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = ["a", "b", "c", "c"]  # the last is not c
    app = clients_who(lambda message, i: present(message, names[i]))
    nodes = Nodes(app, 4)

    def check_owner(node_id: int, name: str) -> None:
        if node_id == nodes.by_name["3"]:
            raise InputError("it has the key of d")

    assert list(call(nodes, check_owner=check_owner)) == ["a", "b", "c"]
    assert "client c: it has the key of d" in caplog.text


def test_who_sits_out_needs_the_key_of_its_name_too(caplog: pytest.LogCaptureFixture) -> None:
    def answer(message: Message, i: int) -> Message:
        return (
            present(message, "a") if i == 0 else Message(messages.sits_out("b"), reply_to=message)
        )

    def check_owner(node_id: int, name: str) -> None:
        if name == "b":
            raise InputError("it has the key of d")

    assert list(call(Nodes(clients_who(answer), 2), chosen=["a"], check_owner=check_owner)) == ["a"]
    assert "client b: it has the key of d" in caplog.text


def lacking(
    name: str, held: dict[int, set[str]], heal: bool = True
) -> Callable[[Message, int], Message]:
    """Odd clients lack the file `name` until they get it, or for good."""

    def answer(message: Message, i: int) -> Message:
        for sha256, file in message.content["files"].items():
            assert file.numpy().tobytes() == f"content of {sha256}".encode()
            held.setdefault(i, set()).add(sha256)
        there = i % 2 == 0 or (heal and name in held.get(i, ()))
        return present(message, str(i), missing="" if there else name, train=i if there else 0)

    return answer


def test_a_client_that_lacks_a_file_gets_it_once() -> None:
    held: dict[int, set[str]] = {}
    delivered = []

    def deliver(sha256: str) -> bytes:
        delivered.append(sha256)
        return f"content of {sha256}".encode()

    nodes = Nodes(clients_who(lacking(HASH, held)), 5)
    clients = call(nodes, deliver=deliver, told={"weights": HASH})

    assert delivered == [HASH]
    assert held == {1: {HASH}, 3: {HASH}}
    assert nodes.asked == [("query", list("01234")), ("query", ["1", "3"])]
    assert [client.num_train for client in clients.values()] == [0, 1, 2, 3, 4]


def test_a_client_that_still_lacks_it_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    app = clients_who(lacking(HASH, {}, heal=False))
    clients = call(Nodes(app, 3), deliver=content_of, told={"weights": HASH})
    assert list(clients) == ["0", "2"]
    assert f"is refused: client 1: it still lacks {HASH}" in caplog.text


def content_of(sha256: str) -> bytes:
    return f"content of {sha256}".encode()


def refusing(message: Message, i: int) -> Message:
    if i == 1:
        raise InputError("client 1: this client prepares images in another way")
    return present(message, str(i))


def test_under_strict_a_client_that_refuses_is_an_error() -> None:
    with pytest.raises(InputError, match=r"not all clients can take part: .*in another way"):
        call(Nodes(clients_who(refusing), 3), strict=True)


def test_a_client_that_refuses_is_named_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    assert list(call(Nodes(clients_who(refusing), 3))) == ["0", "2"]
    assert "is refused" in caplog.text
    assert "client 1: this client prepares images in another way" in caplog.text


def test_a_client_that_fails_at_the_file_is_left_out_for_that_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def answer(message: Message, i: int) -> Message:
        if message.content["files"]:
            raise InputError("disk full")
        return present(message, str(i), missing=HASH if i == 1 else "")

    nodes = Nodes(clients_who(answer), 3)
    assert list(call(nodes, deliver=content_of, told={"weights": HASH})) == ["0", "2"]
    assert "disk full" in caplog.text
    assert "lacks" not in caplog.text


def test_a_file_that_the_server_cannot_give_is_no_end_of_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def deliver(sha256: str) -> bytes:
        raise FileNotFoundError(sha256)

    nodes = Nodes(clients_who(lacking(HASH, {})), 3)
    assert list(call(nodes, deliver=deliver, told={"weights": HASH})) == ["0", "2"]
    assert [kind for kind, _ in nodes.asked] == ["query"]
    assert "is refused: client 1 lacks a file that cannot be sent" in caplog.text


@pytest.mark.parametrize(
    "asked", ["../secret", "/etc/passwd", "no hash\0", HASH, HASH.upper(), f"{HASH}\n", HASH[:-1]]
)
def test_only_files_that_the_run_told_of_are_sent(
    caplog: pytest.LogCaptureFixture, asked: str
) -> None:
    app = clients_who(lambda message, i: present(message, str(i), missing=asked if i == 1 else ""))
    assert list(call(Nodes(app, 3), told={"weights": "cd" * 32, "note": asked[:-2]})) == ["0", "2"]
    assert "client 1: it asks for" in caplog.text
    assert "which it was not told of" in caplog.text


def test_a_client_of_other_code_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    app = clients_who(
        lambda message, i: present(message, str(i), **({"code": "old"} if i == 1 else {}))
    )
    assert list(call(Nodes(app, 3))) == ["0", "2"]
    assert "client 1: it runs other code than the server, from /here" in caplog.text


@pytest.mark.parametrize(
    "changed",
    [{"train": -1}, {"train": 1.5}, {"counts": np.array([1])}, {"counts": np.array([1.0, np.nan])}],
)
def test_an_impossible_description_is_left_out(changed: dict[str, Any]) -> None:
    app = clients_who(lambda message, i: present(message, str(i), **(changed if i == 1 else {})))
    assert list(call(Nodes(app, 3))) == ["0", "2"]


def test_another_apps_answer_is_left_out() -> None:
    def answer(message: Message, i: int) -> Message:
        made = present(message, str(i))
        if i == 1:
            del made.content["client"]
        return made

    assert list(call(Nodes(clients_who(answer), 3))) == ["0", "2"]


def test_a_silent_node_is_left_out() -> None:
    assert list(call(Nodes(clients_who(), 3, silent=[2]), timeout=0.05)) == ["0", "1"]


def test_too_few_clients_are_an_error_that_says_why() -> None:
    app = clients_who(refusing)
    assert len(call(Nodes(app, 3), minimum=2)) == 2
    with pytest.raises(InputError, match=r"only 2 clients .* at least 3 .*another way") as caught:
        call(Nodes(app, 3), minimum=3)
    assert "min-available-clients" in str(caught.value)


def choosing(chosen: set[int]) -> ClientApp:
    """Clients that know, as the app's do, who is chosen."""

    def answer(message: Message, i: int) -> Message:
        if i in chosen:
            return present(message, str(i))
        return Message(messages.sits_out(str(i)), reply_to=message)

    return clients_who(answer)


def test_only_the_chosen_take_part_and_all_are_asked(caplog: pytest.LogCaptureFixture) -> None:
    nodes = Nodes(choosing({1, 4}), 6)
    with caplog.at_level("INFO", "flwr.celeba_fl"):
        assert list(call(nodes, chosen=("4", "1"), minimum=3)) == ["1", "4"]
    assert nodes.asked == [("query", list("012345"))]
    assert "4 clients are not chosen" in caplog.text


def test_as_many_nodes_as_are_chosen_are_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    awaited = []
    wait = wait_for_nodes
    monkeypatch.setattr(
        "celeba_fl.rounds.roll_call.wait_for_nodes",
        lambda grid, n, *more: awaited.append(n) or wait(grid, n, *more),
    )
    nodes = Nodes(choosing({0, 1, 2}), 4)
    call(nodes, chosen=("0", "1", "2"), minimum=2)
    call(nodes, chosen=("0", "1", "2"), minimum=4)
    assert awaited == [3, 4]


def test_chosen_clients_that_are_not_there_are_named() -> None:
    with pytest.raises(InputError, match=r"clients: 7, Rome cannot take part; there are 0, 1, 2"):
        call(Nodes(choosing({1}), 3), chosen=("Rome", "1", "7"))


def test_a_chosen_client_that_fails_is_an_error_that_says_why() -> None:
    with pytest.raises(InputError, match=r"clients: 1 cannot take part \(.*in another way.*are 0"):
        call(Nodes(clients_who(refusing), 2), chosen=("0", "1"))


def test_under_strict_it_is_the_chosen_who_must_be_well() -> None:
    assert list(call(Nodes(clients_who(refusing), 3), chosen=("0", "2"), strict=True)) == ["0", "2"]


def test_progress_is_told() -> None:
    seen: list[PhaseProgress] = []
    call(Nodes(clients_who(), 3), on_progress=seen.append)
    assert [(w.phase, w.round, w.asked, w.replied) for w in seen] == [("query", 0, 3, 3)]


def test_nodes_are_awaited_until_no_more_come_in() -> None:
    coming = [[], [1], [1], [1, 2], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4]]
    assert wait_for_nodes(Coming(coming), 2, 9, "min-available-clients") == [1, 2, 3, 4]


def test_in_one_process_all_are_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeba_fl.rounds.roll_call.SETTLE_SECONDS", -1)  # an error to sleep
    assert len(wait_for_nodes(Nodes(clients_who(), 3), 3, 9, "clients")) == 3


def test_in_a_deployment_they_are_awaited_for_so_many_seconds() -> None:
    with pytest.raises(InputError, match=r"^clients: needs 3 nodes, and there are 2; .*wait-sec"):
        wait_for_nodes(Coming([[1, 2]] * 10**6), 3, 0.2, "clients")


@pytest.mark.parametrize(
    ("options", "key"),
    [({"minimum": 4}, "min-available-clients"), ({"chosen": tuple("01234")}, "clients")],
)
def test_in_simulation_nodes_that_cannot_come_are_an_error_at_once(
    options: dict[str, Any], key: str
) -> None:
    with pytest.raises(InputError, match=f"^{key}: needs . nodes, and there are 3; start more"):
        call(Nodes(clients_who(), 3), wait=1e9, **options)


class Coming(CohortGrid):
    """A Grid of a deployment, on which nodes come one by one."""

    def __init__(self, coming: list[list[int]]) -> None:
        self.coming = coming

    def get_node_ids(self) -> list[int]:
        return self.coming.pop(0)


# ---- what a hostile client may say --------------------------------------------------------


def no_record(name: str) -> Callable[[Message], Message]:
    def make(message: Message) -> Message:
        made = present(message, "1")
        del made.content[name]
        return made

    return make


def sitting_out(**said: Any) -> Callable[[Message], Message]:
    record = RecordDict({"sits-out": ConfigRecord(said)})
    return lambda message: Message(record, reply_to=message)


def saying(name: Any = "1", **changed: Any) -> Callable[[Message], Message]:
    return lambda message: present(message, name, **changed)


def without(key: str) -> Callable[[Message], Message]:
    def make(message: Message) -> Message:
        made = present(message, "1")
        del made.content["client"][key]
        return made

    return make


HOSTILE = {
    "no client": no_record("client"),
    "no counts": no_record("counts"),
    "no metrics": no_record("metrics"),
    "nothing": lambda message: Message(RecordDict(), reply_to=message),
    "sits out": sitting_out(name="1"),
    "sits out without a name": sitting_out(),
    "no name": without("name"),
    "no code": without("code"),
    "empty": saying(""),
    "long": saying("a" * 400),
    "newline": saying("1\nroot: all is well"),
    "NUL": saying("1\0"),
    "escape": saying("\x1b[2J"),
    "turned round": saying("\u202egnp.exe"),
    "formula": saying("=cmd|' /C calc'!A0"),
    "plus": saying("+1"),
    "at": saying("@SUM(A1)"),
    "comma": saying("0,2"),
    "space": saying(" 0"),
    "number": saying(name=7),
    "path": saying(path=3),
    "huge": saying(train=2**62),
    "negative": saying(train=-1),
    "fraction": saying(train=1.5),
    "negative validation": saying(valid=-1),
    "huge validation": saying(valid=1e300),
    "fraction of validation": saying(valid=2.0),
    "several": saying(valid=[2]),
    "negative counts": saying(counts=np.array([-1, 2])),
    "huge counts": saying(counts=np.array([2**62, 2])),
    "fractions": saying(counts=np.array([1.0, 2.0])),
    "words": saying(counts=np.array(["a", "b"])),
    "moments": saying(counts=np.array([1, 2], "M8[s]")),
    "unchecked": saying(counts=np.array([9, 9])),
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("number", [2, 4])
def test_whatever_one_says_the_others_go_on(
    answer: Callable[[Message], Message], number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where there are two, of which neither is most."""

    def check(client: Client) -> None:
        if (client.counts > client.num_train).any():
            raise KeyError("counts")

    app = clients_who(lambda message, i: answer(message) if i == 1 else present(message, str(i)))
    clients = call(Nodes(app, number), check=check)
    assert list(clients) == [name for name in "0123"[:number] if name != "1"]
    (line,) = caplog.messages
    assert " is refused: " in line
    assert len(line) < 500
    assert line.isprintable()


def test_whoever_sits_out_has_a_name(caplog: pytest.LogCaptureFixture) -> None:
    bad = sitting_out()
    app = clients_who(lambda message, i: bad(message) if i == 1 else present(message, str(i)))
    assert list(call(Nodes(app, 3), chosen=("0", "2"))) == ["0", "2"]
    assert "site = None: a client's name has" in caplog.text


def test_of_two_clients_of_one_name_neither_takes_part(caplog: pytest.LogCaptureFixture) -> None:
    app = clients_who(lambda message, i: present(message, "Berlin" if i < 2 else str(i)))
    assert list(call(Nodes(app, 4))) == ["2", "3"]
    assert caplog.text.count("two clients are called 'Berlin'") == 2


def test_a_name_belongs_to_who_was_registered_first(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = Nodes(clients_who(lambda message, i: present(message, "Berlin")), 3)
    ids = nodes.get_node_ids()
    since = dict(zip(ids, ["2026-03", "2026-01", "2026-02"], strict=True))
    monkeypatch.setattr("celeba_fl.rounds.roll_call.registered", lambda _: since)
    clients = call(nodes)
    assert {name: client.node_id for name, client in clients.items()} == {"Berlin": ids[1]}
    assert caplog.text.count("the name 'Berlin' belongs to a node that was registered before") == 2


def test_who_is_refused_takes_no_name_from_another() -> None:
    app = clients_who(lambda message, i: present(message, "0", train=-1 if i == 1 else 7))
    assert list(call(Nodes(app, 2))) == ["0"]


def test_sums_that_leave_no_room_for_those_of_others_are_refused() -> None:
    def answer(message: Message, i: int) -> Message:
        said = present(message, str(i))
        said.content["sums"] = record({"s": np.array([2**61 if i == 1 else 2**59])})
        return said

    clients = call(Nodes(clients_who(answer), 3), sums={"s": np.zeros(1, np.int64)})
    assert list(clients) == ["0", "2"]
