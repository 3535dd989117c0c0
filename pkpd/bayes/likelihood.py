"""Model text + records -> a plain PyMC model that anyone may extend.

    y_r ~ N(f_r, a^2 + (b f_r)^2)                      every row of the data
    scale(theta_i) = scale(typical) + effects + eta_i,   eta = diag(omega) L z,  z ~ N(0, 1)    (non-centred)
    KA_i = above_i + exp(log_KA_above + eta_i)           absorption is ordered by construction: no flip-flop mode

L is the Cholesky factor of an LKJ correlation matrix (see `hierarchy`). Dimensions: `subject` (ids of the records) and
`row`. Everything a report needs by name: `log_CL`, `log_KA_above`, `log_KA` (derived, at population values),
`omega_CL`, `corr_CL_V`, `CP_additive`, `z_CL` (subject). Rows whose errors are correlated enter by one potential
(`bayes.together`): PyMC's own predictive draws leave them out, `bayes.predictive` has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray

from pkpd.bayes.design import Design
from pkpd.bayes.expressions import graph
from pkpd.bayes.hierarchy import beta_shape, correlation_factor, pairs
from pkpd.bayes.op import concentration
from pkpd.bayes.plan import (
    Plan,
    base_value,
    between,
    correlation_label,
    error_label,
    partial_label,
    spread_label,
    typical_label,
)
from pkpd.kernels.observations import ABOVE, BELOW, BETWEEN, MEASURED, POSITIVE
from pkpd.model.parts import Effect, Parameter

__all__ = ["log_between", "log_phi", "population_model"]

Floats = NDArray[np.float64]


def population_model(plan: Plan, design: Design) -> pm.Model:
    """The hierarchical model of all measured outputs; its law is the one `density` compiles.

    Example: `population_model(plan(model, ["CP", "PCA"]), design(model, records))`, then any PyMC function. Dimension
    of the observations: `row` with one output, else `row_OUTPUT` each.
    """
    coords = {"subject": list(design.ids), **_row_coords(plan, design)}
    coords |= {"occasion": list(design.occasions(plan))} if plan.between else {}
    with pm.Model(coords=coords) as model:
        typical = _typical(plan)
        individual = _individual(plan, design, typical, _etas(plan) | _between(plan))
        mean = _mean(design, individual)
        scales = {
            output: _scale(_observed(plan, design, place, mean), mean) for place, output in enumerate(plan.outputs)
        }
        if plan.sigma:
            from pkpd.bayes.together import tied

            tied(plan, design, mean, scales)
    return model


def _scale(terms: Mapping[str, Any], mean: Any) -> Callable[[NDArray[np.int64]], tuple[Any, bool]]:
    """Rows -> scale of their error, and whether it is on the log scale."""
    return lambda rows: (terms["log"], True) if "log" in terms else (_sd(terms, mean[rows]), False)


def _alone(design: Design) -> NDArray[np.bool_]:
    """Rows that no correlated error ties to others."""
    found = np.ones(design.rows, np.bool_)
    found[design.ties[design.ties >= 0]] = False
    return found


def _row_coords(plan: Plan, design: Design) -> dict[str, Any]:
    if len(plan.outputs) == 1:
        return {"row": np.flatnonzero(design.kind % POSITIVE == MEASURED)}
    seen = (design.kind % POSITIVE == MEASURED) & _alone(design)
    return {f"row_{o}": np.flatnonzero((design.output == k) & seen) for k, o in enumerate(plan.outputs)}


def _observed(plan: Plan, design: Design, place: int, mean: Any) -> dict[str, Any]:
    """The observations of one output: normal with sd sqrt(a^2 + (b f)^2), Student t with that scale, or log-normal;
    what lies beyond a limit by its probability (`kernels.observations`). Returns its residual errors.
    """
    output, whole = plan.outputs[place], (design.output == place) & _alone(design)
    rows = np.flatnonzero(whole & (design.kind % POSITIVE == MEASURED))
    dims = "row" if len(plan.outputs) == 1 else f"row_{output}"
    own = mean if len(rows) == design.rows else mean[rows]
    terms = {
        name.rpartition(".")[2]: pm.HalfNormal(error_label(name), np.float64(p.scale))
        for name, p in plan.error.items() if name.partition(".")[0] == output
    }  # fmt: skip
    freedom = plan.model.outputs[output].error.t
    if not whole.any():
        return terms
    if "log" in terms and freedom is not None:
        t = pm.StudentT.dist(np.float64(freedom), pt.log(own), sigma=terms["log"])
        pm.Potential(output, pm.logp(t, np.log(design.dv[rows])) - np.log(design.dv[rows]), dims=dims)
    elif "log" in terms:
        pm.LogNormal(output, pt.log(own), terms["log"], observed=design.dv[rows], dims=dims)
    elif freedom is not None:
        pm.StudentT(output, np.float64(freedom), own, sigma=_sd(terms, own), observed=design.dv[rows], dims=dims)
    else:
        pm.Normal(output, own, _sd(terms, own), observed=design.dv[rows], dims=dims)
    _beyond(output, design, np.flatnonzero(whole), (mean, terms))
    return terms


def _beyond(output: str, design: Design, rows: NDArray[np.int64], law: tuple[Any, Mapping[str, Any]]) -> None:
    """Log probabilities of values beyond a limit, and of positive values where the law is theirs."""
    mean, terms = law
    logs = "log" in terms
    kind, given = design.kind % POSITIVE, design.kind >= POSITIVE

    def standard(at: NDArray[np.int64], bound: Floats) -> Any:
        m = pt.log(mean[at]) if logs else mean[at]
        return ((np.log(bound) if logs else bound) - m) / (terms["log"] if logs else _sd(terms, mean[at]))

    parts = []
    for what in (BELOW, ABOVE, BETWEEN):
        at = rows[kind[rows] == what]
        if not len(at):
            continue
        z = standard(at, design.dv[at])
        if what == BETWEEN:
            parts.append(log_between(standard(at, design.floor[at]), z))
        else:
            parts.append(log_phi(z if what == BELOW else -z))
    if len(at := rows[given[rows]]):
        parts.append(-log_phi(-standard(at, np.zeros(len(at)))))
    if parts:
        pm.Potential(f"{output}_beyond", sum(x.sum() for x in parts))


def log_phi(z: Any) -> Any:
    """log Phi(z). PyMC's own has sqrt(2.) in single precision (1e-8)."""
    x = pt.abs(z) * np.sqrt(0.5)
    tail = 0.5 * pt.erfcx(x)
    return pt.switch(z > 0.0, pt.log1p(-tail * pt.exp(-x * x)), pt.log(tail) - x * x)


