"""The data as the likelihood wants them: kernel arrays, observed values, covariates, and which structure predicts
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.ode_design import OdeDesign, ode_design
from pkpd.bayes.plan import plan
from pkpd.engine.actions import Dosing, actions_of
from pkpd.engine.build import compiled
from pkpd.engine.structure import OneCompartment
from pkpd.ground.errors import InputError
from pkpd.kernels.linear import CENTRAL, DEPOT
from pkpd.model.equations import Binary, Expr, Number
from pkpd.model.spec import Model

if TYPE_CHECKING:
    from pkpd.model.records import Records

__all__ = ["Design", "Structure", "design", "measured_output"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """One compartment: `absorption` (None without a depot), `elimination` [1/h] and `volume` as expressions."""

    absorption: Expr | None
    elimination: Expr
    volume: Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """`arrays`: the inputs of the kernel after ka, cl, v; `dv` (rows,), `covariates` (subjects,) by name.

    structure is None, and arrays empty, where the generated solver predicts the data: then `ode` is what it needs.
    """

    ids: tuple[str, ...]
    arrays: tuple[NDArray[Any], ...]
    dv: Floats
    covariates: dict[str, Floats]
    structure: Structure | None
    ode: OdeDesign | None = None

    @property
    def rows(self) -> int:
        return len(self.dv)


def measured_output(model: Model, records: Records) -> str:
    """The one output the data measure. Errors: InputError when there are several."""
    found = sorted({int(k) for k in records.output})
    if len(found) != 1:
        raise InputError("one output is fitted at a time yet", field="DVID", remedy="keep the rows of one output")
    return list(model.outputs)[found[0]]


def design(model: Model, records: Records, *, path: Literal["auto", "closed", "ode"] = "auto") -> Design:
    """The data of a fit. path: the closed form of one compartment, or the generated solver for any model (`auto`: the
    closed form where there is one). Errors: InputError for records that cannot be fitted yet, a missing covariate.
    """
    output = measured_output(model, records)
    form = _form(model, output, path)
    _check_covariates(model, records)
    if form is None:
        return _by_solver(model, records, output)
    times, subject, column = _grid(records)
    after = _after(model, records, form)
    _check_error(model, output, records, after)
    return Design(
        ids=records.ids,
        arrays=(*_doses(model, records, form), times, subject, column, after),
        dv=np.ascontiguousarray(records.dv, np.float64),
        covariates={name: np.asarray(records.covariates[name], np.float64) for name in _needed(model)},
        structure=_structure(model, output, form),
    )


def _by_solver(model: Model, records: Records, output: str) -> Design:
    """The design of a model without a closed form; parameters that the fit keeps fixed carry no gradient."""
    found, how = compiled(model), plan(model, output)
    _check_error(model, output, records, records.after)
    wrt = [n for n, p in model.parameters.items() if n in how.typical or n in how.spread or p.effects or p.above]
    base = np.array([[float(p.typical) for p in model.parameters.values()]])
    inputs = [_input(name, records) for name in found.inputs]
    rows = np.column_stack([np.repeat(base, len(records), axis=0), *inputs])
    number = len(model.outputs)
    measured = [str(model.outputs[output].is_)] * number
    return Design(
        ids=records.ids, arrays=(), dv=np.ascontiguousarray(records.dv, np.float64),
        covariates={name: np.asarray(records.covariates[name], np.float64) for name in _needed(model)},
        structure=None, ode=ode_design(found, records, measured, wrt, base=rows),
    )  # fmt: skip


def _input(name: str, records: Records) -> Floats:
    """A covariate that the integration itself uses, constant within subject."""
    if name not in records.covariates:
        remedy = "only covariates that are constant within a subject can be fitted yet"
        raise InputError("the data lack a covariate of the dynamics", field=name, remedy=remedy)
    return np.asarray(records.covariates[name], np.float64)


def _needed(model: Model) -> tuple[str, ...]:
    return tuple(dict.fromkeys(c for effects in model.effects.values() for c in effects))


def _check_covariates(model: Model, records: Records) -> None:
    for name in _needed(model):
        if name in records.varying:
            remedy = "fit with its value at the first dose"
            raise InputError(
                "a covariate that changes within a subject cannot be fitted yet", field=name, remedy=remedy
            )
        if name not in records.covariates:
            raise InputError("the data lack a covariate of the model", field=name, remedy="add the column")


def _form(model: Model, output: str, path: str) -> OneCompartment | None:
    """The closed form, or None for the generated solver."""
    wanted, form = model.outputs[output].is_, compiled(model).form
    known = form is not None and wanted in form.scale and not _moving_doses(model)
    if path == "closed" and not known:
        problem = "this structure has no closed form to fit"
        raise InputError(problem, field=f"outputs.{output}", value=wanted, remedy="leave the path to the product")
    return form if known and path != "ode" else None


def _moving_doses(model: Model) -> bool:
    """Whether a dose arrives by more than numbers: the closed form's kernel has no derivative of it."""
    doses = model.doses.values()
    return any(not isinstance(x, float) for dose in doses for x in (dose.bioavailability, dose.lag)) or any(
        dose.scale != 1.0 for dose in doses
    )


