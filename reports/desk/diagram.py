"""The compartments of a model as text: what flows where, read from the terms of its differential equations.

A term that leaves one state and enters another is a flow between them; one that only leaves is a loss, one that only
enters a gain. A state that steers another without giving it anything is listed as acting on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pkpd.model import equations as eq

if TYPE_CHECKING:
    from pkpd.model.spec import Model

__all__ = ["Flow", "diagram", "flows"]

_MANY: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """`rate` (as text) from state `start` to state `end`; None is outside."""

    start: str | None
    end: str | None
    rate: str


@dataclass(frozen=True, slots=True)
class _Term:
    """sign, factors above and below the line, each sorted text."""

    sign: int
    above: tuple[str, ...]
    below: tuple[str, ...]

    def times(self, other: _Term) -> _Term:
        above, below = [*self.above, *other.above], [*self.below, *other.below]
        for factor in list(above):
            if factor in below:
                above.remove(factor)
                below.remove(factor)
        return _Term(self.sign * other.sign, tuple(sorted(above)), tuple(sorted(below)))

    @property
    def text(self) -> str:
        above = "*".join(self.above) or "1"
        return above + "".join(f"/{factor}" for factor in self.below)


def diagram(model: Model) -> list[str]:
    """One line per flow, doses first, then what acts on what.

    >>> from pkpd.model.library import load
    >>> diagram(load("theophylline"))
    ['dose --> [depot]', '[depot] --KA*depot--> [central]', '[central] --C*CL--> out']
    """
    lines = [f"dose --> [{state}]" for state in model.doses]
    found = flows(model)
    done: set[int] = set()
    for i, flow in enumerate(found):
        if i in done:
            continue
        back = next((j for j, f in enumerate(found) if j > i and j not in done and _opposite(flow, f)), None)
        if back is not None:
            done.add(back)
            lines.append(f"[{flow.start}] <--{found[back].rate} | {flow.rate}--> [{flow.end}]")
        else:
            lines.append(f"{_end(flow.start, 'in')} --{flow.rate}--> {_end(flow.end, 'out')}")
    return [*lines, *_acting(model, found)]


def _opposite(a: Flow, b: Flow) -> bool:
    return a.start is not None and (a.start, a.end) == (b.end, b.start)


def _end(state: str | None, outside: str) -> str:
    return outside if state is None else f"[{state}]"


def flows(model: Model) -> list[Flow]:
    """Every flow, in the order of the states it leaves."""
    terms = {state: _terms(expr) for state, expr in model.derivatives.items()}
    left = {state: [t for t in found if "0" not in t.above] for state, found in terms.items()}
    between: list[Flow] = []
    for start, found in left.items():
        for term in [t for t in found if t.sign < 0]:
            partner = _partner(start, term, left)
            if partner is not None:
                left[partner].remove(_Term(1, term.above, term.below))
                found.remove(term)
                between.append(Flow(start=start, end=partner, rate=term.text))
    gains = [Flow(start=None, end=s, rate=t.text) for s, found in left.items() for t in found if t.sign > 0]
    losses = [Flow(start=s, end=None, rate=t.text) for s, found in left.items() for t in found if t.sign < 0]
    order = {state: i for i, state in enumerate(model.states)}
    return sorted([*gains, *between, *losses], key=lambda f: (order.get(f.start or f.end or "", 0), f.end is None))


def _partner(start: str, term: _Term, left: Mapping[str, list[_Term]]) -> str | None:
    mirror = _Term(1, term.above, term.below)
    return next((state for state, found in left.items() if state != start and mirror in found), None)


def _terms(expr: eq.Expr) -> list[_Term]:
    """The expression as a sum of products; what is no sum or product is one factor."""
    match expr:
        case eq.Number(value) if value == 1.0:
            return [_Term(1, (), ())]
        case eq.Unary(_, operand):
            return [_Term(-t.sign, t.above, t.below) for t in _terms(operand)]
        case eq.Binary("+", left, right):
            return _terms(left) + _terms(right)
        case eq.Binary("-", left, right):
            return _terms(left) + [_Term(-t.sign, t.above, t.below) for t in _terms(right)]
        case eq.Binary("*", left, right):
            a, b = _terms(left), _terms(right)
            return [x.times(y) for x in a for y in b] if len(a) * len(b) <= _MANY else [_factor(expr)]
        case eq.Binary("/", left, right):
            over = _terms(right)
            if len(over) != 1:
                return [t.times(_Term(1, (), (f"({eq.show(right)})",))) for t in _terms(left)]
            divisor = _Term(over[0].sign, over[0].below, over[0].above)
            return [t.times(divisor) for t in _terms(left)]
    return [_factor(expr)]


def _factor(expr: eq.Expr) -> _Term:
    shown = eq.show(expr)
    return _Term(1, (shown if not isinstance(expr, eq.Binary) or expr.op == "^" else f"({shown})",), ())


def _acting(model: Model, found: list[Flow]) -> list[str]:
    """`A acts on B`: B's equation needs A, and nothing flows between them."""
    reach, states = eq.reach(model.equations), set(model.states)
    joined = {frozenset((f.start, f.end)) for f in found}
    lines = []
    for state in model.states:
        others = []
        for target, expr in model.derivatives.items():
            used = eq.names(expr).union(*(reach.get(n, frozenset()) for n in eq.names(expr)))
            if state in used & states and target != state and frozenset((state, target)) not in joined:
                others.append(f"[{target}]")
        if others:
            lines.append(f"[{state}] acts on {', '.join(others)}")
    return lines
