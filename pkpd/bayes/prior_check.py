"""The prior predictive check: what the priors say of the data before the data say anything of the parameters.

Population values, effects and residual errors are drawn from the prior of the fit, by address, and every row of the
data is predicted by the fit's own density. Where observed values lie outside what is predicted, priors or units are
wrong; where what is predicted spans orders of magnitude, the priors say next to nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.prior_law import prior_law
from pkpd.ground.streams import Purpose, normals
from pkpd.kernels.observations import MEASURED
from pkpd.residual import error_of, observe, taken

if TYPE_CHECKING:
    from pkpd.bayes.density import Density
    from pkpd.bayes.design import Design

__all__ = ["Foretold", "prior_check", "surprises"]

Floats = NDArray[np.float64]
DRAWS = 400
EDGES = (0.05, 0.5, 0.95)
SURPRISING = 0.5
"""Share of an output's values within the central 95 % of what the priors predict, below which the fit says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """One output: n measured values; inside: share of them in the central 50, 90 and 95 % of their own prior
    predictive; quantiles (5, 50, 95 %) of all that is predicted and of what was observed; failed: share of
    predictions that are no numbers.
    """

    output: str
    n: int
    inside: tuple[float, float, float]
    predicted: tuple[float, float, float]
    observed: tuple[float, float, float]
    failed: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def prior_check(plain: Density, made: Design, *, seed: int, draws: int = DRAWS) -> tuple[Foretold, ...]:
    """Every output that was measured. plain: the density, every effect non-centred."""
    y = _predicted(plain, made, seed, draws)
    found = []
    for k, output in enumerate(plain.layout.plan.outputs):
        rows = (made.output == k) & (made.kind == MEASURED)
        if rows.any():
            found.append(_foretold(output, y[:, rows], made.dv[rows]))
    return tuple(found)


def _predicted(plain: Density, made: Design, seed: int, draws: int) -> Floats:
    """Values (draws, rows) of the data's rows under draws of the prior."""
    import xarray as xr

    from pkpd.bayes.sampling import population_draws

    layout, how, number = plain.layout, plain.layout.plan, np.arange(draws)[:, None]
    z = normals(seed, Purpose.PRIOR_CHECK, subject=np.arange(layout.size)[None, :], replicate=number)
    x = prior_law(layout).draw(z)
    named = layout.population_named(x)
    population = population_draws(how, xr.Dataset({n: ("draw", v) for n, v in named.items() if v.ndim == 1}))
    f = plain.predictions(x)
    noise = normals(seed, Purpose.PRIOR_CHECK, subject=np.arange(f.shape[1])[None, :], replicate=number, index=1)
    y = np.empty_like(f)
    for k, output in enumerate(how.outputs):
        rows = made.output == k
        error = taken(error_of(how.model, population, output), np.arange(draws), (1,))
        y[:, rows] = observe(error, f[:, rows], noise[:, rows])
    return y


def _foretold(output: str, y: Floats, observed: Floats) -> Foretold:
    good = np.isfinite(y)
    below = np.where(good, y < observed, False).sum(axis=0) / np.maximum(good.sum(axis=0), 1)
    away = np.abs(2.0 * below - 1.0)  # 0 in the middle, 1 at the edges
    whole = y[good] if good.any() else np.full(1, np.nan)
    return Foretold(
        output=output, n=len(observed), failed=float(1.0 - good.mean()),
        inside=_three(*((away <= level).mean() for level in (0.5, 0.9, 0.95))),
        predicted=_three(*np.quantile(whole, EDGES)), observed=_three(*np.quantile(observed, EDGES)),
    )  # fmt: skip


def _three(a: Any, b: Any, c: Any) -> tuple[float, float, float]:
    return float(a), float(b), float(c)


def surprises(found: tuple[Foretold, ...]) -> list[str]:
    """What deserves a look, in sentences."""
    return [
        f"The priors hardly allow the data: {100 * (1 - f.inside[2]):.0f} % of the values of {f.output} lie outside "
        f"the central 95 % of what they predict (5 to 95 %: {f.predicted[0]:.3g} to {f.predicted[2]:.3g}, observed "
        f"{f.observed[0]:.3g} to {f.observed[2]:.3g}); check units and priors."
        for f in found
        if f.inside[2] < SURPRISING
    ]
