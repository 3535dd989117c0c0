"""The log density of a fit and its gradient as one compiled function: generated once, kept on disk, called through C.

The same law as `likelihood.population_model` (a test compares both), without PyTensor: a warm start loads machine code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.density_source import Argument, Mapping, density_text, mapping
from pkpd.bayes.design import Design
from pkpd.bayes.frame import Frame, Turn
from pkpd.bayes.layout import Layout, columns_of
from pkpd.bayes.plan import Plan, base_value
from pkpd.engine.graph import Graph
from pkpd.ground import digest
from pkpd.kernels.observations import MEASURED, TIED
from pkpd.model.equations import Expr
from pkpd.model.parts import Effect, Parameter

__all__ = ["COMMON", "Density", "density", "kernels_key"]

Floats = NDArray[np.float64]
HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
COMMON = (
    Argument("dv", "float64", 1), Argument("output", "int64", 1), Argument("covariates", "float64", 2),
    Argument("base", "float64", 1), Argument("free", "int64", 1), Argument("location", "float64", 1),
    Argument("scale", "float64", 1), Argument("spread_scale", "float64", 1), Argument("who", "int64", 1),
    Argument("eta_at", "int64", 2), Argument("eta_info", "float64", 3), Argument("eta_peak", "float64", 2),
    Argument("eta_slope", "float64", 3), Argument("pair_shape", "float64", 1), Argument("pair_row", "int64", 1),
    Argument("pair_column", "int64", 1), Argument("pair_first", "int64", 1), Argument("terms", "int64", 2),
    Argument("freedom", "float64", 2), Argument("kind", "int64", 1), Argument("floor", "float64", 1),
    Argument("error_scale", "float64", 1), Argument("constant", "float64", 1), Argument("fitted", "float64", 1),
    Argument("each", "float64", 1), Argument("piece_subject", "int64", 1), Argument("piece_slot", "int64", 1),
    Argument("slots", "int64", 1), Argument("most_occasions", "int64", 1), Argument("between_who", "int64", 1),
    Argument("between_scale", "float64", 1), Argument("shrunk", "int64", 1), Argument("slab", "float64", 1),
    Argument("tail", "float64", 1), Argument("absent", "int64", 2), Argument("absent_law", "float64", 2),
    Argument("eta_share", "float64", 3), Argument("error_seen", "float64", 1), Argument("pop_middle", "float64", 1),
    Argument("pop_root", "float64", 2), Argument("fold", "float64", 1), Argument("fold_at", "int64", 1),
    Argument("fold_row", "int64", 1), Argument("ring", "float64", 1), Argument("ring_at", "int64", 2),
    Argument("ties", "int64", 2), Argument("tie_shape", "float64", 1), Argument("tie_row", "int64", 1),
    Argument("tie_column", "int64", 1), Argument("tie_first", "int64", 1),
)  # fmt: skip
PLACE = {a.name: k for k, a in enumerate(COMMON)}


@dataclass(frozen=True, kw_only=True)
class Density:
    """layout; text of the module; arrays in the order of its arguments; subject (rows,): whose each row is."""

    layout: Layout
    text: str
    arrays: tuple[NDArray[Any], ...]
    subject: NDArray[np.int64]

    @cached_property
    def module(self) -> ModuleType:
        """The compiled module (from the disk where it was compiled before)."""
        from pkpd.engine.load import module

        return module(self.text)

    @cached_property
    def header(self) -> NDArray[np.int64]:
        """Addresses and shapes of the arrays, as the C entry reads them; valid while this object lives."""
        return np.asarray([v for a in self.arrays for v in (a.ctypes.data, *a.shape)], np.int64)

    def __call__(self, x: Floats) -> tuple[float, Floats]:
        """Log density at x (size,) on the unconstrained scale, normalised as PyMC's, and its gradient."""
        g, value = np.empty(self.layout.size), np.empty(1)
        point = np.ascontiguousarray(x, np.float64)
        self.module.entry.ctypes(g.size, _pointer(point), _pointer(g), _pointer(value), self.header.ctypes.data)
        return float(value[0]), g

    def predictions(self, x: Floats) -> Floats:
        """Predicted value of every row (..., rows) at x (..., size)."""
        return self._filled("fitted", x)

    def by_row(self, x: Floats) -> Floats:
        """Log density of every row of the data at x; of rows with correlated errors that were measured together all
        stands in the first, 0 in the others.
        """
        return self._filled("each", x)

    def _filled(self, name: str, x: Floats) -> Floats:
        found = np.full(len(self.arrays[0]), np.nan)
        made, points = self._with(name, found), np.reshape(x, (-1, np.shape(x)[-1]))
        out = np.empty((len(points), len(found)))
        for k, point in enumerate(points):
            found[:] = np.nan
            made(point)
            out[k] = found
        return out.reshape(*np.shape(x)[:-1], len(found))

    def framed(self, frame: Frame) -> Density:
        """The same law with what is each subject's own in other coordinates: the same machine code."""
        made = self
        for name, own in (
            ("eta_info", frame.info), ("eta_peak", frame.peak), ("eta_slope", frame.slope),
            ("eta_share", frame.share), ("error_seen", frame.seen),
        ):  # fmt: skip
            made = made._with(name, np.array(own, order="C"))
        return replace(made, layout=replace(self.layout, frame=frame))

    def turned(self, turn: Turn) -> Density:
        """The same law of population quantities in other coordinates; `layout.plain` gives those it reads."""
        made = self._with("pop_middle", np.array(turn.middle))._with("pop_root", np.array(turn.root, order="C"))
        value = float(np.linalg.slogdet(turn.root)[1]) if turn.root.size else 0.0
        made = made._with("fold", np.array(turn.fold))._with("ring", np.array(turn.ring))
        made = made._with("constant", np.array([_constant(self.layout) + value]))
        return replace(made, layout=replace(self.layout, turn=turn))

    def with_data(self, dv: Floats) -> Density:
        """The same study with other observed values (rows,): the same machine code."""
        if np.shape(dv) != self.arrays[0].shape:
            raise ValueError(f"the study has {len(self.arrays[0])} rows, not {np.shape(dv)}")
        return self._with("dv", np.array(dv, np.float64))

    def _with(self, name: str, own: Floats) -> Density:
        place = PLACE[name]
        return replace(self, arrays=(*self.arrays[:place], own, *self.arrays[place + 1 :]))


