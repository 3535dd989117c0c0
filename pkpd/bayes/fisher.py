"""What the data of a fit can tell: the expected Fisher information of its population quantities, beside the posterior.

Linearised about each subject's own values (as FOCE is, Lindstrom & Bates, Biometrics 1990;46:673),

    y_i ~ N(E_i, V_i),   V_i = F_i Omega F_i' + Sigma_i,   M = sum_i E_t' V^-1 E_t + 1/2 tr(V^-1 V_a V^-1 V_b),

with a block of the typical values and one of everything that is a variance, as `pkpd.design` has it for studies that
are not done yet (its sources are there). Derivatives of predictions are differences of the compiled density's own. A
value beyond a limit of quantification counts as none: what it tells is left out, never made up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.plan import between, correlation_label, error_label, residual_label, spread_label, typical_label
from pkpd.kernels.observations import MEASURED, TIED

if TYPE_CHECKING:
    from pkpd.bayes.density import Density
    from pkpd.bayes.layout import Layout

__all__ = ["Part", "expected", "information", "matrix_at", "point", "sentence"]

F64 = NDArray[np.float64]
STEP = 0.02
_OFFSETS, _WEIGHTS = (-2.0, -1.0, 1.0, 2.0), (1.0, -8.0, 8.0, -1.0)
NEARLY_ONE = 0.05
"""Least eigenvalue of the information scaled to 1 by quantity below which two of them are hardly told apart: their
correlation is then 0.95 or more.
"""
NOTHING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One subject: E (m, B) derivatives of its m predictions by typical values, V (m, m), dV (L, m, m) by variances."""

    E: F64
    V: F64
    dV: F64


def information(parts: Sequence[Part]) -> F64:
    """Fisher information (B + L, B + L) of all subjects."""
    B, L = parts[0].E.shape[1], len(parts[0].dV)
    total = np.zeros((B + L, B + L))
    for part in parts:
        inverse = np.linalg.inv(part.V)
        turned = inverse @ part.dV
        total[:B, :B] += part.E.T @ inverse @ part.E
        total[B:, B:] += 0.5 * np.einsum("aij,bji->ab", turned, turned)
    return 0.5 * (total + total.T)


def matrix_at(density: Density, x: F64) -> tuple[F64, NDArray[np.int64]]:
    """Information of the vector's population quantities at x, of a density without a frame, and their places.

    Scales of horseshoes are none of them: what the data see of these is their coefficients.
    """
    layout = density.layout
    typical = np.arange(layout.sizes[0])
    shrunk = len(layout.plan.shrunk) + 1 if layout.plan.shrunk else 0
    later = np.arange(layout.sizes[0], layout.population)
    later = later[(later < layout.ties.start - shrunk) | (later >= layout.ties.start)]
    f = density.predictions(x)
    E = np.stack([_slope(density, x, np.array([k])) for k in typical], axis=1)
    F = np.column_stack([np.zeros((len(f), 0)), *(_slope(density, x, row[row >= 0]) for row in layout.at)])
    E, F = (a / _unit(layout, density, f)[:, None] for a in (E, F))
    sides = [[_spread(layout, density, x + s * STEP * np.eye(len(x))[k], f) for s in _OFFSETS] for k in later]
    here = _spread(layout, density, x, f)
    back = np.linalg.inv(here.root)
    told = _counted(density, f)
    parts = []
    for i in range(layout.subjects):
        rows = np.flatnonzero(told & (density.subject == i))
        if len(rows):
            own = F[rows] @ back
            made = np.stack([s.of(own, rows) for many in sides for s in many]).reshape(len(later), 4, len(rows), -1)
            dV = np.einsum("s,kspq->kpq", np.array(_WEIGHTS), made) / (12.0 * STEP)
            parts.append(Part(E=E[rows], V=here.of(own, rows), dV=dV))
    return information(parts), np.concatenate([typical, later])


def _counted(density: Density, f: F64) -> NDArray[np.bool_]:
    """Rows that were measured."""
    kind = density.arrays[_place("kind")]
    return np.asarray(((kind == MEASURED) | (kind == MEASURED + TIED)) & np.isfinite(f))


def _place(name: str) -> int:
    from pkpd.bayes.density import PLACE

    return PLACE[name]


def _slope(density: Density, x: F64, places: NDArray[np.int64]) -> F64:
    """Derivative of every prediction by a coordinate that each subject has its own of, or all have one."""
    total = np.zeros(len(density.subject))
    for offset, weight in zip(_OFFSETS, _WEIGHTS, strict=True):
        moved = x.copy()
        moved[places] += offset * STEP
        total += weight * density.predictions(moved)
    return total / (12.0 * STEP)


