"""From population to individual parameters, and the population's own uncertainty.

scale(value_i) = scale(typical) + effects + eta_i, eta = L z with L the Cholesky factor of omega, between occasions plus
kappa. Sums run in a fixed
order and exp, log, powers come from our kernels: a subject's bits depend on nobody else in the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals, slots
from pkpd.model import equations as eq
from pkpd.model.parts import Effect, Parameter, Shared, Spread
from pkpd.model.spec import Model
from pkpd.model.timeline import Timeline

__all__ = ["PopulationDraws", "along", "covariance", "individual", "occasional", "point", "published", "random_effects"]

Floats = NDArray[np.float64]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationDraws:
    """D draws of the population parameters.

    names (P) and typical (D, P): typical values in inside units, at the covariates' references; eta_names (q) and omega
    (D, q, q): covariance of the random effects on the parameters' scales, `NAME.iov` between occasions; error_names (E)
    and error (D, E): residual standard deviations, `<OUTPUT>.additive` in the output's unit, the others without unit;
    after them, where a fit estimated any, correlations of the residual errors of two outputs, `A~B`.
    """

    names: tuple[str, ...]
    typical: Floats
    eta_names: tuple[str, ...]
    omega: Floats
    error_names: tuple[str, ...]
    error: Floats

    def __post_init__(self) -> None:
        draws, q = len(self.typical), len(self.eta_names)
        shapes = {
            "typical": (draws, len(self.names)),
            "omega": (draws, q, q),
            "error": (draws, len(self.error_names)),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, not {shape}")

    def __len__(self) -> int:
        return len(self.typical)


def covariance(model: Model) -> Floats:
    """Covariance of the random effects by the text: sd^2 on the diagonal, r s_a s_b off it; (q, q).

    Effects between occasions come after those between subjects and are correlated with nothing.
    """
    names = model.eta_names
    spread = np.asarray(
        [_sd(model.parameters[n].spread) for n in model.subject_etas]
        + [_sd(model.parameters[n].iov) for n in model.occasion_etas]
    )
    omega = np.diag(spread * spread) if names else np.zeros((0, 0))
    for a, b, r in model.correlations:
        i, j = names.index(a), names.index(b)
        omega[i, j] = omega[j, i] = r * spread[i] * spread[j]
    return omega


def _sd(spread: Spread | None) -> float:
    return spread.typical if spread is not None else 0.0


def point(model: Model) -> PopulationDraws:
    """The typical values of the text as one draw without uncertainty."""
    return _draws(model, np.asarray([[p.value for p in model.parameters.values()]]))


def published(model: Model, draws: int, seed: int) -> PopulationDraws:
    """`draws` draws of the typical values: normal with `se` on the parameter's scale, by address (subject = draw).

    A parameter with `above` varies in its positive part: log(value - above) is the normal variable. Omega and residual
    errors are those of the text, the same in every draw.
    """
    if draws < 1:
        raise InputError("must be at least 1", field="draws", value=draws)
    values: dict[str, Floats] = {}
    order = list(model.parameters)
    for name in _floors_first(model):
        p = model.parameters[name]
        z = normals(seed, Purpose.PARAMETER_UNCERTAINTY, subject=np.arange(draws), replicate=0, slot=slots([name]))
        values[name] = _drawn(model, p, p.se * z, values)
    return _draws(model, np.stack([values[name] for name in order], axis=1))


def _drawn(model: Model, p: Parameter, shift: Floats, values: Mapping[str, Floats]) -> Floats:
    """The typical value moved by `shift` on its scale, (D,)."""
    if p.above is None:
        return np.full(len(shift), p.value) if p.se == 0 else _moved(p.link, np.asarray([p.value]), shift)
    from pkpd.kernels.elementary import exp_array

    rest = p.value - float(eq.evaluate(p.above, {n: q.value for n, q in model.parameters.items()}))
    return np.asarray(eq.evaluate(p.above, values)) + rest * exp_array(shift)


def _draws(model: Model, typical: Floats) -> PopulationDraws:
    omega, errors = covariance(model), np.asarray(model.error_values, np.float64)
    return PopulationDraws(
        names=tuple(model.parameters),
        typical=np.ascontiguousarray(typical),
        eta_names=model.eta_names,
        omega=np.repeat(omega[None], len(typical), axis=0),
        error_names=model.error_names,
        error=np.repeat(errors[None], len(typical), axis=0),
    )


def _moved(scale: str, value: Floats, shift: Floats) -> Floats:
    """`value` moved by `shift` on a scale; shapes broadcast."""
    from pkpd.kernels.elementary import exp_array, expit_array, log_array

    if scale == "log":
        return np.asarray(value * exp_array(shift))
    if scale == "logit":
        return expit_array(log_array(value / (1.0 - value)) + shift)
    return np.asarray(value + shift)


def individual(
    model: Model, typical: Floats, omega_chol: Floats, covariates: Mapping[str, Floats], *, z: Floats
) -> Floats:
    """Parameters of every subject, (R, N, P) in the order of `model.parameters`.

    typical (R, P), omega_chol (R, q, q) lower, covariates {name: (R, N)} with the classes of a mixture among them, z
    (R, N, q) standard normals in the order of `model.eta_names`: with iov, of one occasion (`occasional` for several).
    Errors: InputError for a covariate that is absent, missing, out of range or an unknown category.
    """
    for name in sorted(_needed(model)):
        _check_covariate(model, name, covariates)
    column = {name: i for i, name in enumerate(model.parameters)}
    base = {name: np.ascontiguousarray(typical[:, i, None]) for name, i in column.items()}
    eta = _etas(model, omega_chol, z)
    sd = _sds(model, omega_chol)
    batch = _Batch(model=model, base=base, eta=eta, sd=sd, covariates=covariates, shape=z.shape[:2])
    out = np.empty((*batch.shape, len(column)))
    made: dict[str, Floats] = {}
    for name in _floors_first(model):
        made[name] = batch.above(name, made) if model.parameters[name].above is not None else batch.plain(name)
        out[:, :, column[name]] = made[name]
    return out


def random_effects(
    model: Model, seed: int, *, subject: NDArray[Any], replicate: NDArray[Any], occasions: int | NDArray[np.int64] = 1
) -> Floats:
    """Standard normals of R x N subjects on each occasion, (R, N, K, q) in the order of `model.eta_names`.

    occasions: how many (then they are 0 ... K - 1), or their numbers (R, N, K). Between subjects: `Purpose.IIV`, slot
    of the effect's name, the same on every occasion; between occasions: `Purpose.IOV`, index = occasion, slot of the
    effect's name.
    """
    who = {"subject": subject[None, :, None], "replicate": replicate[:, None, None]}
    own = normals(seed, Purpose.IIV, **who, slot=slots(model.subject_etas))
    who = {name: address[..., None] for name, address in who.items()}
    numbers = np.arange(occasions) if isinstance(occasions, int) else np.asarray(occasions)
    when, which = numbers[..., None], slots(model.occasion_etas)
    between = normals(seed, Purpose.IOV, **who, index=when, slot=which)
    shape = between.shape[:3]
    return np.concatenate([np.broadcast_to(own[:, :, None, :], (*shape, own.shape[2])), between], axis=3)


def occasional(
    model: Model, typical: Floats, omega_chol: Floats, covariates: Mapping[str, Floats], *, z: Floats
) -> Floats:
    """Parameters on every occasion, (R, N, O, P).

    As `individual`, with z (R, N, O, q) and covariates (R, N) or (R, N, O).
    """
    shape = z.shape[:3]
    flat = (shape[0], shape[1] * shape[2])
    wide = {
        name: np.broadcast_to(x if np.ndim(x) == 3 else np.asarray(x)[:, :, None], shape).reshape(flat)
        for name, x in covariates.items()
    }
    found = individual(model, typical, omega_chol, wide, z=z.reshape(*flat, z.shape[3]))
    return found.reshape(*shape, found.shape[2])


def along(
    model: Model,
    draws: tuple[Floats, Floats],
    line: Timeline,
    *,
    seed: int,
    subject: NDArray[Any],
    replicate: NDArray[Any],
) -> Floats:
    """Individual parameters under every row of a timeline, (m, P): covariates and occasion as they are from it on.

    draws: typical values (R, P) and lower Cholesky factors (R, q, q); line: of R x N subjects, replicate by replicate,
    classes of a mixture among its values; subject (N,), replicate (R,): addresses of the random effects.
    """
    rows = line.dense().reshape(len(replicate), len(subject), -1)
    z = random_effects(model, seed, subject=subject, replicate=replicate, occasions=line.occasion[rows])
    covariates = {name: values[rows] for name, values in line.values.items()}
    found = occasional(model, *draws, covariates, z=np.ascontiguousarray(z))
    whole = np.empty((len(line.time), found.shape[3]))
    whole[rows.reshape(-1)] = found.reshape(-1, found.shape[3])
    return whole


def _floors_first(model: Model) -> list[str]:
    """Parameters with `above` after the others."""
    return sorted(model.parameters, key=lambda name: model.parameters[name].above is not None)


def _needed(model: Model) -> set[str]:
    """The covariates that parameters or equations use."""
    named = {name for line in model.equations for name in eq.names(line.expression)}
    return {name for p in model.parameters.values() for name in p.effects} | (named & set(model.inputs))


def _etas(model: Model, root: Floats, z: Floats) -> dict[str, Floats]:
    """eta_i = sum over j <= i of L_ij z_j, each (R, N), summed in the order of j (no BLAS)."""
    made: dict[str, Floats] = {}
    for i, name in enumerate(model.eta_names):
        total = root[:, i, 0, None] * z[:, :, 0]
        for j in range(1, i + 1):
            total = total + root[:, i, j, None] * z[:, :, j]
        made[name] = total
    return made


def _sds(model: Model, root: Floats) -> dict[str, Floats]:
    """Standard deviation of each random effect, (R, 1), from the rows of the Cholesky factor."""
    made: dict[str, Floats] = {}
    for i, name in enumerate(model.eta_names):
        total = root[:, i, 0] * root[:, i, 0]
        for j in range(1, i + 1):
            total = total + root[:, i, j] * root[:, i, j]
        made[name] = np.sqrt(total)[:, None]
    return made


def _shaped(p: Parameter, eta: Floats, sd: Floats) -> Floats:
    """A transformed eta: Box-Cox (exp(eta)^l - 1)/l; t: sd times the Student quantile at the normal's probability."""
    if p.shape is None:
        return eta
    from pkpd.kernels.elementary import exp_array

    kind, number = p.shape
    if kind == "boxcox":
        return np.asarray((exp_array(number * eta) - 1.0) / number)
    from scipy import special

    z = eta / np.where(sd > 0.0, sd, 1.0)
    tail = special.stdtrit(number, special.ndtr(-np.abs(z)))
    return np.asarray(np.where(sd > 0.0, -np.sign(z) * tail * sd, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """What a call of `individual` shares between parameters: base {name: (R, 1)}, eta and covariates {name: (R, N)};
    sd {name: (R, 1)} of the etas.
    """

    model: Model
    base: Mapping[str, Floats]
    eta: Mapping[str, Floats]
    sd: Mapping[str, Floats]
    covariates: Mapping[str, Floats]
    shape: Shape

    def random(self, name: str) -> Floats | None:
        """The random part on the parameter's scale, (R, N); None where subjects do not differ by chance."""
        p = self.model.parameters[name]
        own = p.iiv.eta if isinstance(p.iiv, Shared) else name
        found = self.eta.get(own)
        if found is not None:
            found = found * p.iiv.times if isinstance(p.iiv, Shared) else found
            factor = p.iiv.times if isinstance(p.iiv, Shared) else 1.0
            found = _shaped(p, found, np.abs(factor) * self.sd[own])
        kappa = self.eta.get(f"{name}.iov")
        if kappa is None:
            return found
        return kappa if found is None else found + kappa

    def plain(self, name: str) -> Floats:
        """A parameter on its own scale, (R, N)."""
        p = self.model.parameters[name]
        shift, factor = self.random(name), np.ones(self.shape)
        for covariate, effect in p.effects.items():
            if effect.kind == "linear":
                moved = self._linear(covariate, effect)
                shift = moved if shift is None else shift + moved
            else:
                factor = factor * (self._power if effect.kind == "power" else self._category)(covariate, effect)
        value = self.base[name] if shift is None else _moved(p.link, self.base[name], shift)
        return np.asarray(value * factor)

    def above(self, name: str, made: Mapping[str, Floats]) -> Floats:
        """Own floor plus the population's positive part times exp(eta), (R, N)."""
        from pkpd.kernels.elementary import exp_array

        expr = self.model.parameters[name].above
        assert expr is not None
        rest = self.base[name] - eq.evaluate(expr, self.base)
        if not (rest > 0).all():
            raise InputError(f"the typical value must be greater than {eq.show(expr)} in every draw", field=name)
        shift = self.random(name)
        grown = rest if shift is None else rest * exp_array(shift)
        return np.asarray(eq.evaluate(expr, made) + grown)

    def _coefficient(self, coefficient: float | str | None) -> Floats:
        return self.base[coefficient] if isinstance(coefficient, str) else np.asarray(coefficient, np.float64)

    def _power(self, covariate: str, effect: Effect) -> Floats:
        from pkpd.kernels.elementary import power_array

        reference = self.model.inputs[covariate].reference or np.nan
        return power_array(self.covariates[covariate] / reference, self._coefficient(effect.coefficient))

    def _linear(self, covariate: str, effect: Effect) -> Floats:
        reference = self.model.inputs[covariate].reference
        away = self.covariates[covariate] - (np.nan if reference is None else reference)
        return np.asarray(self._coefficient(effect.coefficient) * away)

    def _category(self, covariate: str, effect: Effect) -> Floats:
        factor = np.ones(self.shape)
        for code, coefficient in effect.categories.items():
            factor = np.where(self.covariates[covariate] == code, self._coefficient(coefficient), factor)
        return factor


def _check_covariate(model: Model, name: str, covariates: Mapping[str, Floats]) -> None:
    """Absent, missing, outside the range the model holds in, or not one of its categories."""
    if name not in covariates:
        remedy = f"give {name}, or take it out of the model"
        raise InputError(f"model {model.name} needs a covariate that is not there", field=name, remedy=remedy)
    values, spec = np.asarray(covariates[name], np.float64), model.inputs[name]
    missing = int(np.isnan(values).sum())
    if missing:
        raise InputError(
            f"is missing for {missing} of {values.size} subjects", field=name, remedy="require it among the criteria"
        )
    if spec.labels and not np.isin(values, list(spec.labels)).all():
        odd = values[~np.isin(values, list(spec.labels))].flat[0]
        raise InputError("is not a category of the model", field=name, value=float(odd))
    low, high = spec.range or (-np.inf, np.inf)
    outside = (values < low) | (values > high)
    if outside.any():
        problem = f"is outside {low:g} to {high:g}, where model {model.name} holds, for {int(outside.sum())} subjects"
        remedy = f"add a criterion {low:g} <= {name} <= {high:g}"
        raise InputError(problem, field=name, value=float(values[outside].flat[0]), remedy=remedy)
    powers = [e for p in model.parameters.values() for n, e in p.effects.items() if n == name and e.kind == "power"]
    if powers and not (values > 0).all():
        raise InputError("must be > 0 for a power effect", field=name, value=float(values.min()))
