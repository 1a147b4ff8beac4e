"""A round of clients whose models are given, through the whole loop."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from adding import Adding, Nodes, adding_app, record, reply
from flwr.app import Message

from celeba_fl.config import RunConfig
from celeba_fl.rounds.loop import Loop
from celeba_fl.strategy import make_strategy


def rounds_of(
    models: Sequence[np.ndarray],
    examples: Sequence[int] = (),
    number: int = 1,
    order: Callable[[list[Message]], list[Message]] = lambda replies: replies,
    **keys: Any,
) -> np.ndarray:
    """The model after so many rounds, in each of which clients return these models, (n, d).

    Each says that it has so many examples, by default one; ``pre_aggregation`` stands for the key
    ``pre-aggregation``.
    """
    config = RunConfig.load({key.replace("_", "-"): value for key, value in keys.items()})
    said = examples or [1] * len(models)

    def step(client: int, _: int) -> Any:
        cut = {"a": models[client][:2], "b": models[client][2:].reshape(1, -1)}
        return lambda message: reply(message, cut, num_examples=said[client])

    grid = Nodes(adding_app(step), len(models), order)
    start = {"a": np.zeros(2), "b": np.zeros((1, models[0].size - 2))}
    loop = Loop(grid.by_name)
    result = loop.run(make_strategy(config, Adding(config)), grid, record(start), number)
    return np.concatenate([result.arrays[key].numpy().ravel() for key in start])


def drawn(number: int, size: int = 9, seed: int = 0) -> np.ndarray:
    """Models (number, size), the last two of them far away."""
    models = np.random.default_rng(seed).normal(1.0, 0.5, (number, size))
    models[-2:] += 8.0
    return models