def log_between(a: Any, b: Any) -> Any:
    """log(Phi(b) - Phi(a)) for a < b, in whichever tail keeps its digits."""
    low, high = pt.switch(a + b > 0.0, -b, a), pt.switch(a + b > 0.0, -a, b)
    top = log_phi(high)
    return top + pt.log1mexp(log_phi(low) - top)


def _mean(design: Design, individual: Mapping[str, Any]) -> Any:
    """Predicted value of every row: by the closed form, by modes and nodes, or by the generated solver."""
    structure = design.structure
    if structure is not None:
        ke, volume = graph(structure.elimination, individual), graph(structure.volume, individual)
        ka = 1.0 if structure.absorption is None else graph(structure.absorption, individual)
        ka, cl, v = (_per_subject(x, design) for x in (ka, ke * volume, volume))
        return concentration(ka, cl, v, design.arrays)
    if design.ode is None:
        from pkpd.bayes.family_op import predicted

        values = [_per_subject(graph(e, individual), design) for e in design.family.columns]
        return predicted(pt.stack(values, axis=1), design.family, design.dv)
    from pkpd.bayes.ode_op import prediction

    columns = [_per_subject(individual[name], design) for name in design.ode.wrt]
    return prediction(pt.stack(columns, axis=1), design.ode)


def _typical(plan: Plan) -> dict[str, Any]:
    """Typical values on the parameters' scales, free or fixed; the derived value of a parameter above a floor."""
    found: dict[str, Any] = {}
    shrunk = _shrunk(plan)
    for name in plan.model.parameters:
        prior = plan.typical.get(name)
        label = typical_label(plan.model, name)
        if name in plan.shrunk:
            found[name] = pm.Deterministic(label, shrunk[name])
            continue
        found[name] = (
            pm.Normal(label, np.float64(prior.location), np.float64(prior.scale))
            if prior
            else base_value(plan.model, name)
        )
    natural = _resolved(plan, {name: _unlink(plan.model.parameters[name], x) for name, x in found.items()})
    for name, p in plan.model.parameters.items():
        if p.above is not None and name in plan.typical:
            pm.Deterministic(f"log_{name}", pt.log(natural[name]))
    return found


def _shrunk(plan: Plan) -> dict[str, Any]:
    """Coefficients with a regularised horseshoe, its slab of fixed width."""
    if not plan.shrunk:
        return {}
    tail = next(iter(plan.shrunk.values())).tail
    whole = pm.HalfCauchy("horseshoe", np.float64(tail))
    found = {}
    for name, prior in plan.shrunk.items():
        product = whole * pm.HalfCauchy(f"horseshoe_{name}", np.float64(1.0))
        z = pm.Normal(f"z_{name}", 0.0, 1.0)
        found[name] = np.float64(prior.scale) * z * product / pt.sqrt(1.0 + product**2)
    return found


def _etas(plan: Plan) -> dict[str, Any]:
    """Random effects (subject,) by parameter."""
    z = {name: pm.Normal(f"z_{name}", 0.0, 1.0, dims="subject") for name in plan.spread}
    sd = {name: pm.HalfNormal(spread_label(name), np.float64(prior.scale)) for name, prior in plan.spread.items()}
    eta = {name: sd[name] * z[name] for name in plan.spread}
    for block, shape in plan.blocks:
        for name, row in zip(block, _block_factor(block, shape), strict=True):
            eta[name] = sd[name] * sum(x * z[other] for x, other in zip(row, block, strict=False))
    return eta


