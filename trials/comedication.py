"""What changes exposure besides dose and person: comedication, organ impairment, food; frozen nouns of a protocol.

How they act on parameters is in `trials.modifiers`, what they do to exposure and risk in `trials.worlds`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from pkpd.ground.fields import Hours, Measured, Real, problem, real

__all__ = ["CLASSES", "COVARIATE", "EGFR", "Comedication", "Condition", "Monitor", "Taken", "trimmed"]

STRICT = ConfigDict(extra="forbid")
Share = Annotated[Real, Field(ge=0, le=1)]
Factor = Annotated[Real, Field(gt=0, le=1000)]
Days = Annotated[Real, Field(ge=0, le=36525)]
Time = Annotated[Hours, Field(ge=-87600)]
WORDS = ("first_pass", "clearance")
Status = Literal["verified", "copied", "assumed"]
Scale = Literal["child_pugh", "egfr", "food"]

CLASSES: dict[str, tuple[str, ...]] = {
    "child_pugh": ("A", "B", "C"), "egfr": ("mild", "moderate", "severe", "failure"), "food": ("fed",),
}  # fmt: skip
"""Classes of a scale from code 1 on; code 0 is none of them."""
COVARIATE: dict[str, str] = {"child_pugh": "CHILD_PUGH", "egfr": "RENAL", "food": "FED"}
"""The covariate that a scale gives everybody: the code of the class."""
EGFR = (90.0, 60.0, 30.0, 15.0)
"""mL/min/1.73 m2: below the first is mild, ... below the last failure (FDA, Pharmacokinetics in Patients with Impaired
Renal Function, 2024; from memory)."""


def _power(value: object) -> object:
    """A number, or one of the words."""
    if isinstance(value, str) and value in WORDS:
        return value
    try:
        return real(value)
    except PydanticCustomError:
        raise problem("must be a power of the exposure ratio, or first_pass or clearance", "write -1") from None


Power = Annotated[float | str, BeforeValidator(_power, json_schema_input_type=float | str)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """Samples of an output on `days` after the comedication began, acted on where `above` or `below` a limit."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    measure: str
    days: tuple[Days, ...]
    above: Measured | None = None
    below: Measured | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Who takes a comedication in one arm; what is left out is as in the comedication itself."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    share: Share | None = None
    who: str | None = None


def _by_arm(value: object) -> object:
    """A list of arms as {arm: {}}."""
    return {str(name): {} for name in value} if isinstance(value, list | tuple) else value


Arms = Annotated[dict[str, Taken], BeforeValidator(_by_arm, json_schema_input_type=dict[str, Taken] | list[str])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comedication:
    """A drug taken beside the trial's (or a habit taken up or given up) that changes clearance.

    drug, victim, regimen: of the library of interactions; or clearance: the stated factor of clearance of the
    reference person, with its 95 % `interval` (needed) and the shares `fm` of the pathways it acts on.
    parameters: {parameter of the model: power of the exposure ratio it is multiplied by} (CL: -1). activity: {enzyme:
    {covariate: {code: factor}}} besides GENE_ACTIVITY of the genotype. share: of those who meet `who` take it, from_ to
    until [h] (below 0: before the trial's first dose); arms: only in these, {arm: {share, who}}. How it comes and goes:
    course `steady`, at once or with a half_life [h]; or `kinetics`, by concentration, enzyme and dosing times of the
    library, the perpetrator's doses `apart` [h] before those of the trial's drug: then parameters may also be
    `first_pass` (what gets through gut wall and liver) and `clearance` (the rest).
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    parameters: dict[str, Power]
    drug: str | None = None
    victim: str | None = None
    regimen: str | None = None
    clearance: Factor | None = None
    interval: tuple[Factor, Factor] | None = None
    fm: dict[str, Share] = field(default_factory=dict)
    activity: dict[str, dict[str, dict[int, Annotated[Real, Field(ge=0, le=1000)]]]] = field(default_factory=dict)
    share: Share = 1.0
    who: str | None = None
    from_: Annotated[Time, Field(alias="from")] = 0.0
    until: Time | None = None
    half_life: Annotated[Hours, Field(gt=0)] | None = None
    course: Literal["steady", "kinetics"] = "steady"
    apart: Annotated[Hours, Field(ge=0, le=168)] | None = None
    arms: Arms = field(default_factory=dict)
    monitor: Monitor | None = None
    label: str | None = None
    cite: str = ""
    status: Status = "assumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Organ impairment or food: factors of parameters by class, {parameter: {class: factor}}, their 95 % intervals
    likewise (needed).

    shares: {class: share of the people} (Child-Pugh, food; the rest has none); eGFR classes follow from EGFR.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    scale: Scale
    parameters: dict[str, dict[str, Factor]]
    intervals: dict[str, dict[str, tuple[Factor, Factor]]] = field(default_factory=dict)
    shares: Mapping[str, Share] = field(default_factory=dict)
    label: str | None = None
    cite: str = ""
    status: Status = "assumed"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes from code 1 on."""
        return CLASSES[self.scale]

    @property
    def covariate(self) -> str:
        """The covariate with the code of the class."""
        return COVARIATE[self.scale]


LATER: dict[str, Any] = {"course": "steady", "apart": None, "arms": {}}


def trimmed(plain: dict[str, Any]) -> dict[str, Any]:
    """Plain values of a comedication without what it leaves at its default, where a younger version knows more: the run
    key stays."""
    return {name: value for name, value in plain.items() if name not in LATER or value != LATER[name]}
