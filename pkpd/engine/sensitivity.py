"""Sensitivities of every output to individual parameters, doses and initial values, beside the outputs themselves.

    values, gradient = sensitivities(compiled(model), parameters, events, times)

Forward sensitivities: the model grows by dS/dt = (df/dy) S + df/dp (see `augment`) and goes through the same solver,
with jumps at doses whose amount, time, rate or duration depends on a parameter. The step is chosen by the largest of
the errors of the states and of the sensitivities along each direction, so that the values are never worse than those of
a plain solve, and a sensitivity is as good as its tolerance says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.engine.augment import Augmented, augmented
from pkpd.engine.build import Compiled
from pkpd.engine.changes import Changes
from pkpd.engine.solve import SolveStatus, solve
from pkpd.ground.errors import InputError
from pkpd.model.regimen import Events

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Sensitivities", "sensitivities"]

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivities:
    """values (n, output, T); gradient (n, output, direction, T): d value/d log p, or d value/dp; status (n,) int8.

    A subject whose status is not OK has NaN everywhere.
    """

    outputs: tuple[str, ...]
    wrt: tuple[str, ...]
    scale: str
    times: F64
    values: F64
    gradient: F64
    status: NDArray[np.int8]

    def failures(self) -> dict[SolveStatus, int]:
        """How many subjects ended with each status other than OK."""
        codes, counts = np.unique(self.status, return_counts=True)
        return {SolveStatus(int(c)): int(k) for c, k in zip(codes, counts, strict=True) if c != 0}

    def table(self) -> pd.DataFrame:
        """Long table SUBJECT, TIME, OUTPUT, VALUE and one column for each direction."""
        import pandas as pd

        n, count, _, length = self.gradient.shape
        subject, output, time = (a.ravel() for a in np.meshgrid(range(n), range(count), range(length), indexing="ij"))
        columns = {"SUBJECT": subject, "TIME": self.times[subject, time], "OUTPUT": np.asarray(self.outputs)[output]}
        columns["VALUE"] = self.values.ravel()
        columns |= {name: self.gradient[:, :, k].ravel() for k, name in enumerate(self.wrt)}
        return pd.DataFrame(columns)


def sensitivities(
    compiled: Compiled,
    parameters: F64,
    events: Events,
    times: ArrayLike,
    *,
    wrt: Sequence[str] | None = None,
    scale: Literal["log", "natural"] = "log",
    covariates: Mapping[str, ArrayLike] | None = None,
    changes: Changes | None = None,
    after: bool = False,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    max_steps: int = 100_000,
    path: Literal["auto", "closed", "ode"] = "auto",
    threads: int = 1,
) -> Sensitivities:
    """Outputs of n subjects and their derivatives along `wrt` (default: every parameter of the model).

    wrt: names of parameters (also those that are a lag, a bioavailability, a rate or a duration of an infusion, an
    initial value), `dose(STATE)` = a common factor on every dose into the state, `initial(STATE)` = an amount added to
    its initial value. scale: `log` = per relative change of the parameter, in the unit of the output; `natural` = per
    unit of the parameter. Other arguments as of `solve`; with `changes`, every row of a subject's parameters moves
    (`log`: by the same factor). path: `closed` where the model has a closed form and doses allow it (`auto` takes it).
    Where an equation jumps at a value of a state (`if C > 5`), the moment's own shift is not seen; at a moment given by
    time and parameters it is, if the model names it as an event time. At a sample at the very time of a dose that
    moves, the derivative is that of the side the sample is on.
    Errors: InputError as of `solve`, for an unknown direction, or a closed form that is not there.

    >>> from pkpd.engine.build import compiled
    >>> from pkpd.model.library import load
    >>> from pkpd.ground.units import Quantity
    >>> from pkpd.model.regimen import Dose
    >>> model = load("w2")
    >>> p = np.array([[q.typical for q in model.parameters.values()]], float)
    >>> dose = Dose(amount=Quantity(100, "mg"), into="depot")
    """
    from pkpd.engine.sensitivity_closed import closed_gradient

    if path not in ("auto", "closed", "ode"):
        raise InputError("must be auto, closed or ode", field="path", value=path)
    model = augmented(compiled, wrt, scale)
    wide = model.parameters(np.asarray(parameters, np.float64))
    if path != "ode":
        found = closed_gradient(compiled, model, (wide, events, times, changes), scale=scale, after=after)
        if found is not None:
            return _packed(model, scale, np.asarray(times, np.float64), found)
        if path == "closed":
            raise InputError("no closed form of this gradient", field="path", value=path, remedy="use auto or ode")
    moving = None if changes is None else replace(changes, parameters=model.parameters(changes.parameters))
    solution = solve(
        model.compiled, wide, events, times, covariates=covariates, changes=moving, after=after, rtol=rtol, atol=atol,
        max_steps=max_steps, path="ode", threads=threads,
    )  # fmt: skip
    return _packed(model, scale, np.asarray(times, np.float64), (*_split(model, solution.values), solution.status))


def _split(model: Augmented, solved: F64) -> tuple[F64, F64]:
    """Values and gradient out of the outputs of the bigger model; a structural zero of a failed subject is NaN."""
    n, _, length = solved.shape
    values = np.ascontiguousarray(solved[:, : len(model.outputs)])
    gradient = np.zeros((n, *model.where.shape, length))
    there = model.where >= 0
    gradient[:, there] = solved[:, model.where[there]]
    gradient[:, ~there] = np.where(np.isnan(values), np.nan, 0.0)[:, np.nonzero(~there)[0]]
    return values, gradient


def _packed(model: Augmented, scale: str, times: F64, found: tuple[F64, F64, NDArray[np.int8]]) -> Sensitivities:
    values, gradient, status = found
    shape = (len(values), values.shape[-1])
    return Sensitivities(
        outputs=model.outputs, wrt=model.wrt, scale=scale, times=np.broadcast_to(times, shape), values=values,
        gradient=gradient, status=status,
    )  # fmt: skip
