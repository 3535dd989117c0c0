"""Over which times and with which doses a model is examined: from its Jacobian and one trial solve, nothing random."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pkpd.conformance.reading import Reading
from pkpd.ground.units import parsed

__all__ = ["AMOUNTS", "Times", "dosed_states", "downstream", "rounded", "time_exponent", "times_of", "trial_amount"]

F64 = NDArray[np.float64]
AMOUNTS: Final = ((("mass", 1),), (("amount", 1),), (("activity", 1),))
"""Dimensions of what is dosed."""
_PLAIN_DOSE = 100.0
_BENT = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Times of a model [h]: `fast` and `slow` are the shortest and longest time constants, doses come every `interval`,
    profiles run to `horizon`.
    """

    fast: float
    slow: float

    @property
    def interval(self) -> float:
        """Half the longest time constant."""
        return rounded(0.5 * self.slow)

    @property
    def horizon(self) -> float:
        """Four intervals and five time constants more."""
        return rounded(7.0 * self.slow)

    def shorter(self, slow: float | None = None) -> Times:
        """The same with another longest time constant, by default half of it."""
        least = rounded(0.5 * self.slow if slow is None else slow)
        return Times(fast=min(self.fast, least), slow=least)


def rounded(value: float) -> float:
    """To two significant digits: what follows does not depend on the last bits of an eigenvalue.

    >>> rounded(0.123456)
    0.12
    """
    return float(f"{value:.1e}")


def times_of(reading: Reading, y: F64) -> Times:
    """From the eigenvalues of the Jacobian at the start and at `y` (S,), where the doses have spread.

    Where no eigenvalue is away from zero: from the parameters whose unit is a power of time alone; else 1 and 24 h.
    """
    rates: list[float] = []
    for point in (reading.start, y):
        jacobian = reading.jacobian(point)
        if jacobian.size and np.isfinite(jacobian).all():
            rates += [float(r) for r in np.linalg.eigvals(jacobian) for r in (abs(r.real), abs(r))]
    largest = max(rates, default=0.0)
    used = [r for r in rates if r > 1e-9 * largest]
    if not used:
        used = _rates_of_parameters(reading) or [1.0, 1.0 / 24.0]
    return Times(fast=rounded(1.0 / max(used)), slow=rounded(1.0 / min(used)))


def _rates_of_parameters(reading: Reading) -> list[float]:
    found = []
    for name, p in reading.model.parameters.items():
        dimension = dict(parsed(p.unit)[1])
        if set(dimension) == {"time"} and reading.constants[name] > 0:
            found.append(reading.constants[name] ** (-1.0 / dimension["time"]))
    return found


def time_exponent(unit: str) -> float:
    """Power of time in a unit.

    >>> time_exponent("L/h")
    -1.0
    """
    return float(dict(parsed(unit)[1]).get("time", 0.0))


def dosed_states(reading: Reading) -> tuple[str, ...]:
    """States under `doses` or dosed by golden cases; else those that are an amount of something and start empty."""
    model = reading.model
    golden = {d.into for case in model.golden.values() for d in case.doses}
    if model.doses or golden:
        return tuple(s for s in reading.states if s in model.doses or s in golden)
    empty = [s for s, value in zip(reading.states, reading.start, strict=True) if value == 0.0]
    return tuple(s for s in empty if parsed(model.states[s])[1] in AMOUNTS)


def trial_amount(reading: Reading, state: str) -> float:
    """A dose, in the unit of doses into `state`, that reaches what is nonlinear in the model and no further.

    A quarter of the largest golden dose (the usual regimen then gives about that), else the least power of ten at which
    an equation bends by a tenth when the dose is in its state and in all states after it that have its unit; 100 where
    none ever does.
    """
    from pkpd.ground.units import factor

    model = reading.model
    given = [
        float(d.amount) * factor(d.amount.unit, model.dose_units[state])
        for case in model.golden.values() for d in case.doses if d.into == state
    ]  # fmt: skip
    if given:
        return rounded(0.25 * max(given))
    move = downstream(reading, state) * reading.dose(state).factor
    small = 1e-9 * move
    base = reading.slope(reading.start)
    tangent = (reading.slope(reading.start + small) - reading.slope(reading.start - small)) / 2e-9
    for amount in 10.0 ** np.arange(-4, 7):
        change, straight = reading.slope(reading.start + amount * move) - base, amount * tangent
        size = np.abs(change) + np.abs(straight) + 1e-9 * np.abs(base)
        bent = np.divide(np.abs(change - straight), size, out=np.zeros(len(size)), where=size > 0)
        if bent.max(initial=0.0) > _BENT and math.isfinite(amount):
            return float(amount)
    return _PLAIN_DOSE


def downstream(reading: Reading, state: str) -> F64:
    """1 for the state and those after it that have its unit, 0 for the others; (S,)."""
    units = reading.model.states
    return np.asarray(
        [float(state in reading.needs[s] and units[s] == units[state]) for s in reading.states], np.float64
    )
