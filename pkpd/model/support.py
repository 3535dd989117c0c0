"""What of the language a model uses, and which of it each consumer runs; the rest is refused, never passed over.

The engine, the trials and the fit each have a set of features here: whoever implements one adds its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from pkpd.ground.errors import InputError
from pkpd.model import equations as eq
from pkpd.model.dosing import expression_of
from pkpd.model.observed import terms_of

if TYPE_CHECKING:
    from pkpd.model.spec import Model

__all__ = ["RUNS", "features", "refuse"]

FUNCTIONS: Final = frozenset({"sin", "cos", "lgamma", "factorial"})
"""Functions beyond those every consumer has."""

ALL: Final = frozenset(
    {
        "blocks",
        "clock",
        "correlated",
        "covariate",
        "dose_option",
        "function",
        "hazard",
        "last_dose",
        "lloq",
        "mixture",
        "occasion",
        "outcomes",
        "residual",
    }
    | {"shape", "shared", "stateless", "transit", "varying"}
)
"""Every feature beyond the common ground."""

RUNS: Final[dict[str, frozenset[str]]] = {
    "engine": ALL,
    "trial": ALL,
    "fit": frozenset({"blocks", "correlated", "lloq", "occasion", "varying"}),
}
"""Consumer -> features beyond the common ground that it runs."""

_SAID: Final = {
    "clock": "time inside the dynamics",
    "last_dose": "TAD and DOSE",
    "covariate": "covariates inside the dynamics",
    "varying": "covariates that change within a subject",
    "occasion": "between-occasion variability (iov)",
    "function": "sin, cos, lgamma and factorial inside the dynamics",
    "dose_option": "expressions, scale, duration or rate of a dose",
    "transit": "absorption through transits",
    "hazard": "events by hazard",
    "outcomes": "counts, ordered categories and Markov outcomes",
    "mixture": "mixtures",
    "residual": "this residual error",
    "correlated": "correlated residual errors",
    "shape": "boxcox and t scales",
    "shared": "shared etas",
    "blocks": "several omega blocks",
    "lloq": "a limit of quantification",
    "stateless": "a model without states",
}
_WHO: Final = {"engine": "solved", "trial": "simulated in a trial", "fit": "fitted"}


def features(model: Model) -> tuple[tuple[str, str], ...]:
    """(feature, field) of everything a model uses beyond the common ground, in the order of the text."""
    return tuple(dict.fromkeys((*_equations(model), *_variability(model), *_doses(model), *_outcomes(model))))


def refuse(
    model: Model, consumer: str, *, unless: Callable[[str, str], bool] = lambda feature, field: False
) -> None:  # fmt: skip
    """InputError for the first feature that `consumer` (engine, trial or fit) does not run; unless: (feature, field)
    that it runs all the same.
    """
    for feature, field in features(model):
        if feature not in RUNS[consumer] and not unless(feature, field):
            problem = f"{_SAID[feature]} cannot be {_WHO[consumer]} yet (model {model.name})"
            raise InputError(problem, field=field, remedy="leave it out of the model for now")


def _equations(model: Model) -> Iterator[tuple[str, str]]:
    solved, integrated = model.solved, model.integrated
    lines = [*integrated.values(), *(e.expression for e in model.equations if e.kind != "assign")]
    if {"TIME", "WEEKS"} & solved:
        yield "clock", "equations"
    if any({"TAD", "DOSE"} & eq.names(line.expression) for line in model.equations):
        yield "last_dose", "equations"
    if used := [name for name in model.inputs if name in solved]:
        yield "covariate", f"covariates.{used[0]}"
    if any(isinstance(n, eq.Call) and n.function in FUNCTIONS for expr in lines for n in eq.walk(expr)):
        yield "function", "equations"
    if not model.states:
        yield "stateless", "states"


def _variability(model: Model) -> Iterator[tuple[str, str]]:
    from pkpd.model.parts import Shared

    for name in model.varying:
        yield "varying", f"covariates.{name}.between"
    for name in model.occasion_etas:
        yield "occasion", f"parameters.{name}.iov"
    for name, p in model.parameters.items():
        if p.shape is not None:
            yield "shape", f"parameters.{name}.scale"
        if isinstance(p.iiv, Shared):
            yield "shared", f"parameters.{name}.iiv"
    if len(model.omega) > 1:
        yield "blocks", "omega"
    if model.mixture:
        yield "mixture", "mixture"


def _doses(model: Model) -> Iterator[tuple[str, str]]:
    plain = {"bioavailability", "lag"}
    for state, target in model.doses.items():
        for key, value in target.given().items():
            named = isinstance(value, (float, str))
            trivial = key == "scale" and value == 1.0
            if not trivial and not (key in plain and named):
                yield "transit" if key.startswith("transit") else "dose_option", f"doses.{state}.{key}"
            if set(model.inputs) & _reached(model, value):
                yield "covariate", f"doses.{state}.{key}"
        if target.unit is not None:
            yield "dose_option", f"doses.{state}.unit"


def _reached(model: Model, value: float | str | eq.Expr) -> frozenset[str]:
    found, names = eq.reach(model.equations), eq.names(expression_of(value))
    return names.union(*(found.get(name, frozenset()) for name in names))


def _outcomes(model: Model) -> Iterator[tuple[str, str]]:
    for name, event in model.events.items():
        if event.hazard or event.moves:
            yield "hazard", f"events.{name}.{'hazard' if event.hazard else 'moves'}"
    for name, output in model.outputs.items():
        error = output.error
        if output.lloq is not None:
            yield "lloq", f"outputs.{name}.lloq"
        if not output.continuous:
            yield "outcomes", f"outputs.{name}.kind"
        plain = set(terms_of(error)) <= {"additive", "proportional"} and error.combine == "variance"
        if not plain or error.t is not None or error.beta is not None:
            yield "residual", f"outputs.{name}.error"
    if model.residual_correlations or model.sigma:
        yield "correlated", "residual_correlations" if model.residual_correlations else "sigma"
