"""Trains and evaluates the head on this client's images."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from plain.task import Net, client_loaders
from plain.task import test as test_fn
from plain.task import train as train_fn

app = ClientApp()


def prepare(message: Message, context: Context):
    """The net with the head that came, and the client's batches."""
    torch.set_num_threads(1)
    config, node = context.run_config, context.node_config
    net = Net(str(config["weights"]), float(config["dropout"]))
    net.head.load_state_dict(message.content["arrays"].to_torch_state_dict())
    return net, *client_loaders(node["partition-id"], node["num-partitions"], config)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one round."""
    net, batches, _ = prepare(message, context)
    loss = train_fn(net, batches, context.run_config)
    metrics = {"train_loss": loss, "num-examples": len(batches.dataset)}
    arrays = ArrayRecord(net.head.state_dict())
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate on the client's validation images."""
    net, _, batches = prepare(message, context)
    accuracy, number = test_fn(net, batches)
    metrics = MetricRecord({"eval_acc": accuracy, "num-examples": number})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
