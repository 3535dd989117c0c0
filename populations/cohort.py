"""Enrolment: the first eligible candidate of each subject's own line of candidates, with what screening lost.

Subject s of replicate r is the first eligible among the candidates at addresses (s, r, attempt 0, 1, 2, ...): the same
person in whatever block, batch or order they are enrolled, and other subjects' luck changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from populations.covariates import PopulationLaw
from populations.eligibility import Criteria, Screened, judge, tally

__all__ = ["Cohort", "Screening", "enrol"]

F64 = NDArray[np.float64]
U32 = NDArray[np.uint32]
Counts = dict[str, int]
Prevalence = Mapping[str, Mapping[int, float]]

PIECE = 65_536  # candidates judged at once: bounds the memory, changes no result
MOST_ATTEMPTS = 200_000  # per subject; at 1 eligible in 10,000 one subject in 5e8 would need more
VALIDITY = "known_to_the_law"


@dataclass(frozen=True, slots=True, kw_only=True)
class Screening:
    """How many candidates were screened, how many enrolled, and the rows each criterion lost.

    `lost`, `missing`: in the order of the criteria; `lost_alone`, `missing_alone`: each on its own (see `Screened`).
    Counts of blocks add: `a + b`. screened = enrolled + sum(lost) + sum(missing).
    The last criterion, `known_to_the_law`, is ours: ages the law knows only as "80 or more" are not enrolled.
    """

    screened: int
    enrolled: int
    lost: Counts
    missing: Counts
    lost_alone: Counts
    missing_alone: Counts

    def __add__(self, other: Screening) -> Screening:
        return Screening(
            screened=self.screened + other.screened, enrolled=self.enrolled + other.enrolled,
            lost=_sum(self.lost, other.lost), missing=_sum(self.missing, other.missing),
            lost_alone=_sum(self.lost_alone, other.lost_alone),
            missing_alone=_sum(self.missing_alone, other.missing_alone),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Screening:
        """The inverse of `to_dict`."""
        return cls(**raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Enrolled subjects: covariates {name: (R, N)}, numbers of replicates (R,) and subjects (N,), attempts (R, N)."""

    covariates: Mapping[str, F64]
    replicate: U32
    subject: U32
    attempts: U32
    screening: Screening


def enrol(
    law: PopulationLaw,
    criteria: Criteria,
    *,
    seed: int,
    replicates: ArrayLike,
    subjects: int | ArrayLike,
    overrides: Prevalence | None = None,
) -> Cohort:
    """Enrol `subjects` (a number, or their numbers (N,)) in each replicate of `replicates` (R,).

    `overrides` sets the prevalence of categories first (see `PopulationLaw.overridden`), then the criteria choose: with
    criteria that depend on the category the cohort's prevalence differs from the one set.
    Errors: InputError for an unknown name, and where the criteria accept fewer than about 1 candidate in 10,000.

    >>> rules = Criteria.parse({"age": "40 <= AGE <= 60"})
    >>> cohort = enrol(PopulationLaw.read(), rules, seed=1, replicates=[0, 1], subjects=3)
    >>> cohort.covariates["AGE"].shape, cohort.screening.enrolled
    ((2, 3), 6)
    """
    law = law.overridden(overrides or {})
    rules = _with_validity(criteria.checked(law.names), law)
    rows = np.atleast_1d(np.asarray(replicates, dtype=np.uint32))
    columns = np.asarray(np.arange(subjects) if isinstance(subjects, int) else subjects, dtype=np.uint32)
    replicate, subject = (np.ascontiguousarray(x).reshape(-1) for x in np.broadcast_arrays(rows[:, None], columns))
    attempts = np.zeros(replicate.size, dtype=np.uint32)
    screening = _nothing(rules)
    for piece in _pieces(replicate.size):
        attempts[piece], found = _first_eligible(law, rules, seed, (replicate[piece], subject[piece]))
        screening = screening + found
    shape = (rows.size, columns.size)
    people = law.people(seed, replicate=replicate, subject=subject, index=attempts)
    return Cohort(
        covariates={name: value.reshape(shape) for name, value in people.items()},
        replicate=rows, subject=columns, attempts=attempts.reshape(shape), screening=screening,
    )  # fmt: skip


def _with_validity(criteria: Criteria, law: PopulationLaw) -> Criteria:
    """The criteria, then that the law knows the subject: inside its range of each bounded covariate."""
    bounds = (f"{low!r} <= {name} <= {high!r}" for name, (low, high) in law.valid.items())
    last = Criteria.parse({VALIDITY: " and ".join(bounds)} if law.valid else {})
    return Criteria(
        expressions={**criteria.expressions, **last.expressions}, texts={**criteria.texts, **last.texts},
        where=criteria.where,
    )  # fmt: skip


def _pieces(size: int) -> Iterator[slice]:
    """The first subject alone (criteria nobody meets are found out cheaply), then pieces of `PIECE`."""
    yield slice(0, min(1, size))
    for start in range(1, size, PIECE):
        yield slice(start, min(start + PIECE, size))


def _first_eligible(
    law: PopulationLaw, criteria: Criteria, seed: int, address: tuple[U32, U32]
) -> tuple[U32, Screening]:
    """The attempt at which each subject is enrolled; candidates after that attempt are not counted as screened."""
    replicate, subject = address
    chosen = np.zeros(subject.size, dtype=np.uint32)
    waiting, start = np.arange(subject.size), 0
    total = _nothing(criteria)
    while waiting.size:
        if start >= MOST_ATTEMPTS:
            raise _nobody(criteria, total)
        attempt = np.arange(start, start + max(1, min(PIECE // waiting.size, start + 1)))
        people = law.people(
            seed, replicate=replicate[waiting, None], subject=subject[waiting, None], index=attempt, only=criteria.names
        )
        judged = judge(criteria, people, (waiting.size, attempt.size))
        eligible = tally(judged, np.ones((waiting.size, attempt.size), dtype=np.bool_)).eligible
        found, first = eligible.any(axis=1), eligible.argmax(axis=1)
        seen = np.arange(attempt.size) <= np.where(found, first, attempt.size)[:, None]
        total = total + _counted(tally(judged, seen))
        chosen[waiting[found]] = attempt[first[found]]
        waiting, start = waiting[~found], int(attempt[-1]) + 1
    return chosen, total


def _counted(found: Screened) -> Screening:
    return Screening(
        screened=found.n, enrolled=int(np.count_nonzero(found.eligible)), lost=found.lost, missing=found.missing,
        lost_alone=found.lost_alone, missing_alone=found.missing_alone,
    )  # fmt: skip


def _nothing(criteria: Criteria) -> Screening:
    lost, missing, lost_alone, missing_alone = (dict.fromkeys(criteria.expressions, 0) for _ in range(4))
    return Screening(
        screened=0, enrolled=0, lost=lost, missing=missing, lost_alone=lost_alone, missing_alone=missing_alone
    )


def _nobody(criteria: Criteria, total: Screening) -> InputError:
    worst = max(total.lost_alone, key=lambda name: total.lost_alone[name])
    share = total.lost_alone[worst] / max(total.screened, 1)
    return InputError(
        f"a subject found no eligible candidate in {MOST_ATTEMPTS} (fewer than 1 in 10,000 are)",
        field="population.eligible",
        remedy=f"widen the criteria; {worst} ({criteria.texts[worst]}) alone loses {100 * share:.4g} %",
    )


def _sum(a: Counts, b: Counts) -> Counts:
    return {key: a.get(key, 0) + b.get(key, 0) for key in dict.fromkeys((*a, *b))}