def _structure(model: Model, output: str, form: OneCompartment) -> Structure:
    absorption = None if form.depot is None else form.ka
    scale = form.scale[model.outputs[output].is_]
    return Structure(absorption=absorption, elimination=form.ke, volume=Binary("/", Number(1.0), scale))


def _doses(model: Model, records: Records, form: OneCompartment) -> tuple[NDArray[Any], ...]:
    """offsets, time, kind, target (0 depot, 1 central), amount, steady: bioavailability and lag must be numbers
    here.
    """
    states = tuple(model.states)
    size = len(records)
    share, lag = np.ones((size, len(states))), np.zeros((size, len(states)))
    for state, dose in model.doses.items():
        for name, value, table in (("bioavailability", dose.bioavailability, share), ("lag", dose.lag, lag)):
            if not isinstance(value, float):
                field = f"doses.{state}.{name}"
                raise InputError("a fitted bioavailability or lag must be a number yet", field=field, value=str(value))
            table[:, states.index(state)] = value
    records.require_doses("fitted")
    found = actions_of(records.doses, Dosing(share=share, lag=lag))
    place = {form.central: CENTRAL} | ({} if form.depot is None else {form.depot: DEPOT})
    target = np.asarray([place[s] for s in states], np.int32)[found.target]
    return found.offsets, found.time, found.kind, target, found.amount, found.steady


def _grid(records: Records) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Times (subjects, most rows), ascending, NaN last; and where each row of the data stands in it."""
    subject = np.asarray(records.subject, np.int64)
    count = np.bincount(subject, minlength=len(records))
    order = np.lexsort((records.time, subject))
    column = np.empty(len(subject), np.int64)
    column[order] = np.concatenate([np.arange(n) for n in count])
    times = np.full((len(count), int(count.max())), np.nan)
    times[subject, column] = records.time
    return times, subject, column


def _after(model: Model, records: Records, form: OneCompartment) -> NDArray[np.bool_]:
    """Rows that follow a dose at their own time, where it matters: into the central compartment, or at steady state."""
    doses, central = records.doses, list(model.states).index(form.central)
    owner = np.repeat(np.arange(len(records)), np.diff(doses.offsets))
    sudden = (doses.target == central) | (doses.steady > 0)
    same = (owner[None, :] == records.subject[:, None]) & (doses.time[None, :] == records.time[:, None])
    return np.asarray(records.after & (same & sudden[None, :]).any(axis=1))


def _check_error(model: Model, output: str, records: Records, after: NDArray[np.bool_]) -> None:
    """A proportional error alone leaves rows before the first dose without any: their density is infinite or zero."""
    if model.outputs[output].error.additive is not None:
        return
    owner = np.repeat(np.arange(len(records)), np.diff(records.doses.offsets))
    first = np.full(len(records), np.inf)
    np.minimum.at(first, owner, records.doses.time)
    begun = first[records.subject]
    silent = (records.time < begun) | ((records.time == begun) & ~after)
    if silent.any():
        row = int(np.flatnonzero(silent)[0])
        raise InputError(
            f"subject {records.ids[records.subject[row]]} is measured at {records.time[row]:g} h, before any drug, "
            "but the residual error is proportional only",
            field=f"outputs.{output}.error",
            remedy="add an additive error, or set MDV to 1 on rows before the first dose",
        )
