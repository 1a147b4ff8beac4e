"""The grid in one process, as it stands for Flower's."""

from typing import Any

from adding import adding_app, record
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from celeba_fl.launch.inline import InlineGrid


def question(grid: InlineGrid, node: int, number: int = 1) -> Message:
    content = RecordDict(
        {"arrays": record({"w": [0.0]}), "config": ConfigRecord({"server-round": number})}
    )
    return grid.create_message(content, "train", node, "1")


def test_each_node_can_have_a_config_of_its_own() -> None:
    sites = [{"site": "a", "data-path": "/srv"}, {"partition-id": 0, "num-partitions": 1}]
    app, seen = ClientApp(), []

    @app.train()
    def train(message: Message, context: Context) -> Message:
        seen.append(dict(context.node_config))
        return Message(RecordDict(), reply_to=message)

    grid = InlineGrid(app, sites, {})
    list(grid.send_and_receive([question(grid, node) for node in grid.get_node_ids()]))
    assert seen == sites


def test_nodes_have_random_ids_and_partitions_in_order() -> None:
    seen = []

    def step(client: int, number: int) -> float:
        seen.append(client)
        return 0.0

    one, other = (InlineGrid(adding_app(step), 3, {"a": 1}) for _ in range(2))
    assert not set(one.get_node_ids()) & set(other.get_node_ids())
    list(other.send_and_receive([question(other, node) for node in other.get_node_ids()]))
    assert seen == [0, 1, 2]


def test_clients_see_the_run_config_and_keep_their_state() -> None:
    app = adding_app()
    seen: list[Any] = []

    @app.query()
    def query(message: Message, context: Context) -> Message:
        count = context.state.config_records.setdefault("own", ConfigRecord({"asked": 0}))
        count["asked"] += 1
        seen.append((context.run_config, context.node_config, context.node_id, dict(count)))
        return Message(RecordDict(), reply_to=message)

    grid = InlineGrid(app, 2, {"a": 1})
    first, second = grid.get_node_ids()
    for node in (second, second, first):
        list(grid.send_and_receive([grid.create_message(RecordDict(), "query", node, "")]))

    config = {"partition-id": 1, "num-partitions": 2}
    assert seen[:2] == [({"a": 1}, config, second, {"asked": n}) for n in (1, 2)]
    assert seen[2][2:] == (first, {"asked": 1})


def test_a_reply_is_pulled_once_and_by_its_message() -> None:
    grid = InlineGrid(adding_app(), 2, {})
    ids = list(grid.push_messages([question(grid, node) for node in grid.get_node_ids()]))
    (answer,) = grid.pull_messages([ids[1]])
    assert answer.metadata.reply_to_message_id == ids[1]
    assert answer.content["metrics"]["num-examples"] == 2
    assert [a.metadata.reply_to_message_id for a in grid.pull_messages(ids)] == [ids[0]]
    assert list(grid.pull_messages([*ids, "unknown"])) == []


def test_a_client_that_raises_replies_with_an_error() -> None:
    def step(client: int, number: int) -> float:
        raise RuntimeError("no power")

    grid = InlineGrid(adding_app(step), 1, {})
    (answer,) = grid.send_and_receive([question(grid, node) for node in grid.get_node_ids()])
    assert answer.has_error()
    assert "no power" in answer.error.reason