def _between(plan: Plan) -> dict[str, Any]:
    """Random effects (occasion,) between occasions, by `NAME.iov`."""
    made = {}
    for name, prior in plan.between.items():
        z = pm.Normal(f"z_{between(name)}", 0.0, 1.0, dims="occasion")
        made[between(name)] = pm.HalfNormal(spread_label(between(name)), np.float64(prior.scale)) * z
    return made


def _covariates(design: Design) -> dict[str, Any]:
    """Covariates (pieces,), the missing ones sampled."""
    absent = design.absent
    if not absent.names:
        return dict(design.covariates)
    z = pm.Normal("z_missing", 0.0, 1.0, shape=len(absent.names))
    raw = absent.law[:, 0] + absent.law[:, 1] * z
    value = pt.switch(absent.law[:, 2] == 1.0, pt.exp(raw), raw)
    found: dict[str, Any] = dict(design.covariates)
    for column, name in enumerate(design.covariates):
        here = absent.at[absent.at[:, 1] == column]
        if len(here):
            found[name] = pt.set_subtensor(pt.as_tensor(np.nan_to_num(found[name]))[here[:, 0]], value[here[:, 2]])
    return found


def _block_factor(block: tuple[str, ...], shape: float) -> list[list[Any]]:
    partial = {}
    for i, j in pairs(len(block)):
        b = np.float64(beta_shape(shape, len(block), j))  # a Python float such as 2.0 would become float32
        partial[i, j] = 2.0 * pm.Beta(partial_label(block[j], block[i]), b, b) - 1.0
    rows = correlation_factor(partial, len(block), pt.sqrt)
    for i, j in pairs(len(block)):
        correlation = sum(a * b for a, b in zip(rows[i], rows[j], strict=False))
        pm.Deterministic(correlation_label(block[j], block[i]), correlation)
    return rows


def _individual(plan: Plan, design: Design, typical: Mapping[str, Any], eta: Mapping[str, Any]) -> dict[str, Any]:
    """Individual parameters in natural units, (pieces,) or one for all."""
    natural = {name: _unlink(plan.model.parameters[name], x) for name, x in typical.items()}
    coefficients = _resolved(plan, natural)
    found: dict[str, Any] = {}
    given, pieces = _covariates(design), design.pieces
    for name, p in plan.model.parameters.items():
        shift, product = _effects(p, plan, given, coefficients)
        own = eta[name][pieces.subject] if name in eta else 0.0
        own = own + eta[between(name)][pieces.slot] if between(name) in eta else own
        found[name] = _unlink(p, typical[name] + shift + own) * product
    return _resolved(plan, found)


def _resolved(plan: Plan, values: Mapping[str, Any]) -> dict[str, Any]:
    """Add the floor to every parameter that is said to lie above one."""
    found = dict(values)
    for name, p in plan.model.parameters.items():
        if p.above is not None:
            found[name] = graph(p.above, found) + found[name]
    return found


def _effects(p: Parameter, plan: Plan, given: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[Any, Any]:
    """(sum on the parameter's scale, product) of the covariate effects of a parameter."""
    shift: Any = 0.0
    product: Any = 1.0
    for covariate, effect in p.effects.items():
        x = given[covariate]
        reference = (
            plan.model.covariates[covariate].reference or 0.0
        )  # checked with the text: power and linear have one
        if effect.kind == "linear":
            shift = shift + _coefficient(effect.coefficient, values) * (x - reference)
        elif effect.kind == "power":
            product = product * (x / reference) ** _coefficient(effect.coefficient, values)
        else:
            product = product * _category(effect, x, values)
    return shift, product


def _category(effect: Effect, x: Any, values: Mapping[str, Any]) -> Any:
    factor: Any = 1.0
    for code, coefficient in effect.categories.items():
        factor = pt.switch(x == code, _coefficient(coefficient, values), factor)
    return factor


def _coefficient(coefficient: float | str | None, values: Mapping[str, Any]) -> Any:
    return values[coefficient] if isinstance(coefficient, str) else coefficient


def _unlink(p: Parameter, value: Any) -> Any:
    if p.scale == "log":
        return pt.exp(value)
    return pt.sigmoid(value) if p.scale == "logit" else value


def _per_subject(value: Any, design: Design) -> Any:
    """A vector over subjects, also where all share one value."""
    return value + np.zeros(len(design.pieces.subject)) if getattr(value, "ndim", 0) == 0 else value


def _sd(terms: Mapping[str, Any], mean: Any) -> Any:
    """sqrt(a^2 + (b f)^2), or the one term there is."""
    if "proportional" not in terms:
        return terms["additive"]
    relative = terms["proportional"] * mean
    return pt.abs(relative) if "additive" not in terms else pt.sqrt(terms["additive"] ** 2 + relative**2)
