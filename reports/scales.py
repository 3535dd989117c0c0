"""Quantities of a fit by the names its diagnostics use, turned to natural units for the reader."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pkpd.model.spec import Model
    from pkpd.posterior import Posterior

Floats = NDArray[np.float64]
Scale = Literal["log", "logit", "identity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One population quantity: how it is shown, its unit, its draws (D,) in natural units, the scale it was fitted on."""

    shown: str
    unit: str
    draws: Floats
    scale: Scale


def natural(scale: Scale, value: Floats) -> Floats:
    """Values on a scale in natural units.

    >>> natural("log", np.zeros(1)).tolist(), natural("logit", np.zeros(1)).tolist()
    ([1.0], [0.5])
    """
    if scale == "log":
        return np.asarray(np.exp(value))
    return np.asarray(1.0 / (1.0 + np.exp(-value))) if scale == "logit" else value


def link(scale: Scale, value: Floats) -> Floats:
    """The inverse of `natural`.

    >>> link("logit", np.array([0.5])).tolist()
    [0.0]
    """
    if scale == "log":
        return np.asarray(np.log(value))
    return np.asarray(np.log(value / (1.0 - value))) if scale == "logit" else value


def slope(scale: Scale, value: Floats) -> Floats:
    """|d fitted / d natural| at natural values: what a density on the fitted scale is multiplied by.

    >>> slope("log", np.array([2.0])).tolist()
    [0.5]
    """
    if scale == "log":
        return 1.0 / value
    return 1.0 / (value * (1.0 - value)) if scale == "logit" else np.ones_like(value)


def by_name(posterior: "Posterior") -> dict[str, Quantity]:
    """Every quantity under the name it has in the diagnostics (`log_CL`, `omega_CL`, `corr_CL_V`, `CP_additive`)."""
    return {**_typical(posterior), **_spread(posterior), **_error(posterior)}


def _typical(posterior: "Posterior") -> dict[str, Quantity]:
    from pkpd.model.equations import evaluate, show

    draws, model = posterior.draws, posterior.model
    values = {name: draws.typical[:, i] for i, name in enumerate(draws.names)}
    found = {}
    for name, p in model.parameters.items():
        prefix = "" if p.scale == "identity" else f"{p.scale}_"
        found[f"{prefix}{name}"] = Quantity(shown=name, unit=p.unit, draws=values[name], scale=p.scale)
        if p.above is not None:
            above = np.asarray(values[name] - evaluate(p.above, values))
            shown = f"{name} above {show(p.above)}"
            found[f"{prefix}{name}_above"] = Quantity(shown=shown, unit=p.unit, draws=above, scale=p.scale)
    return found


def _spread(posterior: "Posterior") -> dict[str, Quantity]:
    names, omega = posterior.draws.eta_names, posterior.draws.omega
    sd = np.sqrt(np.stack([omega[:, i, i] for i in range(len(names))], axis=1)) if names else np.zeros((len(omega), 0))
    found = {
        f"omega_{a}": Quantity(shown=f"between subjects, {a} (sd)", unit="", draws=sd[:, i], scale="identity")
        for i, a in enumerate(names)
    }
    for i, a in enumerate(names):
        for j, b in enumerate(names[:i]):
            with np.errstate(invalid="ignore", divide="ignore"):
                r = omega[:, i, j] / (sd[:, i] * sd[:, j])
            found[f"corr_{b}_{a}"] = Quantity(shown=f"correlation {b}, {a}", unit="", draws=r, scale="identity")
    return found


def _error(posterior: "Posterior") -> dict[str, Quantity]:
    found = {}
    for i, name in enumerate(posterior.draws.error_names):
        output, _, kind = name.partition(".")
        found[name.replace(".", "_")] = Quantity(
            shown=f"residual {kind} {output} (sd)", unit=_error_unit(posterior.model, output, kind),
            draws=posterior.draws.error[:, i], scale="identity",
        )  # fmt: skip
    return found


def _error_unit(model: "Model", output: str, kind: str) -> str:
    additive = model.outputs[output].error.additive
    return additive.typical.unit if kind == "additive" and additive is not None else ""
