"""What a check says: claim, measured value, tolerance, verdict; and the reasons for which one does not apply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pkpd.conformance.case import Case

__all__ = ["Check", "Conformance", "Evidence", "Measured", "NotApplicable", "Verdict"]


class Verdict(StrEnum):
    """How a check ended."""

    PASS = "pass"
    FAIL = "fail"
    NOT_APPLICABLE = "not applicable"


class NotApplicable(Exception):
    """A check whose premise the model does not meet; the message says which."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A measured value, the largest that is acceptable, and a word on what was measured."""

    value: float
    tolerance: float
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """An identity: `name`, `claim` in words, and how it is measured on a case (may raise NotApplicable).

    dynamic: it is about states, and a model without any has nothing to show.
    """

    name: str
    claim: str
    measure: Callable[[Case], Measured]
    dynamic: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The outcome of one check. value <= tolerance is a pass; both are None where it does not apply or did not run."""

    name: str
    claim: str
    verdict: Verdict
    value: float | None = None
    tolerance: float | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values; a value that is not finite is None."""
        value = self.value if self.value is not None and isfinite(self.value) else None
        return {
            "name": self.name, "claim": self.claim, "verdict": self.verdict.value, "value": value,
            "tolerance": self.tolerance, "reason": self.reason,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Conformance:
    """All evidence on one model; `regimen` says in one line with which doses and times it was gathered."""

    FAIL: ClassVar[Verdict] = Verdict.FAIL
    model: str
    regimen: str
    evidence: tuple[Evidence, ...]

    def of(self, verdict: Verdict) -> tuple[Evidence, ...]:
        """The evidence with this verdict."""
        return tuple(e for e in self.evidence if e.verdict is verdict)

    @property
    def ok(self) -> bool:
        """Whether nothing failed (and something was examined)."""
        return bool(self.of(Verdict.PASS)) and not self.of(Verdict.FAIL)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"regimen": self.regimen, "evidence": [e.to_dict() for e in self.evidence]}

    def __getitem__(self, name: str) -> Evidence:
        return next(e for e in self.evidence if e.name == name)
