# mypy: ignore-errors
"""A step of `head_training` as an ONNX graph: the loss, the gradient, and the update itself.

For a browser tab, which has no NumPy. ONNX Runtime's training API is gone since 1.20, and none is
needed: the head is one layer, whose gradient is written out here as it is there. All sizes are
those of the inputs, so that one graph serves every head, and so are all settings. What looks like
Python is ONNX Script: it is read, not run, and its types are not those of a type checker.
"""

import numpy as np
from onnx.numpy_helper import from_array
from onnxscript import BOOL, DOUBLE, FLOAT, OnnxFunction, script
from onnxscript import opset18 as op

from celeba_fl.common.errors import InputError
from celeba_fl.models.head_training import BETA1, BETA2, EPSILON

Batch = FLOAT["batch", "inputs"]
Labels = BOOL["batch", "outputs"]
Factors = FLOAT["batch", "outputs"]
Positives = FLOAT["outputs"]
Weights = FLOAT["outputs", "inputs"]
Number = DOUBLE[()]
Loss = FLOAT[()]
NEW1, NEW2 = 1 - BETA1, 1 - BETA2
# Numbers in a script are of 32 bits, and of these their powers tell too little.
DECAY1, DECAY2 = (from_array(np.array(beta)) for beta in (BETA1, BETA2))


@script()
def loss_and_gradient(x, y, factor, positives, weights, start, mu):
    """The mean loss of a batch, and its gradient with FedProx's term."""
    scores = op.Gemm(x, weights, transB=1)
    yes = op.CastLike(y, x)
    negative = 1.0 - yes
    weight = positives * yes + negative
    missed = op.Softplus(-scores)  # the loss of a positive
    loss = op.ReduceMean((negative * scores + weight * missed) * factor, keepdims=0)
    slope = (negative - weight * op.Sigmoid(-scores)) * factor / op.CastLike(op.Size(scores), x)
    gradient = op.Gemm(slope, x, transA=1) + op.CastLike(mu, x) * (weights - start)
    return loss, gradient


@script()
def sgd(
    x: Batch,
    y: Labels,
    factor: Factors,
    positives: Positives,
    weights: Weights,
    start: Weights,
    mu: Number,
    learning_rate: Number,
) -> tuple[Loss, Weights]:
    """A step of gradient descent."""
    loss, gradient = loss_and_gradient(x, y, factor, positives, weights, start, mu)
    next_weights = weights - op.CastLike(learning_rate, x) * gradient
    return loss, next_weights


@script()
def adam(
    x: Batch,
    y: Labels,
    factor: Factors,
    positives: Positives,
    weights: Weights,
    start: Weights,
    mu: Number,
    learning_rate: Number,
    steps: Number,
    mean: Weights,
    square: Weights,
) -> tuple[Loss, Weights, Weights, Weights]:
    """A step of Adam, after so many steps."""
    loss, gradient = loss_and_gradient(x, y, factor, positives, weights, start, mu)
    next_mean = mean + (gradient - mean) * NEW1
    next_square = square * BETA2 + gradient * gradient * NEW2
    one = op.CastLike(1.0, steps)
    rate = learning_rate / (one - op.Pow(op.Constant(value=DECAY1), steps + one))
    unbiased = op.Sqrt(one - op.Pow(op.Constant(value=DECAY2), steps + one))
    root = op.Sqrt(next_square) / op.CastLike(unbiased, x)
    next_weights = weights - next_mean * op.CastLike(rate, x) / (root + EPSILON)
    return loss, next_weights, next_mean, next_square


STEPS: dict[str, OnnxFunction] = {"adam": adam, "sgd": sgd}


def head_step(optimizer: str) -> bytes:
    """The ONNX file of a step of an optimizer.

    ``x`` are the inputs of a batch, with a 1 for the bias at the end of each row, ``y`` its labels,
    ``factor`` the weight of each label, ``positives`` those of positives of each output, ``start``
    where the round started from and ``mu`` that of FedProx. What a step changes comes out under its
    name with ``next_`` before it; moments start from 0. ``loss`` is the mean over the batch.
    """
    if optimizer not in STEPS:
        raise InputError(f"optimizer = {optimizer!r}: should be one of {', '.join(STEPS)}")
    return bytes(STEPS[optimizer].to_model_proto().SerializeToString())
