"""Laboratory tests of a protocol: which output is which term of the CTCAE, with which limits, sampled when.

laboratory:
  anc:
    measure: ANC                       # an output, with its residual error; or true: Circ, as it is
    term: Neutrophil count decreased   # trials.analysis.grading.lab_terms()
    unit: 10^9/L                       # of the CTCAE's; where a model has no unit, what its numbers are in
    lln: 2.0                           # or by a covariate's codes: {SEX: {0: 1.8, 1: 2.0}}
    at: every 7 d                      # or times, or visits; left out: at every visit
    cycles: dose                       # grades by cycle: from dose to dose, every 21 d, or from times
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, ConfigDict, Field

from pkpd.ground.errors import InputError
from pkpd.ground.fields import Identifier, Real, problem
from pkpd.model.rules import Decisions
from trials.analysis import grading

if TYPE_CHECKING:
    from pkpd.model.spec import Model
    from trials.protocol import Protocol

__all__ = [
    "LIVER",
    "Laboratory",
    "Limit",
    "Opened",
    "described",
    "limits",
    "of_liver",
    "opened",
    "opened_test",
    "sample_times",
]

Floats = NDArray[np.float64]
STRICT = ConfigDict(extra="forbid")
LIVER: Final = {
    "alt": "Alanine aminotransferase increased", "ast": "Aspartate aminotransferase increased",
    "bilirubin": "Blood bilirubin increased", "alp": "Alkaline phosphatase increased",
}  # fmt: skip
"""Terms of eDISH and Hy's law."""

Positive = Annotated[Real, Field(gt=0)]
Limit = Positive | dict[Identifier, dict[int, Positive]]
"""A limit of normal: a number, or {covariate: {code: number}}."""


def _grade(value: object) -> object:
    words = value.split() if isinstance(value, str) else []
    if isinstance(value, str) and (len(words) != 2 or words[0] != "grade" or words[1] not in "1234"):
        raise problem("must be a grade from 1 to 4", "write grade 4")
    return int(words[1]) if words else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Laboratory:
    """One laboratory test.

    measure: output, observed with its residual error, or true_ (text: `true`): an output, state or equation as it is;
    term: of the CTCAE, by its name or a synonym of the table, in `version`; unit: the table's, for terms in multiples
    of a limit any; lln, uln: limits of normal in that unit; at: when samples are taken besides the baseline visit's;
    cycles: over which worst grades are told too; lasting: the grade whose duration is told.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    measure: Identifier | None = None
    true_: Annotated[Identifier | None, Field(alias="true")] = None
    term: str
    version: str = "5.0"
    unit: str | None = None
    lln: Limit | None = None
    uln: Limit | None = None
    at: Decisions | None = None
    cycles: Decisions | None = None
    lasting: Annotated[int, BeforeValidator(_grade, json_schema_input_type=str), Field(ge=1, le=4)] = 4
    label: str | None = None

    def __post_init__(self) -> None:
        if (self.measure is None) == (self.true_ is None):
            raise problem("needs either measure or true", "measure: OUTPUT, or true: EQUATION")

    @property
    def looks_at(self) -> str:
        """The name in the model."""
        return str(self.measure if self.measure is not None else self.true_)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A test ready to be used. column: of the true values; factor: from the model's unit to the test's; term, soc: of
    the CTCAE; low: a value too low is bad; times: of samples outside visits [h], None: at `visits` (numbers).
    """

    name: str
    text: Laboratory
    column: str
    factor: float
    term: str
    soc: str
    low: bool
    times: Floats | None
    visits: tuple[int, ...]

    @property
    def levels(self) -> tuple[int, ...]:
        """The grades that a number gives."""
        rows = grading.criteria(self.text.term, version=self.text.version, unit=self.text.unit)
        return tuple(g for g in (1, 2, 3, 4) if rows[0].grades[g - 1])


def opened(protocol: Protocol, model: Model) -> dict[str, Opened]:
    """Tests by name. Errors: InputError for terms, units and names that do not exist."""
    return {name: opened_test(name, protocol, model) for name in protocol.laboratory}


