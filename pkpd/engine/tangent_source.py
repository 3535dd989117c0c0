"""What the generated solver of a model with sensitivities has besides the plain one: jumps, and the norm of the error.

At a time t_e(p) at which the right-hand side or the state jumps, S+ = S- + d(amount)/dp + (f- - f+) dt_e/dp. The plain
driver carries the calls as comments, so that models without sensitivities pay nothing for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pkpd.engine.dynamics import Tangent

if TYPE_CHECKING:
    from pkpd.engine.plan import Plan

__all__ = ["COLUMNS", "FIRST_COLUMN", "MARK", "groups", "norm", "placed", "tangent_functions"]

MARK = "#: "
"""What hides the calls in the text of the plain driver."""
FIRST_COLUMN, COLUMNS = 4, 3
"""Columns of a steady-state row: those of the plain one, then d(amount), d(duration), d(phase) of each direction."""


def groups(states: Sequence[str], tangent: Tangent | None) -> tuple[tuple[int, ...], ...]:
    """Numbers of the states in each group of the error norm: the model's own, then those of each direction."""
    if tangent is None:
        return (tuple(range(len(states))),)
    place = {name: k for k, name in enumerate(states)}
    owned = [tuple(place[f"{s}/{name}"] for s in tangent.states[name]) for name in tangent.wrt]
    taken = {k for group in owned for k in group}
    return (tuple(k for k in range(len(states)) if k not in taken), *(group for group in owned if group))


def placed(states: Sequence[str], tangent: Tangent | None, hazards: int) -> list[list[int]]:
    """Numbers of the model's own states without hazards, then of their sensitivities in each direction (-1: none)."""
    own = groups(states, tangent)[0]
    own = own[: len(own) - hazards]
    number = {name: k for k, name in enumerate(states)}
    wrt = tangent.wrt if tangent else ()
    return [list(own), *([number.get(f"{states[k]}/{name}", -1) for k in own] for name in wrt)]


def norm(sizes: Sequence[int]) -> str:
    """Largest root mean square over the groups, from locals total0, total1, ...; NaN if any is."""
    text = f"total0 * {1.0 / max(sizes[0], 1)!r}"
    for g, size in enumerate(sizes[1:], start=1):
        text = f"greatest({text}, total{g} * {1.0 / size!r})"
    return f"np.sqrt({text})"


def tangent_functions(plan: Plan, slopes: Sequence[str], roots: Sequence[str]) -> str:
    """The functions the driver calls; slopes: statements for the derivatives of the model's states at `t`: `roots`."""
    if plan.tangent is None:
        return ""
    place = {name: k for k, name in enumerate(plan.names)}
    moved = [
        (k, place[f"{s}/{name}"], roots[place[s]])
        for k, name in enumerate(plan.tangent.wrt)
        for s in plan.tangent.states[name]
    ]
    dosed = [
        (place[s], k, place[f"{s}/{name}"])
        for s in place
        for k, name in enumerate(plan.tangent.wrt)
        if any((s, name) in table for table in plan.tangent.dosing.values())
    ]
    return _shift(slopes, moved) + _phase(slopes, moved) + _steady(dosed)


def _shift(slopes: Sequence[str], moved: Sequence[tuple[int, int, str]]) -> str:
    """S -= f w of one direction after (what 11) an event, += before it (10); time is nudged to the side asked for."""
    body = ["side = 1.0 if what == 11 else -1.0", "t = W[lane]", "t += side * 1e-12 * (abs(t) + 1.0)", "w = -side * w"]
    body += [*slopes, *(f"if which == {k}:\n        {_row('Y', row)} += w * {slope}" for k, row, slope in moved)]
    return _function("shift(W, lane, which, w, what)", body)


def _phase(slopes: Sequence[str], moved: Sequence[tuple[int, int, str]]) -> str:
    """The periodic state is taken at a phase that moves with the lag."""
    body = ["t = W[lane]", *slopes]
    body += [f"{_row('Y', row)} += row[{_column(k, 2)}] * {slope}" for k, row, slope in moved]
    return _function("tangent_phase(W, lane, row)", body)


def _steady(dosed: Sequence[tuple[int, int, int]]) -> str:
    """Doses, rates and ends of infusions inside a period."""
    dose, rate, rest = [], [], []
    for state, k, row in dosed:
        amount, duration = f"row[{_column(k, 0)}]", f"row[{_column(k, 1)}]"
        head = f"if state == {state}:\n        "
        dose.append(f"{head}{_row('Y', row)} += {amount}")
        speed = f"({amount} - row[0] / row[2] * {duration}) / row[2]"
        rate.append(f"{head}{_row('R', row)} = {speed} * running")
        rest.append(f"{head}{_row('Y', row)} += row[0] / row[2] * {duration}")
    return (
        _function("tangent_dose(W, lane, state, row)", dose)
        + _function("tangent_rate(W, lane, state, row, running)", rate)
        + _function("tangent_rest(W, lane, state, row)", rest)
    )


def _column(k: int, which: int) -> int:
    return FIRST_COLUMN + COLUMNS * k + which


def _row(block: str, k: int) -> str:
    return f"W[({block} + {k}) * LANES + lane]"


def _function(head: str, body: Sequence[str]) -> str:
    lines = "\n".join(f"    {line}" for line in body) or "    pass"
    return f"\n@inline\ndef {head}:\n{lines}\n"
