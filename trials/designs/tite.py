"""Simulation of the TITE-CRM: subjects enter before those before them have been followed to the end of the window.

At each entry the model is fitted to what is known by then: toxicities so far, and follow-up weights of the others.
The address of a subject gives its tolerance (toxic at a dose of rate p when u < p, the same person as in any other
escalation), the time of its toxicity (uniform over the window) and the gap before its entry (fixed, or exponential).

Source: Cheung & Chappell, Biometrics 2000;56:1177.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, uniforms
from trials.designs.crm import Model, fit_subjects, recommended, weights
from trials.designs.escalation import State, Trials, probabilities

__all__ = ["Plan", "TiteTrials", "next_dose", "simulate"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`model`; `patients`; observation `window` and mean gap `every` between entries, in one unit of time; gaps fixed
    or exponential (`poisson`); `scheme` of the weights; first dose `start` (from 0); `restrict` as in the CRM."""

    model: Model
    patients: int
    window: float
    every: float
    poisson: bool = True
    scheme: Literal["linear", "adaptive"] = "linear"
    start: int = 0
    restrict: bool = True

    def __post_init__(self) -> None:
        if self.patients < 1 or not self.window > 0 or not self.every > 0:
            raise InputError("needs subjects, a window > 0 and a gap > 0", field="window", value=self.window)
        if self.model.method != "bayes":
            raise InputError("must be bayes in this simulation", field="method", value=self.model.method)


@dataclass(frozen=True, slots=True, kw_only=True)
class TiteTrials:
    """`trials` (counts, recommended doses), `dose`, `toxic`, `entry` (R, N) and `duration` (R,) to the end of the last
    follow-up."""

    trials: Trials
    dose: Ints
    toxic: Flags
    entry: Floats
    duration: Floats


def next_dose(plan: Plan, dose: Ints, toxic: Flags, followup: Floats) -> Ints:
    """The rule: dose (S,) of the next subject from those before it (S, N): doses, toxicities so far, follow-up so far.

    >>> plan = Plan(model=Model(skeleton=(0.1, 0.25, 0.4), target=0.25), patients=9, window=90.0, every=15.0)
    >>> known = np.array([[0, 0]]), np.array([[False, True]]), np.array([[90.0, 20.0]])
    >>> int(next_dose(plan, *known)[0])
    0
    """
    weight = np.stack([weights(f, y, plan.window, scheme=plan.scheme) for f, y in zip(followup, toxic, strict=True)])
    wanted = recommended(fit_subjects(plan.model, dose, toxic, weight).rates, plan.model.target)
    if not plan.restrict:
        return wanted
    return np.minimum(wanted, np.where(toxic[:, -1], dose[:, -1], dose[:, -1] + 1))


def simulate(plan: Plan, truth: ArrayLike, *, seed: int, replicates: ArrayLike) -> TiteTrials:
    """Trials of a plan, one for each of `replicates` (R,); `truth` (D,) toxicity rates within the window."""
    doses = len(plan.model.skeleton)
    p, names = probabilities(truth, doses), np.asarray(replicates, dtype=np.int64)[:, None]
    who = {"subject": np.arange(plan.patients), "replicate": names}
    tolerance, late, gap = (uniforms(seed, Purpose.DOSE_ESCALATION, **who, slot=slot) for slot in range(3))
    entry = np.cumsum(-np.log(gap) * plan.every if plan.poisson else np.full_like(gap, plan.every), axis=1)
    dose = np.full(tolerance.shape, plan.start, dtype=np.int64)
    for person in range(1, plan.patients):
        before = dose[:, :person]
        since = np.minimum(entry[:, person, None] - entry[:, :person], plan.window)
        toxic = (tolerance[:, :person] < p[before]) & (late[:, :person] * plan.window <= since)
        followup = np.where(toxic, late[:, :person] * plan.window, since)
        dose[:, person] = next_dose(plan, before, toxic, followup)
    toxic = tolerance < p[dose]
    final = fit_subjects(plan.model, dose, toxic, np.ones(dose.shape))
    selected = recommended(final.rates, plan.model.target)
    trials = Trials(state=_counts(dose, toxic, doses), selected=selected, patients=plan.patients)
    return TiteTrials(trials=trials, dose=dose, toxic=toxic, entry=entry, duration=entry[:, -1] + plan.window)


def _counts(dose: Ints, toxic: Flags, doses: int) -> State:
    each = dose[:, :, None] == np.arange(doses)
    n, events = each.sum(axis=1), (each & toxic[:, :, None]).sum(axis=1)
    one = np.ones(dose.shape[0], dtype=np.int64)
    return State(n=n, toxic=events, dose=dose[:, -1], last=toxic[:, -1].astype(np.int64), given=one)
