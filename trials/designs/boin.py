"""The Bayesian optimal interval design (BOIN) and the keyboard of its decisions.

Escalate when the observed rate at the current dose is at most lambda_e, de-escalate when it is at least lambda_d,

    lambda_e = log((1 - phi1)/(1 - phi)) / log(phi (1 - phi1)/(phi1 (1 - phi)))
    lambda_d = log((1 - phi)/(1 - phi2)) / log(phi2 (1 - phi)/(phi (1 - phi2)))

with phi the target, phi1 (default 0.6 phi) the highest subtherapeutic and phi2 (1.4 phi) the lowest overly toxic
rate. A dose and all above it are eliminated when P(p > phi | data) > 0.95 under a uniform prior and at least 3
subjects; the trial stops when that is the lowest dose. Source: Liu & Yuan, J R Stat Soc C 2015;64:507; Yuan et al.,
Clin Cancer Res 2016;22:4291.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from trials.designs.escalation import STOP, Design, Instruction, State
from trials.designs.isotonic import closest_to_target, too_toxic

__all__ = ["Boundaries", "Table", "boin", "boundaries", "decision_table"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundaries:
    """Rates at or below which to escalate, at or above which to de-escalate."""

    escalate: float
    deescalate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Whole-number decisions for n = 1 ... N subjects at a dose: escalate at most `escalate`, de-escalate at least
    `deescalate`, eliminate at least `eliminate` toxicities (-1: n cannot eliminate)."""

    n: Ints
    escalate: Ints
    deescalate: Ints
    eliminate: Ints


def boundaries(target: float, *, under: float | None = None, over: float | None = None) -> Boundaries:
    """lambda_e and lambda_d for a target rate.

    >>> found = boundaries(0.3)
    >>> round(found.escalate, 3), round(found.deescalate, 3)
    (0.236, 0.359)
    """
    low, high = 0.6 * target if under is None else under, 1.4 * target if over is None else over
    if not 0 < low < target < high < 1:
        remedy = "keep 0 < under < target < over < 1"
        raise InputError("the rates are out of order", field="target", value=[low, target, high], remedy=remedy)
    return Boundaries(escalate=_crossing(low, target), deescalate=_crossing(target, high))


def _crossing(low: float, high: float) -> float:
    """The observed rate at which both rates are equally likely."""
    return float(np.log((1 - low) / (1 - high)) / np.log(high * (1 - low) / (low * (1 - high))))


def decision_table(
    target: float, most: int, *, under: float | None = None, over: float | None = None, cutoff: float = 0.95
) -> Table:
    """Decisions for 1 ... `most` subjects at the current dose."""
    limits, n = boundaries(target, under=under, over=over), np.arange(1, most + 1)
    toxic = np.arange(most + 1)
    out = too_toxic(n[:, None], np.minimum(toxic, n[:, None]), target=target, cutoff=cutoff) & (toxic <= n[:, None])
    return Table(
        n=n, escalate=np.floor(n * limits.escalate).astype(np.int64),
        deescalate=np.ceil(n * limits.deescalate).astype(np.int64),
        eliminate=np.where(out.any(axis=1), out.argmax(axis=1), -1),
    )  # fmt: skip


def boin(
    doses: int, target: float, *, patients: int, size: int = 3, start: int = 0, under: float | None = None,
    over: float | None = None, cutoff: float = 0.95,
) -> Design:  # fmt: skip
    """The design: cohorts of `size` up to `patients`; the MTD by isotonic regression over doses not eliminated.

    >>> rule = boin(3, 0.3, patients=30).rule
    >>> [int(rule(State.of([3, 0, 0], [toxic, 0, 0], 0)).dose[0]) for toxic in (0, 1, 2, 3)]
    [1, 0, 0, -1]
    """
    table = decision_table(target, patients, under=under, over=over, cutoff=cutoff)

    def eliminated(state: State) -> NDArray[np.bool_]:
        return np.logical_or.accumulate(too_toxic(state.n, state.toxic, target=target, cutoff=cutoff), axis=1)

    def rule(state: State) -> Instruction:
        return Instruction.of(_next(state, table, eliminated(state)), size)

    def select(state: State) -> Ints:
        out = eliminated(state)
        found = closest_to_target(state.n, state.toxic, target=target, admissible=~out)
        return np.where(out[:, 0], STOP, found)

    return Design(doses=doses, patients=patients, size=size, rule=rule, select=select, start=start)


def _next(state: State, table: Table, out: NDArray[np.bool_]) -> Ints:
    """The next dose (S,): one up, the same or one down, never an eliminated one."""
    rows, doses = np.arange(state.dose.size), state.n.shape[1]
    n, toxic = state.n[rows, state.dose], state.toxic[rows, state.dose]
    place = np.maximum(n - 1, 0)
    above = np.minimum(state.dose + 1, doses - 1)
    up = (n > 0) & (toxic <= table.escalate[place]) & (state.dose < doses - 1) & ~out[rows, above]
    down = (n > 0) & ((toxic >= table.deescalate[place]) | out[rows, state.dose]) & (state.dose > 0)
    dose = state.dose + np.where(up, 1, np.where(down, -1, 0))
    return np.where(out[:, 0], STOP, dose)
