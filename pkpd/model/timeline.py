"""What changes within a subject: covariates between their records (LOCF, NOCB, linear), occasions.

A `Timeline` is a list of times at which the individual parameters are evaluated again; between two of them everything
holds, but a covariate with `between: linear` moves by its slope.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.model.spec import Model

__all__ = ["Series", "Timeline", "timeline"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one covariate of n subjects: subject i owns rows offsets[i]:offsets[i+1], `time` [h] ascending."""

    offsets: NDArray[np.int64]
    time: Floats
    value: Floats

    @classmethod
    def of(cls, times: Sequence[Sequence[float]], values: Sequence[Sequence[float]]) -> Series:
        """One list per subject; of several values at one time the last counts.

        >>> Series.of([[0.0, 0.0, 5.0]], [[1.0, 2.0, 3.0]]).value.tolist()
        [2.0, 3.0]
        """
        last = [dict(zip(t, v, strict=True)) for t, v in zip(times, values, strict=True)]
        offsets = np.concatenate([[0], np.cumsum([len(d) for d in last])]).astype(np.int64)
        flat = [(t, v) for d in last for t, v in d.items()]
        table = np.asarray(flat, np.float64).reshape(-1, 2)
        return cls(offsets, np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1]))

    def of_subject(self, i: int) -> tuple[Floats, Floats]:
        """Times and values of subject i."""
        rows = slice(self.offsets[i], self.offsets[i + 1])
        return self.time[rows], self.value[rows]

    def changing(self, between: str) -> Series:
        """Without the records that change nothing: of equal values in a row the first (LOCF) or last (NOCB) stays.

        A covariate that is linear between records keeps them all.

        >>> Series.of([[0.0, 5.0, 9.0]], [[1.0, 1.0, 2.0]]).changing("locf").time.tolist()
        [0.0, 9.0]
        """
        owner = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        same = (owner[1:] == owner[:-1]) & (self.value[1:] == self.value[:-1])
        dropped = {"locf": np.append(np.zeros(1, np.bool_), same), "nocb": np.append(same, np.zeros(1, np.bool_))}
        keep = ~dropped[between] if between in dropped and len(owner) else np.ones(len(owner), np.bool_)
        offsets = np.concatenate([[0], np.cumsum(np.bincount(owner[keep], minlength=len(self.offsets) - 1))])
        return Series(offsets.astype(np.int64), self.time[keep], self.value[keep])


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Rows offsets[i]:offsets[i+1] of subject i, ascending in time; from `time` [h] on the row holds.

    The first row of a subject is at -inf. late (m,): records at the very time still see the row before (NOCB: the new
    value holds after the record). values, slopes {covariate: (m,)}: at `time` (the first row: before the first record)
    and per hour after it (0 unless linear); occasion (m,): its number, 0 without occasions.
    """

    offsets: NDArray[np.int64]
    time: Floats
    late: NDArray[np.bool_]
    values: dict[str, Floats]
    slopes: dict[str, Floats]
    occasion: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def subject(self) -> NDArray[np.int64]:
        """Subject of each row."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def subjects(self, who: NDArray[np.int64]) -> Timeline:
        """The timelines of some subjects, in the order of `who` (repeated where it repeats)."""
        counts = np.diff(self.offsets)[who]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[who] - offsets[:-1], counts)
        return Timeline(
            offsets=offsets, time=self.time[rows], late=self.late[rows],
            values={name: v[rows] for name, v in self.values.items()},
            slopes={name: v[rows] for name, v in self.slopes.items()}, occasion=self.occasion[rows],
        )  # fmt: skip

    def dense(self) -> NDArray[np.int64]:
        """Rows of each subject side by side, (n, K): the last one repeated where a subject has fewer than K."""
        counts = np.diff(self.offsets)
        step = np.arange(int(counts.max(initial=1)))
        return np.asarray(self.offsets[:-1, None] + np.minimum(step, counts[:, None] - 1), np.int64)

    def at(self, rows: NDArray[np.int64], time: Floats) -> dict[str, Floats]:
        """Covariates at times (any shape) at which `rows` (that shape) hold."""
        began = self.time[rows]
        away = np.where(np.isfinite(began), time - began, 0.0)
        return {
            name: np.where(self.slopes[name][rows] == 0.0, v[rows], v[rows] + self.slopes[name][rows] * away)
            for name, v in self.values.items()
        }


