"""A driver of a generated solver's own step with a constant length, and the orders of convergence it shows."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from scipy.integrate import solve_ivp

from pkpd.kernels.lanes import LANES

PLACES = (0.2, 0.37, 0.6, 0.85)
"""Fractions of a step at which the dense output is looked at."""


def _fixed_steps(module):
    """run(row, (h, count), places, (end, inside)): outputs (O,) at the end, and (P, O) at places inside the last step."""
    step, commit, restart, prepare, initial = (module[k] for k in ("step", "commit", "restart", "prepare", "initial"))
    dense_outputs, outputs_now = module["dense_outputs"], module["outputs_now"]
    size, rates, states = module["ROWS"], module["R"], module["NS"]

    @njit(error_model="numpy")
    def run(row, steps, places, found):
        (h, count), (end, inside) = steps, found
        W = np.ones(size * LANES)
        prepare(row, W, 0)
        initial(W, 0)
        W[rates * LANES : (rates + states) * LANES] = 0.0
        W[0], W[5 * LANES] = 0.0, 1.0
        restart(W, 0, 1e-6, 1e-8)
        for i in range(count):
            W[0], W[LANES] = i * h, h
            step(W, 1e-6, 1e-8)
            if i == count - 1:
                for k in range(places.size):
                    dense_outputs(W, 0, places[k], inside[k])
            W[4 * LANES] = 1.0
            commit(W)
        outputs_now(W, 0, end)

    return run


def _measured_orders(module, row, slope, start, *, coarse=64):
    """Orders of the solution at t = 2, from `coarse` steps and twice as many, and of the dense output, from single
    steps of 1/16 and 1/32.

    From an exact start, an interpolant of order p has the error c h^(p+1) inside the step. Inside a later step it has
    the error of the solution as well, of the same power of h and any sign, and their sum shows neither order.
    The outputs are the last of `start`, whose derivatives are slope(t, u).
    """
    run, places, outputs = _fixed_steps(module), np.array(PLACES), module["NO"]

    def exact(t):
        return solve_ivp(slope, (0.0, t), start, method="DOP853", rtol=3e-14, atol=1e-16).y[-outputs:, -1]

    def errors(h, count):
        end, inside = np.empty(outputs), np.empty((places.size, outputs))
        run(row, (h, count), places, (end, inside))
        right = [exact((count - 1 + place) * h) for place in PLACES] if count == 1 else inside
        return np.linalg.norm(end - exact(count * h)), np.linalg.norm(inside - right)

    ends = [errors(2.0 / count, count)[0] for count in (coarse, 2 * coarse)]
    insides = [errors(h, 1)[1] for h in (1 / 16, 1 / 32)]
    return float(np.log2(ends[0] / ends[1])), float(np.log2(insides[0] / insides[1])) - 1.0


@pytest.fixture(scope="session")
def measured_orders():
    """(module, parameters, slope, start) -> order of the solution, order of the dense output."""
    return _measured_orders
