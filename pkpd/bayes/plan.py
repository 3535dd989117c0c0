"""What a fit estimates, read off the model text: priors of typical values, random effects, correlations, residual
error.

A typical value has the prior of its text; without one, its published typical value and standard error; without either
it is fixed. A random effect or a residual error needs a prior: nothing is made up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.hierarchy import pairs
from pkpd.bayes.prior import Prior, half_normal, horseshoe, lkj_correlation, normal
from pkpd.ground.errors import InputError
from pkpd.ground.units import factor
from pkpd.model import together
from pkpd.model.equations import evaluate
from pkpd.model.observed import terms_of
from pkpd.model.parts import NORMAL_95, Horseshoe, Parameter, Spread, inside_unit
from pkpd.model.spec import Model
from pkpd.model.support import refuse

__all__ = [
    "Plan", "base_value", "between", "correlation_label", "error_label", "link", "natural", "partial_label", "plan",
    "residual_label", "residual_partial", "spread_label", "typical_label",
]  # fmt: skip

Floats = NDArray[np.float64]
ERROR_KINDS = ("additive", "proportional", "log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Priors by parameter name: `typical` on the parameter's scale, `spread` and `error` half-normal scales.

    blocks: (random effects, LKJ shape) of each correlated block; `outputs` are those the data measure, in the order of
    the model. between: half-normal scales of the random effects between occasions;
    shrunk: horseshoe priors of coefficients, whose `typical` is that of the standard normal behind them; sigma:
    (outputs, LKJ shape) of each block of correlated residual errors.
    """

    model: Model
    outputs: tuple[str, ...]
    typical: dict[str, Prior]
    spread: dict[str, Prior]
    blocks: tuple[tuple[tuple[str, ...], float], ...]
    error: dict[str, Prior]
    between: dict[str, Prior] = field(default_factory=dict)
    shrunk: dict[str, Prior] = field(default_factory=dict)
    sigma: tuple[tuple[tuple[str, ...], float], ...] = ()

    @property
    def priors(self) -> dict[str, Prior]:
        """Prior of every quantity the diagnostics report, by its name in the PyMC model."""
        found = {typical_label(self.model, name): p for name, p in self.typical.items()}
        found |= {typical_label(self.model, name): p for name, p in self.shrunk.items()}
        found |= {spread_label(name): p for name, p in self.spread.items()}
        for block, shape in self.blocks:
            margin = lkj_correlation(shape, len(block))
            found |= {correlation_label(block[j], block[i]): margin for i, j in pairs(len(block))}
        found |= {error_label(name): p for name, p in self.error.items()}
        for block, shape in self.sigma:
            margin = lkj_correlation(shape, len(block))
            found |= {residual_label(block[j], block[i]): margin for i, j in pairs(len(block))}
        return found | {spread_label(between(name)): p for name, p in self.between.items()}


def plan(model: Model, outputs: str | Iterable[str]) -> Plan:
    """The plan of a fit of one or several outputs.

    Errors: InputError where a random effect or a residual error has no prior.
    """
    refuse(model, "fit", unless=lambda feature, field: _fitted(model, feature, field))
    measured = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    parts = model.parameters
    spread = {name: _spread(name, parts[name].spread, "iiv") for name in model.subject_etas}
    return Plan(
        model=model,
        outputs=measured,
        typical={name: prior for name in model.parameters if (prior := _typical(model, name))},
        spread=spread,
        blocks=_blocks(model),
        error={name: prior for output in measured for name, prior in _error(model, output).items()},
        between={name: _spread(name, parts[name].iov, "iov") for name in model.occasion_etas},
        shrunk=_shrunk(model),
        sigma=_sigma(model, measured),
    )


def _fitted(model: Model, feature: str, field: str) -> bool:
    """Whether a fit runs a feature in this place: shares, lags and scales of doses by expressions, time, covariates in
    the equations, sines.
    """
    if feature == "dose_option":
        return field.rsplit(".", 1)[1] in ("bioavailability", "lag", "scale", "unit")
    return feature in ("clock", "function", "covariate") or (feature == "residual" and _fitted_error(model, field))


def _fitted_error(model: Model, field: str) -> bool:
    """Whether a field is an error that a fit runs: normal or Student t with additive, proportional or log terms."""
    error = model.outputs[field.split(".")[1]].error
    return set(terms_of(error)) <= set(ERROR_KINDS) and error.combine == "variance" and error.beta is None


def typical_label(model: Model, name: str) -> str:
    """`log_CL`, `logit_IMAX`, `PLAC`; `log_KA_above` for the part of KA above its floor."""
    p = model.parameters[name]
    prefix = "" if p.scale == "identity" else f"{p.scale}_"
    return f"{prefix}{name}" + ("_above" if p.above is not None else "")


def spread_label(name: str) -> str:
    """`omega_CL`."""
    return f"omega_{name}"


def between(name: str) -> str:
    """`CL.iov`, as `Model.eta_names` has it."""
    return f"{name}.iov"


def correlation_label(a: str, b: str) -> str:
    """`corr_CL_V`."""
    return f"corr_{a}_{b}"


def error_label(name: str) -> str:
    """`CP_additive` of the error `CP.additive`."""
    return name.replace(".", "_")


def partial_label(a: str, b: str) -> str:
    """`partial_CL_V`: (1 + partial correlation)/2, what is sampled."""
    return f"partial_{a}_{b}"


