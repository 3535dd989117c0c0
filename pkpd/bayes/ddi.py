"""The calibration of drug interactions as a PyMC model: the whole posterior, hyperparameters included.

The model of `pkpd.interactions.calibration` without its approximations: theta, pair effects, the scales of parameter
groups and the three standard deviations are sampled together, studies have Student-t errors. Coordinates are those of
the Laplace approximation, theta = mode + root z, so that NUTS meets a law near the standard normal; the prior is a
potential in theta.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

from pkpd.interactions.calibration import (
    HYPER_PRIOR,
    NU,
    SCALE_PRIOR,
    SCALED,
    Calibration,
    Rows,
    value_and_gradient,
)

__all__ = ["LogRatios", "calibration_model", "sample_calibration"]

Floats = NDArray[np.float64]


class LogRatios(Op):
    """theta (n,) -> log AUC ratio of every study (R,); the gradient (R, n) comes with it, kept for the pullback."""

    __props__ = ()

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.at: Floats | None = None
        self.kept: tuple[Floats, Floats] = (np.empty(0), np.empty((0, 0)))

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def both(self, theta: Floats) -> tuple[Floats, Floats]:
        """Value and gradient, computed once per theta."""
        if self.at is None or not np.array_equal(self.at, theta):
            self.kept, self.at = value_and_gradient(self.rows, theta), theta.copy()
        return self.kept

    def make_node(self, theta: Any) -> Apply:
        return Apply(self, [pt.as_tensor(theta)], [pt.dvector()])

    def perform(self, node: Apply, inputs: list[Any], storage: list[list[Any]]) -> None:
        storage[0][0] = self.both(inputs[0])[0]

    def pullback(self, inputs: list[Any], outputs: list[Any], cotangents: list[Any]) -> list[Any]:
        return [_Pullback(self)(inputs[0], cotangents[0])]


class _Pullback(Op):
    """(theta (n,), cotangent (R,)) -> cotangent of theta (n,)."""

    __props__ = ()

    def __init__(self, of: LogRatios) -> None:
        self.of = of

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Pullback) and other.of is self.of

    def __hash__(self) -> int:
        return id(self.of) ^ 1

    def make_node(self, *inputs: Any) -> Apply:
        return Apply(self, [pt.as_tensor(x) for x in inputs], [pt.dvector()])

    def perform(self, node: Apply, inputs: list[Any], storage: list[list[Any]]) -> None:
        storage[0][0] = inputs[1] @ self.of.both(inputs[0])[1]


def calibration_model(rows: Rows, known: Calibration) -> pm.Model:
    """The model around a Laplace calibration of the same rows."""
    of = rows.layout
    value, vector = np.linalg.eigh(known.covariance)
    root = vector * np.sqrt(np.maximum(value, 1e-12))
    group = np.array([SCALED.index(g) if (g := name.split(":")[0]) in SCALED else len(SCALED) for name in of.names])
    with pm.Model() as model:
        scales = [pm.LogNormal(f"scale_{name}", 0.0, SCALE_PRIOR) for name in SCALED]
        noise, spread, pair = (pm.LogNormal(name, m, s) for name, (m, s) in HYPER_PRIOR.items())
        z = pm.Flat("z", shape=len(of.names))
        theta = pm.Deterministic("theta", known.theta + root @ z)
        sd = of.sd * pt.stack([*scales, pt.constant(1.0)])[group]
        pm.Potential("prior", pm.logp(pm.Normal.dist(of.mean, sd), theta).sum())
        effect = pm.Normal("pair_effect", shape=int(rows.pair.max()) + 1)
        said = pm.Deterministic("log_ratio", LogRatios(rows)(theta))
        mean = said * (1.0 + pair * effect[rows.pair])
        pm.StudentT("observed", nu=NU, mu=mean, sigma=pt.sqrt(noise**2 + (spread * said) ** 2), observed=rows.log_ratio)
    return model


def sample_calibration(rows: Rows, known: Calibration, *, draws: int, tune: int, seed: int) -> Any:
    """NUTS from the mode, two chains; an ArviZ tree. About a quarter of a second a leapfrog step of 200 studies."""
    model = calibration_model(rows, known)
    start = {"z": np.zeros(len(rows.layout.names)), "pair_effect": np.zeros(int(rows.pair.max()) + 1)}
    with model, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Numba will use object mode")  # the op is NumPy by design
        return pm.sample(
            draws, tune=tune, chains=2, cores=1, random_seed=seed, initvals=start, init="adapt_diag", progressbar=False,
            compile_kwargs={"mode": "NUMBA"}, target_accept=0.8,
            compute_convergence_checks=False,
        )  # fmt: skip
