"""The data as the likelihood wants them: kernel arrays, observed values, covariates, and which structure predicts
them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.adjoint import adjoint_family
from pkpd.bayes.censoring import kinds, limited
from pkpd.bayes.family import Family, closed_family, ode_family
from pkpd.bayes.missing import Absent, absent_of
from pkpd.bayes.modal import modal_family, modal_of
from pkpd.bayes.ode_design import OdeDesign, ode_design
from pkpd.bayes.pieces import Pieces, pieces_of
from pkpd.engine.actions import Dosing, actions_of
from pkpd.engine.build import compiled
from pkpd.engine.structure import OneCompartment
from pkpd.ground.errors import InputError
from pkpd.kernels.linear import CENTRAL, DEPOT
from pkpd.kernels.observations import POSITIVE
from pkpd.model.equations import Binary, Expr, Number
from pkpd.model.spec import Model
from pkpd.model.together import groups

if TYPE_CHECKING:
    from pkpd.bayes.plan import Plan
    from pkpd.model.records import Records

__all__ = ["Design", "Path", "Structure", "design", "measured_outputs"]

Floats = NDArray[np.float64]
Path = Literal["auto", "modes", "closed", "ode", "forward"]
FIRST = 1.0
"""Length [h] of the first interval after a dose of the coarsest grid that is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """One compartment: `absorption` (None without a depot), `elimination` [1/h] and `volume` as expressions."""

    absorption: Expr | None
    elimination: Expr
    volume: Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """`dv`, `subject`, `output` (rows,): observed values, whose they are, and the place of their output in `outputs`;
    `covariates` (pieces,) by name, NaN where missing (absent); pieces: where the parameters of a subject
    change.

    kind, floor (rows,): what a row says (measured, below, above, between) and the lower end of an interval, as
    `kernels.observations` takes them.
    family: how the compiled density predicts the rows. For the PyMC model: `structure` and `arrays` (inputs of the
    kernel after ka, cl, v) where one output of one compartment is measured, `ode` where the generated solver predicts.
    ties (G, K): rows with correlated errors that were measured together (`model.together`), -1 beyond a group's own.
    """

    ids: tuple[str, ...]
    pieces: Pieces
    absent: Absent
    kind: NDArray[np.int64]
    floor: Floats
    arrays: tuple[NDArray[Any], ...]
    dv: Floats
    subject: NDArray[np.int64]
    output: NDArray[np.int64]
    outputs: tuple[str, ...]
    covariates: dict[str, Floats]
    structure: Structure | None
    family: Family
    ode: OdeDesign | None = None
    ties: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 0), np.int64))

    @property
    def rows(self) -> int:
        return len(self.dv)

    def occasions(self, plan: Plan) -> tuple[str, ...]:
        """`SUBJECT:OCCASION` of every occasion of every subject, where the plan has effects between them."""
        return tuple(f"{self.ids[i]}:{k}" for i, k in self.pieces.occasions.tolist()) if plan.between else ()


def measured_outputs(model: Model, records: Records) -> tuple[str, ...]:
    """The outputs the data measure, in the order of the model."""
    names = list(model.outputs)
    return tuple(names[k] for k in sorted({int(k) for k in records.output}))


def design(
    model: Model, records: Records, *, path: Path = "auto", first: float = FIRST, blq: str = "m3"
) -> Design:  # fmt: skip
    """The data of a fit, and the family of gradients: `modes` (linear compartments and what follows them linearly),
    `closed` (one compartment, any doses), `ode` (the generated solver); `auto` takes the first that fits the structure.

    first: length [h] of the first interval after a dose, of a grid; blq: what values beyond a limit say (`censoring`).
    Errors: InputError for records that cannot be fitted yet, a missing covariate, a structure without the path asked
    for.
    """
    records = limited(model, records, blq)
    outputs, ties = measured_outputs(model, records), groups(model, records)
    pieces = pieces_of(model, records)
    _check_errors(model, outputs, records)
    records.require_doses("fitted")
    kind, floor = kinds(model, records, blq)
    _check_ties(ties, kind)
    output = np.searchsorted([list(model.outputs).index(o) for o in outputs], records.output).astype(np.int64)
    family, structure, arrays, ode = _family(model, records, outputs, output, pieces=pieces, path=path, first=first)
    return Design(
        ids=records.ids, kind=kind, floor=floor, arrays=arrays, dv=np.ascontiguousarray(records.dv, np.float64),
        subject=np.asarray(records.subject, np.int64), output=output, outputs=outputs,
        covariates=pieces.covariates, pieces=pieces, absent=absent_of(model, records.ids, pieces),
        structure=structure, family=family, ode=ode, ties=ties,
    )  # fmt: skip


def _check_ties(ties: NDArray[np.int64], kind: NDArray[np.int64]) -> None:
    """Positive values (M4) that are correlated would need the probability that both are."""
    if len(ties) and (kind[ties[ties >= 0]] >= POSITIVE).any():
        problem = "m4 does not go with correlated residual errors yet"
        raise InputError(problem, field="blq", value="m4", remedy="take m3")


