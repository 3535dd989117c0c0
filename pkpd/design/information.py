"""Fisher information of a population design: expected standard errors before anybody is enrolled.

First-order approximation of the mixed-effects model (Bazzoli, Retout & Mentre, Comput Methods Programs Biomed
2010;98:55-65):

    y ~ N(E, V),   E = f(b, 0),   V = F Omega F' + Sigma(f),   F = df/d(eta) at eta = 0
    M = E_b' V^-1 E_b + 1/2 tr(V^-1 V_a V^-1 V_b)

With `full=False` V does not depend on the typical values, so that M falls into a block of theirs and one of the
variances; that form predicts empirical errors better than the full one (Nyberg et al., Br J Clin Pharmacol
2015;79:6-17). Derivatives of f are sensitivities, not differences; those of V along a typical value are differences of
sensitivities (fourth order).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.build import compiled
from pkpd.engine.sensitivity import sensitivities
from pkpd.ground.errors import InputError, RunFailed
from pkpd.ground.text import nearest
from pkpd.model.regimen import Events, Regimen, Schedule
from pkpd.model.spec import Model
from pkpd.model.together import blocks
from pkpd.model.variability import PopulationDraws, individual, point
from pkpd.residual import CombinedError, error_of, sd

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Arm", "Information", "Pieces", "Population", "fisher", "information", "names_of", "pieces", "population_of",
    "shrinkage", "used",
]  # fmt: skip

F64 = NDArray[np.float64]
STEP = 1e-3
_OFFSETS = np.array([-2.0, -1.0, 1.0, 2.0]) * STEP
_WEIGHTS = np.array([1.0, -8.0, 8.0, -1.0]) / (12.0 * STEP)
_TERMS = ("additive", "proportional", "power", "log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Subjects that are treated and sampled alike.

    times: output -> sampling times [h]; covariates: values of those the model uses (its references by default).
    """

    subjects: float
    regimen: Regimen | Schedule
    times: Mapping[str, Sequence[float]]
    covariates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Information:
    """names, values and matrix (p, p) of a design; standard deviations are parameters, not variances.

    typical values by name; omega_NAME: standard deviation of a random effect; corr_A_B; OUTPUT.additive and so on.
    """

    names: tuple[str, ...]
    values: F64
    matrix: F64

    @property
    def covariance(self) -> F64:
        """Expected covariance of the estimates. RunFailed where the design cannot tell the parameters apart."""
        scale = np.where(self.values != 0.0, np.abs(self.values), 1.0)
        relative = self.matrix * scale * scale[:, None]
        if not np.isfinite(relative).all() or np.linalg.cond(relative) > 1e14:
            weak = self.names[int(np.argmin(np.diag(relative)))]
            raise RunFailed(
                f"the design carries no information on every parameter (least on {weak}): fix it, or sample more"
            )
        return np.asarray(np.linalg.inv(relative) * scale * scale[:, None])

    @property
    def se(self) -> F64:
        """Expected standard errors."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))

    @property
    def rse(self) -> F64:
        """Expected relative standard errors, per cent."""
        return np.asarray(100.0 * self.se / np.abs(self.values))

    @property
    def criterion(self) -> float:
        """det(M)^(1/p): D-optimal designs have the largest."""
        sign, logdet = np.linalg.slogdet(self.matrix)
        return float(np.exp(logdet / len(self.names))) if sign > 0 else 0.0

    def table(self) -> pd.DataFrame:
        """PARAMETER, VALUE, SE, RSE (per cent)."""
        import pandas as pd

        return pd.DataFrame({"PARAMETER": self.names, "VALUE": self.values, "SE": self.se, "RSE": self.rse})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """What the information of any subset of samples is made of, for one subject.

    rows: (output, time) of each sample (m); E (m, B): derivatives of the mean; V (m, m); dV (L, m, m): along the
    variances; moved (B, m, m): along the typical values, or None.
    """

    rows: tuple[tuple[str, float], ...]
    E: F64
    V: F64
    dV: F64
    moved: F64 | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """The model's parameters as a vector, and which of them are estimated."""

    model: Model
    draws: PopulationDraws
    estimated: tuple[int, ...]
    omegas: tuple[tuple[int, int], ...]
    errors: tuple[str, ...]


