"""Doses: `Dose` and `Regimen` as written, `Schedule` as expanded, `Events` as the engine takes them.

Times in hours. An item gives doses on the half-open interval [from, from + for): every 12 h for 84 d is 168 doses.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BeforeValidator, ConfigDict, Field

from pkpd.ground.errors import InputError
from pkpd.ground.fields import Hours, Identifier, Measured, problem
from pkpd.ground.text import nearest
from pkpd.ground.units import Quantity, factor, same_dimension

__all__ = ["Dose", "EventKind", "Events", "Regimen", "Schedule"]

MAX_DOSES = 100_000
Floats = NDArray[np.float64]


class EventKind(IntEnum):
    """What a record does: 1 to 4 are NONMEM's EVID, 5 and 6 rxode2's, OFF and ON NONMEM's EVID 2 with CMT < 0 and > 0.

    OTHER stops the solver and does nothing else. OFF empties a compartment and holds it so until ON, a dose or a reset.
    """

    DOSE = 1
    OTHER = 2
    RESET = 3
    RESET_DOSE = 4
    REPLACE = 5
    MULTIPLY = 6
    OFF = 7
    ON = 8


def _several(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) or value is None else [value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    """One item of a regimen: `amount` into state `into`, once at `from`, at the times `at`, or `every` h `for` h.

    amount: with its unit; every, from_, for_, at, duration [h]; times: number of doses instead of `for`;
    duration: of an infusion, 0 for a bolus; steady: the first dose finds the steady state of `every`.

    >>> Dose(amount=Quantity(200, "mg"), into="depot", every=12, for_=48).dose_times().tolist()
    [0.0, 12.0, 24.0, 36.0]
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    amount: Annotated[Measured, Field(gt=0)]
    into: Identifier
    every: Annotated[Hours, Field(gt=0)] | None = None
    from_: Annotated[Hours, Field(ge=0, alias="from")] = 0.0
    for_: Annotated[Annotated[Hours, Field(gt=0)] | None, Field(alias="for")] = None
    times: Annotated[int, Field(ge=1, le=MAX_DOSES)] | None = None
    at: Annotated[tuple[Annotated[Hours, Field(ge=0)], ...] | None, BeforeValidator(_several)] = None
    duration: Annotated[Hours, Field(ge=0)] = 0.0
    steady: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.amount, Quantity):
            raise TypeError("amount needs a unit: Quantity(200, 'mg')")
        if wrong := next((words for words, bad in self._rules() if bad), None):
            raise problem(*wrong)
        if self._count() > MAX_DOSES:
            raise problem(f"asks for more than {MAX_DOSES} doses", "check every and for")

    def _rules(self) -> list[tuple[tuple[str, str], bool]]:
        """((problem, remedy), broken) of what the fields must not say together."""
        repeated = self.for_ is not None or self.times is not None
        at = self.at is not None
        return [
            (("at cannot go with from, every, for or times", "list every time in at"), at and self._spaced()),
            (("for and times need every", "add every: 12 h"), repeated and self.every is None),
            (("every needs for or times", "add for: 84 d"), self.every is not None and not repeated),
            (
                ("for and times say the same twice", "keep one of them"),
                self.for_ is not None and self.times is not None,
            ),
            (("steady needs every", "add every: 12 h and times: 1"), self.steady and self.every is None),
            (("amount must be > 0", "leave the dose out"), not self.amount > 0),
        ]

    def _spaced(self) -> bool:
        return any(v is not None for v in (self.every, self.for_, self.times)) or self.from_ > 0

    def dose_times(self) -> Floats:
        """Times of the doses, h, ascending."""
        if self.at is not None:
            return np.sort(np.asarray(self.at, np.float64))
        if self.every is None:
            return np.asarray([self.from_])
        return self.from_ + self.every * np.arange(self._count(), dtype=np.float64)

    def _count(self) -> int:
        if self.times is not None or self.for_ is None or self.every is None:
            return self.times or 1
        ratio = min(self.for_ / self.every, 1e9)  # 84 d / 12 h is 168 and not 169 by a rounding error
        near = round(ratio)
        return near if near >= 1 and abs(ratio - near) < 1e-9 * near else math.ceil(ratio)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The records of one subject (or one shared regimen), in order of time and, at one time, of the file; K rows.

    time [h]; amount [unit of the target state; of a REPLACE the new amount, of a MULTIPLY the factor]; target (index of
    the state); duration [h] of an infusion (a bioavailability then changes its rate); interval [h] between the doses of
    a steady state or of `more`; steady: NONMEM's SS, 0, 1 or 2; kind: `EventKind`; rate: of an infusion given by its
    rate (a bioavailability then changes its duration), -1 and -2 for a rate and a duration that the model gives, 0 for
    none of these; more: additional doses at `interval` (ADDL). The last three are doses without extras if left out.
    """

    time: Floats
    amount: Floats
    target: NDArray[np.int32]
    duration: Floats
    interval: Floats
    steady: NDArray[np.int8]
    kind: NDArray[np.int8] = None  # type: ignore[assignment]
    rate: Floats = None  # type: ignore[assignment]
    more: NDArray[np.int32] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        _complete(self)

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True, slots=True)
class Regimen:
    """What an arm is given: any number of `Dose` items; none is no treatment.

    >>> Regimen(()).scaled(0.5)
    Regimen(doses=())
    """

    doses: tuple[Dose, ...] = ()

    def scaled(self, f: float) -> Regimen:
        """The regimen with every amount multiplied by `f` > 0."""
        if not (f > 0 and math.isfinite(f)):
            raise InputError("the factor must be > 0", field="regimen", value=f)
        return Regimen(tuple(replace(d, amount=Quantity(d.amount * f, d.amount.unit)) for d in self.doses))

    @property
    def last(self) -> float:
        """Time of the last dose, h; -inf without doses."""
        return max((float(d.dose_times()[-1]) for d in self.doses), default=-math.inf)

    def schedule(self, states: Mapping[str, str]) -> Schedule:
        """Expand to dose times; amounts in the unit of the state they go into.

        states: state -> unit of a dose into it, in the model's order (`model.dose_units`).
        Errors: InputError for an unknown state or an amount that cannot be turned into its unit.
        """
        parts = [_expanded(d, states) for d in self.doses]
        columns = [np.concatenate([p[i] for p in parts]) if parts else np.empty(0) for i in range(6)]
        order = np.argsort(columns[0], kind="stable")
        time, amount, target, duration, interval, steady = (c[order] for c in columns)
        return Schedule(time, amount, target.astype(np.int32), duration, interval, steady.astype(np.int8))


def _expanded(dose: Dose, states: Mapping[str, str]) -> tuple[NDArray[Any], ...]:
    names = list(states)
    if dose.into not in names:
        remedy = nearest(dose.into, names)
        raise InputError("no such state in the model", field="into", value=dose.into, remedy=remedy)
    unit = states[dose.into]
    if not same_dimension(dose.amount.unit, unit):
        remedy = f"give it in {unit}"
        raise InputError(f"cannot be turned into {unit}", field="amount", value=str(dose.amount), remedy=remedy)
    time = dose.dose_times()
    steady = np.zeros(len(time), np.bool_)
    steady[0] = dose.steady
    interval = np.where(steady, dose.every or 0.0, 0.0)
    amount = float(dose.amount) * factor(dose.amount.unit, unit)
    same = np.ones(len(time))
    return time, amount * same, names.index(dose.into) * same, dose.duration * same, interval, steady


@dataclass(frozen=True, slots=True)
class Events:
    """The records of n subjects as ragged arrays: subject i owns rows offsets[i]:offsets[i+1].

    offsets (n+1) int64; the other columns, and their order within a subject, are those of `Schedule`.
    """

    offsets: NDArray[np.int64]
    time: Floats
    amount: Floats
    target: NDArray[np.int32]
    duration: Floats
    interval: Floats
    steady: NDArray[np.int8]
    kind: NDArray[np.int8] = None  # type: ignore[assignment]
    rate: Floats = None  # type: ignore[assignment]
    more: NDArray[np.int32] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        _complete(self)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def pack(cls, schedules: Sequence[Schedule]) -> Events:
        """One schedule per subject, laid end to end."""
        counts = np.asarray([len(s) for s in schedules], np.int64)
        return cls(_offsets(counts), *(_joined(schedules, name, kind) for name, kind in _COLUMNS))

    @classmethod
    def shared(
        cls, schedule: Schedule, n: int, *, taken: ArrayLike | None = None, stop: ArrayLike | None = None
    ) -> Events:
        """n subjects on one schedule: the doses that were `taken` (n, K) bool and are before `stop` (n,) [h].

        A dose at the stop time itself is not given; NaN or inf means no stop.
        """
        size = len(schedule)
        mask = np.ones((n, size), np.bool_) if taken is None else np.array(taken, np.bool_)
        if mask.shape != (n, size):
            raise ValueError(f"taken has shape {mask.shape}, not {(n, size)}")
        if stop is not None:
            mask &= ~(schedule.time[None, :] >= np.asarray(stop, np.float64)[:, None])
        columns = (np.broadcast_to(getattr(schedule, name), (n, size))[mask] for name, _ in _COLUMNS)
        return cls(_offsets(np.count_nonzero(mask, axis=1)), *columns)

    @classmethod
    def joined(cls, parts: Iterable[Events]) -> Events:
        """The subjects of several batches, one after the other."""
        several = list(parts)
        counts = np.concatenate([np.diff(p.offsets) for p in several]) if several else np.empty(0, np.int64)
        return cls(_offsets(counts), *(_joined(several, name, kind) for name, kind in _COLUMNS))

    def subjects(self, rows: ArrayLike) -> Events:
        """The events of the subjects `rows` (indices or mask), in that order."""
        index = np.arange(len(self))[np.asarray(rows)]
        counts = np.diff(self.offsets)[index]
        offsets = _offsets(counts)
        take = np.repeat(self.offsets[:-1][index] - offsets[:-1], counts) + np.arange(offsets[-1])
        return Events(offsets, *(getattr(self, name)[take] for name, _ in _COLUMNS))


_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("time", np.float64),
    ("amount", np.float64),
    ("target", np.int32),
    ("duration", np.float64),
    ("interval", np.float64),
    ("steady", np.int8),
    ("kind", np.int8),
    ("rate", np.float64),
    ("more", np.int32),
)
_PLAIN: dict[str, float] = {"kind": EventKind.DOSE, "rate": 0.0, "more": 0}


def _complete(made: Schedule | Events) -> None:
    """Columns that are left out say plain doses; SS may come as truth values."""
    size = len(made.time)
    for name, kind in _COLUMNS[5:]:
        column = getattr(made, name)
        full = np.full(size, _PLAIN[name], kind) if column is None else np.asarray(column, kind)
        object.__setattr__(made, name, full)


def _offsets(counts: NDArray[np.int64] | NDArray[np.intp]) -> NDArray[np.int64]:
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def _joined(parts: Sequence[Schedule] | Sequence[Events], name: str, kind: Any) -> Any:
    columns = [getattr(p, name) for p in parts]
    return np.concatenate(columns).astype(kind, copy=False) if columns else np.empty(0, kind)
