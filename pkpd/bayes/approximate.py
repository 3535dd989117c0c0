"""Fits by other means than NUTS: sequential Monte Carlo (`modes`), quick looks (`quick`), as `sampling` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pkpd.bayes.batched import batched
from pkpd.bayes.centring import Look, frame_of, starting_point
from pkpd.bayes.modes import Modes, tempered
from pkpd.bayes.quick import Quick, looked
from pkpd.bayes.sampling import Drawn

if TYPE_CHECKING:
    from pkpd.bayes.density import Density
    from pkpd.bayes.diagnostics import Diagnostics
    from pkpd.bayes.exchange import Exchange
    from pkpd.bayes.fit import Settings

__all__ = ["approximated"]

PATHS = 8
UNKNOWN = float("nan")


def approximated(plain: Density, seen: Look, places: Sequence[Exchange], settings: Settings) -> Drawn:
    """What `settings.method` draws. places: `exchanges` of the model. Errors: RunFailed where it cannot begin."""
    if settings.method == "smc":
        return _by_smc(plain, places, settings)
    law = plain.framed(frame_of(plain.layout, seen, settings.centred))
    starts = np.stack([starting_point(law, seen, (settings.seed + k) % 2**63) for k in range(PATHS)])
    count = settings.chains * settings.draws
    found = looked(settings.method, batched(law), starts, seed=settings.seed, draws=count)
    x = law.layout.plain(found.x).reshape(settings.chains, settings.draws, -1)
    return Drawn(law=law, x=x, judged=lambda told: _quick(told, found), about={"quick": found.to_dict()})


def _by_smc(plain: Density, places: Sequence[Exchange], settings: Settings) -> Drawn:
    x, modes = tempered(plain, places, seed=settings.seed, particles=settings.draws, runs=settings.chains)
    return Drawn(law=plain, x=x, judged=lambda told: _tempered(told, modes), about={"modes": modes.to_dict()})


def _tempered(told: Diagnostics, modes: Modes) -> Diagnostics:
    """R-hat and ESS of runs as of chains; what the modes say comes first."""
    return replace(told, problems=(*modes.problems, *told.problems), remarks=(*modes.remarks, *told.remarks))


def _quick(told: Diagnostics, found: Quick) -> Diagnostics:
    """No fit: independent draws have no R-hat, and their size is that of the weights."""
    size = found.effective if found.weighted else float(len(found.x))
    rows = tuple(
        replace(
            p, rhat=UNKNOWN, ess_tail=UNKNOWN, apart=UNKNOWN, ess_bulk=min(p.ess_bulk, size),
            mcse=p.sd / max(size, 1.0) ** 0.5,
        )
        for p in told.parameters
    )  # fmt: skip
    return replace(told, parameters=rows, problems=(found.sentence,), remarks=told.remarks)
