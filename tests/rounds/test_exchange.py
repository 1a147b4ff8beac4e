"""Questions and replies."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from adding import Nodes, adding_app, record, reply
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from celeba_fl.common.errors import InputError
from celeba_fl.rounds import exchange
from celeba_fl.rounds.checking import check_reply, fault
from celeba_fl.rounds.clock import Clock
from celeba_fl.rounds.exchange import PhaseProgress, Replies, refuse, send_and_wait
from celeba_fl.rounds.messages import num_examples
from celeba_fl.rounds.parts import DETAILS

MODEL = {"w": np.float32([0, 0]), "n": np.int64(0)}


def put(nodes: Nodes, **options: Any) -> Replies:
    """Ask all nodes to train."""
    content = RecordDict({"arrays": record(MODEL), "config": ConfigRecord({"server-round": 1})})
    messages = [Message(content, node, "train") for node in nodes.get_node_ids()]
    names = {node: name for name, node in nodes.by_name.items()}
    about = {"server_round": 1, "phase": "train", "timeout": 9, **options}
    return send_and_wait(nodes, {"train": messages}, names, **about)["train"]


def fail(client: int, number: int) -> float:
    if client == 1:
        raise RuntimeError("no power")
    return 1.0


def test_answers_are_sorted_by_client_whatever_their_order() -> None:
    replies = put(Nodes(adding_app(), 3, order=lambda replies: replies[::-1]))
    assert list(replies.usable) == ["0", "1", "2"]
    assert [num_examples(m.content) for m in replies.usable.values()] == [1, 2, 3]
    assert replies.failures == {}


@pytest.mark.parametrize("simulated", [True, False])
def test_details_of_a_failure_are_taken_from_simulated_clients_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, simulated: bool
) -> None:
    """Whoever sends them has them logged, and at a deployed site that is not our code's to say."""

    def step(client: int, number: int) -> float:
        raise InputError(f"no power{DETAILS}Traceback\nINFO round 9 is over")

    kinds = {"InlineGrid": 0.0} if simulated else {}
    monkeypatch.setattr("celeba_fl.common.flower.SIMULATIONS", kinds)
    replies = put(Nodes(adding_app(step), 1))
    assert replies.failures == {"0": "no power"}
    assert ("client 0: Traceback\n    INFO round 9 is over" in caplog.text) == simulated


def test_clients_are_asked_by_name() -> None:
    order = []

    def step(client: int, number: int) -> float:
        order.append(client)
        return 1.0

    nodes = Nodes(adding_app(step), 4)
    names = {node: name for name, node in nodes.by_name.items()}
    content = RecordDict({"arrays": record(MODEL), "config": ConfigRecord({"server-round": 1})})
    messages = [Message(content, nodes.by_name[name], "train") for name in "2031"]
    send_and_wait(nodes, {"train": messages}, names, server_round=1, phase="train", timeout=9)
    assert order == [0, 1, 2, 3]


