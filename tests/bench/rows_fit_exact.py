"""Phenobarbital: the likelihood itself, by quadrature and by nobody's approximation of it, and what maximises it.

nlme's estimates come from a linearised likelihood (Lindstrom & Bates 1990, Biometrics 46:673). Here the two random
effects of every subject are integrated out by adaptive Gauss-Hermite quadrature (Pinheiro & Bates 1995, J Comput Graph
Stat 4:12), 15 x 15 nodes about its mode, with a prediction written out by hand: no code of the product but the reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from tests.bench.harness import Measured, row
from tests.bench.rows_fit import DATA, of, phenobarbital, reference

Floats = NDArray[np.float64]
NLME = np.array([-5.093, 0.3425, np.log(0.440), np.log(0.450), np.log(2.79)])
"""log CL, log V, log sds of both, log sd of the error: nlme 3.1-162, maximum likelihood."""
NODES = 15


@dataclass(frozen=True, slots=True)
class Data:
    """y, there (N, T): levels and which of them exist; since (N, T, D): hours after each dose, below 0 before it."""

    y: Floats
    there: NDArray[np.bool_]
    since: Floats
    dose: Floats


@cache
def data() -> Data:
    from pkpd.model.library import load
    from pkpd.model.records import Records

    r = Records.read(DATA / "phenobarbital.csv", load("grasela_phenobarbital"))
    n, owner = len(r), np.repeat(np.arange(len(r)), np.diff(r.doses.offsets))
    T, D = np.bincount(r.subject).max(), np.diff(r.doses.offsets).max()
    y, there, dose = np.zeros((n, T)), np.zeros((n, T), np.bool_), np.zeros((n, D))
    time, given = np.zeros((n, T)), np.full((n, D), np.inf)
    for i in range(n):
        mine, his = np.flatnonzero(r.subject == i), np.flatnonzero(owner == i)
        y[i, : len(mine)], there[i, : len(mine)], time[i, : len(mine)] = r.dv[mine], True, r.time[mine]
        dose[i, : len(his)], given[i, : len(his)] = r.doses.amount[his], r.doses.time[his]
    return Data(y, there, time[:, :, None] - given[:, None, :], dose)


def residuals(x: Floats, eta: Floats) -> Floats:
    """(y - C)/sd (N, K, T) at effects eta (N, K, 2): a sum of boluses, C = sum dose/V exp(-CL/V t)."""
    d = data()
    cl, v = np.exp(x[0] + eta[..., 0]), np.exp(x[1] + eta[..., 1])
    t = np.where(d.since > 0.0, d.since, np.inf)[:, None]
    c = (d.dose[:, None, None] * np.exp(-(cl / v)[..., None, None] * t)).sum(axis=-1) / v[..., None]
    return np.where(d.there[:, None], (d.y[:, None] - c) / np.exp(x[4]), 0.0)


def modes(x: Floats) -> tuple[Floats, Floats]:
    """The most likely standard normal effects of each subject (N, 2) and their approximate information (N, 2, 2)."""
    z = np.zeros((len(data().y), 2))
    value = _penalised(x, z)
    for _ in range(40):
        slope, info = _slopes(x, z)
        step = np.linalg.solve(info, slope[..., None])[..., 0]
        for share in (1.0, 0.3, 0.1, 0.01):
            new = _penalised(x, z + share * step)
            better = new < value
            z, value = np.where(better[:, None], z + share * step, z), np.where(better, new, value)
            step[better] = 0.0
    return z, _slopes(x, z)[1]


def _penalised(x: Floats, z: Floats) -> Floats:
    u = residuals(x, (z * np.exp(x[2:4]))[:, None])[:, 0]
    return 0.5 * (u**2).sum(axis=1) + 0.5 * (z**2).sum(axis=1)


def _slopes(x: Floats, z: Floats) -> tuple[Floats, Floats]:
    """Uphill direction and Gauss-Newton information."""
    shifts = np.array([[0, 0], [1e-5, 0], [-1e-5, 0], [0, 1e-5], [0, -1e-5]])
    u = residuals(x, (z[:, None] + shifts) * np.exp(x[2:4]))
    J = np.stack([(u[:, 1] - u[:, 2]) / 2e-5, (u[:, 3] - u[:, 4]) / 2e-5], axis=-1)
    return -(np.einsum("ntk,nt->nk", J, u[:, 0]) + z), np.einsum("ntj,ntk->njk", J, J) + np.eye(2)


def log_likelihood(x: Floats, nodes: int = NODES) -> float:
    """Of all subjects at x = (log CL, log V, log omegas, log sigma)."""
    z, info = modes(x)
    point, weight = np.polynomial.hermite_e.hermegauss(nodes)
    a = np.stack(np.meshgrid(point, point, indexing="ij"), axis=-1).reshape(-1, 2)
    w = np.log(np.outer(weight, weight).ravel()) + 0.5 * (a**2).sum(axis=1)
    root = np.linalg.inv(np.linalg.cholesky(info)).swapaxes(1, 2)
    at = z[:, None] + np.einsum("njk,mk->nmj", root, a)
    u = residuals(x, at * np.exp(x[2:4]))
    each = w - 0.5 * (u**2).sum(axis=2) - 0.5 * (at**2).sum(axis=2) - np.log(2.0 * np.pi)
    top = each.max(axis=1)
    whole = top + np.log(np.exp(each - top[:, None]).sum(axis=1)) + np.linalg.slogdet(root)[1]
    rows = data().there.sum()
    return float(whole.sum() - rows * (x[4] + 0.5 * np.log(2.0 * np.pi)))


@cache
def best() -> Floats:
    """The maximum of the exact likelihood."""
    found = minimize(
        lambda x: -log_likelihood(x, 9), NLME, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-5}
    )
    return np.asarray(found.x)


def _se() -> Floats:
    rows = reference("phenobarbital", "nlme")
    return np.array([float(rows.sd_or_se["log CL"]), float(rows.sd_or_se["log V"])])


@row("fit.phenobarbital.exact", unit="standard errors", bar="<= 0.3")
def exact() -> Measured:
    """Posterior means from the maximum of the exact likelihood, in nlme's standard errors."""
    x, se = best(), _se()
    z = [
        max(abs(of(f, ours)["mean"] - x[k]) / se[k] for f in phenobarbital())
        for k, ours in enumerate(("log_CL", "log_V"))
    ]
    return Measured(max(z), f"log CL {z[0]:.2f}, log V {z[1]:.2f}; maximum at log CL {x[0]:.4f}, log V {x[1]:.4f}")


@row("fit.phenobarbital.linearised", unit="standard errors", bar=">= 1")
def linearised() -> Measured:
    """How far nlme's log CL lies from that of the exact maximum: no exact fit comes closer than this."""
    x, se = best(), _se()
    ours, theirs = log_likelihood(x), log_likelihood(NLME)
    return Measured(
        abs(x[0] - NLME[0]) / se[0],
        f"log likelihood {ours:.2f} there, {theirs:.2f} at nlme's; sds {np.exp(x[2]):.3f}, {np.exp(x[3]):.3f}, "
        f"error {np.exp(x[4]):.2f}; 25 x 25 nodes change it by {abs(log_likelihood(x, 25) - ours):.1e}",
    )
