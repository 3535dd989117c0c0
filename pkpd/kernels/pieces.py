r"""Linear compartments whose parameters change: what stands in them at a border is carried on; with the adjoint.

Pieces stand subject after subject; `joined` says which goes on from the one before. At its border, gap hours after the
last action of the piece before, the states are y = V a, and from there on every amplitude of the new piece has
c_m e^(l_m tau) more, c = U y, tau the hours since the border, until a reset or a steady state.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import exp
from pkpd.kernels.impulse import _held
from pkpd.kernels.linking import internal

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@internal
def carry(
    joined: I64, gap: F64, offsets: I64, tau: F64, keeps: I64, rates: F64, V: F64, U: F64, alpha: F64, beta: F64,
    rho: F64, y: F64, c: F64,
) -> None:  # fmt: skip
    """Adds what is carried on to alpha and beta (actions, M); fills y, c (P, M).

    keeps (actions,): 1 until a reset or a steady state in the piece; tau (actions,): hours since the border.
    """
    P, M = y.shape
    for p in range(P):
        for m in range(M):
            y[p, m], c[p, m] = 0.0, 0.0
        if joined[p] == 0 or offsets[p] == offsets[p - 1]:
            continue
        last, s = offsets[p] - 1, gap[p]
        for m in range(M):
            a = alpha[last, m] * exp(rates[p - 1, m] * s) + rho[last, m] * _held(rates[p - 1, m], s)[0]
            for j in range(M):
                y[p, j] += V[p - 1, j, m] * a
        for m in range(M):
            for j in range(M):
                c[p, m] += U[p, m, j] * y[p, j]
            for k in range(offsets[p], offsets[p + 1]):
                if keeps[k] == 1:
                    more = c[p, m] * exp(rates[p, m] * tau[k])
                    alpha[k, m] += more
                    beta[k, m] += more * tau[k]


@internal
def carry_back(
    joined: I64, gap: F64, offsets: I64, tau: F64, keeps: I64, rates: F64, V: F64, U: F64, alpha: F64, beta: F64,
    rho: F64, y: F64, grates: F64, gV: F64, gU: F64, galpha: F64, grho: F64,
) -> None:  # fmt: skip
    """Adjoint of `carry`, after that of all signals: the rates of a piece act on alpha through beta."""
    P, M = y.shape
    gc, gy = np.empty(M), np.empty(M)
    for p in range(P - 1, -1, -1):
        if joined[p] == 0 or offsets[p] == offsets[p - 1]:
            continue
        last, s = offsets[p] - 1, gap[p]
        for m in range(M):
            gc[m] = 0.0
            for k in range(offsets[p], offsets[p + 1]):
                if keeps[k] == 1:
                    gc[m] += galpha[k, m] * exp(rates[p, m] * tau[k])
        for j in range(M):
            gy[j] = 0.0
            for m in range(M):
                gU[p, m, j] += gc[m] * y[p, j]
                gy[j] += U[p, m, j] * gc[m]
        for m in range(M):
            keep = exp(rates[p - 1, m] * s)
            value, slope = _held(rates[p - 1, m], s)
            a, ga = alpha[last, m] * keep + rho[last, m] * value, 0.0
            for j in range(M):
                gV[p - 1, j, m] += gy[j] * a
                ga += V[p - 1, j, m] * gy[j]
            galpha[last, m] += ga * keep
            grho[last, m] += ga * value
            grates[p - 1, m] += ga * (beta[last, m] * keep + alpha[last, m] * s * keep + rho[last, m] * slope)
