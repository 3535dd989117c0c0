"""A model laid out for examination: its typical subject, doses, times, and a solver that shows every state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.conformance.reading import Reading
from pkpd.conformance.scales import Times, dosed_states, downstream, times_of, trial_amount
from pkpd.engine.build import Compiled, of_dynamics
from pkpd.engine.dynamics import dynamics_of
from pkpd.engine.solve import Solution, SolveStatus, solve
from pkpd.model.regimen import Events, Schedule

if TYPE_CHECKING:
    from pkpd.model.spec import Model

__all__ = ["TIGHT", "Case", "Given", "NotSolved", "case_of", "distance", "schedule", "typical"]

F64 = NDArray[np.float64]
TIGHT: Final = 1e-9
"""Tolerance per step at which identities are examined."""
_STEPS = 2_000_000
_TRIAL_STEPS = 50_000
_COLUMNS = ("time", "amount", "target", "duration", "interval", "steady", "kind", "more")


class NotSolved(Exception):
    """A solve that did not succeed; the message has the status and its advice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One dose record: `amount` into the state number `target` at `time`; see `Schedule` for the others."""

    time: float
    amount: float
    target: int
    duration: float = 0.0
    interval: float = 0.0
    steady: int = 0
    kind: int = 1
    more: int = 0


def schedule(records: Sequence[Given]) -> Schedule:
    """The records as a schedule, ascending in time, in their order at one time."""
    ordered = sorted(records, key=lambda r: r.time)
    columns: dict[str, Any] = {name: np.asarray([getattr(r, name) for r in ordered]) for name in _COLUMNS}
    kinds = {"target": np.int32, "steady": np.int8, "kind": np.int8, "more": np.int32}
    return Schedule(**{name: column.astype(kinds.get(name, np.float64)) for name, column in columns.items()})


def distance(a: F64, b: F64, floor: F64 | float = 0.0) -> float:
    """Largest difference over each output's peak, or `floor` (output,) where that is more. A NaN is infinitely far.

    a, b: (output, T) or (n, output, T).
    """
    if not a.size:
        return 0.0
    axes = tuple(k for k in range(a.ndim) if k != a.ndim - 2)
    peak = np.maximum(np.maximum(np.abs(a), np.abs(b)).max(axis=axes), floor)
    apart = np.abs(a - b).max(axis=axes)
    if not (np.isfinite(peak).all() and np.isfinite(apart).all()):
        return float("inf")
    return float(np.divide(apart, peak, out=np.zeros_like(peak), where=peak > 0).max(initial=0.0))


@dataclass(frozen=True, kw_only=True)
class Case:
    """What checks are made on.

    compiled: solves every state, then every output of the model; parameters (P,) of the typical subject in the order of
    `compiled.parameters`; doses: state -> amount of one dose [unit of its doses]; peaks (O,): of the trial solve.
    """

    model: Model
    reading: Reading
    compiled: Compiled
    parameters: F64
    times: Times
    doses: dict[str, float]
    peaks: F64

    @property
    def states(self) -> int:
        """Number of states: the first outputs of a solve."""
        return len(self.reading.states)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names along the output axis."""
        return self.compiled.outputs

    def apart(self, a: F64, b: F64, outputs: Sequence[int] | slice = slice(None)) -> float:
        """Distance of two sets of profiles; what is a millionth of an output's usual peak is its rounding."""
        return distance(a, b, 1e-6 * self.peaks[outputs])

    @cached_property
    def grid(self) -> F64:
        """Sample times up to the horizon, dense after 0, none of them at the time of a dose."""
        horizon, fast = self.times.horizon, self.times.fast
        even = horizon * (np.arange(60) + 0.381966) / 60.0
        early = np.geomspace(0.11 * fast, 0.11 * horizon, 24)
        return np.unique(np.concatenate([early, even]))

    def target(self, state: str) -> int:
        """Number of a state."""
        return self.reading.states.index(state)

    def one(self, state: str, time: float = 0.0, times: float = 1.0, **others: Any) -> Given:
        """`times` usual doses into `state` at `time`."""
        return Given(time=time, amount=times * self.doses[state], target=self.target(state), **others)

    def usual(self) -> list[Given]:
        """A regimen with everything: three doses and an infusion that overlaps them, into every dosed state."""
        tau, found = self.times.interval, list[Given]()
        for k, state in enumerate(self.doses):
            begin = 0.13 * k * tau
            found += [self.one(state, begin + i * tau, f) for i, f in enumerate((1.0, 0.5, 2.0))]
            if not self.reading.dose(state).transit:
                found.append(self.one(state, begin + 1.7 * tau, duration=0.6 * tau))
        return found

    def solution(
        self, plans: Sequence[Sequence[Given]], times: ArrayLike, parameters: F64 | None = None, **options: Any
    ) -> Solution:
        """One subject per plan, as `solve` gives them; `parameters` (n, P) where they are not the typical subject."""
        rows = np.tile(self.parameters, (len(plans), 1)) if parameters is None else parameters
        events = Events.pack([schedule(plan) for plan in plans])
        settings = {"rtol": TIGHT, "atol": self.atol, "max_steps": _STEPS, **self.inputs, **options}
        return solve(self.compiled, rows, events, times, **settings)

    def solve(
        self, plans: Sequence[Sequence[Given]], times: ArrayLike, parameters: F64 | None = None, **options: Any
    ) -> F64:
        """Values (n, output, T), every subject solved. Errors: NotSolved."""
        found = self.solution(plans, times, parameters, **options)
        if failures := found.failures():
            status, count = next(iter(failures.items()))
            raise NotSolved(f"{count} of {len(plans)} subjects not solved ({status.name}): {status.advice}")
        return found.values

    @property
    def inputs(self) -> dict[str, Any]:
        """What `solve` takes besides, where the equations read covariates."""
        used = self.model.inputs if self.compiled.inputs else ()
        return {"covariates": {name: self.reading.constants[name] for name in used}} if used else {}

    @cached_property
    def atol(self) -> float:
        """Absolute tolerance that is small for the smallest state."""
        sizes = self.peaks[: self.states]
        return float(TIGHT * 1e-2 * min((p for p in sizes if p > 1e-250), default=1.0))

    @cached_property
    def batch(self) -> F64:
        """Parameters of 29 subjects around the typical one, (29, P): those above 0 times exp(0.25 u), u in -1 .. 1."""
        n = np.arange(1, 30)[:, None]
        u = 2.0 * np.mod(n * np.sqrt(np.arange(2, 2 + len(self.parameters))), 1.0) - 1.0
        free = np.asarray([self._free(name) for name in self.compiled.parameters])
        return np.ascontiguousarray(np.where(free, self.parameters * np.exp(0.25 * u), self.parameters))

    def _free(self, name: str) -> bool:
        p = self.model.parameters.get(name)
        return p is not None and p.link == "log"


