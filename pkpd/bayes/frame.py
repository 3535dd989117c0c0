"""What a quick look says the data tell of each subject: the coordinates in which random effects are sampled.

The same lines as `kernels.standardised`, for many draws at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Frame", "Turn"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """log p(rows of i | u) about -(v - p)' info (v - p)/2, v = u - m of the individual values u and their typical
    values m, p = peak - slope t, t all free typical values: info (q, q, N), peak (q, N), slope (q, typical, N). All 0:
    non-centred. Said at
    the residual errors exp(seen), seen (errors,); share (q, errors, N): of each in what is said of an effect. Empty: it
    does not follow the errors.
    """

    info: Floats
    peak: Floats
    slope: Floats
    share: Floats = field(default_factory=lambda: np.empty((0, 0, 0)))
    seen: Floats = field(default_factory=lambda: np.empty(0))

    @classmethod
    def none(cls, effects: int, typical: int, subjects: int) -> Frame:
        """Nothing known of anybody: standard normal effects are sampled.

        >>> Frame.none(2, 3, 5).slope.shape
        (2, 3, 5)
        """
        return cls(
            info=np.zeros((effects, effects, subjects)), peak=np.zeros((effects, subjects)),
            slope=np.zeros((effects, typical, subjects)),
        )  # fmt: skip

    def effects(self, y: Floats, typical: Floats, root: Floats, error: Floats) -> Floats:
        """Standard normal effects (..., q, N) of coordinates y (..., q, N), typical values (..., typical), the root
        (..., q, q) of the effects' covariance and log residual errors (..., errors).
        """
        T, w = self._factored(typical, root, error)
        q, z = len(self.peak), w + y
        for j in range(q - 1, -1, -1):
            for k in range(j + 1, q):
                z[..., j, :] -= T[k, j] * z[..., k, :]
            z[..., j, :] /= T[j, j]
        return z

    def coordinates(self, z: Floats, typical: Floats, root: Floats, error: Floats) -> Floats:
        """The coordinates (..., q, N) of standard normal effects z (..., q, N): the inverse of `effects`."""
        T, w = self._factored(typical, root, error)
        made = -w
        for j in range(len(self.peak)):
            for k in range(j, len(self.peak)):
                made[..., j, :] += T[k, j] * z[..., k, :]
        return made

    def scale(self, error: Floats) -> Floats:
        """s (..., q, N): the roots of how much more precise the rows are at log errors (..., errors) than seen."""
        if not self.share.size:
            return np.ones(1)
        wider = np.exp(2.0 * (error - self.seen)) - 1.0
        return np.asarray(1.0 / np.sqrt(np.maximum(1.0 + np.einsum("jkn,...k->...jn", self.share, wider), 1e-12)))

    def _factored(self, typical: Floats, root: Floats, error: Floats) -> tuple[dict[tuple[int, int], Any], Floats]:
        """T with T T' = 1 + L' s info s L, entry by entry (..., N), and w = T^-1 L' s info s p."""
        q = len(self.peak)
        L = root[..., None]
        linked = np.any(root != 0.0, axis=tuple(range(root.ndim - 2)))
        s = np.broadcast_to(self.scale(error), (*error.shape[:-1], *self.peak.shape))
        p = self.peak - np.einsum("jkn,...k->...jn", self.slope, typical)
        h = s * np.einsum("jkn,...kn->...jn", self.info, s * p)
        A = {
            (j, k): s[..., j, :]
            * sum(
                (L[..., m, k, :] * self.info[j, m] * s[..., m, :] for m in range(k, q) if linked[m, k]), np.float64(0.0)
            )
            for j in range(q) for k in range(q)
        }  # fmt: skip
        w = np.zeros_like(h)
        T: dict[tuple[int, int], Any] = {}
        for k in range(q):
            for j in range(k, q):
                T[j, k] = sum((L[..., m, j, :] * A[m, k] for m in range(j, q) if linked[m, j]), np.float64(j == k))
                T[j, k] = T[j, k] - sum((T[j, m] * T[k, m] for m in range(k)), np.float64(0.0))
                T[j, k] = np.sqrt(T[j, j]) if j == k else T[j, k] / T[k, k]
        for j in range(q):
            w[..., j, :] = sum((L[..., m, j, :] * h[..., m, :] for m in range(j, q) if linked[m, j]), np.float64(0.0))
            w[..., j, :] -= sum((T[j, k] * w[..., k, :] for k in range(j)), np.float64(0.0))
            w[..., j, :] /= T[j, j]
        return T, w


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Population quantities as middle + root y, middle (p,), root (p, p), then sds as fold sinh|v|, fold
    (sds,), 0: a logarithm, then the pairs of sds of residual errors by size and share, ring (pairs,)
    (`kernels.turned`); y is what is sampled. Empty: as they are.
    """

    middle: Floats = field(default_factory=lambda: np.empty(0))
    root: Floats = field(default_factory=lambda: np.empty((0, 0)))
    fold: Floats = field(default_factory=lambda: np.empty(0))
    ring: Floats = field(default_factory=lambda: np.empty(0))
