"""Erasing what is linear of a group from features, and ridge regression on what is left.

LEACE (Belrose et al., "LEACE: Perfect linear concept erasure in closed form", NeurIPS 2023, arXiv
2306.03819): of all affine changes of the features X after which no linear predictor of Z is better
than Z's mean, the one that moves them least, whatever the inner product that distance is
measured by::

    r(x) = x - W+ P W (x - mean),   W = C^(-1/2)

C is the covariance of X, and P the orthogonal projection on the columns of W cov(X, Z). Both follow
from sums. With L = C^(1/2) Q and R = C^(-1/2) Q, where the columns of Q are an orthonormal base of
that space, ``W+ P W = L R'``; the erased features have the covariance ``C - L L'``. So a regression
on them takes the factorisation that is there: a step of as low a rank as there are groups. A head
on erased features is one on the features as they are: the eraser is folded into it.
"""

import numpy as np

from celeba_fl.common.arrays import Floats
from celeba_fl.models.ridge import Problem


def eraser(problem: Problem, cross: Floats) -> tuple[Floats, Floats]:
    """L and R, (dim, rank) each, in the coordinates of the eigenvectors.

    `cross`, (dim, k), are sums of products of centred features and of Z, in those coordinates.
    Directions in which features do not vary are left as they are.
    """
    values = problem.values
    varies = values > len(values) * np.finfo(np.float64).eps * values.max(initial=0.0)
    root = np.sqrt(np.where(varies, values, 1.0))[:, None]
    white = np.where(varies[:, None], cross / root, 0.0)
    base, size, _ = np.linalg.svd(white, full_matrices=False)
    # Of a group without members, or of one that no feature tells, there is nothing to erase.
    base = base[:, size > 1e-9 * max(size.max(initial=0.0), np.sqrt(problem.n))]
    return base * root, base / root


def regression(problem: Problem, cross: Floats, ratio: float) -> Floats:
    """Ridge regression on erased features, folded: (dim + 1, outputs), the bias last.

    With M = C + lambda and b the products with the outputs, the weights on erased features are
    ``(M - L L')^-1 (b - L R'b)``, and ``I - L'M^-1 L`` is ``Q' (lambda M^-1) Q``.
    """
    left, right = eraser(problem, cross)
    shrunk, rotated = problem.shrunk(ratio), problem.rotated
    b = rotated - left @ (right.T @ rotated)
    inner = left.T @ (right * ((shrunk - problem.values[:, None]) / shrunk))
    w = (b + left @ np.linalg.solve(inner, left.T @ (b / shrunk))) / shrunk
    return problem.turned_back(w - right @ (left.T @ w))
