"""Sampling times that tell most about a model: D-optimality on a grid, by exchange (Fedorov).

Every candidate time is solved once; a design is then a choice of rows, and its information small linear algebra. The
search is deterministic: from several starts, each sample in turn moves to the candidate that raises det(M) most, until
none does. It may end in a local optimum: `starts` says how many ends it was the best of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pkpd.design.information import Arm, Information, Pieces, Population, fisher, names_of, pieces, population_of, used
from pkpd.ground.errors import InputError
from pkpd.model.spec import Model

__all__ = ["Optimum", "optimal_times"]

F64 = NDArray[np.float64]
RIDGE = 1e-9
"""Relative to the information of one sample: singular starts can be compared, regular designs do not notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """times: output -> chosen times [h]; information of the arm so sampled (with `given`); ends: efficiency of each end
    of the search relative to the best, descending: 1 for all means that every start found the same.
    """

    times: dict[str, tuple[float, ...]]
    information: Information
    ends: tuple[float, ...]


def optimal_times(
    model: Model, arm: Arm, number: Mapping[str, int], *, fixed: Sequence[str] = (), full: bool = False,
    given: Information | None = None, starts: int = 6, apart: float = 0.0, rtol: float = 1e-8,
) -> Optimum:  # fmt: skip
    """The `number` of samples of each output, among the candidates `arm.times`, with the largest det(M).

    given: what other arms or earlier data tell (same names); apart: least distance [h] of two samples of an output.
    Errors: InputError for numbers that do not fit the candidates.

    Example: `optimal_times(model, Arm(subjects=32, regimen=r, times={"CP": range(1, 121)}), {"CP": 4}).times`.
    """
    _checked(arm, number, starts)
    population = population_of(model, tuple(arm.times), fixed)
    search = _search(population, replace(arm, times=_sorted(arm)), (full, rtol), given)
    kept = tuple(np.flatnonzero([r[0] == name for r in search.part.rows]) for name in arm.times)
    begin = [_start(kept, [number[name] for name in arm.times], k, starts) for k in range(starts)]
    ends = sorted((_exchanged(search, kept, rows, apart) for rows in begin), key=lambda end: (-end[0], end[1]))
    best = ends[0]
    if not np.isfinite(best[0]):
        raise InputError("no start keeps the samples apart", field="apart", value=apart, remedy="take it smaller")
    chosen = {n: tuple(search.part.rows[r][1] for r in best[1] if search.part.rows[r][0] == n) for n in arm.times}
    p = int(search.keep.sum())
    found = search.information(population, best[1])
    return Optimum(times=chosen, information=found, ends=tuple(float(np.exp((e[0] - best[0]) / p)) for e in ends))


def _checked(arm: Arm, number: Mapping[str, int], starts: int) -> None:
    if set(number) != set(arm.times):
        raise InputError("must name the outputs of the candidates", field="number", value=", ".join(number))
    for name, k in number.items():
        if not 1 <= k <= len(set(arm.times[name])):
            raise InputError("must be from 1 to the number of candidates", field=f"number.{name}", value=k)
    if starts < 1:
        raise InputError("must be at least 1", field="starts", value=starts)


def _sorted(arm: Arm) -> dict[str, tuple[float, ...]]:
    return {name: tuple(sorted({float(t) for t in times})) for name, times in arm.times.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """The pieces of all candidates, subjects, what is known besides, and which parameters count."""

    part: Pieces
    subjects: float
    given: F64
    scale: F64
    keep: NDArray[np.bool_]

    def matrix(self, rows: Sequence[int]) -> F64:
        return self.subjects * fisher(self.part, rows) + self.given

    def value(self, rows: Sequence[int]) -> float:
        """log det of the information relative to the values."""
        relative = (self.matrix(rows) * self.scale * self.scale[:, None])[np.ix_(self.keep, self.keep)]
        sign, found = np.linalg.slogdet(relative + RIDGE * self.subjects * np.eye(len(relative)))
        return float(found) if sign > 0 else -np.inf

    def information(self, population: Population, rows: Sequence[int]) -> Information:
        names, values = names_of(population)
        found = Information(names=names, values=values, matrix=self.matrix(rows))
        return used(found, len(population.estimated))


def _search(population: Population, arm: Arm, how: tuple[bool, float], given: Information | None) -> _Search:
    part = pieces(population, arm, full=how[0], rtol=how[1])
    names, values = names_of(population)
    known = np.zeros((len(names), len(names)))
    if given is not None:
        unknown = [name for name in given.names if name not in names]
        if unknown:
            raise InputError("is not among what is estimated", field="given", value=unknown[0])
        at = [names.index(name) for name in given.names]
        known[np.ix_(at, at)] = given.matrix
    whole = arm.subjects * fisher(part, range(len(part.rows))) + known
    keep = np.array([k >= len(population.estimated) or whole[k, k] > 0.0 for k in range(len(names))])
    scale = np.where(values != 0.0, np.abs(values), 1.0)
    return _Search(part=part, subjects=arm.subjects, given=known, scale=scale, keep=keep)


def _start(kept: Sequence[NDArray[np.intp]], number: Sequence[int], k: int, starts: int) -> tuple[int, ...]:
    """Candidates spread evenly over a bent rank: start 0 is even, the others lean to early or late times."""
    bend = 2.0 ** (2.0 * k / max(starts - 1, 1) - 1.0) if k else 1.0
    rows: list[int] = []
    for candidates, size in zip(kept, number, strict=True):
        place = ((np.arange(size) + 0.5) / size) ** bend * len(candidates)
        chosen = np.clip(np.floor(place).astype(np.intp), np.arange(size), len(candidates) - size + np.arange(size))
        for i in range(1, size):
            chosen[i] = max(chosen[i], chosen[i - 1] + 1)
        rows += candidates[chosen].tolist()
    return tuple(rows)


def _exchanged(
    search: _Search, kept: Sequence[NDArray[np.intp]], rows: tuple[int, ...], apart: float
) -> tuple[float, tuple[int, ...]]:
    """(value, rows) where no exchange of one sample raises the value."""
    best = search.value(rows) if _allowed(search, rows, apart) else -np.inf
    changed = True
    while changed:
        changed = False
        for place, row in enumerate(rows):
            for candidate in next(c for c in kept if row in c):
                tried = tuple(sorted((*rows[:place], int(candidate), *rows[place + 1 :])))
                if len(set(tried)) < len(tried) or not _allowed(search, tried, apart):
                    continue
                value = search.value(tried)
                if value > best + 1e-12:
                    best, better, changed = value, tried, True
            if changed:
                rows = better
                break
    return best, rows


def _allowed(search: _Search, rows: Sequence[int], apart: float) -> bool:
    pairs = pairwise(rows)
    at = search.part.rows
    return all(at[a][0] != at[b][0] or at[b][1] - at[a][1] >= apart for a, b in pairs)
