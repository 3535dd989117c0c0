"""One body: models, their uncertainty, doses, solutions, posteriors. `pkpd.bayes` (fitting) is a door of its own.

Nouns and verbs are here, loaded when first asked for, so that importing the room costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pkpd.engine.build import Compiled, compiled
    from pkpd.engine.solve import Solution, solve
    from pkpd.engine.status import SolveStatus
    from pkpd.exposure.analysis import Exposure, accumulation, noncompartmental
    from pkpd.exposure.bioequivalence import Bioequivalence, bioequivalence
    from pkpd.exposure.proportionality import PowerModel, dose_proportionality
    from pkpd.exposure.rules import NcaReason, NcaRules
    from pkpd.exposure.table import nca
    from pkpd.ground.errors import InputError, RunFailed, RunPartial, VtrialError
    from pkpd.ground.streams import Purpose, normals, uniforms
    from pkpd.ground.units import Quantity
    from pkpd.model.library import load, models
    from pkpd.model.records import Records
    from pkpd.model.regimen import Dose, Events, Regimen, Schedule
    from pkpd.model.spec import Model
    from pkpd.model.variability import PopulationDraws, individual, published
    from pkpd.posterior import Posterior
    from pkpd.residual import CombinedError

__all__ = [
    "Bioequivalence",
    "CombinedError",
    "Compiled",
    "Dose",
    "Events",
    "Exposure",
    "InputError",
    "Model",
    "NcaReason",
    "NcaRules",
    "PopulationDraws",
    "Posterior",
    "PowerModel",
    "Purpose",
    "Quantity",
    "Records",
    "Regimen",
    "RunFailed",
    "RunPartial",
    "Schedule",
    "Solution",
    "SolveStatus",
    "VtrialError",
    "accumulation",
    "bioequivalence",
    "compiled",
    "dose_proportionality",
    "individual",
    "load",
    "models",
    "nca",
    "noncompartmental",
    "normals",
    "published",
    "solve",
    "uniforms",
]

_HOMES = {
    "Bioequivalence": "exposure.bioequivalence", "CombinedError": "residual", "Compiled": "engine.build",
    "Dose": "model.regimen", "Events": "model.regimen", "Exposure": "exposure.analysis",
    "InputError": "ground.errors", "Model": "model.spec", "NcaReason": "exposure.rules", "NcaRules": "exposure.rules",
    "PopulationDraws": "model.variability", "Posterior": "posterior", "PowerModel": "exposure.proportionality",
    "Purpose": "ground.streams", "Quantity": "ground.units", "Records": "model.records", "Regimen": "model.regimen",
    "RunFailed": "ground.errors", "RunPartial": "ground.errors", "Schedule": "model.regimen",
    "Solution": "engine.solve", "SolveStatus": "engine.status", "VtrialError": "ground.errors",
    "accumulation": "exposure.analysis", "bioequivalence": "exposure.bioequivalence", "compiled": "engine.build",
    "dose_proportionality": "exposure.proportionality", "individual": "model.variability", "load": "model.library",
    "models": "model.library", "nca": "exposure.table", "noncompartmental": "exposure.analysis",
    "normals": "ground.streams", "published": "model.variability", "solve": "engine.solve",
    "uniforms": "ground.streams",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pkpd' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"pkpd.{_HOMES[name]}"), name)
