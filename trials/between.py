"""Replicates' means of people who were drawn anew each time, as draws of what is expected given the parameters.

A mean over n simulated people has the variance of the parameters plus that of who was simulated. The second is known
from inside the replicates, so it can be taken out (analysis of variance of nested simulations: O'Hagan, Stevenson &
Madan, Health Econ 2007;16:1009), and means drawn towards each other until their covariance is that of the parameters
(draws with the right first two moments: Louis, J Am Stat Assoc 1984;79:393).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = ["expected"]

Floats = NDArray[np.float64]

FLAT = 1e-10  # of the largest: directions in which nothing varies


def expected(means: ArrayLike, noise: ArrayLike) -> Floats:
    """Means (R, P) with mean covariance `noise` (P, P) of who was simulated -> draws (R, P): same mean, covariance
    S - N where that is positive, 0 where it is not, so never less than S - N in any direction, nor more than S.

    In coordinates in which S is 1 and N is diagonal, each deviation is shortened by the root of 1 - N.

    >>> expected([[0.0], [2.0], [4.0]], [[3.0]]).round(6).tolist()
    [[1.0], [2.0], [3.0]]
    """
    x, n = np.asarray(means, np.float64), np.asarray(noise, np.float64)
    if x.ndim != 2 or n.shape != (x.shape[1], x.shape[1]) or not (np.isfinite(x).all() and np.isfinite(n).all()):
        raise InputError("must be finite means (R, P) and their covariance (P, P)", field="means",
                         value=f"{x.shape}, {n.shape}")  # fmt: skip
    if len(x) < 2:
        return x.copy()
    centre = x.mean(axis=0)
    away = x - centre
    scale = np.sqrt((away**2).mean(axis=0))
    scale = np.where(scale > 0, scale, 1.0)
    size, direction = np.linalg.eigh((away / scale).T @ (away / scale) / (len(x) - 1))
    kept = size > FLAT * max(float(size.max()), FLAT)
    root, direction = np.sqrt(size[kept]), direction[:, kept]
    white = direction / root
    share, turn = np.linalg.eigh(white.T @ (n / np.outer(scale, scale)) @ white)
    left = np.sqrt(np.clip(1.0 - share, 0.0, 1.0))
    shortened = ((away / scale) @ white @ turn * left) @ turn.T @ (direction * root).T
    return np.asarray(centre + shortened * scale)
