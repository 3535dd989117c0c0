"""How the solve of one subject ended. A failure is a value that is counted, never an exception or a silent NaN."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["SolveStatus", "Way"]


class SolveStatus(IntEnum):
    """Status of a subject; `advice` says what to do about it.

    >>> SolveStatus(1).advice
    'more steps than allowed: raise max_steps, loosen rtol, or look for parameters far outside the usual range'
    """

    OK = 0
    STEP_LIMIT = 1
    STEP_TOO_SMALL = 2
    NOT_FINITE = 3
    NOT_STEADY = 4
    NEGATIVE_HAZARD = 5

    @property
    def advice(self) -> str:
        """One sentence for the report."""
        return _ADVICE[self]


class Way(IntEnum):
    """How a subject was solved: outputs evaluated, closed form of one compartment or of any linear model, steps, or the
    linear block by its modes and the rest in steps.
    """

    EVALUATED = 0
    CLOSED = 1
    LINEAR = 2
    TSIT5 = 3
    RODAS5P = 4
    SPLIT_TSIT5 = 5
    SPLIT_RODAS5P = 6


_ADVICE = {
    SolveStatus.OK: "solved",
    SolveStatus.STEP_LIMIT: "more steps than allowed: raise max_steps, loosen rtol, or look for parameters far outside "
    "the usual range",
    SolveStatus.STEP_TOO_SMALL: "the step shrank to rounding: the equations jump or blow up; look at conditions and "
    "divisions",
    SolveStatus.NOT_FINITE: "a parameter or a value is not finite: look for log or power of a negative number, "
    "division by zero",
    SolveStatus.NOT_STEADY: "no steady state was reached: give the doses explicitly, or check that elimination exceeds "
    "input",
    SolveStatus.NEGATIVE_HAZARD: "a hazard, or the intensity of a move between grades, was negative: no event comes at "
    "such a rate; look at its parameters' signs and scales",
}
