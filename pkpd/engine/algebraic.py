"""Models without states: outputs that are functions of parameters, covariates and time alone.

Samples need no solver. Statistics over windows and hazards do: such an output is integrated as a state of its own, so
that the solver's error control sees it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pkpd.engine.build import Compiled, of_dynamics
from pkpd.engine.changes import in_force
from pkpd.engine.dynamics import TIME, Dynamics
from pkpd.engine.paths import lost_parameters, named
from pkpd.engine.request import Request, Result
from pkpd.engine.status import Way
from pkpd.engine.structure import inlined
from pkpd.model.equations import Name, evaluate

__all__ = ["algebraic_chunk", "seen_by_steps"]


def seen_by_steps(compiled: Compiled) -> Compiled:
    """A model without states of its own with the area under each output as a state, before those of its hazards."""
    dynamics = compiled.dynamics
    if len(dynamics.states) > len(dynamics.hazards) or not (dynamics.summaries or dynamics.hazards):
        return compiled
    known: dict[str, Compiled] = compiled.__dict__.setdefault("_seen_by_steps", {})
    if "it" not in known:
        known["it"] = replace(of_dynamics(_with_areas(dynamics)), kinds=compiled.kinds, form=None)
    return known["it"]


def _with_areas(dynamics: Dynamics) -> Dynamics:
    wanted = dict.fromkeys(s.of for s in dynamics.summaries)
    areas = {f"{name}.area": Name(name) for name in wanted}
    return replace(dynamics, states=(*areas, *dynamics.states), derivative={**areas, **dynamics.derivative})


def algebraic_chunk(request: Request, result: Result, lo: int, hi: int) -> None:
    """Subjects lo:hi by evaluation of the outputs at the samples, under the parameters in force there."""
    dynamics = request.compiled.dynamics
    changes = request.changes.part(lo, hi)
    rows = np.concatenate([request.parameters[lo:hi], changes.parameters])
    times = request.times[lo:hi]
    n, count = times.shape
    values = named(dynamics, rows)
    known = {name: column[:, None] for name, column in values.items()}
    if len(changes.time):
        subject = np.repeat(np.arange(n), count)
        row = in_force(changes, subject, times.reshape(-1), samples=True, after=request.after)
        known = {name: column[row].reshape(n, count) for name, column in values.items()}
    known[TIME] = times
    for k, expr in enumerate(dynamics.wanted().values()):
        result.values[lo:hi, k] = evaluate(inlined(expr, dynamics.assigned), known)
    result.values[lo:hi][np.broadcast_to(np.isnan(times)[:, None], result.values[lo:hi].shape)] = np.nan
    lost_parameters(request, result, lo, hi)
    result.way[lo:hi] = Way.EVALUATED
