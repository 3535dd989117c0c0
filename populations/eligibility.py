"""Eligibility criteria: who may enter, and how many each criterion loses, missing values counted apart."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError, Where
from pkpd.ground.text import nearest
from pkpd.model.equations import Expr, evaluate, expression, is_condition, names, unknown

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Criteria", "Screened", "screen"]

Counts = dict[str, int]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """Named conditions on covariates, judged in the order written: {"age": `40 <= AGE <= 60`, ...}."""

    expressions: Mapping[str, Expr]
    texts: Mapping[str, str]
    where: Mapping[str, Where]

    @classmethod
    def parse(cls, texts: Mapping[str, str], field: str = "population.eligible") -> Criteria:
        """Read the conditions (each text may know its place in the file). InputError for what is not a condition.

        >>> Criteria.parse({"age": "40 <= AGE <= 60", "pump": "HEART_FAILURE == 0"}).names
        frozenset({...})
        """
        where = {
            name: text.where for name, text in texts.items() if hasattr(text, "where")
        }  # a `Scalar` knows its place
        expressions = {name: _condition(text, f"{field}.{name}", where.get(name)) for name, text in texts.items()}
        return cls(expressions=expressions, texts={name: str(text) for name, text in texts.items()}, where=where)

    @property
    def names(self) -> frozenset[str]:
        """Every covariate some criterion looks at."""
        return frozenset().union(*(names(expr) for expr in self.expressions.values()))

    def checked(self, known: Collection[str], field: str = "population.eligible") -> Criteria:
        """These criteria, if every name is known; else InputError with the nearest one."""
        for criterion, expr in self.expressions.items():
            for name in sorted(names(expr) - set(known)):
                raise InputError(
                    "no covariate of this name", field=f"{field}.{criterion}", value=name,
                    where=self.where.get(criterion), remedy=nearest(name, known),
                )  # fmt: skip
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Screened:
    """What screening found among `n` rows.

    `eligible`: mask of the shape of the covariates, true where every criterion is met.
    `lost`, `missing`: rows lost at each criterion after those before it, because it failed or because a missing value
    left it undecided; sum(lost) + sum(missing) + eligible = n. `lost_alone`, `missing_alone`: if it were the only one.
    """

    eligible: Bools
    n: int
    lost: Counts
    missing: Counts
    lost_alone: Counts
    missing_alone: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One criterion over rows: where it failed, where a missing value left it undecided."""

    name: str
    failed: Bools
    undecided: Bools


def screen(criteria: Criteria, covariates: Mapping[str, ArrayLike] | pd.DataFrame) -> Screened:
    """Judge every row by every criterion, in order, and count.

    A criterion a missing value leaves undecided is not met: the row is counted in `missing`, never passed. With `or`
    and `and` it may be decided all the same (`AGE > 60 or SMOKING == 2` holds for a smoker of unknown age).
    Errors: InputError for an unknown name (with the nearest) and for a column that is not numeric.

    >>> found = screen(Criteria.parse({"age": "AGE >= 40"}), {"AGE": np.array([30.0, 50.0, np.nan])})
    >>> found.eligible.tolist(), found.lost, found.missing
    ([False, True, False], {'age': 1}, {'age': 1})
    """
    known = [str(name) for name in covariates]
    criteria.checked(known)
    everybody = np.ones(np.broadcast_shapes(*(np.shape(covariates[name]) for name in known)), dtype=np.bool_)
    return tally(judge(criteria, covariates, everybody.shape), everybody)


def judge(
    criteria: Criteria, covariates: Mapping[str, ArrayLike] | pd.DataFrame, shape: tuple[int, ...]
) -> tuple[Judged, ...]:
    """Every criterion over rows of `shape`."""
    values = {name: _numbers(name, covariates[name]) for name in sorted(criteria.names)}
    return tuple(_judged(name, expr, values, shape) for name, expr in criteria.expressions.items())


def tally(judged: Sequence[Judged], among: Bools) -> Screened:
    """Counts over the rows of the mask `among`; nobody else is eligible."""
    left = among.copy()
    lost, missing, lost_alone, missing_alone = (dict[str, int]() for _ in range(4))
    for one in judged:
        lost[one.name], missing[one.name] = _count(left & one.failed), _count(left & one.undecided)
        lost_alone[one.name] = _count(among & one.failed)
        missing_alone[one.name] = _count(among & one.undecided)
        left &= ~one.failed & ~one.undecided
    return Screened(
        eligible=left, n=_count(among), lost=lost, missing=missing, lost_alone=lost_alone, missing_alone=missing_alone
    )


def _judged(name: str, expr: Expr, values: Mapping[str, NDArray[np.float64]], shape: tuple[int, ...]) -> Judged:
    undecided = np.broadcast_to(unknown(expr, values), shape)
    failed = ~undecided & ~np.broadcast_to(evaluate(expr, values), shape)
    return Judged(name=name, failed=failed, undecided=undecided)


def _condition(text: str, field: str, where: Where | None) -> Expr:
    try:
        expr = expression(str(text), where)
    except InputError as error:
        raise error.within(field=field, where=where) from None
    if not is_condition(expr):
        remedy = "write a comparison, such as 40 <= AGE <= 60"
        raise InputError("is not a condition", field=field, value=str(text), where=where, remedy=remedy)
    return expr


def _numbers(name: str, column: Any) -> NDArray[np.float64]:
    """A column as float64, missing values NaN, whatever kind of missing it uses."""
    try:
        if hasattr(column, "to_numpy"):
            return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
        return np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError):
        remedy = "code categories as numbers (SEX 1 male, 0 female; yes/no 1/0)"
        raise InputError("a criterion needs numbers in this column", field=name, remedy=remedy) from None


def _count(mask: Bools) -> int:
    return int(np.count_nonzero(mask))
