"""Dose escalation in cohorts: one state, one instruction, exact enumeration and simulation of the same pure rule.

A rule sees the counts of S trials at once and says, for each, the next dose and the size of the next cohort, or stop.
It has no memory besides the counts, so a table of examples tests it. Operating characteristics are exact (every path,
states merged after each cohort) or simulated; in simulation a subject has a tolerance u, by address, and a toxicity
at a dose of true probability p when u < p: the same people meet every design and every dose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, uniforms

__all__ = [
    "STOP", "Characteristics", "Design", "Instruction", "State", "Trials", "enumerate_exactly", "probabilities",
    "simulate",
]  # fmt: skip

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STOP = -1
"""As a next dose: the trial stops. As a selected dose: none is recommended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Counts of S trials. `n`, `toxic` (S, D): subjects and toxicities by dose; `dose` (S,): the current dose, from 0;
    `last`, `given` (S,): toxicities and subjects of the last cohort (0, 0 before the first)."""

    n: Ints
    toxic: Ints
    dose: Ints
    last: Ints
    given: Ints

    @classmethod
    def of(cls, n: ArrayLike, toxic: ArrayLike, dose: ArrayLike, *, last: ArrayLike = 0, given: ArrayLike = 0) -> State:
        """A state from plain numbers; one trial or several.

        >>> State.of([3, 0], [1, 0], 0).n.shape
        (1, 2)
        """
        counts = np.atleast_2d(np.asarray(n, dtype=np.int64))
        one = (counts.shape[0],)
        parts = [np.broadcast_to(np.asarray(part, dtype=np.int64), one) for part in (dose, last, given)]
        events = np.atleast_2d(np.asarray(toxic, dtype=np.int64))
        if events.shape != counts.shape or (events > counts).any() or (events < 0).any():
            raise InputError(
                "toxicities must be 0 ... n, dose by dose", field="toxic", value=np.asarray(toxic).tolist()
            )
        return cls(n=counts, toxic=events, dose=parts[0], last=parts[1], given=parts[2])

    def rows(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> State:
        """The trials `which` of them."""
        return State(
            n=self.n[which], toxic=self.toxic[which], dose=self.dose[which], last=self.last[which],
            given=self.given[which],
        )  # fmt: skip

    def packed(self) -> Ints:
        """(S, 2 D + 3): one row of whole numbers for each trial."""
        return np.column_stack([self.n, self.toxic, self.dose, self.last, self.given])

    @classmethod
    def unpacked(cls, table: Ints) -> State:
        doses = (table.shape[1] - 3) // 2
        dose, last, given = table[:, 2 * doses :].T
        return cls(n=table[:, :doses], toxic=table[:, doses : 2 * doses], dose=dose, last=last, given=given)

    def after(self, instruction: Instruction, toxic: Ints) -> State:
        """The state when the cohort that was asked for has had `toxic` (S,) toxicities."""
        rows = np.arange(self.dose.size)
        n, events = self.n.copy(), self.toxic.copy()
        n[rows, instruction.dose] += instruction.size
        events[rows, instruction.dose] += toxic
        return State(n=n, toxic=events, dose=instruction.dose, last=toxic, given=instruction.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """`dose` (S,): the next dose from 0, or STOP; `size` (S,): subjects of the next cohort."""

    dose: Ints
    size: Ints

    @classmethod
    def of(cls, dose: ArrayLike, size: ArrayLike) -> Instruction:
        doses = np.asarray(dose, dtype=np.int64)
        return cls(dose=doses, size=np.broadcast_to(np.asarray(size, dtype=np.int64), doses.shape))


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A cohort design. `rule`: state -> instruction; `select`: state at the end -> recommended dose (S,) or STOP; at
    most `patients` subjects, the first cohort has `size` at dose `start` (from 0). A rule that stops early leaves it
    to `select` to say whether any dose is recommended."""

    doses: int
    patients: int
    size: int
    rule: Callable[[State], Instruction]
    select: Callable[[State], Ints]
    start: int = 0

    def __post_init__(self) -> None:
        if self.doses < 1 or not 0 <= self.start < self.doses:
            raise InputError("must be one of the doses", field="start", value=self.start)
        if self.size < 1 or self.patients < self.size:
            raise InputError("must hold at least one cohort", field="patients", value=self.patients)

    def opening(self, trials: int) -> State:
        """The empty state of `trials` trials."""
        none, zero = np.zeros((trials, self.doses), np.int64), np.zeros(trials, np.int64)
        return State(n=none, toxic=none, dose=np.full(trials, self.start), last=zero, given=zero)

    def instruct(self, state: State) -> Instruction:
        """The rule, with the first cohort and the limit of subjects."""
        treated = state.n.sum(axis=1)
        asked = self.rule(state)
        dose = np.where(treated == 0, self.start, asked.dose)
        size = np.minimum(np.where(treated == 0, self.size, asked.size), self.patients - treated)
        return Instruction.of(np.where(size <= 0, STOP, dose), np.maximum(size, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Characteristics:
    """Operating characteristics, exact (`trials` None) or of `trials` simulated ones.

    `selected` (D + 1,): probability that none (first) or dose d is recommended; `patients`, `toxicities` (D,) and
    `total` (2,) (subjects, toxicities over all doses): expected numbers; `stopped` (1,): probability to stop before
    the last subject. `sd`: the standard deviation of each among trials, by the same name and shape.
    """

    selected: Floats
    patients: Floats
    toxicities: Floats
    total: Floats
    stopped: Floats
    sd: dict[str, Floats]
    trials: int | None = None

    @property
    def mcse(self) -> dict[str, Floats]:
        """Monte Carlo standard errors, 0 when exact."""
        share = 0.0 if self.trials is None else 1 / np.sqrt(self.trials)
        return {name: spread * share for name, spread in self.sd.items()}


def _outcomes(state: State, selected: Ints, most: int) -> dict[str, Floats]:
    """What is averaged, one row a trial."""
    total = np.column_stack([state.n.sum(axis=1), state.toxic.sum(axis=1)])
    parts = {
        "selected": selected[:, None] == np.arange(-1, state.n.shape[1]),
        "patients": state.n,
        "toxicities": state.toxic,
        "total": total,
        "stopped": total[:, :1] < most,
    }
    return {name: np.asarray(part, dtype=np.float64) for name, part in parts.items()}


def _characteristics(means: dict[str, Floats], spread: dict[str, Floats], trials: int | None) -> Characteristics:
    return Characteristics(
        selected=means["selected"], patients=means["patients"], toxicities=means["toxicities"], total=means["total"],
        stopped=means["stopped"], sd=spread, trials=trials,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """Simulated trials: the final `state`, `selected` (R,) from 0 or STOP, `patients` allowed."""

    state: State
    selected: Ints
    patients: int

    def characteristics(self) -> Characteristics:
        """Averages over replicates with their Monte Carlo standard errors."""
        parts = _outcomes(self.state, self.selected, self.patients)
        means = {name: part.mean(axis=0) for name, part in parts.items()}
        spread = {name: part.std(axis=0, ddof=1) for name, part in parts.items()}
        return _characteristics(means, spread, self.selected.size)


def probabilities(truth: ArrayLike, doses: int) -> Floats:
    """True toxicity probabilities, one for each dose."""
    p = np.asarray(truth, dtype=np.float64)
    if p.shape != (doses,) or not ((p >= 0) & (p <= 1)).all():
        raise InputError(f"must be {doses} probabilities", field="truth", value=p.tolist())
    return p


def simulate(design: Design, truth: ArrayLike, *, seed: int, replicates: ArrayLike) -> Trials:
    """Trials of a design, one for each of `replicates` (R,); the address of a tolerance is (order of entry, replicate).

    The rule runs once on each different state. Uniforms of the first `patients` subjects are the same for any design.
    """
    p, names = probabilities(truth, design.doses), np.asarray(replicates, dtype=np.int64)
    subject = np.arange(design.patients)
    tolerance = uniforms(seed, Purpose.DOSE_ESCALATION, subject=subject, replicate=names[:, None], slot=0)
    table = design.opening(names.size).packed()
    running = np.arange(names.size)
    while running.size:
        state = State.unpacked(table[running])
        instruction = _instructed(design, state)
        going = instruction.dose != STOP
        running, state = running[going], state.rows(going)
        asked = Instruction(dose=instruction.dose[going], size=instruction.size[going])
        toxic = _toxicities(tolerance[running], p, state.n.sum(axis=1), asked)
        table[running] = state.after(asked, toxic).packed()
    final = State.unpacked(table)
    return Trials(state=final, selected=_on_different(final, design.select), patients=design.patients)


def _toxicities(tolerance: Floats, p: Floats, treated: Ints, asked: Instruction) -> Ints:
    order = np.arange(tolerance.shape[1])
    members = (order >= treated[:, None]) & (order < (treated + asked.size)[:, None])
    return np.asarray((members & (tolerance < p[asked.dose][:, None])).sum(axis=1), dtype=np.int64)


def _different(state: State) -> tuple[State, Ints]:
    rows, back = np.unique(state.packed(), axis=0, return_inverse=True)
    return State.unpacked(rows), np.asarray(back, dtype=np.int64).reshape(-1)


def _on_different(state: State, select: Callable[[State], Ints]) -> Ints:
    rows, back = _different(state)
    return select(rows)[back]


def _instructed(design: Design, state: State) -> Instruction:
    rows, back = _different(state)
    asked = design.instruct(rows)
    return Instruction(dose=asked.dose[back], size=asked.size[back])


def enumerate_exactly(design: Design, truth: ArrayLike, *, most: int = 2_000_000) -> Characteristics:
    """Exact operating characteristics: every outcome of every cohort, equal states merged after each cohort.

    `most` different states at once is the limit (InputError beyond: simulate such a design).
    """
    p = probabilities(truth, design.doses)
    state, weight = design.opening(1), np.ones(1)
    ends = []
    while weight.size:
        asked = design.instruct(state)
        over = asked.dose == STOP
        ended = state.rows(over)
        ends.append((weight[over, None], _outcomes(ended, design.select(ended), design.patients)))
        asked = Instruction(dose=asked.dose[~over], size=asked.size[~over])
        state, weight = _branched(state.rows(~over), weight[~over], asked, p)
        if weight.size > most:
            raise InputError("too many states to enumerate", field="patients", value=design.patients, remedy="simulate")
    names = list(ends[0][1])
    first = {name: np.sum([(w * part[name]).sum(axis=0) for w, part in ends], axis=0) for name in names}
    second = {name: np.sum([(w * part[name] ** 2).sum(axis=0) for w, part in ends], axis=0) for name in names}
    spread = {name: np.sqrt(np.maximum(second[name] - first[name] ** 2, 0.0)) for name in names}
    return _characteristics(first, spread, None)


def _branched(state: State, weight: Floats, asked: Instruction, p: Floats) -> tuple[State, Floats]:
    """Every outcome of the next cohorts with its probability, equal states merged."""
    from scipy.special import comb

    most = int(asked.size.max(initial=0))
    tables, weights = [], []
    for toxic in range(most + 1):
        able = asked.size >= toxic
        risk, size = p[asked.dose[able]], asked.size[able]
        chance = comb(size, toxic) * risk**toxic * (1 - risk) ** (size - toxic)
        part = Instruction(dose=asked.dose[able], size=size)
        tables.append(state.rows(able).after(part, np.full(size.size, toxic, dtype=np.int64)).packed())
        weights.append(weight[able] * chance)
    rows, back = np.unique(np.concatenate(tables), axis=0, return_inverse=True)
    merged = np.bincount(np.asarray(back).reshape(-1), weights=np.concatenate(weights), minlength=len(rows))
    possible = merged > 0
    return State.unpacked(rows[possible]), merged[possible]
