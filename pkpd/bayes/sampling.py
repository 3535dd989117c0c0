"""The sampler itself: compile, sample, and read draws and diagnostics off its tree. Imports pymc and nutpie."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.design import design, measured_output
from pkpd.bayes.diagnostics import Chains, diagnose, shrinkage
from pkpd.bayes.hierarchy import covariances, pairs
from pkpd.bayes.plan import Plan, base_value, error_label, natural, partial_label, plan, spread_label, typical_label
from pkpd.ground.errors import RunFailed
from pkpd.model.equations import evaluate
from pkpd.model.spec import Model
from pkpd.model.variability import PopulationDraws

if TYPE_CHECKING:
    import xarray as xr

    from pkpd.bayes.fit import Settings
    from pkpd.model.records import Records

__all__ = ["etas", "population_draws", "sampled"]

Floats = NDArray[np.float64]
Stages = Callable[[str], None]


def sampled(
    model: Model, records: Records, *, settings: Settings, seed: int, cores: int, on_stage: Stages
) -> tuple[PopulationDraws, xr.DataTree, dict[str, Any], dict[str, float]]:
    """Population draws, the full tree, diagnostics as plain data, seconds by stage."""
    seconds: dict[str, float] = {}
    how = plan(model, measured_output(model, records))
    data = design(model, records)
    with _stage("import", seconds, on_stage), _quiet():
        import nutpie

        from pkpd.bayes.likelihood import population_model
    with _stage("compile", seconds, on_stage), _quiet():
        compiled = nutpie.compile_pymc_model(population_model(how, data), backend="numba")
    with _stage("sample", seconds, on_stage), _quiet():
        tree = _drawn(nutpie, compiled, settings, seed=seed, cores=cores)
    with _stage("diagnose", seconds, on_stage), _quiet():
        draws = population_draws(how, tree["posterior"])
        found = diagnose(_chains(how, tree), how.priors, _shrinkage(how, tree["posterior"]))
    return draws, tree, found.to_dict(), seconds


def _drawn(nutpie: Any, compiled: Any, settings: Settings, *, seed: int, cores: int) -> xr.DataTree:
    """One call, every choice named. A start that fails for every jitter is a RunFailed."""
    try:
        return nutpie.sample(
            compiled,
            draws=settings.draws,
            tune=settings.tune,
            chains=settings.chains,
            cores=min(cores, settings.chains),
            seed=seed,
            target_accept=settings.target_accept,
            sampler="nuts",
            adaptation="diag",
            save_warmup=False,
            progress_bar=False,
        )
    except RuntimeError as error:
        advice = "check units and times of the data, and that the priors cover them"
        raise RunFailed(f"the sampler could not run: {str(error).splitlines()[0]}; {advice}") from error


def population_draws(how: Plan, posterior: Any) -> PopulationDraws:
    """Draws of the population parameters, chain after chain, in the model's order and natural units."""
    typical = _typical(how, posterior)
    size = _size(how, posterior)
    sd = (
        np.stack([_flat(posterior, spread_label(name)) for name in how.spread], axis=1)
        if how.spread
        else np.zeros((size, 0))
    )
    error = np.stack([_flat(posterior, error_label(name)) for name in how.error], axis=1)
    return PopulationDraws(
        names=tuple(how.model.parameters),
        typical=np.stack([typical[name] for name in how.model.parameters], axis=1),
        eta_names=tuple(how.spread),
        omega=covariances(sd, _partial(how, posterior))[1],
        error_names=tuple(how.error),
        error=error,
    )


def etas(how: Plan, posterior: Any) -> Floats:
    """Random effects of the fitted subjects, (draws, subjects, effects) on the parameters' scales."""
    sd = np.stack([_flat(posterior, spread_label(name)) for name in how.spread], axis=1)
    factor = covariances(sd, _partial(how, posterior))[0]
    z = np.stack([_flat(posterior, f"z_{name}") for name in how.spread], axis=2)
    out = np.zeros_like(z)
    for j in range(z.shape[2]):
        out += factor[:, None, :, j] * z[:, :, j, None]
    return out


def _flat(posterior: Any, name: str) -> Floats:
    """(draws, ...) of a variable, chain after chain."""
    values = np.asarray(posterior[name].values, np.float64)
    return values.reshape(-1, *values.shape[2:])


def _typical(how: Plan, posterior: Any) -> dict[str, Floats]:
    """Natural values (draws,) by parameter; the floor added where there is one."""
    size = _size(how, posterior)
    found = {}
    for name, p in how.model.parameters.items():
        free = name in how.typical
        value = _flat(posterior, typical_label(how.model, name)) if free else np.full(size, base_value(how.model, name))
        found[name] = natural(p, value)
    for name, p in how.model.parameters.items():
        if p.above is not None:
            found[name] = found[name] + np.asarray(evaluate(p.above, found))
    return found


def _size(how: Plan, posterior: Any) -> int:
    """Draws of all chains."""
    return int(np.prod(posterior[error_label(next(iter(how.error)))].shape))


def _partial(how: Plan, posterior: Any) -> dict[tuple[int, int], Floats]:
    """Partial correlations by position among the random effects; 0 outside blocks."""
    order, size = list(how.spread), _size(how, posterior)
    found = {pair: np.zeros(size) for pair in pairs(len(order))}
    for block, _ in how.blocks:
        for i, j in pairs(len(block)):
            place = order.index(block[i]), order.index(block[j])
            found[place] = 2.0 * _flat(posterior, partial_label(block[j], block[i])) - 1.0
    return found


def _chains(how: Plan, tree: Any) -> Chains:
    """Population quantities (chain, draw): those with a prior, and the derived log of each parameter above a floor."""
    posterior, stats = tree["posterior"], tree["sample_stats"]
    derived = [f"log_{n}" for n, p in how.model.parameters.items() if p.above is not None and n in how.typical]
    return Chains(
        values={name: np.asarray(posterior[name].values, np.float64) for name in (*how.priors, *derived)},
        divergences=int(stats["diverging"].values.sum()),
        energy=np.asarray(stats["energy"].values, np.float64),
    )


def _shrinkage(how: Plan, posterior: Any) -> dict[str, float]:
    eta = etas(how, posterior) if how.spread else np.zeros((1, 0, 0))
    return {name: shrinkage(eta[:, :, k], _flat(posterior, spread_label(name))) for k, name in enumerate(how.spread)}


@contextmanager
def _stage(name: str, seconds: dict[str, float], on_stage: Stages) -> Iterator[None]:
    on_stage(name)
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


@contextmanager
def _quiet() -> Iterator[None]:
    """Third-party warnings about BLAS, caches and migrations are not the user's business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