class Waited(Clock):
    """A clock that goes on only while somebody waits on it, and notes how long."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def now(self) -> float:
        return sum(self.waits)

    def wait(self, seconds: float, until: float) -> None:
        self.waits.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Waited:
    """The clock of every exchange."""
    clock = Waited()
    monkeypatch.setattr(exchange, "clock_of", lambda grid: clock)
    return clock


def test_the_more_are_awaited_the_less_often_they_are_looked_for(
    clock: Waited, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "POLL_SECONDS_EACH", 5.0)
    put(Nodes(adding_app(), 3, silent=[1, 2]))
    assert clock.waits == [10.0]


@pytest.mark.parametrize(
    ("waited", "pending", "done", "seconds"),
    [
        (0.0, 50, 0, 0.005),  # a tenth of a millisecond for each
        (0.5, 50, 0, 0.05),
        (0.4, 20, 40, 0.1),  # half of 20 at 10 ms each
        (0.4, 4, 40, 0.02),
        (0.4, 1, 49, 0.01),  # a straggler, perhaps: a fortieth of the wait
        (60.0, 1, 49, 0.1),
        (60.0, 5000, 10, 0.5),
    ],
)
def test_one_looks_when_half_of_the_replies_to_come_should_be_there(
    waited: float, pending: int, done: int, seconds: float
) -> None:
    assert exchange.poll_seconds(waited, pending, done) == pytest.approx(seconds)


def test_answers_that_are_taken_come_one_by_one_and_need_not_be_kept() -> None:
    seen: list[float] = []
    pulls: list[int] = []

    def note(replies: list[Message]) -> list[Message]:
        pulls.append(len(replies))
        return replies

    def take(client: str, content: RecordDict) -> str:
        assert client in "012"
        value = float(content["arrays"]["w"].numpy()[0])
        if value == 2:
            return "two is too many"
        seen.append(value)
        del content["arrays"]
        return ""

    nodes = Nodes(adding_app(), 3, order=note)
    replies = put(nodes, take={"train": take})
    # Client i sends i + 1.
    assert seen == [1, 3]
    assert pulls == [1, 1, 1]
    assert replies.failures == {"1": "two is too many"}
    assert [list(m.content) for m in replies.usable.values()] == [["metrics"]] * 2
    # What was taken was sent all the same.
    assert replies.bytes_up == put(Nodes(adding_app(), 3)).bytes_up


def test_a_client_that_raises_is_a_failure_with_its_reason() -> None:
    replies = put(Nodes(adding_app(fail), 3))
    assert list(replies.usable) == ["0", "2"]
    assert list(replies.failures) == ["1"]
    assert "no power" in replies.failures["1"]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (
            "<class 'ray.exceptions.RayTaskError(ClientAppException)'>:<'\x1b[36mray\n  File ...\n"
            "celeba_fl.progress.InputError: client 0: weights = 'x': no file\n\nThe above ...\n\n"
            "Exception ClientAppException occurred. Message: client 0: weights = 'x': no file'>",
            "client 0: weights = 'x': no file",
        ),
        ("<class 'celeba_fl.progress.InputError'>:<'client 0: no 'x''>", "client 0: no 'x'"),
        ("<class 'KeyError'>:<''x''>", "<class 'KeyError'>:<''x''>"),
    ],
)
def test_of_our_own_errors_a_reason_is_the_message(
    monkeypatch: pytest.MonkeyPatch, reason: str, words: str
) -> None:
    nodes = Nodes(adding_app(fail), 3)
    pull = nodes.pull_messages

    def pulled(keys: list[str]) -> list[Message]:
        replies = list(pull(keys))
        for message in replies:
            if message.has_error():
                monkeypatch.setattr(message.error, "_reason", reason)
        return replies

    monkeypatch.setattr(nodes, "pull_messages", pulled)
    assert put(nodes).failures == {"1": words}


def test_a_client_that_does_not_answer_in_time_is_a_failure(clock: Waited) -> None:
    replies = put(Nodes(adding_app(), 3, silent=[2]))
    assert list(replies.usable) == ["0", "1"]
    assert replies.failures == {"2": "no answer within 9 s"}
    assert clock.now() >= 9


def test_answers_that_come_one_by_one_are_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "POLL_SECONDS", 0)
    late: list[Message] = []

    def one_by_one(replies: list[Message]) -> list[Message]:
        late.extend(replies)
        return [late.pop()]

    seen: list[PhaseProgress] = []
    replies = put(Nodes(adding_app(fail), 3, order=one_by_one), on_progress=seen.append)

    assert list(replies.usable) == ["0", "2"]
    assert [(w.asked, w.replied, w.failed) for w in seen] == [(3, 1, 0), (3, 1, 1), (3, 2, 1)]
    assert {(w.round, w.phase, w.since) for w in seen} == {(1, "train", seen[0].since)}


def test_progress_is_told_only_when_there_is_some(clock: Waited) -> None:
    seen: list[PhaseProgress] = []
    put(Nodes(adding_app(), 2, silent=[0]), on_progress=seen.append)
    assert len(clock.waits) > 1
    assert [(w.replied, w.failed) for w in seen] == [(1, 0)]


def test_progress_is_logged_now_and_then(clock: Waited, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    put(Nodes(adding_app(), 2, silent=[0]), timeout=2 * exchange.LOG_EVERY_SECONDS)
    assert "round 1, train: 1 of 2, " in caplog.text
    assert " s left" in caplog.text


def test_a_node_that_is_gone_is_a_failure() -> None:
    def gone(replies: list[Message]) -> list[Message]:
        replies[1].metadata.__dict__["_src_node_id"] = 1  # the SuperLink's own
        return replies

    replies = put(Nodes(adding_app(fail), 2, order=gone))
    assert list(replies.usable) == ["0"]
    assert list(replies.failures) == ["1"]


@pytest.mark.parametrize("lost", [[""], [None], []])
def test_a_message_that_cannot_be_sent_is_a_failure(lost: list[Any]) -> None:
    class Lossy(Nodes):
        def push_messages(self, messages: Any) -> Any:
            first, *others = super().push_messages(messages)
            return [first, *lost * len(others)]

    replies = put(Lossy(adding_app(), 3))
    assert list(replies.usable) == ["0"]
    assert replies.failures == dict.fromkeys("12", "the message could not be sent")


def test_a_reply_of_which_no_message_can_be_made_is_a_failure() -> None:
    class Mangled(Nodes):
        def pull_messages(self, message_ids: Any) -> Any:
            keys = list(message_ids)
            bad = [key for key in keys if self._waiting[key].metadata.dst_node_id == self.bad]
            if bad:
                raise ValueError("Invalid object\n content")
            return super().pull_messages(keys)

        @property
        def bad(self) -> int:
            return self.by_name["1"]

    replies = put(Mangled(adding_app(), 3))
    assert list(replies.usable) == ["0", "2"]
    assert replies.failures == {
        "1": "its reply cannot be read: ValueError('Invalid object\\n content')"
    }


def test_a_reply_to_what_nobody_asked_is_no_reply(clock: Waited) -> None:
    def stray(replies: list[Message]) -> list[Message]:
        for message in replies[:-1]:
            message.metadata.__dict__["_reply_to_message_id"] = "of another"
        return replies

    replies = put(Nodes(adding_app(), 2, order=stray))
    assert list(replies.usable) == ["1"]
    assert replies.failures == {"0": "no answer within 9 s"}


def test_no_node_answers_in_the_place_of_another() -> None:
    def forged(replies: list[Message]) -> list[Message]:
        replies[0].metadata.__dict__["_src_node_id"] = replies[1].metadata.src_node_id
        return replies

    replies = put(Nodes(adding_app(), 3, order=forged))
    assert list(replies.usable) == ["1", "2"]
    assert replies.failures == {"0": "another node has answered in its place"}


def test_the_servers_own_work_is_done_after_asking_and_before_waiting() -> None:
    log: list[str] = []

    class Logged(Nodes):
        def push_messages(self, messages: Any) -> Any:
            log.append("push")
            return super().push_messages(messages)

        def pull_messages(self, message_ids: Any) -> Any:
            log.append("pull")
            return super().pull_messages(message_ids)

    put(Logged(adding_app(), 2), meanwhile=lambda: log.append("work"))
    assert log == ["push", "work", "pull"]


def test_bytes_are_those_of_the_arrays() -> None:
    replies = put(Nodes(adding_app(fail), 3))
    size = sum(len(array.data) for array in record(MODEL).values())
    assert (replies.bytes_down, replies.bytes_up) == (3 * size, 2 * size)


def test_nobody_works_on_a_question_whose_time_is_over() -> None:
    lifetimes = []

    def step(client: int, number: int) -> Any:
        return lambda message: (
            lifetimes.append(message.metadata.ttl),
            reply(message, MODEL, num_examples=1),
        )[1]

    put(Nodes(adding_app(step), 2), timeout=60)
    assert lifetimes == [70.0, 70.0]


def test_no_question_no_answer() -> None:
    (replies,) = send_and_wait(
        Nodes(adding_app(), 1), {"evaluate": []}, {}, server_round=1, phase="evaluate", timeout=9
    ).values()
    assert (replies.usable, replies.failures, replies.bytes_down) == ({}, {}, 0)


# ---- what is unusable ---------------------------------------------------------------------


def given_by(*made: Callable[[Message], Message], expected: ArrayRecord | None = None) -> Replies:
    """The checked replies of clients 0, 1, ..."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return made[int(context.node_config["partition-id"])](message)

    replies = put(Nodes(app, len(made)))
    assert replies.failures == {}
    refuse(replies, lambda client, content: fault(check_reply, content, expected))
    return replies


