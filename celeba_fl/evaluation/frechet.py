"""The Fréchet distance between the features of two sets of images.

Dowson and Landau, "The Fréchet distance between multivariate normal distributions", Journal of
Multivariate Analysis 12(3), 1982; for generated images first by Heusel et al., "GANs Trained by a
Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", NeurIPS 2017. Theirs is between
features of an Inception network, and called FID; ours is between features of the project's own
backbone, so the two are on different scales and must not be compared.

The estimate is biased: between finite samples of one and the same distribution it is above 0, and
the more so, the fewer they are (Chong and Forsyth, "Effectively Unbiased FID and Inception Score
and Where to Find Them", CVPR 2020). So only distances between equally many images compare, and
beside each belongs that of real images to other real ones, of as many.
"""

import numpy as np


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """The squared Fréchet distance between the normal distributions of two samples.

    |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2), with the means m and the covariances C. With
    C = A^T A, where A are the centred rows by sqrt(n - 1), the eigenvalues of C1 C2 are those of
    (A1 A2^T)(A1 A2^T)^T: its last term is the sum of the singular values of A1 A2^T, which needs
    no root of a matrix, and of these matrices only their triangular factors.

    Both are features of images, (n, dim) with n > 1; n may differ.
    """
    means = [sample.mean(axis=0, dtype=np.float64) for sample in (one, other)]
    factors: list[np.ndarray] = []
    for sample, mean in zip((one, other), means, strict=True):
        rows = (sample - mean) / np.sqrt(len(sample) - 1)
        # Of A = QR, Q changes no singular value, and R is smaller where n > dim.
        factors.append(np.linalg.qr(rows, "r") if len(rows) > rows.shape[1] else rows)  # type: ignore[arg-type]
    shared = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    spread = sum((factor**2).sum() for factor in factors)
    return float(((means[0] - means[1]) ** 2).sum() + spread - 2 * shared)
