"""The rules of a non-compartmental analysis, each with a name, and the reasons why a value is not there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Literal, get_args

from pkpd.ground.errors import InputError

__all__ = ["Method", "NcaReason", "NcaRules", "Route", "demand"]

Method = Literal["linear-up/log-down", "linear", "linear-log", "log"]
Route = Literal["extravascular", "bolus", "infusion"]
First = Literal["zero", "missing", "half"]
Middle = Literal["missing", "zero", "half"]
Last = Literal["missing", "zero"]


class NcaReason(IntEnum):
    """Why a parameter is NaN. OK = it is a number.

    >>> NcaReason.FEW_POINTS.text
    'fewer declining points after Cmax than the rule asks for'
    """

    OK = 0
    NO_MEASURABLE = 1
    NO_DOSE = 2
    FEW_POINTS = 3
    NO_DECLINE = 4
    POOR_FIT = 5
    SHORT_SPAN = 6
    LARGE_EXTRAPOLATION = 7
    NO_TERMINAL_SLOPE = 8
    NO_TAU = 9
    NOT_STEADY_STATE = 10
    STEADY_STATE = 11
    NOT_THIS_ROUTE = 12
    ZERO_DIVISOR = 13
    FEW_FIXED_POINTS = 14
    OUT_OF_RANGE = 15

    @property
    def text(self) -> str:
        """The reason in words."""
        return _WORDS[self]


_WORDS: Final = {
    NcaReason.OK: "",
    NcaReason.NO_MEASURABLE: "no concentration at or above the limit of quantification",
    NcaReason.NO_DOSE: "no dose given",
    NcaReason.FEW_POINTS: "fewer declining points after Cmax than the rule asks for",
    NcaReason.NO_DECLINE: "no terminal fit declines",
    NcaReason.POOR_FIT: "adjusted R2 of the terminal fit below the rule's limit",
    NcaReason.SHORT_SPAN: "terminal fit spans fewer half-lives than the rule's limit",
    NcaReason.LARGE_EXTRAPOLATION: "extrapolated part of AUCinf above the rule's limit",
    NcaReason.NO_TERMINAL_SLOPE: "needs lambda_z, which could not be estimated",
    NcaReason.NO_TAU: "needs the dosing interval tau",
    NcaReason.NOT_STEADY_STATE: "defined at steady state only",
    NcaReason.STEADY_STATE: "defined after a single dose only",
    NcaReason.NOT_THIS_ROUTE: "not defined for this route",
    NcaReason.ZERO_DIVISOR: "the divisor is zero",
    NcaReason.FEW_FIXED_POINTS: "too few measurable points among those fixed by the user, or they do not decline",
    NcaReason.OUT_OF_RANGE: "too large or too small for a number",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NcaRules:
    """The rules of one analysis; every default is a name in docs/exposure.md.

    method: the trapezoidal rule. first, middle, last: what becomes of a value below the limit of quantification before
    the first, between the first and the last, and after the last measurable one (`half` = half the limit).
    min_points, tie: least number of points of a terminal fit; fits within `tie` of the best adjusted R2 yield to the
    one with most points. include_cmax: may the fit start at tmax (None: after a bolus only). The limits, None = none:
    min_adjusted_r2, min_span_ratio [half-lives], max_extrapolated [% of AUCinf] turn what misses them into NaN.

    >>> NcaRules(method="linear").described()["trapezoidal rule"]
    'linear'
    """

    method: Method = "linear-up/log-down"
    first: First = "zero"
    middle: Middle = "missing"
    last: Last = "missing"
    min_points: int = 3
    tie: float = 1e-4
    include_cmax: bool | None = None
    min_adjusted_r2: float | None = None
    min_span_ratio: float | None = None
    max_extrapolated: float | None = None

    def __post_init__(self) -> None:
        for name, kind in (("method", Method), ("first", First), ("middle", Middle), ("last", Last)):
            value, known = getattr(self, name), get_args(kind)
            demand(value in known, "is not a rule", name, value, remedy=f"one of {', '.join(known)}")
        demand(self.min_points >= 3, "must be 3 or more", "min_points", self.min_points, remedy="at least 3")
        demand(0 <= self.tie < 1, "must lie in [0, 1)", "tie", self.tie, remedy="1e-4")
        for name in ("min_adjusted_r2", "min_span_ratio", "max_extrapolated"):
            value = getattr(self, name)
            demand(value is None or value >= 0, "must be >= 0", name, value, remedy="a number, or None for no limit")

    def described(self) -> dict[str, str]:
        """Each rule by its name in words, as the result records it."""
        return {
            "trapezoidal rule": self.method,
            "below the limit before the first measurable": self.first,
            "below the limit between measurable": self.middle,
            "below the limit after the last measurable": self.last,
            "terminal fit": f"log-linear, unweighted, best adjusted R2, ties within {self.tie:g} to most points",
            "least points of the terminal fit": str(self.min_points),
            "Cmax in the terminal fit": {None: "after a bolus only", True: "yes", False: "no"}[self.include_cmax],
            "least adjusted R2": _limit(self.min_adjusted_r2),
            "least span, half-lives": _limit(self.min_span_ratio),
            "most extrapolated, %": _limit(self.max_extrapolated),
        }


def _limit(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def demand(holds: Any, problem: str, field: str, value: object, *, remedy: str) -> None:
    """InputError unless `holds`."""
    if not holds:
        raise InputError(problem, field=field, value=value, remedy=remedy)