def _pointer(a: Floats) -> Any:
    import ctypes

    return a.ctypes.data_as(ctypes.POINTER(ctypes.c_double))


def density(plan: Plan, design: Design) -> Density:
    """The density of a plan on its data, every effect non-centred (`framed` gives other forms)."""
    subjects, absent = len(design.ids), design.absent
    occasions = design.pieces.occasions[:, 0] if plan.between else np.empty(0, np.int64)
    at = columns_of(plan, subjects, occasions, absent.subject)
    layout = Layout(
        plan=plan, subjects=subjects, at=at, frame=Frame.none(len(at), len(plan.typical), subjects),
        occasions=design.occasions(plan), absent=absent.names, slots=occasions,
    )  # fmt: skip
    family = design.family
    individual = _individual(plan, family.columns, tuple(design.covariates))
    text = density_text(family, individual, COMMON, kernels_key(), without=_without(plan, design))
    arrays = tuple(np.ascontiguousarray(a) for a in (*_common(layout, design), *family.arrays.values()))
    own = tuple(a if a.flags.writeable else a.copy() for a in arrays)
    return Density(layout=layout, text=text, arrays=own, subject=design.subject)


def _without(plan: Plan, design: Design) -> frozenset[str]:
    """Parts of the text that have nothing to do here."""
    tied = len(design.ties) > 0
    measured = bool((design.kind == MEASURED).all()) and not _freedom(plan)[:, 0].any() and not tied
    needed = {
        "pairs": bool(plan.blocks), "shrunk": bool(plan.shrunk), "absent": len(design.absent.at) > 0,
        "measured": measured, "other": not measured, "ties": bool(plan.sigma), "tied": tied,
    }  # fmt: skip
    return frozenset(part for part, need in needed.items() if not need)


@cache
def kernels_key() -> str:
    """SHA-256 of the kernels the module inlines."""
    from pkpd import kernels

    return digest.of_json([path.read_text() for path in sorted(Path(kernels.__file__).parent.glob("*.py"))])


def _common(layout: Layout, design: Design) -> tuple[NDArray[Any], ...]:
    """The hierarchy's own arrays, in the order of `COMMON`."""
    plan, model = layout.plan, layout.plan.model
    order = list(model.parameters)
    columns = [np.asarray(x, np.float64) for x in design.covariates.values()]
    pieces, absent = design.pieces, design.absent
    covariates = np.stack(columns, axis=1) if columns else np.zeros((len(pieces.subject), 0))
    priors = list(plan.typical.values())
    shape, row, column, first = layout.shapes()
    kind = design.kind.copy()
    kind[design.ties[design.ties >= 0]] += TIED
    return (
        design.dv, design.output, covariates,
        np.asarray([base_value(model, n) for n in order]),
        np.asarray([order.index(n) for n in plan.typical], np.int64),
        np.asarray([p.location for p in priors], np.float64), np.asarray([p.scale for p in priors], np.float64),
        np.asarray([p.scale for p in plan.spread.values()], np.float64),
        np.asarray([order.index(n) for n in plan.spread], np.int64),
        layout.at, layout.frame.info, layout.frame.peak, layout.frame.slope,
        shape, row, column, first, _terms(plan), _freedom(plan), kind, design.floor,
        np.asarray([p.scale for p in plan.error.values()], np.float64), np.asarray([_constant(layout)]), np.empty(0),
        np.empty(0), pieces.subject, pieces.slot, np.ascontiguousarray(layout.slots), np.arange(layout.most_occasions),
        np.asarray([order.index(n) for n in plan.between], np.int64),
        np.asarray([p.scale for p in plan.between.values()], np.float64),
        np.asarray([list(plan.typical).index(n) for n in plan.shrunk], np.int64),
        np.asarray([p.scale for p in plan.shrunk.values()], np.float64),
        np.asarray([p.tail for p in plan.shrunk.values()][:1], np.float64), absent.at, absent.law,
        layout.frame.share, layout.frame.seen, np.empty(0), np.empty((0, 0)), np.empty(0),
        layout.scales, layout.spread_rows, np.empty(0), layout.rings,
        design.ties, *layout.sigma_shapes(),
    )  # fmt: skip