def opened_test(name: str, protocol: Protocol, model: Model) -> Opened:
    """One test ready to be used. Errors: InputError."""
    text = protocol.laboratory[name]
    row = grading.criteria(text.term, version=text.version, unit=text.unit)[0]
    looks = text.looks_at
    column = str(model.outputs[looks].is_) if looks in model.outputs else looks
    times, visits = None, tuple(range(1, len(protocol.visits)))
    if text.at is not None and text.at.visits:
        visits = tuple(sorted(protocol.visit_names.index(visit) for visit in text.at.visits))
    elif text.at is not None:
        times = np.array([t for t in text.at.until(protocol.horizon) if t > 0.0])
    return Opened(
        name=name, text=text, column=column, factor=_factor(text, model, column, row.unit), term=row.term, soc=row.soc,
        low=row.direction == "low", times=times, visits=visits,
    )  # fmt: skip


def _factor(text: Laboratory, model: Model, column: str, wanted: str) -> float:
    """What turns the model's numbers into those of the test's unit."""
    from pkpd.ground import units
    from pkpd.model.dimensions import units_of

    unit = text.unit if wanted == "x" else wanted
    has = units_of(model).get(column, "1")
    if unit is None or has == unit:
        return 1.0
    if has == "1":
        if text.unit is None:
            raise InputError(
                f"is missing: {column} has no unit in the model", field="unit", remedy=f"unit: {unit}, if it is in that"
            )
        return 1.0
    try:
        return units.factor(has, unit)
    except InputError:
        raise InputError(
            f"{column} is in {has}, the term is graded in {unit}", field="unit", value=text.unit or unit,
            remedy="an output in that unit, or another unit of the term",
        ) from None  # fmt: skip


def limits(test: Opened, covariates: Mapping[str, Floats], n: int) -> dict[str, Floats]:
    """lln and uln of n subjects (n,), NaN where the test has none."""
    return {name: _limit(getattr(test.text, name), covariates, n) for name in ("lln", "uln")}


def _limit(limit: float | dict[str, dict[int, float]] | None, covariates: Mapping[str, Floats], n: int) -> Floats:
    found = np.full(n, np.nan)
    if isinstance(limit, dict):
        (covariate, values), *_ = limit.items()
        for code, value in values.items():
            found[covariates[covariate] == code] = value
    elif limit is not None:
        found[:] = limit
    return found


def sample_times(test: Opened, visits: Floats) -> Floats:
    """Times of samples (n, S) h, the baseline's first; visits (n, V): actual times."""
    if test.times is None:
        return visits[:, (0, *test.visits)]
    fixed = np.broadcast_to(test.times, (len(visits), test.times.size))
    return np.concatenate([visits[:, :1], fixed], axis=1)


def of_liver(tests: Mapping[str, Opened]) -> dict[str, Opened]:
    """The first test of each term of eDISH, empty without an aminotransferase and bilirubin."""
    found = {key: test for key, term in LIVER.items() for test in reversed(tuple(tests.values())) if test.term == term}
    return found if "bilirubin" in found and ("alt" in found or "ast" in found) else {}


def described(test: Laboratory, labels: Mapping[str, Mapping[int, str]] | None = None) -> str:
    """The test in words; labels of the covariates' codes."""
    how = "measured" if test.measure is not None else "without error"
    when = "at every visit"
    if test.at is not None:
        times = ", ".join(test.at.visits or (f"day {t / 24:g}" for t in test.at.times))
        when = f"every {test.at.every / 24:g} d" if test.at.every else f"at {times}"
    normal = ", ".join(
        f"{name.upper()} {_words(limit, labels or {})}"
        for name, limit in (("lln", test.lln), ("uln", test.uln))
        if limit is not None
    )
    unit = f" in {test.unit}" if test.unit else ""
    return (
        f"{test.term} (CTCAE v{test.version}) of {test.looks_at}{unit}, {how}, {when}{'; ' + normal if normal else ''}"
    )


def _words(limit: float | dict[str, dict[int, float]], labels: Mapping[str, Mapping[int, str]]) -> str:
    if not isinstance(limit, dict):
        return f"{limit:g}"
    (covariate, values), *_ = limit.items()
    named = labels.get(covariate, {})
    return ", ".join(f"{value:g} ({named.get(code, f'{covariate} {code}')})" for code, value in values.items())
