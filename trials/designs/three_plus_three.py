"""The 3 + 3 design and its expansion variant, as a rule on counts.

Cohorts of 3 from the lowest dose: 0/3 escalate; 1/3 add 3; 1/6 escalate; otherwise stop, and the next lower dose is
the MTD (or none). The highest dose, once cleared, is the MTD. `expand`: a candidate MTD with 3 subjects has 3 more
before it is declared, and the candidate steps down on 2 or more of 6.

Source: Storer, Biometrics 1989;45:925 (design A with its usual MTD rule); Korn et al., Stat Med 1994;13:1799 (six at
the MTD).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trials.designs.escalation import STOP, Design, Instruction, State

__all__ = ["three_plus_three"]

Ints = NDArray[np.int64]


def three_plus_three(doses: int, *, expand: bool = False, start: int = 0) -> Design:
    """The design over `doses` doses.

    >>> rule = three_plus_three(3).rule
    >>> [int(rule(State.of([3, 3, 0], [0, toxic, 0], 1)).dose[0]) for toxic in (0, 1, 2)]
    [2, 1, -1]
    """
    return Design(
        doses=doses, patients=6 * doses, size=3, start=start,
        rule=lambda state: _rule(state, expand=expand), select=lambda state: _candidate(state, expand=expand),
    )  # fmt: skip


def _counts(state: State) -> tuple[Ints, Ints]:
    rows = np.arange(state.dose.size)
    return state.n[rows, state.dose], state.toxic[rows, state.dose]


def _ceiling(state: State) -> Ints:
    """The lowest dose with 2 or more toxicities; D where there is none."""
    failed = state.toxic >= 2
    return np.where(failed.any(axis=1), failed.argmax(axis=1), state.n.shape[1])


def _candidate(state: State, *, expand: bool) -> Ints:
    """The dose below the lowest that failed; it may lie below the first dose that was given: none."""
    candidate = _ceiling(state) - 1
    given = np.take_along_axis(state.n, np.maximum(candidate, 0)[:, None], axis=1)[:, 0]
    return np.where((candidate >= 0) & (given >= (6 if expand else 3)), candidate, STOP)


def _rule(state: State, *, expand: bool) -> Instruction:
    n, toxic = _counts(state)
    highest = state.n.shape[1] - 1
    more = (n == 3) & (toxic == 1)
    cleared = ((n == 3) & (toxic == 0)) | ((n == 6) & (toxic <= 1))
    ceiling = _ceiling(state)
    up = cleared & (state.dose < highest) & (ceiling > state.dose + 1)
    candidate = ceiling - 1
    given = np.take_along_axis(state.n, np.maximum(candidate, 0)[:, None], axis=1)[:, 0]
    widen = (candidate >= 0) & (given == 3) & expand & ~more & ~up
    dose = np.select([more, up, widen], [state.dose, state.dose + 1, candidate], STOP)
    return Instruction.of(dose, 3)
