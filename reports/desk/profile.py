"""The course of a model's typical subject: what `vtrial models show` draws, in characters or as SVG.

The subject and its doses are those of the first golden case that has a course; a model without one gets the dose and
the times at which the conformance suite examines it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pkpd.model.regimen import Schedule
    from pkpd.model.spec import Model

__all__ = ["Course", "Curve", "course_of", "drawn", "write_svg"]

F64 = NDArray[np.float64]
POINTS: Final = 721
WIDE, HIGH = 72, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """An output at the times of the course, in `unit`."""

    name: str
    unit: str
    values: F64


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Who and what: `title`; times [h]; the curves."""

    title: str
    times: F64
    curves: tuple[Curve, ...]


def course_of(model: Model) -> Course:
    """Outputs of the typical subject over time. Errors: InputError where the engine does not run the model."""
    plan = _plan(model)
    times = np.linspace(0.0, plan.end, POINTS)
    known = _known(model, plan, times)
    curves = tuple(_curve(model, name, known) for name, o in model.outputs.items() if o.is_)
    return Course(title=plan.title, times=times, curves=tuple(c for c in curves if np.isfinite(c.values).all()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Parameters and covariates by name, doses, end [h]."""

    title: str
    constants: Mapping[str, float]
    doses: Schedule
    end: float


def _plan(model: Model) -> _Plan:
    from pkpd.conformance.case import typical
    from pkpd.model.regimen import Regimen

    for name, golden in model.golden.items():
        end = max((v.until or v.at or 0.0 for v in golden.values), default=0.0)
        if end > 0 and (golden.doses or not model.doses):
            constants = typical(model, golden.covariates)
            constants |= {n: q.to(model.parameters[n].unit) for n, q in golden.parameters.items()}
            doses = Regimen(golden.doses).schedule(model.dose_units)
            return _Plan(title=f"golden case {name}", constants=constants, doses=doses, end=end)
    if not model.states:
        return _Plan(title="typical subject", constants=typical(model), doses=Regimen(()).schedule({}), end=0.0)
    return _examined(model)


def _examined(model: Model) -> _Plan:
    """One dose into every dosed state, as the conformance suite gives it."""
    from pkpd.conformance.case import Given, case_of, schedule, typical

    case = case_of(model)
    given = [Given(time=0.0, amount=a, target=case.target(s)) for s, a in case.doses.items()]
    shown = ", ".join(f"{a:g} {model.dose_units[s]} into {s}" for s, a in case.doses.items())
    title = shown or "typical subject"
    return _Plan(title=title, constants=typical(model), doses=schedule(given), end=case.times.horizon)


def _known(model: Model, plan: _Plan, times: F64) -> dict[str, F64]:
    """Everything the equations name, over time."""
    from pkpd.engine.build import compiled
    from pkpd.engine.solve import solve
    from pkpd.model import equations as eq
    from pkpd.model.regimen import Events

    constants = plan.constants
    known = {name: np.full(times.shape, value) for name, value in constants.items()}
    known |= {"TIME": times, "WEEKS": times / 168.0, **{name: np.zeros(times.shape) for name in model.previous}}
    if model.states:
        made = compiled(model)
        row = np.asarray([[constants[name] for name in made.parameters]])
        given = {name: np.asarray([constants[name]]) for name in made.inputs}
        events = Events.shared(plan.doses, 1)
        solution = solve(made, row, events, times, covariates=given, after=True, rtol=1e-8)
        known |= dict(zip(made.outputs, solution.values[0], strict=True))
        known |= {name: values[0] for name, values in solution.summaries.items()}
    for line in eq.in_order(model.equations):
        if line.target not in known and eq.names(line.expression) <= set(known):
            known[line.target] = np.broadcast_to(eq.evaluate(line.expression, known), times.shape)
    return known


def _curve(model: Model, name: str, known: Mapping[str, F64]) -> Curve:
    from pkpd.model.dimensions import units_of

    of = str(model.outputs[name].is_)
    unit = model.states.get(of) or units_of(model).get(of, "1")
    return Curve(name=name, unit=unit, values=np.asarray(known.get(of, np.full(1, np.nan)), np.float64))


def span(hours: float) -> tuple[float, str]:
    """Hours of the unit in which so long a time is told.

    >>> span(8.0), span(240.0)
    ((1.0, 'h'), (24.0, 'd'))
    """
    return (1.0, "h") if hours <= 96.0 else (24.0, "d")


def drawn(course: Course, curve: Curve) -> list[str]:
    """The curve in characters, its extremes and the end of time written at the axes."""
    values = curve.values
    if course.times[-1] == 0.0 or float(np.ptp(values)) <= 1e-12 * float(np.abs(values).max(initial=0.0)):
        return [f"{curve.name} = {values[0]:.6g} {_said(curve.unit)}".rstrip()]
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    columns = np.clip((course.times / course.times[-1] * (WIDE - 1)).round().astype(int), 0, WIDE - 1)
    rows = np.clip(((high - values) / (high - low) * (HIGH - 1)).round().astype(int), 0, HIGH - 1)
    grid = [[" "] * WIDE for _ in range(HIGH)]
    for column, row in zip(columns, rows, strict=True):
        grid[row][column] = "*"
    labels = [f"{high:.4g}", *[""] * (HIGH - 2), f"{low:.4g}"]
    wide = max(map(len, labels))
    hours, unit = span(float(course.times[-1]))
    lines = [f"{label:>{wide}} |{''.join(row).rstrip()}" for label, row in zip(labels, grid, strict=True)]
    end = f"{course.times[-1] / hours:g} {unit}"
    axis = f"{'':>{wide}} +{'-' * WIDE}"
    return [f"{curve.name} {_bracketed(curve.unit)}".rstrip(), *lines, axis, f"{'':>{wide}}  0{end:>{WIDE - 1}}"]


def _said(unit: str) -> str:
    return "" if unit == "1" else unit


def _bracketed(unit: str) -> str:
    return f"[{unit}]" if _said(unit) else ""


def write_svg(model: Model, course: Course, path: Path) -> None:
    """The curves side by side as one SVG file."""
    from pkpd.ground.store import write_atomic
    from reports.figures import svg

    curves: Sequence[Curve] = course.curves[:4]
    with svg.style():
        figure, axes = svg.figure(3.2 * max(len(curves), 1), 2.6, columns=max(len(curves), 1))
        hours, unit = span(float(course.times[-1]))
        for ax, curve in zip(axes, curves, strict=False):
            ax.plot(course.times / hours, curve.values, color="#218a8d")
            ax.set_xlabel(f"time [{unit}]")
            ax.set_title(f"{curve.name} {_bracketed(curve.unit)}".rstrip())
        markup = str(svg.render(figure, name=model.name, title=f"{model.name}: {course.title}"))
    write_atomic(path, markup.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).encode())