def information(
    model: Model, arms: Sequence[Arm], *, fixed: Sequence[str] = (), full: bool = False, rtol: float = 1e-8
) -> Information:
    """Information of all arms together.

    fixed: names of parameters, random effects (`omega_CL`) or residual errors (`CP.additive`) that are known.
    full: with the dependence of V on the typical values. A parameter no output depends on is left out.
    Errors: InputError for unknown names, residual laws other than normal and log-normal, effects between occasions.
    """
    outputs = tuple(dict.fromkeys(name for arm in arms for name in arm.times))
    population = population_of(model, outputs, fixed)
    parts = [pieces(population, arm, full=full, rtol=rtol) for arm in arms]
    total = sum(arm.subjects * fisher(part, range(len(part.rows))) for arm, part in zip(arms, parts, strict=True))
    names, values = names_of(population)
    return used(Information(names=names, values=values, matrix=np.asarray(total)), len(population.estimated))


def used(found: Information, typical: int) -> Information:
    """Without typical values that nothing depends on."""
    keep = np.array([k >= typical or found.matrix[k, k] > 0.0 for k in range(len(found.names))])
    names = tuple(name for name, kept in zip(found.names, keep, strict=True) if kept)
    return Information(names=names, values=found.values[keep], matrix=found.matrix[np.ix_(keep, keep)])


def names_of(population: Population) -> tuple[tuple[str, ...], F64]:
    """Names and values of what is estimated: typical values, random effects, residual errors."""
    draws, etas = population.draws, population.draws.eta_names
    omega = draws.omega[0]
    sds = np.sqrt(np.diag(omega))
    names = [draws.names[k] for k in population.estimated]
    values = [draws.typical[0, k] for k in population.estimated]
    for i, j in population.omegas:
        names.append(f"omega_{etas[i]}" if i == j else f"corr_{etas[i]}_{etas[j]}")
        values.append(sds[i] if i == j else omega[i, j] / (sds[i] * sds[j]))
    names += population.errors
    values += [draws.error[0, draws.error_names.index(name)] for name in population.errors]
    return tuple(names), np.asarray(values, np.float64)


def population_of(model: Model, outputs: Sequence[str], fixed: Sequence[str]) -> Population:
    if model.occasion_etas:
        raise InputError("a design with effects between occasions cannot be evaluated yet", field="iov")
    for name in outputs:
        if name not in model.outputs:
            raise InputError("no such output", field="times", value=name, remedy=nearest(name, list(model.outputs)))
    _check_independent(model, outputs)
    draws = point(model)
    etas, q = draws.eta_names, len(draws.eta_names)
    pairs = [(i, i) for i in range(q)] + [(i, j) for i in range(q) for j in range(i) if draws.omega[0][i, j] != 0.0]
    errors = [name for name in draws.error_names if name.rpartition(".")[0] in outputs]
    label = {p: f"omega_{etas[p[0]]}" if p[0] == p[1] else f"corr_{etas[p[0]]}_{etas[p[1]]}" for p in pairs}
    known = [*draws.names, *label.values(), *errors]
    for name in fixed:
        if name not in known:
            raise InputError("no such parameter", field="fixed", value=name, remedy=nearest(name, known))
    return Population(
        model=model, draws=draws, estimated=tuple(k for k, n in enumerate(draws.names) if n not in fixed),
        omegas=tuple(p for p in pairs if label[p] not in fixed), errors=tuple(n for n in errors if n not in fixed),
    )  # fmt: skip


def _check_independent(model: Model, outputs: Sequence[str]) -> None:
    """V has no residual covariance yet: without it the expected errors would be wrong."""
    for members, _ in blocks(model):
        tied = [name for name in members if name in outputs]
        if len(tied) > 1:
            problem = "a design that samples outputs with correlated residual errors cannot be evaluated yet"
            remedy = "leave residual_correlations and sigma out of the model, or sample one of the outputs"
            raise InputError(problem, field="times", value=", ".join(tied), remedy=remedy)


def pieces(population: Population, arm: Arm, *, full: bool, rtol: float) -> Pieces:
    """Mean, variance and their derivatives at every sample of the arm, for one subject."""
    rows = tuple((output, float(t)) for output, times in arm.times.items() for t in times)
    if not rows:
        raise InputError("an arm needs at least one sample", field="times")
    typical = [population.draws.typical[0]]
    if full:
        for k in population.estimated:
            typical += [_scaled(typical[0], k, e) for e in _OFFSETS]
    values, slopes = _predicted(population, arm, rows, (np.stack(typical), rtol))
    at = [
        _Point.of(population, rows, values[r], slopes[r], jacobian=p)
        for r, p in enumerate(_jacobians(population, arm, typical))
    ]
    moved = None
    if full:
        V = np.stack([point_.V for point_ in at[1:]]).reshape(len(population.estimated), 4, len(rows), len(rows))
        scale = np.array([typical[0][k] for k in population.estimated])
        moved = np.einsum("s,bsij->bij", _WEIGHTS, V) / scale[:, None, None]
    dV = np.stack([*at[0].along_omega(population), *at[0].along_errors(population, rows)])
    return Pieces(rows=rows, E=at[0].E, V=at[0].V, dV=dV, moved=moved)