def _family(
    model: Model,
    records: Records,
    outputs: tuple[str, ...],
    output: NDArray[np.int64],
    *,
    pieces: Pieces,
    path: Path,
    first: float,
) -> tuple[Family, Structure | None, tuple[NDArray[Any], ...], OdeDesign | None]:
    """The family, and what the PyMC model needs of it."""
    form = None if pieces.several else _form(model, outputs, path)
    structure = None if form is None else _structure(model, outputs[0], form)
    arrays = () if form is None else _closed_arrays(model, records, form)
    if path in ("auto", "modes"):
        found = _modes(model, records, outputs, output, pieces=pieces, first=first)
        if found is not None:
            return found, structure, arrays, None
        if path == "modes":
            _no_path("modes", outputs)
    if structure is not None:
        return (
            closed_family(structure.absorption, structure.elimination, structure.volume, arrays),
            structure,
            arrays,
            None,
        )
    if path == "closed":
        _no_path("closed", outputs)
    by_solver, ode = _by_solver(model, records, outputs, output, pieces=pieces, path=path)
    return by_solver, None, (), ode


def _no_path(path: str, outputs: tuple[str, ...]) -> NoReturn:
    problem = "this structure has no closed form to fit"
    raise InputError(problem, field=f"outputs.{outputs[0]}", value=path, remedy="leave the path to the product")


def _modes(
    model: Model, records: Records, outputs: tuple[str, ...], output: NDArray[np.int64], *, pieces: Pieces, first: float
) -> Family | None:
    dynamics = compiled(model).dynamics
    form = modal_of(dynamics, tuple(str(model.outputs[o].is_) for o in outputs))
    return None if form is None else modal_family(form, dynamics, records, output, pieces=pieces, first=first)


def _closed_arrays(model: Model, records: Records, form: OneCompartment) -> tuple[NDArray[Any], ...]:
    times, subject, column = _grid(records)
    return (*_doses(model, records, form), times, subject, column, _after(model, records, form))


def _by_solver(
    model: Model, records: Records, outputs: tuple[str, ...], output: NDArray[np.int64], *, pieces: Pieces, path: Path
) -> tuple[Family, OdeDesign | None]:
    """The family of a model without a closed form: by its solver's adjoint, or (`forward`, stiff) sensitivities.

    Parameters that the fit keeps fixed carry no gradient.
    """
    found = compiled(model)
    parts = model.parameters
    wrt = [n for n, p in parts.items() if p.prior is not None or p.se > 0.0 or p.random or p.effects or p.above]
    base = np.array([[float(p.value) for p in parts.values()]])
    inputs = [_input(name, pieces) for name in found.inputs]
    rows = np.column_stack([np.repeat(base, len(pieces.subject), axis=0), *inputs])
    if path != "forward":
        measured = [str(model.outputs[o].is_) for o in outputs]
        family = adjoint_family(found, records, measured, wrt, output=output, base=rows, pieces=pieces)
        if family is not None:
            return family, None
    ode = ode_design(found, records, [str(out.is_) for out in model.outputs.values()], wrt, base=rows, pieces=pieces)
    return ode_family(ode), None if pieces.several else ode


def _input(name: str, pieces: Pieces) -> Floats:
    """A column (pieces,) of a covariate that the integration itself uses."""
    if name not in pieces.inputs:
        remedy = "only covariates of the data can be fitted yet"
        raise InputError("the data lack a covariate of the dynamics", field=name, remedy=remedy)
    return np.asarray(pieces.inputs[name], np.float64)


def _form(model: Model, outputs: tuple[str, ...], path: Path) -> OneCompartment | None:
    """The closed form of one compartment, where it predicts all that is measured."""
    wanted, form = str(model.outputs[outputs[0]].is_), compiled(model).form
    plain = len(outputs) == 1 and path not in ("ode", "forward") and not _moving_doses(model)
    plain = plain and not compiled(model).inputs
    return form if plain and form is not None and wanted in form.scale else None


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


def _check_errors(model: Model, outputs: tuple[str, ...], records: Records) -> None:
    """A relative error alone leaves rows before the first dose without any, where nothing is there without a drug."""
    for output in outputs:
        error = model.outputs[output].error
        rows = records.output == list(model.outputs).index(output)
        if error.log is not None and (records.dv[rows] <= 0.0).any():
            row = int(np.flatnonzero(rows & (records.dv <= 0.0))[0])
            problem = (
                f"subject {records.ids[records.subject[row]]} has a value that is not > 0 at {records.time[row]:g} h"
            )
            remedy = "use additive and proportional errors, or set MDV to 1"
            raise InputError(problem, field=f"outputs.{output}.error.log", value=float(records.dv[row]), remedy=remedy)
        if error.additive is None and not model.initials:
            _check_begun(output, records, rows)


def _check_begun(output: str, records: Records, rows: NDArray[np.bool_]) -> None:
    owner = np.repeat(np.arange(len(records)), np.diff(records.doses.offsets))
    first = np.full(len(records), np.inf)
    np.minimum.at(first, owner, records.doses.time)
    begun = first[records.subject]
    silent = (rows & ~records.below) & ((records.time < begun) | ((records.time == begun) & ~records.after))
    if silent.any():
        row = int(np.flatnonzero(silent)[0])
        raise InputError(
            f"subject {records.ids[records.subject[row]]} is measured at {records.time[row]:g} h, before any drug, "
            "but the residual error is proportional only",
            field=f"outputs.{output}.error",
            remedy="add an additive error, or set MDV to 1 on rows before the first dose",
        )
