"""NUTS for one patient whose posterior neither importance sampling nor tempering reached: the twin's last resort.

The population's draws are summed out (an even selection of them), so that the target is a density of x alone; its
gradient is by central differences, all of them and all draws in one batch of the engine's lanes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose, uniforms
from pkpd.twin.case import Case
from pkpd.twin.target import evaluated, mode

__all__ = ["log_density", "sampled"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MOST_DRAWS, STEP, CHAINS, TUNE = 24, 1e-3, 4, 500


def sampled(case: Case, patient: int, *, seed: int, particles: int) -> tuple[Ints, Floats, float, str]:
    """(draw (S,), x (S, K), bulk ESS of the worst coordinate, what is wrong or "")."""
    import arviz as az

    tree = _run(case, patient, seed, -(-particles // CHAINS))
    chains = np.asarray(tree["posterior"]["x"].values, np.float64)
    rhat = max(float(az.rhat(chains[:, :, k])) for k in range(chains.shape[2]))
    ess = min(float(az.ess(chains[:, :, k])) for k in range(chains.shape[2]))
    x = chains.reshape(-1, chains.shape[2])[:particles]
    said = "" if rhat <= 1.01 else f"NUTS did not converge (R-hat {rhat:.3f})"
    return _draws(case, patient, x, seed), x, ess, said


def _run(case: Case, patient: int, seed: int, draws: int) -> Any:
    import nutpie
    from nutpie.compiled_pyfunc import from_pyfunc

    size = case.coordinates.size
    density = log_density(case, patient)
    top = mode(case, seed=seed)
    root = np.linalg.cholesky(top.covariance[patient])

    def start(chain_seed: Any) -> Floats:
        u = uniforms(seed, Purpose.FIT, subject=np.arange(size), replicate=int(chain_seed) % 2**32)
        return np.asarray(top.x[patient] + root @ (2.0 * u - 1.0))

    made = from_pyfunc(
        size, lambda: density, lambda *_: lambda x: {"x": np.asarray(x, np.float64)}, [np.dtype(np.float64)],
        [(size,)], ["x"], make_initial_point_fn=start,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nutpie.sample(
            made, draws=draws, tune=TUNE, chains=CHAINS, cores=1, seed=seed % 2**32, target_accept=0.9,
            progress_bar=False, save_warmup=False,
        )  # fmt: skip


def log_density(case: Case, patient: int) -> Callable[[Floats], tuple[float, Floats]]:
    """x (K,) -> log posterior density with the draws summed out, and its gradient (K,)."""
    size, draws = case.coordinates.size, _chosen(case)
    moves = np.concatenate([np.zeros((1, size)), STEP * np.eye(size), -STEP * np.eye(size)])

    def evaluate(x: Floats) -> tuple[float, Floats]:
        found = _summed(case, patient, np.asarray(x, np.float64)[None] + moves, draws)
        gradient = (found[1 : size + 1] - found[size + 1 :]) / (2.0 * STEP)
        return float(found[0]), gradient

    return evaluate


def _chosen(case: Case) -> Ints:
    count = min(MOST_DRAWS, case.number)
    return np.unique(np.linspace(0, case.number - 1, count).astype(np.int64))


def _each(case: Case, patient: int, x: Floats, draws: Ints) -> Floats:
    """Log joint density of points x (m, K) under each draw, (m, draws)."""
    m, count = len(x), len(draws)
    prior, found = evaluated(
        case, np.full(m * count, patient, np.int64), np.tile(draws, m), np.repeat(x, count, axis=0)
    )
    return (prior + found).reshape(m, count)


def _summed(case: Case, patient: int, x: Floats, draws: Ints) -> Floats:
    each = _each(case, patient, x, draws)
    top = each.max(axis=1, keepdims=True)
    return np.asarray(top[:, 0] + np.log(np.mean(np.exp(each - top), axis=1)))


def _draws(case: Case, patient: int, x: Floats, seed: int) -> Ints:
    """A population draw for each x, with its probability given x."""
    draws = _chosen(case)
    each = _each(case, patient, x, draws)
    share = np.cumsum(np.exp(each - each.max(axis=1, keepdims=True)), axis=1)
    u = uniforms(seed, Purpose.TWIN_DRAW, subject=np.arange(len(x)), replicate=case.address[patient], index=999)
    return draws[np.minimum((u[:, None] * share[:, -1:] > share).sum(axis=1), len(draws) - 1)]