def _scaled(typical: F64, k: int, e: float) -> F64:
    moved = typical.copy()
    moved[k] *= 1.0 + e
    return moved


def _predicted(
    population: Population, arm: Arm, rows: Sequence[tuple[str, float]], at: tuple[F64, float]
) -> tuple[F64, F64]:
    """f (R, m) and df/d(individual parameter) (R, m, P) of the typical subject, for every row of typical values."""
    model, (typical, rtol) = population.model, at
    form = compiled(model)
    times = np.unique([t for _, t in rows])
    n, q = len(typical), len(population.draws.eta_names)
    chol, covariates = np.broadcast_to(_root(population), (n, q, q)), _covariates(model, arm, n)
    parameters = individual(model, typical, np.ascontiguousarray(chol), covariates, z=np.zeros((n, 1, q)))[:, 0]
    schedule = arm.regimen.schedule(model.dose_units) if isinstance(arm.regimen, Regimen) else arm.regimen
    inputs = {name: np.full(n, arm.covariates[name]) for name in form.inputs if name in arm.covariates}
    found = sensitivities(
        form, parameters, Events.shared(schedule, n), times, scale="natural", covariates=inputs, rtol=rtol,
        atol=rtol * 1e-2,
    )  # fmt: skip
    if found.status.any():
        raise RunFailed(f"the typical subject cannot be solved: {found.failures()}")
    place = [found.outputs.index(str(model.outputs[output].is_)) for output, _ in rows]
    column = np.searchsorted(times, [t for _, t in rows])
    return found.values[:, place, column], np.moveaxis(found.gradient, 2, 3)[:, place, column]


def _covariates(model: Model, arm: Arm, n: int) -> dict[str, F64]:
    """Covariates of the arm, at their references where it does not say."""
    known = {name: c.reference for name, c in model.covariates.items() if c.reference is not None}
    return {name: np.full((n, 1), value) for name, value in {**known, **arm.covariates}.items()}


def _root(population: Population) -> F64:
    omega = population.draws.omega[0]
    return np.asarray(np.linalg.cholesky(omega)) if len(omega) else np.zeros((0, 0))


def _jacobians(population: Population, arm: Arm, typical: Sequence[F64]) -> list[tuple[F64, F64]]:
    """d(individual parameters)/d(typical values) (P, B) and /d(eta) (P, q) at eta = 0, for every row."""
    model, root, q = population.model, _root(population), len(population.draws.eta_names)
    found = []
    for row in typical:
        moved = [_scaled(row, k, e) for k in population.estimated for e in _OFFSETS]
        z = np.concatenate([np.zeros((len(moved), q)), *(_OFFSETS[:, None] * np.eye(q)[k] for k in range(q))])
        rows = np.stack([*moved, *[row] * (4 * q)]) if moved or q else np.empty((0, len(row)))
        chol = np.ascontiguousarray(np.broadcast_to(root, (len(rows), q, q)))
        values = individual(model, rows, chol, _covariates(model, arm, len(rows)), z=z[:, None, :])[:, 0]
        split = np.einsum("s,ksp->kp", _WEIGHTS, values.reshape(-1, 4, values.shape[1]))
        beta = split[: len(population.estimated)] / row[list(population.estimated)][:, None]
        eta = np.linalg.solve(root.T, split[len(population.estimated) :]) if q else split[:0]
        found.append((beta.T, eta.T))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """The samples at one row of typical values: prediction f (m), E (m, B), F (m, q), standard deviations, V."""

    f: F64
    E: F64
    F: F64
    V: F64
    errors: dict[str, CombinedError]

    @classmethod
    def of(
        cls,
        population: Population,
        rows: Sequence[tuple[str, float]],
        f: F64,
        slope: F64,
        *,
        jacobian: tuple[F64, F64],
    ) -> _Point:
        errors = {name: _error(population, name) for name, _ in rows}
        logs = np.array([errors[name].is_log for name, _ in rows])
        if (logs & ~(f > 0.0)).any():
            raise InputError("a log-normal error needs positive predictions at every sample", field="times")
        slope = slope / np.where(logs, f, 1.0)[:, None]
        E, F = slope @ jacobian[0], slope @ jacobian[1]
        variance = np.array([float(sd(errors[name], x)) ** 2 for (name, _), x in zip(rows, f, strict=True)])
        V = F @ population.draws.omega[0] @ F.T + np.diag(variance)
        return cls(f=f, E=E, F=F, V=V, errors=errors)

    def along_omega(self, population: Population) -> list[F64]:
        """dV along standard deviations and correlations of the random effects."""
        omega = population.draws.omega[0]
        sds = np.sqrt(np.diag(omega))
        found = []
        for i, j in population.omegas:
            slope = np.zeros_like(omega)
            if i == j:
                slope[i] += omega[i] / sds[i]
                slope[:, i] += omega[:, i] / sds[i]
            else:
                slope[i, j] = slope[j, i] = sds[i] * sds[j]
            found.append(self.F @ slope @ self.F.T)
        return found

    def along_errors(self, population: Population, rows: Sequence[tuple[str, float]]) -> list[F64]:
        """dV along the residual standard deviations: differences of a polynomial of degree two, exact."""
        found = []
        for name in population.errors:
            output, _, term = name.rpartition(".")
            error = self.errors[output]
            value = float(np.asarray(getattr(error, term)).ravel()[0])
            moved: list[dict[str, Any]] = [{term: value * x} for x in (1.0 + STEP, 1.0 - STEP)]
            high, low = (replace(error, **terms) for terms in moved)
            slope = np.array(
                [_variance_slope(high, low, x) if o == output else 0.0 for (o, _), x in zip(rows, self.f, strict=True)]
            )
            found.append(np.diag(slope / (2.0 * STEP * value)))
        return found