def residual_label(a: str, b: str) -> str:
    """`residual_corr_CP_PCA`, of the errors of two outputs."""
    return f"residual_corr_{a}_{b}"


def residual_partial(a: str, b: str) -> str:
    """`residual_partial_CP_PCA`: (1 + partial correlation)/2, what is sampled."""
    return f"residual_partial_{a}_{b}"


def natural(p: Parameter, value: Floats) -> Floats:
    """Values on a parameter's scale in natural units."""
    if p.scale == "log":
        return np.asarray(np.exp(value))
    return np.asarray(1.0 / (1.0 + np.exp(-value))) if p.scale == "logit" else value


def link(scale: str, value: float) -> float:
    """A value on a parameter's scale.

    >>> link("logit", 0.5)
    0.0
    """
    if scale == "log":
        return math.log(value)
    return math.log(value / (1.0 - value)) if scale == "logit" else value


def base_value(model: Model, name: str) -> float:
    """The text's typical value on the parameter's scale; of its part above the floor where it has one."""
    p = model.parameters[name]
    if p.above is None:
        return link(p.scale, p.value)
    return math.log(p.value - float(evaluate(p.above, {n: q.value for n, q in model.parameters.items()})))


def _typical(model: Model, name: str) -> Prior | None:
    p = model.parameters[name]
    unit = factor(p.typical.unit, p.unit)
    if p.scale == "identity" and unit != 1.0 and (p.prior is not None or p.se > 0.0):
        remedy = f"write it in {p.unit}, with se and prior in the same unit"
        raise InputError("an sd on the identity scale needs time in hours", field=f"parameters.{name}", remedy=remedy)
    if isinstance(p.prior, Horseshoe):
        return normal(0.0, 1.0)
    if p.prior is None:
        return normal(base_value(model, name), p.se) if p.se > 0.0 else None
    values = p.prior if isinstance(p.prior, tuple) else (p.prior.median,)
    ends = [link(p.scale, v * unit) for v in values]
    if isinstance(p.prior, tuple):
        return normal(0.5 * (ends[0] + ends[1]), (ends[1] - ends[0]) / (2.0 * NORMAL_95))
    return normal(ends[0], p.prior.sd)


def _shrunk(model: Model) -> dict[str, Prior]:
    found = {n: p.prior for n, p in model.parameters.items() if isinstance(p.prior, Horseshoe)}
    tails = {p.global_ for p in found.values()}
    if len(tails) > 1:
        name = list(found)[-1]
        remedy = "write the same global everywhere"
        raise InputError("all horseshoes share one global scale", field=f"parameters.{name}.prior", remedy=remedy)
    return {n: horseshoe(p.horseshoe, p.global_) for n, p in found.items()}


def _spread(name: str, found: Spread | None, kind: str) -> Prior:
    if found is None or found.prior is None:
        remedy = f"write {kind}: {{typical: {found.typical if found else 0.3}, prior: 1}}"
        raise InputError("a fitted random effect needs a prior", field=f"parameters.{name}.{kind}", remedy=remedy)
    return half_normal(found.prior)


def _blocks(model: Model) -> tuple[tuple[tuple[str, ...], float], ...]:
    found = [(tuple(name for name in model.eta_names if name in b.block), b.lkj) for b in model.omega]
    return tuple((members, shape) for members, shape in found if len(members) > 1)


def _sigma(model: Model, measured: tuple[str, ...]) -> tuple[tuple[tuple[str, ...], float], ...]:
    """Blocks of correlated residual errors of the outputs that are measured: a part of an LKJ matrix is one too, of a
    shape greater by half of what is left out.
    """
    found = []
    for members, shape in together.blocks(model):
        seen = tuple(name for name in members if name in measured)
        if len(seen) > 1:
            found.append((seen, shape + 0.5 * (len(members) - len(seen))))
            if not model.sigma:
                _complete(model, members)
    if found:
        together.require_normal(model, "fitted")
    return tuple(found)


def _complete(model: Model, members: tuple[str, ...]) -> None:
    """Of three outputs and more all correlations are estimated: the text must mean that."""
    told = sum(a in members for a, _, _ in model.residual_correlations)
    if told != len(members) * (len(members) - 1) // 2:
        problem = "leave some pairs out: a fit estimates all correlations of a block"
        remedy = f"write sigma: {{block: [{', '.join(members)}]}}, or blocks that share no output"
        raise InputError(problem, field="residual_correlations", value=", ".join(members), remedy=remedy)


def _error(model: Model, output: str) -> dict[str, Prior]:
    found = {}
    for kind in ERROR_KINDS:
        term = getattr(model.outputs[output].error, kind)
        if term is None:
            continue
        if term.prior is None:
            field = f"outputs.{output}.error.{kind}"
            remedy = f"write {kind}: {{typical: {term.typical}, prior: {term.typical}}}"
            raise InputError("a fitted residual error needs a prior", field=field, remedy=remedy)
        unit = factor(term.prior.unit, inside_unit(term.typical.unit)) if hasattr(term.prior, "unit") else 1.0
        found[f"{output}.{kind}"] = half_normal(float(term.prior) * unit)
    if not found:
        remedy = "write error: {additive: {typical: 0.3 mg/L, prior: 1 mg/L}}"
        raise InputError("a fitted output needs a residual error", field=f"outputs.{output}.error", remedy=remedy)
    return found
