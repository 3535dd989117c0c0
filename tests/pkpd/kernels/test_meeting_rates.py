"""Modes where an absorption rate meets a rate of the compartments: a density must have no hole there.

Witness: the matrix exponential (scipy.linalg.expm).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy.linalg import expm

from pkpd.kernels.impulse import cascade, decompose


@njit
def split(A, starts, parent, rates, V, U):
    decompose(A, starts, parent, rates, V, U)


@njit
def in_a_row(A, rates, V, U):
    cascade(A, rates, V, U)


def matrices(gaps: list[float]) -> np.ndarray:
    """Depot, centre, periphery; the depot empties at the faster rate of the others, times 1 + gap."""
    ke, k12, k21 = 0.05, 0.5, 0.4
    s = ke + k12 + k21
    ka = 0.5 * (s + np.sqrt(s * s - 4.0 * ke * k21))
    made = [
        [[-ka * (1 + g), 0, 0], [ka * (1 + g), -ke - k12, k21], [0, k12, -k21]] for g in gaps
    ]  # fmt: skip
    return np.array(made, np.float64)


def test_modes_are_those_of_the_matrix_wherever_rates_meet():
    gaps = [0.0, 1e-12, -1e-8, 9e-6, -9e-6, 2e-5, 0.1]
    A = matrices(gaps)
    row = np.tril(A)
    row[:, 2, 2] = row[:, 1, 1] * (1.0 + np.array(gaps))  # a second meeting: two states in a row
    for M in (A, row):
        rates, V, U = np.empty(M.shape[:2]), np.empty(M.shape), np.empty(M.shape)
        if M is A:
            split(M, np.array([0, 1, 3]), np.array([-1, -1, 1]), rates, V, U)
        else:
            in_a_row(M, rates, V, U)
        for n, gap in enumerate(gaps):
            found = (V[n] * np.exp(3.0 * rates[n])) @ U[n]
            np.testing.assert_allclose(found, expm(3.0 * M[n]), rtol=0.0, atol=1e-4 if abs(gap) < 1e-5 else 1e-9)
