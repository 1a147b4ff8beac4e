"""Several requests in one message."""

from typing import Any

import numpy as np
import pytest
from adding import Nodes, adding_app, record, reply
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from celeba_fl.common.errors import InputError
from celeba_fl.rounds.exchange import Replies, send_and_wait
from celeba_fl.rounds.parts import TOGETHER, answer_together, answers, join, split

MODEL = record({"w": np.float32([1, 2])})


def request(kind: str, node: int, number: int, model: Any = MODEL) -> Message:
    config = ConfigRecord({"server-round": number})
    return Message(RecordDict({"arrays": model, "config": config}), node, kind)


def requests_to(node: int) -> dict[str, Message]:
    return {"evaluate": request("evaluate", node, 3), "train": request("train", node, 4)}


def ask(app: ClientApp, trains: str = "01", evaluates: str = "01") -> dict[str, Replies]:
    """Ask two clients to train and to evaluate."""
    nodes = Nodes(app, 2)
    requests = {
        "evaluate": [request("evaluate", nodes.by_name[name], 3) for name in evaluates],
        "train": [request("train", nodes.by_name[name], 4) for name in trains],
    }
    names = {node: name for name, node in nodes.by_name.items()}
    return send_and_wait(nodes, requests, names, server_round=4, phase="train", timeout=9)


def test_a_single_request_travels_as_it_is() -> None:
    Nodes(adding_app(), 1)
    message = request("train", 1, 1)
    assert join({"train": message}) is message
    assert answers(message, {"train": message}) == {"train": message}


def test_what_requests_share_travels_once() -> None:
    Nodes(adding_app(), 1)
    requests = requests_to(7)
    message = join(requests)
    assert message.metadata.message_type == TOGETHER
    assert message.metadata.dst_node_id == 7
    assert set(message.content) == {"arrays", "evaluate/config", "train/config", "parts"}
    parts = split(message.content, requests)
    assert parts == {name: one.content for name, one in requests.items()}


def test_what_they_do_not_share_travels_apart() -> None:
    Nodes(adding_app(), 1)
    other = record({"w": np.float32([3, 4])})
    requests = {**requests_to(7), "train": request("train", 7, 4, other)}
    message = join(requests)
    assert len(message.content.array_records) == 2
    assert split(message.content, requests)["train"]["arrays"] == other


def test_a_client_answers_each_request_as_if_it_were_alone() -> None:
    together, apart = ask(adding_app()), [ask(adding_app(), evaluates=""), ask(adding_app(), "")]
    for name, one in (("train", apart[0]), ("evaluate", apart[1])):
        contents = [{c: m.content for c, m in of[name].usable.items()} for of in (together, one)]
        assert contents[0] == contents[1]
        assert list(contents[0]) == ["0", "1"]
        kinds = {m.metadata.message_type for m in together[name].usable.values()}
        assert kinds == {name}
        assert together[name].bytes_up == one[name].bytes_up
    # The model that both need is sent once.
    assert together["evaluate"].bytes_down == apart[1]["evaluate"].bytes_down
    assert together["train"].bytes_down == 0


def test_clients_are_asked_for_what_they_are_to_do() -> None:
    replies = ask(adding_app(), trains="0", evaluates="1")
    assert list(replies["train"].usable) == ["0"]
    assert list(replies["evaluate"].usable) == ["1"]


@pytest.mark.parametrize("fails", ["train", "evaluate"])
def test_one_request_may_fail_alone(fails: str) -> None:
    app, fine = ClientApp(), adding_app()

    def handle(message: Message, context: Context) -> Message:
        if message.metadata.message_type == fails and context.node_config["partition-id"] == 1:
            raise InputError("no power")
        return fine(message, context)

    app.train()(handle)
    app.evaluate()(handle)
    answer_together(app)
    replies = ask(app)
    other = {"train": "evaluate", "evaluate": "train"}[fails]
    assert list(replies[other].usable) == ["0", "1"]
    assert list(replies[fails].usable) == ["0"]
    assert replies[fails].failures == {"1": "no power"}


def test_whoever_says_nothing_fails_at_all_it_was_asked_for() -> None:
    nodes = Nodes(adding_app(), 2, silent=[1])
    requests = {
        kind: [request(kind, node, 1) for node in nodes.get_node_ids()]
        for kind in ("evaluate", "train")
    }
    names = {node: name for name, node in nodes.by_name.items()}
    seen: list[Any] = []
    replies = send_and_wait(
        *(nodes, requests, names),
        server_round=1,
        phase="train",
        timeout=0.05,
        on_progress=seen.append,
    )
    for of_part in replies.values():
        assert list(of_part.usable) == ["0"]
        assert of_part.failures == {"1": "no answer within 0 s"}
    assert [(w.asked, w.replied, w.failed) for w in seen] == [(2, 1, 0)]


def test_of_a_reply_that_is_no_answer_to_all_nothing_is_taken_for_one() -> None:
    Nodes(adding_app(), 1)
    requests = requests_to(7)
    stray = reply(join(requests), {"w": np.zeros(2)}, num_examples=1)
    stray.content["train/failure"] = ConfigRecord({"reason": 3})
    found = answers(stray, requests)
    assert found["train"].error.reason == "3"
    assert set(found["evaluate"].content) == {"arrays", "metrics"}
