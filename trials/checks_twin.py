"""Cross-checks of what a protocol asks of the twin: doses guided by levels, a prognostic score."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pkpd.ground.validation import shown_path
from trials.faults import Fault, Path_, at
from trials.prognosis import SCORE
from trials.protocol import Protocol

if TYPE_CHECKING:
    from pkpd.model.spec import Model
    from populations.covariates import PopulationLaw

__all__ = ["adjusted", "foretold", "guidance", "guided", "law_of", "prognosis"]


def guidance(protocol: Protocol, name: str, fault: Fault) -> None:
    """Guidance by levels changes one dose, given at one interval, and alone."""
    arm, path = protocol.arms[name], ("arms", name, "tdm")
    text = arm.tdm
    assert text is not None
    times = text.decide.until(protocol.horizon)
    if not times:
        fault("names no time within the trial", (*path, "decide"), remedy="decide: [24 h, 48 h]")
    items = [dose for dose in arm.regimen if dose.dose_times()[-1] >= times[0]]
    if len(items) != 1 or items[0].every is None:
        remedy = f"one item of the regimen, with every, from {times[0]:g} h on"
        fault("the doses it changes must be of one kind", (*path, "decide"), value=f"{times[0]:g} h", remedy=remedy)
    late = float(items[0].dose_times()[-1])
    if times[-1] > late:
        fault("no dose follows the last decision", (*path, "decide"), value=f"{times[-1]:g} h",
              remedy=f"end by {late:g} h, the last dose")  # fmt: skip
    count = text.horizon / items[0].every
    if count < 1 - 1e-9 or abs(count - round(count)) > 1e-9:
        fault("must be a whole number of dosing intervals", (*path, "horizon"), value=f"{text.horizon:g} h",
              remedy=f"a multiple of {items[0].every:g} h")  # fmt: skip
    if any(not rule.do.stop for rule in arm.rules):
        fault("beside it a rule may only stop treatment", ("arms", name, "rules"), remedy="leave the other rules out")


def adjusted(protocol: Protocol, name: str, fault: Fault) -> None:
    """An analysis that takes the prognostic score: it is of that endpoint, and nothing has to be imputed."""
    path: Path_ = ("analyses", name, "adjust")
    if protocol.prognosis is None:
        fault("there is no prognosis to adjust for", path, value=SCORE,
              remedy="add prognosis: {endpoint: ..., under: ...}")  # fmt: skip
    own = protocol.estimands[name].endpoint
    if own != (protocol.prognosis.endpoint,):
        fault("the prognosis is of another endpoint", path, value=protocol.prognosis.endpoint,
              remedy=f"prognosis: {{endpoint: {own[0]}}}")  # fmt: skip
    if protocol.analyses[name].missing.method != "complete_case":
        fault("goes with complete cases only: imputation does not know the prognosis yet", path, value=SCORE,
              remedy="missing: {method: complete_case}")  # fmt: skip


def prognosis(protocol: Protocol, fault: Fault) -> None:
    """A score is of an output, under the planned doses of an arm."""
    asked = protocol.prognosis
    if asked is None:
        return
    fault.known(asked.endpoint, [n for n, e in protocol.endpoints.items() if e.output], "endpoint of an output",
                ("prognosis", "endpoint"))  # fmt: skip
    fault.known(asked.under, protocol.arms, "arm", ("prognosis", "under"))
    fault.distinct(asked.sees, ("prognosis", "sees"))
    if protocol.arms[asked.under].tdm is not None:
        fault("has no planned doses: levels guide them", ("prognosis", "under"), value=asked.under,
              remedy="name an arm of fixed doses")  # fmt: skip


def guided(protocol: Protocol, name: str, given: tuple[Model, Path], fault: Fault) -> None:
    """The model that guides an arm's doses exists, measures the same level in the same unit, and serves the target."""
    from pkpd.twin.targets import Target
    from trials.guidance import guide_for, lloq_of, unit_of

    model, path = given[0], ("arms", name, "tdm")
    text = protocol.arms[name].tdm
    assert text is not None
    fault.known(text.measure, [n for n, o in model.outputs.items() if o.continuous], "level", (*path, "measure"))
    other = _other(text.model, given, fault, path)
    for part in ("target", "toxic"):
        if (aim := getattr(text, part)) is not None:
            with at(fault, (*path, part)):
                Target.parse(aim, other, field=shown_path((*path, part)), default=text.measure)
    with at(fault, path):
        guide_for(protocol, name, other)
    with at(fault, (*path, "lloq")):
        lloq_of(text, model)
    ours, theirs = unit_of(model, text.measure), unit_of(other, text.measure)
    if ours != theirs:
        fault(f"{text.measure} is in {theirs} there and in {ours} in the trial's model", (*path, "model"),
              remedy="write both in one unit")  # fmt: skip
    _covariates_of(protocol, (model, other), path, fault)


def _other(file: str | None, given: tuple[Model, Path], fault: Fault, path: Path_) -> Model:
    """The model of a file beside the protocol, the trial's own where none is named."""
    from pkpd.model.spec import Model

    model, folder = given
    if file is None:
        return model
    if not (folder / file).is_file():
        fault("no such file", (*path, "model"), remedy=f"it is looked for as {folder / file}")
    return Model.read(folder / file)


def _covariates_of(protocol: Protocol, models: tuple[Model, Model], path: Path_, fault: Fault) -> None:
    model, other = models
    known = model.covariates if other is model else law_of(protocol, fault).names
    for covariate in other.covariates:
        fault.known(covariate, known, f"covariate of the law (needed by model {other.name})", (*path, "model"))


def foretold(protocol: Protocol, given: tuple[Model, Path], fault: Fault) -> None:
    """The model that foretells exists, and has the endpoint's output and what it is told of the baseline visit."""
    from pkpd.model.variability import point
    from trials.prognosis import score_of

    asked, path = protocol.prognosis, ("prognosis",)
    assert asked is not None
    other = _other(asked.model, given, fault, path)
    named = [(str(protocol.endpoints[asked.endpoint].output), "endpoint"), *((name, "sees") for name in asked.sees)]
    for name, where in named:
        for model in (given[0], other):
            fault.known(name, [n for n, o in model.outputs.items() if o.continuous],
                        f"continuous output of model {model.name}", (*path, where))  # fmt: skip
    with at(fault, (*path, "model")):
        score_of(protocol, other, point(other))
    _covariates_of(protocol, (given[0], other), path, fault)


def law_of(protocol: Protocol, fault: Fault) -> PopulationLaw:
    with at(fault, ("population", "law" if protocol.population.genotype is None else "genotype")):
        return protocol.population.people()