def answer(arrays: Any = None, **metrics: Any) -> Callable[[Message], Message]:
    """A good answer, with other arrays or metrics; None leaves out a metric."""
    said = {"num_examples": 4, "loss": 0.5, **metrics}
    kept = {key: value for key, value in said.items() if value is not None}
    return lambda message: reply(message, {**MODEL, **(arrays or {})}, **kept)


def raw(array: Array) -> Callable[[Message], Message]:
    """A good answer with such an Array in it."""

    def make(message: Message) -> Message:
        made = answer()(message)
        made.content.array_records["arrays"]["w"] = array
        return made

    return make


def without(name: str) -> Callable[[Message], Message]:
    """A good answer that lacks a record."""

    def make(message: Message) -> Message:
        made = answer()(message)
        del made.content[name]
        return made

    return make


def also(**records: Any) -> Callable[[Message], Message]:
    """A good answer with more records."""

    def make(message: Message) -> Message:
        made = answer()(message)
        for name, more in records.items():
            made.content[name] = more
        return made

    return make


def only(arrays: Any) -> Callable[[Message], Message]:
    """An answer with these arrays instead of the model's."""
    return lambda message: reply(message, arrays, num_examples=4, loss=0.5)


BAD = {
    "NaN": (answer({"w": np.float32([1, np.nan])}), "array 'w' has NaN or infinite values"),
    "infinite": (answer({"w": np.float32([-np.inf, 0])}), "array 'w' has NaN or infinite values"),
    "shape": (answer({"w": np.float32([1])}), "array 'w' is ((1,), 'float32'), not ((2,), "),
    "broadcast": (answer({"w": np.float32([[1, 2]])}), "array 'w' is ((1, 2), 'float32'), not"),
    "type": (answer({"w": np.float64([1, 2])}), "array 'w' is ((2,), 'float64'), not ((2,), "),
    "more": (answer({"x": np.float32([1])}), "array 'x' is ((1,), 'float32'), not None"),
    "fewer": (only({"w": MODEL["w"]}), "array 'n' is None, not ((), 'int64')"),
    "two": (also(others=record(MODEL)), "2 ArrayRecords instead of one"),
    "none": (without("arrays"), "0 ArrayRecords instead of one"),
    "garbage": (raw(Array("float32", (2,), "numpy.ndarray", b"?")), "array 'w' cannot be read: "),
    "empty": (raw(Array("float32", (2,), "numpy.ndarray", b"")), "array 'w' cannot be read: "),
    "zip": (raw(Array("float32", (2,), "numpy.ndarray", b"PK\3\4")), "array 'w' cannot be read: "),
    "form": (raw(Array("float32", (2,), "pickle", b"")), "array 'w' cannot be read: "),
    "lie": (
        raw(Array("float32", (2,), "numpy.ndarray", Array(np.array([1], np.float32)).data)),
        "array 'w' does not have the shape and type that its record states",
    ),
    "negative": (answer(num_examples=-1), "num-examples = -1 is not a count"),
    "fraction": (answer(num_examples=2.5), "num-examples = 2.5 is not a count"),
    "several": (answer(num_examples=[4]), "num-examples = [4] is not a count"),
    "uncounted": (answer(num_examples=None), "num-examples = None is not a count"),
    "nothing": (answer(num_examples=None, loss=None), "num-examples = None is not a count"),
    "unmeasured": (without("metrics"), "0 MetricRecords instead of one"),
    "twofold": (also(m=MetricRecord({"num-examples": 4})), "2 MetricRecords instead of one"),
    "NaN metric": (answer(loss=float("nan")), "a metric has NaN or infinite values"),
    "infinite metric": (answer(loss=[0.5, float("inf")]), "a metric has NaN or infinite values"),
    "other metrics": (answer(loss=None, cost=1.0), "of another form than those of most"),
    "list metric": (answer(loss=[0.5, 0.5]), "of another form than those of most"),
    "config": (also(c=ConfigRecord({"a": 1})), "of another form than those of most"),
}


