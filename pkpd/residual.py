"""Combined residual error: sd = sqrt(additive^2 + (proportional f)^2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from pkpd.model.variability import PopulationDraws

__all__ = ["CombinedError", "observe", "of_draws", "sd"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CombinedError:
    """Residual standard deviations: `additive` in the output's unit, `proportional` a fraction; they broadcast over
    f.
    """

    additive: Floats | float = 0.0
    proportional: Floats | float = 0.0


def sd(error: CombinedError, f: ArrayLike) -> Floats:
    """Residual standard deviation at prediction f.

    >>> sd(CombinedError(additive=0.3, proportional=0.1), [0.0, 4.0]).tolist()
    [0.3, 0.5]
    """
    relative = np.asarray(error.proportional, np.float64) * np.asarray(f, np.float64)
    additive = np.asarray(error.additive, np.float64)
    return np.asarray(np.sqrt(additive * additive + relative * relative))


def observe(error: CombinedError, f: ArrayLike, z: ArrayLike) -> Floats:
    """What is measured where the truth is f: f + sd z, z standard normal. A failed prediction (NaN) stays NaN.

    >>> observe(CombinedError(additive=0.5), 2.0, -1.0).tolist()
    1.5
    """
    return np.asarray(np.asarray(f, np.float64) + sd(error, f) * np.asarray(z, np.float64))


def of_draws(draws: PopulationDraws, output: str) -> CombinedError:
    """The error of one output in every draw, each (D,); a term the text leaves out is 0."""

    def term(kind: str) -> Floats | float:
        name = f"{output}.{kind}"
        return draws.error[:, draws.error_names.index(name)] if name in draws.error_names else 0.0

    return CombinedError(additive=term("additive"), proportional=term("proportional"))
