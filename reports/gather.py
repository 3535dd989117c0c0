"""From a run record to a `Study`: the one place of the reports room that knows the other rooms' nouns."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pkpd.ground import text
from reports import chained, conducted, curves, decided, event_course, event_times, fitted, graded, levels
from reports.figures.palette import looks
from reports.study import (
    Arm,
    Decision,
    Dosing,
    Endpoint,
    FitEvidence,
    Parameter,
    Published,
    PublishedList,
    ResponseCurve,
    Screening,
    Study,
    Term,
    Variant,
)

if TYPE_CHECKING:
    from pkpd.model.spec import Model
    from trials.assessed import Assessment
    from trials.protocol import Dropout, Protocol
    from trials.record import RunRecord
    from trials.robustness import Robustness

_HOURS = 24.0
_RISK_LIMIT = re.compile(r"\.upper\s*<=?\s*([0-9]*\.?[0-9]+)")


def study(record: "RunRecord") -> Study:
    """Everything the report says about a finished (or partial) run."""
    protocol, model = record.protocol, record.model
    arms, primary, fit = _arms(protocol), _primary(protocol, model), fitted.evidence(record)
    average, peak = (_summary(model, kind) for kind in ("average", "maximum"))
    made = Study(
        name=protocol.name, question=protocol.question, context=protocol.context_of_use, seed=protocol.seed,
        planned=protocol.replicates, subjects=protocol.subjects, arms=arms,
        visits={name: protocol.visits[name].day for name in protocol.visit_names}, terms=_terms(protocol, model),
        composite=_composite(protocol), primary=primary, average=average, peak=peak,
        exposure_unit=_exposure_unit(model, average or peak), alpha=_tested(protocol)[0], side=_tested(protocol)[1],
        simultaneous=_tested(protocol)[2], least_benefit=None,
        most_risk=_most_risk(protocol), design=_design(protocol, model), estimands=_estimands(protocol, model),
        labels=_labels(protocol), units=_units(protocol), parameters=_parameters(model, fit),
        screened=int(record.counts.get("screening", {}).get("screened", 0)), screening=_screening(record),
        outcomes=_outcomes(protocol, record.outcomes), analyses=record.analyses, curves=_bands(record.curves, model),
        provenance=_provenance(record), command=record.manifest.command, fit=fit, median=_median(record),
        sensitivities=_sensitivities(record), failed_blocks=len(record.manifest.failed), status_advice=_advice(),
        decisions=_decisions(record), robustness=_robustness(record), truth=_truth(record, primary),
        chain=chained.chained(record), benefit=_benefit(record), decided=decided.decided(record),
        toxicity=graded.toxicity(record), courses=event_course.courses(record),
        timed=event_times.timed(record), conduct=conducted.conducted(record), changed=conducted.changed(record),
    )  # fmt: skip
    listed = _published(model.name)
    return replace(
        made, published=listed, levels=levels.simulated(record, listed), responses=_responses(record, made)
    )  # fmt: skip


def _arms(protocol: "Protocol") -> tuple[Arm, ...]:
    controls = {estimand.against for estimand in protocol.estimands.values()} or {next(iter(protocol.arms))}
    flagged = [bool(arm.flag) for arm in protocol.arms.values()]
    look = looks([key in controls for key in protocol.arms], flagged)
    return tuple(
        Arm(
            index=k, key=key, label=arm.label or key.replace("_", " ").capitalize(), flag=arm.flag or "",
            control=key == _control(protocol), ratio=arm.ratio, look=look[k], dosing=_dosing(protocol, key),
        )
        for k, (key, arm) in enumerate(protocol.arms.items())
    )  # fmt: skip


def _control(protocol: "Protocol") -> str:
    """The arm the first estimand compares against, else the first arm."""
    first = next(iter(protocol.estimands.values()), None)
    return first.against if first else next(iter(protocol.arms))


def _dosing(protocol: "Protocol", arm: str) -> tuple[Dosing, ...]:
    end = protocol.horizon
    found = []
    for dose in protocol.arms[arm].regimen:
        times = dose.dose_times()
        every = float(dose.every or 0.0)
        stop = min(float(times[-1]) + every, end) if times.size else end
        found.append(
            Dosing(
                start=float(times[0]) / _HOURS, end=stop / _HOURS, amount=float(dose.amount), unit=dose.amount.unit,
                every=every,
            )
        )  # fmt: skip
    return tuple(found)


def _primary(protocol: "Protocol", model: "Model") -> Endpoint | None:
    """The first estimand of a difference of means; its name is that of its analysis."""
    for name, estimand in protocol.estimands.items():
        endpoint = protocol.endpoints[estimand.endpoint[0]]
        if endpoint.output is not None and estimand.summary == "mean_difference":
            return Endpoint(
                key=name, endpoint=estimand.endpoint[0], output=endpoint.output,
                unit=_output_unit(model, endpoint.output),
                baseline=protocol.visit_names[0], visit=str(endpoint.at), change=endpoint.as_ == "change_from_baseline",
            )  # fmt: skip
    return None


def _output_unit(model: "Model", output: str) -> str:
    additive = model.outputs[output].error.additive
    return additive.typical.unit if additive is not None else ""


def _summary(model: "Model", kind: str) -> str:
    return next((name for name, summary in model.summaries.items() if summary.as_ == kind), "")


def _exposure_unit(model: "Model", summary: str) -> str:
    if not summary:
        return ""
    of = model.summaries[summary].of
    return next((_output_unit(model, name) for name, output in model.outputs.items() if output.is_ == of), "")


def _terms(protocol: "Protocol", model: "Model") -> tuple[Term, ...]:
    """The events: the risk of one by hazard is over the whole trial."""
    return tuple(
        Term(
            key=key, term=event.term or key, soc=event.soc, grades=event.highest,
            per=(event.per or protocol.horizon) / _HOURS,
        )
        for key, event in model.events.items()
    )  # fmt: skip


def _composite(protocol: "Protocol") -> tuple[str, ...]:
    """The events of the widest incidence endpoint."""
    incidences = (
        tuple(event for event in endpoint.events if event not in protocol.laboratory)
        for endpoint in protocol.endpoints.values()
        if endpoint.as_ == "incidence"
    )
    return max(incidences, key=len, default=())


def _tested(protocol: "Protocol") -> tuple[float, str, bool]:
    """Level and side of the primary test, and whether it is adjusted for the number of contrasts."""
    from trials.methods import METHODS

    of_means = [a for n, a in protocol.analyses.items() if protocol.estimands[n].summary == "mean_difference"]
    for a in of_means:
        if "alpha" in METHODS[a.method].uses:
            return a.alpha, a.side, "multiplicity" in METHODS[a.method].uses and a.multiplicity == "dunnett"
    return 0.05, "two", False


def _most_risk(protocol: "Protocol") -> float | None:
    """The largest excess risk a decision rule of the protocol allows (`... .upper < 0.25`), None without one."""
    found = [float(limit) for rule in protocol.decide.values() for limit in _RISK_LIMIT.findall(rule)]
    return max(found, default=None)


def _since(hours: float) -> str:
    return f" from day {hours / 24:g} on" if hours > 0 else ""


def _rules(protocol: "Protocol") -> str:
    """Dosing rules in words; arms with the same ones together."""
    from trials.rules import described

    found: dict[str, list[str]] = {}
    for name, arm in protocol.arms.items():
        if arm.rules:
            found.setdefault("; ".join(described(rule) for rule in arm.rules), []).append(arm.label or name)
    return "; ".join(f"{', '.join(arms)}: {words}" for words, arms in found.items())


def _guidance(protocol: "Protocol") -> str:
    """Guidance by levels in words."""
    from trials.guidance import described

    return "; ".join(f"{arm.label or name}: {described(arm.tdm)}" for name, arm in protocol.arms.items() if arm.tdm)


def _score(protocol: "Protocol") -> str:
    from trials.prognosis import described

    return described(protocol)


def _design(protocol: "Protocol", model: "Model") -> tuple[tuple[str, str], ...]:
    plan, habit = protocol.allocation, protocol.adherence
    within = f" within {', '.join(plan.strata)}" if plan.strata else ""
    size = f" of {plan.size}" if plan.size else ""
    method = f"permuted blocks{size}{within}" if plan.method == "permuted_block" else "complete randomisation"
    taken = "every dose is taken"
    if habit.kind == "markov":
        after = f"{habit.miss_after_taken:g} after a taken dose, {habit.miss_after_missed:g} after a missed one"
        taken = f"dose missed with probability {after}"
    stops = "; ".join(
        f"{name}: {_named(model, event.of)} of grade {event.after} or worse{_since(event.from_)} ends treatment"
        f"{_in_some(event.probability)}, the subject stays in the trial"
        for name, event in protocol.intercurrent.items()
        if event.after is not None
    )
    prevalence = "; ".join(
        f"{name} {_shares(protocol, name, shares)}" for name, shares in protocol.population.set_.items()
    )
    from trials.quantification import described as quantified

    facts = (
        ("Allocation", method),
        ("Population law", protocol.population.law),
        ("Prevalence set by the protocol", prevalence),
        ("Genotype", _genotype(protocol)),
        ("Adherence", taken),
        ("Dosing rules", _rules(protocol)),
        ("Doses guided by levels", _guidance(protocol)),
        ("Prognostic score", _score(protocol)),
        ("Occasions", _occasions(protocol, model)),
        ("Classes of people", ", ".join(f"{name} {share}" for name, share in model.mixture.items())),
        ("Intercurrent events", stops),
        *conducted.changes(protocol),
        ("End of follow-up", _ended(model)),
        ("Dropout", _dropout(protocol.dropout)),
        ("Limits of quantification", " ".join(quantified(protocol, model))),
        *conducted.described(protocol),
    )
    return tuple((name, value) for name, value in facts if value)


def _genotype(protocol: "Protocol") -> str:
    """Genes, ancestries and where the frequencies are from, in words."""
    from populations.genotype_law import cited

    choice = protocol.population.genotype
    if choice is None:
        return ""
    mixed = ", ".join(f"{name} {share:.4g}" for name, share in choice.ancestry.items())
    sources = "; ".join(cited(choice.genes, tuple(choice.ancestry)))
    own = "; frequencies given for " + ", ".join(choice.frequencies) if choice.frequencies else ""
    return (
        f"{', '.join(choice.genes)} by Hardy-Weinberg within ancestry ({mixed}), independent of all other covariates; "
        f"frequencies: {sources}{own}"
    )


def _occasions(protocol: "Protocol", model: "Model") -> str:
    """When parameters that vary between occasions change, in words."""
    if model.occasion is None:
        return ""
    varying = f"{', '.join(model.occasion_etas)} differ from occasion to occasion, a new one "
    told = protocol.occasions.at if protocol.occasions is not None else None
    if told is not None and not told.every:
        return varying + f"at {', '.join(told.visits or (f'day {t / _HOURS:g}' for t in told.times))}"
    return varying + f"every {((told.every if told else None) or model.occasion.every or 0.0) / _HOURS:g} d"


def _ended(model: "Model") -> str:
    terminal = [event.term or name for name, event in model.events.items() if event.kind == "terminal"]
    return f"{' or '.join(terminal)}: nothing is observed or averaged after it" if terminal else ""


def _shares(protocol: "Protocol", name: str, shares: Mapping[int, float]) -> str:
    labels = _labels(protocol).get(name, {})
    return ", ".join(f"{labels.get(code, code)} {100 * share:g} %" for code, share in shares.items())


def _named(model: "Model", events: tuple[str, ...]) -> str:
    """`an adverse event`, or the terms of those that are meant."""
    return " or ".join((model.events[name].term or name).lower() for name in events) or "an adverse event"


def _in_some(probability: float) -> str:
    return "" if probability == 1 else f" in {100 * probability:g} % of subjects"


def _dropout(plan: "Dropout") -> str:
    if plan.hazard <= 0:
        return "by the causes below only" if plan.after or plan.lack_of_effect else "nobody leaves"
    factor = f", times {plan.factor_after_stop:g} after treatment has stopped" if plan.factor_after_stop != 1 else ""
    return f"constant hazard of {plan.hazard * _HOURS:.4g} per day{factor}; later visits are missing at random"


def _estimands(protocol: "Protocol", model: "Model") -> tuple[tuple[str, str], ...]:
    return tuple((name.capitalize(), _estimand(protocol, model, name)) for name in protocol.estimands)


def _estimand(protocol: "Protocol", model: "Model", name: str) -> str:
    from trials.methods import METHODS

    asked, how = protocol.estimands[name], protocol.analyses.get(name)
    parts = [
        f"{asked.summary.replace('_', ' ')} of {', '.join(asked.endpoint)}: {', '.join(asked.compare)} against "
        f"{asked.against}",
        "all randomised subjects",
        *(f"{event}: {strategy.replace('_', ' ')}" for event, strategy in asked.strategies.items()),
    ]
    if asked.summary == "mean_difference" and _ended(model):
        parts.append("among those whose follow-up lasts to the visit")
    if how is not None:
        parts.append(METHODS[how.method].words(how))
    return "; ".join(parts) + "."


def _labels(protocol: "Protocol") -> Mapping[str, Mapping[int, str]]:
    return protocol.population.people().labels


def _units(protocol: "Protocol") -> Mapping[str, str]:
    return protocol.population.people().units


def _parameters(model: "Model", fit: FitEvidence | None) -> tuple[Parameter, ...]:
    taken = set(fit.taken) if fit is not None else set()
    return tuple(
        Parameter(
            name=name, typical=float(p.typical), unit=p.typical.unit, status=p.status,
            source=model.cite.get(p.cite or "", p.cite or ""), note=p.note or "", se=p.se,
            iiv=p.spread.typical if p.spread else float("nan"), scale=p.scale, effects=_effects(model, name),
            fitted=name in taken,
        )
        for name, p in model.parameters.items()
    )  # fmt: skip


def _effects(model: "Model", name: str) -> str:
    found, between = [], model.parameters[name].iov
    if between is not None and between.typical > 0:
        found.append(f"between occasions {between.typical:g}")
    for covariate, effect in model.parameters[name].effects.items():
        if effect.kind == "category":
            labels = model.covariates[covariate].labels if covariate in model.covariates else {}
            found.append(
                f"{covariate}: " + ", ".join(f"{labels.get(k, k)} × {v}" for k, v in effect.categories.items())
            )
        else:
            found.append(f"{covariate} {effect.kind} {effect.coefficient}")
    return "; ".join(found)


def _screening(record: "RunRecord") -> tuple[Screening, ...]:
    counts = record.counts.get("screening", {})
    rules = record.protocol.population.eligible
    return tuple(
        Screening(
            name=name, rule=rules.get(name, "range of the population law"), lost=int(lost),
            alone=int(counts["lost_alone"].get(name, 0)), missing=int(counts["missing"].get(name, 0)),
        )
        for name, lost in counts.get("lost", {}).items()
        if name in rules or lost
    )  # fmt: skip


def _outcomes(protocol: "Protocol", outcomes: pd.DataFrame) -> pd.DataFrame:
    """The outcome table; where a risk is counted while on treatment, later events do not count."""
    strategies = {
        s
        for e in protocol.estimands.values()
        if e.summary == "risk_difference"
        for name, s in e.strategies.items()
        if name not in protocol.changes
    }
    if "while_on_treatment" not in strategies:
        return outcomes
    kept = outcomes.copy()
    for column in [c for c in kept.columns if c.endswith(".grade")]:
        after = kept[column.replace(".grade", ".day")] > kept["stopped.day"]
        kept.loc[after, column] = 0
        name = column.removesuffix(".grade")
        if (worse := [f"{name}.day{g}" for g in range(2, 6) if f"{name}.day{g}" in kept]) and f"{name}.day" in kept:
            days = kept[[f"{name}.day", *worse]]
            kept[column] = (days.notna() & ~days.gt(kept["stopped.day"], axis=0)).sum(axis=1).astype(np.int8)
    return kept


def _bands(kept: pd.DataFrame, model: "Model") -> pd.DataFrame | None:
    """Percentiles over the kept subjects by arm and time of the first concentration-like output."""
    known = [name for name in model.outputs if name in kept.columns]
    if kept.empty or not known:
        return None
    levels = kept.groupby(["arm", "time"], sort=True)[known[0]]
    found = levels.quantile(np.array([0.05, 0.5, 0.95])).unstack().set_axis(["p5", "p50", "p95"], axis=1)
    return found.assign(people=levels.count()).reset_index()


def _median(record: "RunRecord") -> Variant | None:
    run = record.median
    if run is None or not run.done:
        return None
    return Variant(key="median", label="Posterior median", outcomes=run.outcomes, analyses=run.analyses)


def _sensitivities(record: "RunRecord") -> tuple[Variant, ...]:
    return tuple(
        Variant(
            key=key, label=key.replace("_", " ").capitalize(), outcomes=_outcomes(run.protocol, run.outcomes),
            analyses=run.analyses, about=run.model.about,
        )
        for key, run in record.sensitivity.items()
        if run.done
    )  # fmt: skip


def _truth(record: "RunRecord", primary: Endpoint | None) -> pd.DataFrame | None:
    """Potential outcomes of the primary endpoint: one row per replicate, one column per arm."""
    if primary is None or record.truth.empty:
        return None
    asked = (record.truth["analysis"] == primary.key) & (record.truth["endpoint"] == primary.endpoint)
    rows = record.truth[asked]
    return rows.pivot(index="replicate", columns="arm", values="mean") if len(rows) else None


def _decisions(record: "RunRecord") -> tuple[Decision, ...]:
    from trials import operating

    table = record.decisions
    return tuple(
        Decision(name=name, rule=rule, made=operating.proportion(table[name].to_numpy(dtype=bool)))
        for name, rule in record.protocol.decide.items()
        if name in table.columns
    )


def _benefit(record: "RunRecord") -> "Assessment | None":
    from trials.assessed import assessed

    return assessed(record)


def _robustness(record: "RunRecord") -> "Robustness | None":
    """What the decision hangs on, None where there is nothing to compare."""
    from trials.robustness import robustness

    found = robustness(record)
    asked = bool(found.structures[0].answers)
    return found if asked and (len(found.structures) > 1 or found.scaled) else None


def _responses(record: "RunRecord", made: Study) -> Mapping[str, ResponseCurve]:
    """Response curves of the model over the exposures that occur, none where the outcome table has no exposure."""
    names = [f"{summary}@{made.final}" for summary in (made.average, made.peak)]
    if not (made.average and made.peak):
        return {}
    average, peak = (made.outcomes[name].to_numpy(dtype=np.float64) for name in names)
    exposed = (average > 0) & np.isfinite(peak)
    if not exposed.any():
        return {}
    top, ratio = float(np.quantile(peak[exposed], 0.995)), float(np.median(peak[exposed] / average[exposed]))
    return curves.responses(record, top, ratio, made.composite)


def _advice() -> Mapping[int, str]:
    from pkpd.engine.status import SolveStatus

    return {int(status): f"{status.name.lower().replace('_', ' ')}: {status.advice}" for status in SolveStatus}


def _provenance(record: "RunRecord") -> tuple[tuple[str, str], ...]:
    manifest = record.manifest
    hashes = {name: value for name, value in manifest.inputs.items() if isinstance(value, str)}
    fit: Mapping[str, Any] = manifest.inputs.get("fit") or {}
    return (
        ("State", manifest.state),
        ("Run key", manifest.key),
        ("Outcome table, SHA-256", record.digest),
        *((f"Input: {name}", value) for name, value in hashes.items()),
        *((f"Fit: {name}", str(value)) for name, value in fit.items()),
        *((f"Version: {name}", value) for name, value in manifest.versions.items()),
        ("Replicates", f"{len(np.unique(record.outcomes['replicate']))} of {record.protocol.replicates}"),
        ("Blocks", f"{len(record.done)} of {len(manifest.blocks)}"),
    )


def _published(model: str) -> tuple[Published, ...]:
    """Published results about a model: `published/<model>.yaml` of this package, none for a model we know "
    "nothing of."""
    folder = Path(__file__).parent / "published"
    known = {path.stem: path for path in folder.glob("*.yaml")}
    if model not in known:
        return ()
    return text.validated(PublishedList, text.read(known[model]), str(known[model])).results
