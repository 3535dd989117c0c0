"""A prognostic score inside a trial (`prognosis:` of the protocol): the twin's control outcome of every subject.

It is made of covariates and of what was measured at the baseline visit: the arm is not among its arguments. An ANCOVA
takes it as a covariate where `adjust` names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pkpd.engine.build import Compiled
    from pkpd.model.spec import Model
    from pkpd.model.variability import PopulationDraws
    from pkpd.twin.prognosis import Question
    from trials.protocol import Protocol
    from trials.setting import Payload

__all__ = ["OTHER", "SCORE", "Score", "described", "opened", "score_of", "scores"]

Floats = NDArray[np.float64]
SCORE = "prognosis"
OTHER = "prognosis"
"""Name of the model that foretells, where it is not the trial's own, among the other models of a run."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A protocol's `prognosis` opened: who foretells what; sees: outputs of the baseline visit it is told."""

    model: Model
    engine: Compiled
    draws: PopulationDraws
    question: Question
    sees: tuple[str, ...]


def opened(payload: Payload, own: Model) -> Score | None:
    """The score of a run, or None."""
    from pkpd.model.spec import Model
    from pkpd.model.variability import published

    protocol = payload.protocol
    if protocol.prognosis is None:
        return None
    if OTHER not in payload.others:
        return score_of(protocol, own, payload.draws)
    other = Model.from_dict(payload.others[OTHER])
    return score_of(protocol, other, published(other, protocol.model.draws, protocol.seed))


def score_of(protocol: Protocol, model: Model, draws: PopulationDraws) -> Score:
    """The score by a model. Errors: InputError for a model no twin can follow."""
    from pkpd.engine.build import compiled
    from pkpd.ground.errors import InputError
    from pkpd.twin.case import able
    from pkpd.twin.prognosis import Question

    asked = protocol.prognosis
    assert asked is not None
    able(model)
    if model.occasion is not None and model.occasion.column is not None:
        problem = f"{model.name} varies between occasions of its data"
        raise InputError(problem, field="model", value=model.name, remedy="name a model without, as model: FILE")
    endpoint = protocol.endpoints[asked.endpoint]
    question = Question(
        output=str(endpoint.output), at=24.0 * protocol.visits[str(endpoint.at)].day,
        control=protocol.regimen(asked.under).schedule(model.dose_units), particles=asked.draws, seed=protocol.seed,
    )  # fmt: skip
    return Score(model=model, engine=compiled(model), draws=draws, question=question, sees=asked.sees)


def scores(score: Score, covariates: Mapping[str, Floats], baseline: Mapping[str, Floats]) -> tuple[Floats, Floats]:
    """Point and standard deviation (R, N) from covariates (R, N) and values measured at baseline (R, N)."""
    from pkpd.model.records import Records
    from pkpd.model.regimen import Events, Schedule
    from pkpd.twin.prognosis import foretold

    shape = next(iter(covariates.values())).shape
    n, seen = int(np.prod(shape)), [list(score.model.outputs).index(name) for name in score.sees]
    dv = np.stack([baseline[name].reshape(-1) for name in score.sees], axis=1) if seen else np.empty((n, 0))
    there, none = np.isfinite(dv), np.zeros(0)
    who, which = np.nonzero(there)
    empty = Schedule(none, none, none.astype(np.int32), none, none, none.astype(np.int8))
    known = Records(
        ids=tuple(map(str, range(n))), doses=Events.shared(empty, n), subject=who.astype(np.int64),
        time=np.zeros(who.size), dv=dv[there], output=np.asarray(seen, np.int64)[which], varying=(), digest="",
        after=np.zeros(who.size, np.bool_),
        covariates={name: covariates[name].reshape(-1) for name in score.model.covariates},
    )  # fmt: skip
    point, sd = foretold(score.model, known, score.draws, score.question, engine=score.engine)
    return point.reshape(shape), sd.reshape(shape)


def described(protocol: Protocol) -> str:
    """The score in words, empty without one."""
    asked = protocol.prognosis
    if asked is None:
        return ""
    sees = f" and {', '.join(asked.sees)} at baseline" if asked.sees else ""
    return (
        f"{protocol.endpoints[asked.endpoint].output} at {protocol.endpoints[asked.endpoint].at} under {asked.under}, "
        f"foretold from covariates{sees} by {asked.model or 'the model of the trial'}"
    )
