"""The text of a model read a second time: its equations evaluated with NumPy, one by one, without the engine.

What the engine generates is compared with this; the two share the parser and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.model import equations as eq

if TYPE_CHECKING:
    from pkpd.model.spec import Model

__all__ = ["CLOCKS", "DoseFacts", "Reading", "degree"]

F64 = NDArray[np.float64]
CLOCKS = ("TIME", "WEEKS", "TAD", "DOSE")


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseFacts:
    """How a dose into a state arrives, by the text: `factor` (share x scale) of its amount, `lag` [h] later;
    transit: (number, mean transit time [h]) where it is spread over time.
    """

    factor: float
    lag: float
    transit: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A model and the values of everything that is constant in a subject: parameters, and covariates by name."""

    model: Model
    constants: Mapping[str, float]

    @cached_property
    def states(self) -> tuple[str, ...]:
        """Names of the states, in order."""
        return tuple(self.model.states)

    @cached_property
    def assigned(self) -> dict[str, eq.Expr]:
        """Name -> expression of the equations that are integrated, in order of evaluation."""
        return self.model.integrated

    @cached_property
    def degrees(self) -> dict[str, float]:
        """Name -> degree in the states: 0 none, 1 affine, inf anything else (TAD and DOSE count as that)."""
        known: dict[str, float] = {**dict.fromkeys(self.states, 1.0), "TAD": math.inf, "DOSE": math.inf}
        for name, expr in self.assigned.items():
            known[name] = degree(expr, known)
        return known

    @cached_property
    def needs(self) -> dict[str, frozenset[str]]:
        """State or equation -> the states its future depends on, itself included."""
        reach = eq.reach(self.model.equations)
        inside = frozenset(self.states)

        def direct(expr: eq.Expr) -> frozenset[str]:
            used = eq.names(expr)
            return used.union(*(reach.get(n, frozenset()) for n in used)) & inside

        found = {s: direct(e) | {s} for s, e in self.model.derivatives.items()}
        for _ in self.states:
            found = {s: near.union(*(found[n] for n in near)) for s, near in found.items()}
        for name, expr in self.assigned.items():
            found[name] = frozenset().union(*(found[n] for n in direct(expr)))
        return found

    @cached_property
    def linear(self) -> frozenset[str]:
        """States and equations whose future is linear in the doses."""
        slope = {s: degree(e, self.degrees) for s, e in self.model.derivatives.items()}
        return frozenset(
            name for name, near in self.needs.items()
            if near and self.degrees.get(name, 1.0) <= 1.0 and all(slope[s] <= 1.0 for s in near)
        )  # fmt: skip

    @cached_property
    def clocks(self) -> frozenset[str]:
        """The clocks that the integrated equations read."""
        lines = [*self.assigned.values(), *self.model.derivatives.values()]
        return frozenset(n for e in lines for n in eq.names(e)) & frozenset(CLOCKS)

    @property
    def autonomous(self) -> bool:
        """Whether the future depends on the state alone, not on the time of day."""
        return not self.clocks and not self.model.varying

    def values(self, t: ArrayLike, y: F64) -> dict[str, F64]:
        """Every name at times t (m,) and states y (S, m)."""
        time = np.asarray(t, np.float64)
        known: dict[str, F64] = {name: np.asarray(value) for name, value in self.constants.items()}
        known |= {"TIME": time, "WEEKS": time / 168.0, "TAD": 0.0 * time, "DOSE": 0.0 * time}
        known |= dict(zip(self.states, y, strict=True))
        for name, expr in self.assigned.items():
            known[name] = np.asarray(eq.evaluate(expr, known), np.float64)
        return known

    def slopes(self, t: ArrayLike, y: F64) -> F64:
        """Right-hand sides (S, m) at times t (m,) and states y (S, m), without what is dosed."""
        known = self.values(t, y)
        rows = [np.broadcast_to(eq.evaluate(e, known), y.shape[1:]) for e in self.model.derivatives.values()]
        return np.asarray(rows, np.float64)

    def slope(self, y: F64, t: float = 0.0) -> F64:
        """Right-hand sides (S,) at one point."""
        return self.slopes(np.asarray([t]), np.asarray(y, np.float64)[:, None])[:, 0]

    def jacobian(self, y: F64) -> F64:
        """(S, S) by central differences; exact to rounding where the equations are linear."""
        size = np.maximum(np.abs(y), 1e-3 * max(float(np.abs(y).max(initial=0.0)), 1.0))
        columns = []
        for k, step in enumerate(1e-5 * size):
            move = np.zeros(len(y))
            move[k] = step
            columns.append((self.slope(y + move) - self.slope(y - move)) / (2.0 * step))
        return np.stack(columns, axis=1) if columns else np.empty((0, 0))

    @cached_property
    def start(self) -> F64:
        """Initial states (S,)."""
        known = self.values(np.zeros(1), np.zeros((len(self.states), 1)))
        given = self.model.initials
        return np.asarray(
            [float(np.ravel(eq.evaluate(given[s], known))[0]) if s in given else 0.0 for s in self.states]
        )

    def dose(self, state: str) -> DoseFacts:
        """What the text says of doses into `state`."""
        from pkpd.model.dosing import expression_of

        known = self.values(np.zeros(1), self.start[:, None])
        target = self.model.doses.get(state)
        if target is None:
            return DoseFacts(factor=1.0, lag=0.0, transit=None)
        value = {k: float(np.ravel(eq.evaluate(expression_of(v), known))[0]) for k, v in target.given().items()}
        transit = (value["transit.number"], value["transit.time"]) if target.transit is not None else None
        factor = value.get("bioavailability", 1.0) * value.get("scale", 1.0)
        return DoseFacts(factor=factor, lag=value.get("lag", 0.0), transit=transit)


def degree(expr: eq.Expr, known: Mapping[str, float]) -> float:
    """Degree of an expression, given that of names: 0 constant, 1 affine, 2 and more polynomial, inf otherwise.

    >>> degree(eq.expression("K*A/V + B"), {"A": 1.0, "B": 1.0}), degree(eq.expression("A/(A + 1)"), {"A": 1.0})
    (1.0, inf)
    """
    match expr:
        case eq.Name(name):
            return known.get(name, 0.0)
        case eq.Unary(_, operand):
            return degree(operand, known)
        case eq.Binary("+" | "-", left, right):
            return max(degree(left, known), degree(right, known))
        case eq.Binary("*", left, right):
            return degree(left, known) + degree(right, known)
        case eq.Binary("/", left, right) if degree(right, known) == 0.0:
            return degree(left, known)
        case eq.Call("if", (condition, yes, no)) if degree(condition, known) == 0.0:
            return max(degree(yes, known), degree(no, known))
    return math.inf if any(degree(child, known) > 0.0 for child in eq.children(expr)) else 0.0