def _variance_slope(high: CombinedError, low: CombinedError, f: float) -> float:
    return float(sd(high, f)) ** 2 - float(sd(low, f)) ** 2


def _error(population: Population, output: str) -> CombinedError:
    if output not in {name.rpartition(".")[0] for name in population.draws.error_names}:
        raise InputError("a sampled output needs a residual error", field=f"outputs.{output}.error")
    error = error_of(population.model, population.draws, output)
    if np.isfinite(error.t) or error.precision > 0.0:
        raise InputError(
            "only normal and log-normal residual errors have this information", field=f"outputs.{output}.error"
        )
    terms: dict[str, Any] = {term: np.float64(np.asarray(getattr(error, term)).ravel()[0]) for term in _TERMS}
    return replace(error, **terms)


def fisher(part: Pieces, rows: Sequence[int]) -> F64:
    """Information (p, p) of one subject sampled at the rows."""
    at = np.asarray(rows, np.intp)
    grid = np.ix_(at, at)
    inverse = np.linalg.inv(part.V[grid])
    B, E = part.E.shape[1], part.E[at]
    spread = part.dV[:, grid[0], grid[1]]
    if part.moved is not None:
        spread = np.concatenate([part.moved[:, grid[0], grid[1]], spread])
    turned = inverse @ spread
    matrix = np.zeros((B + len(part.dV),) * 2)
    traces = 0.5 * np.einsum("aij,bji->ab", turned, turned)
    if part.moved is None:
        matrix[B:, B:] = traces
    else:
        matrix += traces
    matrix[:B, :B] += E.T @ inverse @ E
    return np.asarray(0.5 * (matrix + matrix.T))


def shrinkage(model: Model, arm: Arm, *, rtol: float = 1e-8) -> dict[str, float]:
    """Expected shrinkage of each random effect, 0 (own data decide) to 1 (the population does): the individual
    information F' Sigma^-1 F against the prior's Omega^-1 (Combes, Retout, Frey & Mentre, Pharm Res 2013).
    """
    population = population_of(model, tuple(arm.times), ())
    rows = tuple((output, float(t)) for output, times in arm.times.items() for t in times)
    typical = population.draws.typical
    values, slopes = _predicted(population, arm, rows, (typical, rtol))
    at = _Point.of(population, rows, values[0], slopes[0], jacobian=_jacobians(population, arm, list(typical))[0])
    omega = population.draws.omega[0]
    noise = at.V - at.F @ omega @ at.F.T
    posterior = np.linalg.inv(at.F.T @ np.linalg.solve(noise, at.F) + np.linalg.inv(omega))
    share = np.diag(posterior) / np.diag(omega)
    return dict(zip(population.draws.eta_names, share.tolist(), strict=True))