@pytest.mark.parametrize(("bad", "reason"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("place", [0, 2])
def test_one_bad_client_is_left_out_and_the_others_stay(
    bad: Callable[[Message], Message], reason: str, place: int
) -> None:
    made = [answer(), answer(), answer()]
    made[place] = bad

    replies = given_by(*made, expected=record(MODEL))

    assert list(replies.failures) == [str(place)]
    assert reason in replies.failures[str(place)]
    assert list(replies.usable) == [name for name in "012" if name != str(place)]


def test_good_answers_are_usable() -> None:
    replies = given_by(
        answer(), answer({"w": np.float32([7, 8])}, num_examples=0), expected=record(MODEL)
    )
    assert (list(replies.usable), replies.failures) == (["0", "1"], {})


def test_the_order_of_keys_does_not_matter() -> None:
    turned = only(dict(reversed(MODEL.items())))
    replies = given_by(answer(), turned, expected=record(MODEL))
    assert list(replies.usable) == ["0", "1"]


def test_a_majority_of_bad_clients_does_not_make_the_good_ones_bad() -> None:
    bad = answer({"w": np.float32([1])})
    replies = given_by(bad, answer(), bad, bad, answer(), expected=record(MODEL))
    assert list(replies.usable) == ["1", "4"]


def test_without_a_model_to_compare_with_most_clients_are_right() -> None:
    wide, narrow = answer(), answer({"w": np.float32([1])})
    replies = given_by(narrow, wide, wide)
    assert list(replies.usable) == ["1", "2"]
    # Counts come in the smallest type that holds them.
    replies = given_by(answer({"n": np.uint8(3)}), answer({"n": np.int64(3)}))
    assert list(replies.usable) == ["0", "1"]


@pytest.mark.parametrize(
    ("metrics", "number"),
    [({"num-examples": 0}, 0), ({"num-examples": 3}, 3), ({"num-examples": 3.0}, -1)],
)
def test_num_examples(metrics: dict[str, Any], number: int) -> None:
    assert num_examples(RecordDict({"metrics": MetricRecord(metrics)})) == number
    assert num_examples(RecordDict()) == -1