def timeline(
    model: Model,
    constant: Mapping[str, Floats],
    series: Mapping[str, Series] | None = None,
    *,
    occasion: Series | None = None,
    until: float = 0.0,
    size: int | None = None,
) -> Timeline:
    """The timeline of n subjects: constant {name: (n,)}, series of those that change, occasions by column or period.

    Before its first record a covariate has its first value, after the last its last. until: last time [h] of interest
    (periods are laid out to there); size: n, where no covariate tells.
    Errors: InputError for a covariate that changes without `between:`.
    """
    several = dict(series or {})
    for name in several:
        if name in model.covariates and model.covariates[name].between is None:
            remedy = f"add between: locf, nocb or linear to covariate {name}"
            raise InputError("changes within a subject", field=f"covariates.{name}", value=name, remedy=remedy)
    several = {
        name: s.changing(str(model.covariates[name].between)) for name, s in several.items() if name in model.covariates
    }
    occasion = None if occasion is None else occasion.changing("locf")
    n = _size(constant, several, occasion) if size is None else size
    if not several:
        return _alike(model, constant, n, occasion, until=until)
    parts = [_subject(model, i, several, occasion, until=until) for i in range(n)]
    offsets = np.concatenate([[0], np.cumsum([len(p[0]) for p in parts])]).astype(np.int64)
    owner = np.repeat(np.arange(n), np.diff(offsets))
    fixed = {k: np.asarray(v, np.float64)[owner] for k, v in constant.items() if k not in several}
    moving = {name: np.concatenate([p[2][name] for p in parts]) for name in several}
    slopes = {name: np.concatenate([p[3][name] for p in parts]) for name in several}
    return Timeline(
        offsets=offsets,
        time=np.concatenate([p[0] for p in parts]),
        late=np.concatenate([p[1] for p in parts]),
        values=fixed | moving,
        slopes={k: np.zeros(len(owner)) for k in fixed} | slopes,
        occasion=np.concatenate([p[4] for p in parts]),
    )


def _size(constant: Mapping[str, Floats], several: Mapping[str, Series], occasion: Series | None) -> int:
    if constant:
        return len(next(iter(constant.values())))
    told = occasion if occasion is not None else next(iter(several.values()), None)
    if told is None:
        raise InputError("of how many subjects is not known", field="timeline", remedy="give a covariate")
    return len(told.offsets) - 1


def _alike(model: Model, constant: Mapping[str, Floats], n: int, occasion: Series | None, *, until: float) -> Timeline:
    """Nothing changes but the occasion: by its series, or by periods that are the same for all."""
    every = model.occasion.every if model.occasion is not None else None
    if occasion is None or every is not None:
        borders = [] if every is None else [k * every for k in range(1, int(until // every) + 1)]
        offsets = np.arange(n + 1, dtype=np.int64) * (1 + len(borders))
        time, number = np.tile([-np.inf, *borders], n), np.tile(np.arange(1.0 + len(borders)), n)
    else:
        offsets, time, number = occasion.offsets, occasion.time.copy(), occasion.value
        time[offsets[:-1]] = -np.inf
    owner = np.repeat(np.arange(n), np.diff(offsets))
    values = {k: np.asarray(v, np.float64)[owner] for k, v in constant.items()}
    return Timeline(
        offsets=offsets, time=time, late=np.zeros(len(time), np.bool_), values=values,
        slopes={k: np.zeros(len(time)) for k in constant}, occasion=number.astype(np.int64),
    )  # fmt: skip


_Part = tuple[Floats, NDArray[np.bool_], dict[str, Floats], dict[str, Floats], NDArray[np.int64]]


def _subject(model: Model, i: int, series: Mapping[str, Series], occasion: Series | None, *, until: float) -> _Part:
    """(time, late, values, slopes, occasion) of one subject."""
    marks: set[tuple[float, bool]] = {(-np.inf, False)}
    for name, s in series.items():
        time, _ = s.of_subject(i)
        late = model.covariates[name].between == "nocb"
        held = time[:-1] if late else time[1:] if model.covariates[name].between == "locf" else time
        marks |= {(float(t), late) for t in held}
    if occasion is not None:
        marks |= {(float(t), False) for t in occasion.of_subject(i)[0][1:]}
    every = model.occasion.every if model.occasion is not None else None
    if every is not None:
        marks |= {(k * every, False) for k in range(1, int(until // every) + 1)}
    rows = sorted(marks)
    at: Floats = np.asarray([t for t, _ in rows], np.float64)
    late_rows: NDArray[np.bool_] = np.asarray([late for _, late in rows], np.bool_)
    values: dict[str, Floats] = {}
    slopes: dict[str, Floats] = {}
    for name, s in series.items():
        values[name], slopes[name] = _held(str(model.covariates[name].between), s.of_subject(i), at, late_rows)
    return at, late_rows, values, slopes, _occasion(at, every, occasion, i)


def _held(between: str, told: tuple[Floats, Floats], at: Floats, late: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Value and slope from each mark on."""
    time, value = told
    last = np.searchsorted(time, at, side="right") - 1
    size = len(time)
    if between == "nocb":  # from just after a record the next one's value; at the record's own time its own
        coming = np.where(late, last + 1, np.searchsorted(time, at, side="left"))
        return value[np.clip(coming, 0, size - 1)], np.zeros(len(at))
    k = np.clip(last, 0, size - 1)
    if between == "locf" or size == 1:
        return value[k], np.zeros(len(at))
    following = np.clip(k + 1, 0, size - 1)
    moving = (last >= 0) & (following > k)
    slope = np.where(moving, (value[following] - value[k]) / np.where(moving, time[following] - time[k], 1.0), 0.0)
    away = np.where(moving, at - time[k], 0.0)
    return value[k] + slope * np.where(np.isfinite(away), away, 0.0), slope


def _occasion(at: Floats, every: float | None, occasion: Series | None, i: int) -> NDArray[np.int64]:
    if every is not None:
        return np.where(np.isfinite(at), np.floor(np.where(np.isfinite(at), at, 0.0) / every), 0.0).astype(np.int64)
    if occasion is None:
        return np.zeros(len(at), np.int64)
    time, value = occasion.of_subject(i)
    return value[np.clip(np.searchsorted(time, at, side="right") - 1, 0, None)].astype(np.int64)
