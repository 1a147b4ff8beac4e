import subprocess
import sys

import pytest
import torch

from celeba_fl.models.optimizers import make_optimizer, make_proximal_term


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("adam", {}),
        ("adam", {"beta1": 0.5}),
        ("sgd", {}),
        ("sgd", {"momentum": 0.9}),
    ],
)
def test_steps_are_pytorchs_own_to_the_bit(name, settings):
    torch.manual_seed(0)
    ours = [torch.randn(3, 4, requires_grad=True), torch.randn(5, requires_grad=True)]
    theirs = [weight.detach().clone().requires_grad_() for weight in ours]
    step = make_optimizer(name, ours, 0.01, **settings)
    known: torch.optim.Optimizer
    if name == "adam":
        known = torch.optim.Adam(theirs, lr=0.01, betas=(settings.get("beta1", 0.9), 0.999))
    else:
        known = torch.optim.SGD(theirs, lr=0.01, **settings)
    for _ in range(5):
        for weights in (ours, theirs):
            sum((weight**4).sum() for weight in weights).backward()
        step()
        known.step()
        known.zero_grad()
        assert all(weight.grad is None for weight in ours)
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one, other)


def test_first_steps_by_hand():
    weight = torch.tensor([1.0], requires_grad=True)
    step = make_optimizer("sgd", [weight], 0.1, momentum=0.5)
    (2 * weight).sum().backward()
    step()
    assert weight.item() == pytest.approx(1 - 0.1 * 2)
    (2 * weight).sum().backward()
    step()
    assert weight.item() == pytest.approx(0.8 - 0.1 * (2 + 0.5 * 2))


def test_pytorchs_compiler_is_not_imported():
    code = """if True:
        import sys, torch
        from celeba_fl.models.optimizers import make_optimizer, make_proximal_term
        weight = torch.ones(2, requires_grad=True)
        for name in ("adam", "sgd"):
            weight.sum().backward()
            make_optimizer(name, [weight], 0.1, 0.9)()
        print("torch._dynamo" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_proximal_term_by_hand() -> None:
    weights = [torch.tensor([1.0, 2.0]), torch.tensor([[3.0]])]
    term = make_proximal_term(weights, 0.5)
    assert term() == 0
    weights[0] += 2
    weights[1] -= 1
    assert term() == 0.5 / 2 * (2 * 2**2 + 1)
