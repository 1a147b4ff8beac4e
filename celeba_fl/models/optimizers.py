"""Adam and SGD as PyTorch computes them, without the classes of `torch.optim`; FedProx's term.

Making one of those classes imports PyTorch's compiler, about 900 modules: 73 MB and longer than
most clients train, in a process that may live for one message only.
"""

from collections.abc import Callable, Sequence

import torch
from torch.optim.adam import adam
from torch.optim.sgd import sgd


def make_optimizer(
    name: str,
    weights: Sequence[torch.Tensor],
    learning_rate: float,
    momentum: float = 0.0,
    beta1: float = 0.9,
) -> Callable[[], None]:
    """Make the function that takes a step down the gradients of `weights`, and clears them.

    The weights are leaves of the graph, and are changed in place; by ``adam`` (Kingma and Ba, ICLR
    2015; beta2 0.999, epsilon 1e-8) with `beta1`, or by ``sgd`` with `momentum`.
    """
    weights = list(weights)
    first, second = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    steps = [torch.tensor(0.0) for _ in weights]
    velocities: list[torch.Tensor | None] = [None for _ in weights]

    @torch.no_grad()
    def step() -> None:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        if name == "adam":
            adam(
                weights,
                gradients,
                first,
                second,
                [],
                steps,
                amsgrad=False,
                beta1=beta1,
                beta2=0.999,
                lr=learning_rate,
                weight_decay=0.0,
                eps=1e-8,
                maximize=False,
            )
        else:
            sgd(
                weights,
                gradients,
                velocities,
                weight_decay=0.0,
                momentum=momentum,
                lr=learning_rate,
                dampening=0.0,
                nesterov=False,
                maximize=False,
            )
        for weight in weights:
            weight.grad = None

    return step


def make_proximal_term(weights: Sequence[torch.Tensor], mu: float) -> Callable[[], torch.Tensor]:
    """Make the function that gives FedProx's part of the loss, (mu / 2) ||w - w_0||^2.

    w_0 is where `weights` are now, w where they are when it is called. Source: Li et al.,
    "Federated Optimization in Heterogeneous Networks", MLSys 2020.
    """
    start = [weight.detach().clone() for weight in weights]

    def term() -> torch.Tensor:
        pairs = zip(weights, start, strict=True)
        return mu / 2 * torch.stack([((new - old) ** 2).sum() for new, old in pairs]).sum()

    return term