def _terms(plan: Plan) -> NDArray[np.int64]:
    """Place of each output's additive, proportional and log error among the plan's; -1: none."""
    place = {name: k for k, name in enumerate(plan.error)}
    kinds = ("additive", "proportional", "log")
    return np.asarray([[place.get(f"{o}.{kind}", -1) for kind in kinds] for o in plan.outputs], np.int64)


def _freedom(plan: Plan) -> Floats:
    """Degrees of freedom of each output's Student t and the constant of its log density; 0 for a normal."""
    found = np.zeros((len(plan.outputs), 2))
    for k, output in enumerate(plan.outputs):
        if (t := plan.model.outputs[output].error.t) is not None:
            constant = math.lgamma(0.5 * (t + 1.0)) - math.lgamma(0.5 * t) - 0.5 * math.log(math.pi * t)
            found[k] = t, constant
    return found


def _constant(layout: Layout) -> float:
    """What the kernels leave out of the priors' densities."""
    plan = layout.plan
    total = -sum(math.log(p.scale) + HALF_LOG_2PI for p in plan.typical.values())
    total += sum(
        0.5 * math.log(2.0 / math.pi) - math.log(p.scale)
        for p in (*plan.spread.values(), *plan.error.values(), *plan.between.values())
    )
    shapes = (*layout.shapes()[0], *layout.sigma_shapes()[0])
    total -= sum(2.0 * math.lgamma(b) - math.lgamma(2.0 * b) for b in shapes)
    return total - HALF_LOG_2PI * (layout.size - layout.population)


def _individual(plan: Plan, columns: tuple[Expr, ...], covariates: tuple[str, ...]) -> Mapping:
    """Columns of X from a subject's values on the parameters' scales, the typical values on them, and covariates."""
    graph = Graph(frozenset())
    order = list(plan.model.parameters)
    own = {n: graph.symbol(f"u.{n}") for n in order}
    typical = {n: graph.symbol(f"t.{n}") for n in order}
    given = {n: graph.symbol(f"c.{n}") for n in covariates}
    parts = plan.model.parameters
    population = _resolved(plan, graph, {n: _unlinked(graph, p, typical[n]) for n, p in parts.items()})
    known = given | {f"={n}": node for n, node in population.items()}
    found = {n: _moved(plan, graph, n, (own[n], known)) for n in parts}
    values = _resolved(plan, graph, found)
    roots = [graph.of(e, values) for e in columns]
    return mapping("individual", graph, roots, [*own.values(), *typical.values(), *given.values()])


def _unlinked(graph: Graph, p: Parameter, node: int) -> int:
    return graph.apply({"log": "exp", "logit": "expit"}[p.link], node) if p.link != "identity" else node


def _resolved(plan: Plan, graph: Graph, values: dict[str, int]) -> dict[str, int]:
    """Add its floor to every parameter above one."""
    found = dict(values)
    for name, p in plan.model.parameters.items():
        if p.above is not None:
            found[name] = graph.apply("+", graph.of(p.above, found), found[name])
    return found


def _moved(plan: Plan, graph: Graph, name: str, nodes: tuple[int, dict[str, int]]) -> int:
    """A parameter in natural units: covariate effects added on its scale or multiplied.

    nodes: its value on its scale; covariates and, as `=NAME`, typical values.
    """
    node, known = nodes
    p, factors = plan.model.parameters[name], []
    for covariate, effect in p.effects.items():
        x = known[covariate]
        reference = graph.number(plan.model.covariates[covariate].reference or 0.0)
        if effect.kind == "linear":
            shift = graph.apply("*", _coefficient(graph, effect.coefficient, known), graph.apply("-", x, reference))
            node = graph.apply("+", node, shift)
        elif effect.kind == "power":
            ratio = graph.apply("/", x, reference)
            factors.append(graph.apply("power", ratio, _coefficient(graph, effect.coefficient, known)))
        else:
            factors.append(_category(graph, effect, x, known))
    node = _unlinked(graph, p, node)
    for factor in factors:
        node = graph.apply("*", node, factor)
    return node


def _category(graph: Graph, effect: Effect, x: int, known: dict[str, int]) -> int:
    node = graph.number(1.0)
    for code, coefficient in effect.categories.items():
        hit = graph.apply("==", x, graph.number(float(code)))
        node = graph.apply("if", hit, _coefficient(graph, coefficient, known), node)
    return node


def _coefficient(graph: Graph, coefficient: float | str | None, known: dict[str, int]) -> int:
    if isinstance(coefficient, str):
        return known[f"={coefficient}"]
    return graph.number(float(coefficient or 0.0))
