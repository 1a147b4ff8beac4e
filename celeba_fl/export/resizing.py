"""Pillow's bilinear resizing as a part of a network, equal to Pillow's to the last bit.

Pillow weighs places by a triangle as wide as what is shrunk, first along rows and then along
columns, in whole numbers of 2^-22, and rounds to 8 bits after each (Pillow's `Resample.c`). Numbers
that large are exact in float64. ONNX has an operator of its own for it, which runtimes differ in.
"""

import torch

STEPS = 2.0**22


def resized(images: torch.Tensor, size: int) -> torch.Tensor:
    """(n, channels, height, width) uint8 of any size to (n, channels, size, size) uint8."""
    pixels = images.double()
    pixels = _rounded(pixels @ _weights(size, images.shape[3]).T)
    return _rounded(_weights(size, images.shape[2]) @ pixels).to(torch.uint8)


def _weights(size: int, edge: int) -> torch.Tensor:
    """(size, edge) float64 in whole numbers, of which a row is the weights of one result."""
    step = torch.full((), edge, dtype=torch.float64) / size
    centres = (torch.arange(size, dtype=torch.float64)[:, None] + 0.5) * step
    places = torch.arange(edge, dtype=torch.float64) + 0.5
    weights = (1 - (places - centres).abs() / step.clamp(min=1)).clamp(min=0)
    return (weights / weights.sum(dim=1, keepdim=True) * STEPS + 0.5).floor()


def _rounded(sums: torch.Tensor) -> torch.Tensor:
    return (sums / STEPS + 0.5).floor().clamp(0, 255)