def typical(model: Model, covariates: Mapping[str, float] | None = None) -> dict[str, float]:
    """Parameters of the subject without random effects, and its covariates: as given, else at their references.

    A reference outside the range (70 kg of a model of newborns) stands for nobody: the middle of the range then.
    """
    from pkpd.model.variability import individual, point

    inputs = {name: _reference(c) for name, c in model.inputs.items()}
    inputs |= _first_class(model) | dict(covariates or {})
    q = len(model.eta_names)
    table = {name: np.full((1, 1), value) for name, value in inputs.items()}
    found = individual(model, point(model).typical, np.zeros((1, q, q)), table, z=np.zeros((1, 1, q)))
    return {**dict(zip(model.parameters, found[0, 0].tolist(), strict=True)), **inputs}


def _reference(covariate: Any) -> float:
    low, high = covariate.range or (-np.inf, np.inf)
    if covariate.reference is not None and low <= covariate.reference <= high:
        return float(covariate.reference)
    if covariate.labels:
        return float(min(covariate.labels))
    if not np.isfinite(low + high):
        return 1.0
    return float(0.5 * (low + high))


def _first_class(model: Model) -> dict[str, float]:
    """A member of the first class of a mixture."""
    return {name: float(k == 0) for k, name in enumerate(model.mixture)}


def case_of(model: Model) -> Case:
    """Lay a model out. Errors: InputError where the engine refuses it; NotSolved where the typical subject fails."""
    constants = typical(model)
    reading = Reading(model=model, constants=constants)
    dynamics = dynamics_of(model)
    shown = tuple(dict.fromkeys((*model.states, *dynamics.outputs)))
    compiled = of_dynamics(replace(dynamics, outputs=shown, summaries=()))
    doses = {s: trial_amount(reading, s) for s in dosed_states(reading)}
    dosed = reading.start.copy()
    for state, amount in doses.items():
        dosed += amount * reading.dose(state).factor * downstream(reading, state)
    case = Case(
        model=model, reading=reading, compiled=compiled, times=times_of(reading, dosed), doses=doses,
        parameters=np.asarray([constants[name] for name in compiled.parameters]), peaks=np.ones(len(shown)),
    )  # fmt: skip
    return _tried(case)


def _tried(case: Case) -> Case:
    """Halve the longest time until the typical subject is solved; take the peaks."""
    said = ""
    for _ in range(12):
        found = case.solution([case.usual()], case.grid, rtol=1e-6, atol=1e-8, max_steps=_TRIAL_STEPS)
        if found.status[0] == SolveStatus.OK:
            shorter = case.times.shorter(_settled(case) / 7.0)
            if shorter.slow < 0.5 * case.times.slow:
                case = replace(case, times=shorter)
                found = case.solution([case.usual()], case.grid, rtol=1e-6, atol=1e-8, max_steps=_TRIAL_STEPS)
            return replace(case, peaks=np.abs(found.values[0]).max(axis=1))
        said = f"{SolveStatus(int(found.status[0])).name}: {SolveStatus(int(found.status[0])).advice}"
        case = replace(case, times=case.times.shorter())
    raise NotSolved(f"the typical subject cannot be solved ({said})")


def _settled(case: Case) -> float:
    """When, after one dose into each dosed state, every state is within 1e-3 of its range from where it ends [h]."""
    times = np.geomspace(0.1 * case.times.fast, case.times.horizon, 240)
    plan = [case.one(state) for state in case.doses]
    found = case.solution([plan], times, rtol=1e-6, atol=1e-8, max_steps=_TRIAL_STEPS).values[0, : case.states]
    away = np.abs(found - found[:, -1:])
    far = away > 1e-3 * away.max(axis=1, keepdims=True) + 1e-12 * np.abs(found).max(axis=1, keepdims=True)
    last = np.flatnonzero(far.any(axis=0))
    return float(times[min(last[-1] + 1, len(times) - 1)]) if len(last) else case.times.horizon
