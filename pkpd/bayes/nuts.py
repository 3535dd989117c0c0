"""A compiled density in the hands of nutpie: its C entry, starting points, draws. Imports nutpie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import nutpie
from numpy.typing import NDArray
from nutpie.compile_pymc import CompiledPyMCModel

from pkpd.ground.errors import RunFailed

if TYPE_CHECKING:
    from pkpd.bayes.density import Density
    from pkpd.bayes.fit import Settings

__all__ = ["Drawn", "draw"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """x (chain, draw, size), and the sampler's statistics by name, (chain, draw) each."""

    x: Floats
    stats: dict[str, NDArray[Any]]


def draw(density: Density, start: Callable[[int], Floats], settings: Settings, *, seed: int, cores: int) -> Drawn:
    """One call of nutpie, every choice named. start: seed of a chain -> its first point.

    Errors: RunFailed where a chain cannot start.
    """
    try:
        tree = nutpie.sample(
            _compiled(density, start),
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
    stats = {str(n): np.asarray(v.values) for n, v in tree["sample_stats"].data_vars.items()}
    return Drawn(x=np.asarray(tree["posterior"]["x"].values, np.float64), stats=stats)


def _compiled(density: Density, start: Callable[[int], Floats]) -> Any:
    """nutpie's own noun for a model compiled by numba, filled with our functions."""
    size = density.layout.size
    return CompiledPyMCModel(
        dims={"x": ("at",)},
        _n_dim=size,
        _coords={"at": np.arange(size)},
        _shapes={"x": (size,)},
        compiled_logp_func=density.module.entry,
        compiled_expand_func=density.module.same,
        initial_point_func=start,
        shared_data={"header": density.header},
        shared_var_keys={},
        user_data=density.header,
        n_expanded=size,
        shape_info=(["x"], [slice(0, size)], [(size,)]),
        logp_func=None,
        expand_func=None,
        reparameterized_names=[],
    )