def _unit(layout: Layout, density: Density, f: F64) -> F64:
    """What predictions are told in: themselves, or (log errors) their logarithm."""
    logs = np.array([f"{o}.log" in layout.plan.error for o in layout.plan.outputs])
    return np.where(logs[density.arrays[_place("output")]], f, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variances:
    """root (D, D) of what is a subject's own; sd (rows,) of the residual errors, their correlations by output, ties."""

    root: F64
    sd: F64
    correlation: F64
    output: NDArray[np.int64]
    group: NDArray[np.int64]

    def of(self, F: F64, rows: NDArray[np.int64]) -> F64:
        """V of some rows, F (m, D) by values on the parameters' scales."""
        spread = F @ self.root
        o, g = self.output[rows], self.group[rows]
        tied = (g[:, None] == g[None, :]) & (g[:, None] >= 0)
        noise = np.where(tied, self.correlation[o[:, None], o[None, :]], 0.0)
        np.fill_diagonal(noise, 1.0)
        return np.asarray(spread @ spread.T + noise * self.sd[rows][:, None] * self.sd[rows][None, :])


def _spread(layout: Layout, density: Density, x: F64, f: F64) -> _Variances:
    """All variances at the population quantities of x."""
    plan, named = layout.plan, layout.population_named(x)
    output, ties = density.arrays[_place("output")], density.arrays[_place("ties")]
    sds = np.zeros((len(plan.outputs), 3))
    for (name, _), value in zip(plan.error.items(), np.exp(x[layout.errors]), strict=True):
        made, _, kind = name.partition(".")
        sds[plan.outputs.index(made), ("additive", "proportional", "log").index(kind)] = value
    a, b, log = sds[output].T
    correlation, group = np.eye(len(plan.outputs)), np.full(len(output), -1, np.int64)
    for block, _ in plan.sigma:
        for one in block:
            for other in block:
                label = residual_label(one, other)
                if label in named:
                    i, j = plan.outputs.index(one), plan.outputs.index(other)
                    correlation[i, j] = correlation[j, i] = float(named[label])
    for k, tie in enumerate(ties):
        group[tie[tie >= 0]] = k
    sd = np.where(log > 0.0, log, np.sqrt(a**2 + (b * f) ** 2))
    return _Variances(root=layout.roots(named), sd=sd, correlation=correlation, output=output, group=group)


def point(layout: Layout, x: F64, own: Mapping[str, F64]) -> F64:
    """The vector of a density without a frame at posterior means; x (..., size): draws of the law, own: its standard
    normal effects by name, (..., n) each.
    """
    plan, made = layout.plan, np.zeros(layout.size)
    made[: layout.population] = x.reshape(-1, x.shape[-1])[:, : layout.population].mean(axis=0)
    names = [*(f"z_{n}" for n in plan.spread), *(f"z_{between(n)}" for n in plan.between)]
    names += ["z_missing"] if layout.absent else []
    means = [np.reshape(own[n], (-1, np.shape(own[n])[-1])).mean(axis=0) for n in names]
    made[layout.population :] = np.concatenate([*means, np.zeros(0)])
    return made


def expected(density: Density, x: F64, told: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What the report says, as plain data; None where the law has none (Student t errors, no measured row).

    density: without a frame; x (size,): posterior mean of its vector, effects as standard normals; told: name, mean and
    sd of the posterior of each quantity. `least`: eigenvalue and vector of the information scaled to 1 by quantity, in
    which 1 is what a quantity would have if the others were known.
    """
    plan = density.layout.plan
    if any(plan.model.outputs[o].error.t is not None for o in plan.outputs):
        return None
    with np.errstate(all="ignore"):
        try:
            M, places = matrix_at(density, x)
        except (np.linalg.LinAlgError, IndexError):
            return None
    scale = np.sqrt(np.diag(M))
    if not np.isfinite(M).all() or not (scale > 0.0).all():
        return None
    values, vectors = np.linalg.eigh(M / np.outer(scale, scale))
    covariance = (vectors / np.maximum(values, NOTHING)) @ vectors.T / np.outer(scale, scale)
    rows = [_row(density.layout, x, p, (covariance, places)) for p in told]
    names = [_name(density.layout, int(k)) for k in places]
    direction = dict(zip(names, vectors[:, 0].tolist(), strict=True))
    moves = dict(zip(names, (vectors[:, 0] / scale).tolist(), strict=True))
    found = {
        "quantities": rows, "condition": float(values[-1] / max(values[0], NOTHING)), "eigenvalue": float(values[0]),
        "direction": direction, "moves": moves, "left_out": int((~_counted(density, density.predictions(x))).sum()),
    }  # fmt: skip
    return found | {"sentence": sentence(found)}


def _row(layout: Layout, x: F64, told: Mapping[str, Any], at: tuple[F64, NDArray[np.int64]]) -> dict[str, Any]:
    """Expected standard error of one quantity, by the delta method, beside its posterior sd; RSE in per cent."""
    covariance, places = at
    points = np.stack([x + s * 1e-4 * np.eye(len(x))[k] for k in places for s in (1.0, -1.0)])
    value = layout.named(points)[told["name"]].reshape(-1, 2)
    slope = (value[:, 0] - value[:, 1]) / 2e-4
    se, name = float(np.sqrt(slope @ covariance @ slope)), str(told["name"])
    relative = _relative(name, float(told["mean"]))
    return {
        "name": name, "se": se, "posterior_sd": float(told["sd"]), "rse": se * relative,
        "posterior_rse": float(told["sd"]) * relative,
    }  # fmt: skip


def _relative(name: str, mean: float) -> float:
    """From a standard error on the sampled scale to per cent of the value; NaN for correlations."""
    if "corr_" in name:
        return float("nan")
    if name.startswith("log_"):
        return 100.0
    if name.startswith("logit_"):
        return 100.0 / (1.0 + float(np.exp(mean)))
    return 100.0 / abs(mean) if mean != 0.0 else float("nan")


def _name(layout: Layout, place: int) -> str:
    """What the reader calls a coordinate: of logs of sds the sd, of partial correlations the pair's."""
    plan = layout.plan
    names = [typical_label(plan.model, n) for n in plan.typical] + [spread_label(n) for n in plan.spread]
    names += [correlation_label(b[j], b[i]) for b, _, i, j in layout.block_pairs]
    names += [error_label(n) for n in plan.error] + [spread_label(between(n)) for n in plan.between]
    if place < len(names):
        return names[place]
    b, _, i, j = layout.sigma_pairs[place - layout.ties.start]
    return residual_label(b[j], b[i])


def sentence(found: Mapping[str, Any]) -> str:
    """What of the quantities the data tell least apart.

    >>> told = {"eigenvalue": 0.01, "condition": 180.0, "moves": {"log_V1": 1.0, "log_Q": -1.0}, "direction":
    ...         {"log_V1": 0.7, "log_Q": -0.7}}
    >>> sentence(told)
    'The data tell V1*Q but hardly V1 and Q apart (condition number 180).'
    """
    condition = f"condition number {found['condition']:.3g}"
    if found["eigenvalue"] >= NEARLY_ONE:
        return f"The data tell all quantities apart ({condition})."
    loads = sorted(found["direction"].items(), key=lambda item: -abs(item[1]))
    lead = [name for name, load in found["direction"].items() if abs(load) >= 0.5 * abs(loads[0][1])]
    if len(lead) == 2 and all(name.startswith("log_") for name in lead):
        kept, names = _kept(lead, found["moves"]), " and ".join(map(_plain, lead))
        return f"The data tell {kept} but hardly {names} apart ({condition})."
    if len(lead) == 1:
        others = " and ".join(_plain(name) for name, _ in loads[1:3])
        return f"The data hardly tell {_plain(lead[0])} from {others} ({condition})."
    terms = " ".join(f"{'-' if load < 0 else '+'} {abs(load):.2f} {name}" for name, load in loads if name in lead)
    listed = ", ".join(_plain(name) for name in lead[:-1]) + f" and {_plain(lead[-1])}"
    return f"The data hardly tell {listed} apart: least known is {terms.removeprefix('+ ')} ({condition})."


def _kept(lead: Sequence[str], moves: Mapping[str, float]) -> str:
    """The product of two quantities that stays where they move along the least known direction."""
    first, second = _plain(lead[0]), _plain(lead[1])
    power = -moves[lead[0]] / moves[lead[1]]  # of the second, where that of the first is 1
    shown = "" if 0.8 <= abs(power) <= 1.25 else f"^{abs(power):.2g}"
    return f"{first}{'*' if power > 0.0 else '/'}{second}{shown}"


def _plain(name: str) -> str:
    """`log_V1` as V1."""
    return name.removeprefix("log_").removesuffix("_above") if name.startswith("log_") else name
