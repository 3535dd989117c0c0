"""Sections on the decision and on how far it can be trusted."""

import math

import numpy as np

from reports import captions, credibility, results, rounding
from reports.figures import effects as drawing
from reports.results import Effect
from reports.sections.people import marks
from reports.study import Parameter, Study, Variant
from reports.tables import Block, Facts, Heading, Items, Plots, Section, Table, Text, columns
from trials import benefit_risk
from trials.operating import Estimate

_CLOUD = 200


def _risk_keys(study: Study) -> tuple[str, ...]:
    return study.composite or tuple(term.key for term in study.terms)


def benefit_risk_plane(study: Study) -> Section:
    """Benefit against risk, both as differences from control."""
    found = results.effects(study)
    compared = {e.arm.index for e in found}
    harms = [r for r in results.risks(study, _risk_keys(study), 1) if r.arm.index in compared]
    clouds = []
    for effect, harm in zip(found, harms, strict=True):
        rows = results.thinned(effect.differences.size, _CLOUD)
        expected = harm.difference.value if harm.difference else math.nan
        risk = results.middle(harm.differences)
        clouds.append(
            drawing.Cloud(
                label=effect.arm.label, look=effect.arm.look, mean=(100 * expected, effect.expected.value),
                points=np.stack([100 * harm.differences[rows], effect.differences[rows]], axis=1),
                risk=(100 * risk[0], 100 * risk[1]), benefit=effect.spread,
            )
        )  # fmt: skip
    limit = None if study.most_risk is None else 100 * study.most_risk
    panel = drawing.plane(
        clouds, x_label=f"Any adverse event, difference from {study.control.label} (percentage points)",
        y_label=rounding.bracketed(f"{study.main.output}, difference", study.main.unit),
        most_risk=limit, least_benefit=study.least_benefit, name="plane",
    )  # fmt: skip
    caption = (
        "Benefit and risk against control. Faint dots: single replicates (true difference of means; observed "
        "incidence). Markers: "
        "means over replicates; lines: middle 95 % of replicates. Up and left is better." + captions.dose_key(study)
    )
    blocks: list[Block] = [Plots(caption=caption, panels=(panel,)), _acceptable(study, found, harms)]
    return Section(key="benefit-risk", title="Benefit and risk", blocks=tuple(blocks))


def _acceptable(study: Study, found: tuple[Effect, ...], harms: list[results.Risk]) -> Table:
    least = 0.0 if study.least_benefit is None else study.least_benefit
    most = 1.0 if study.most_risk is None else study.most_risk
    points = benefit_risk.plane(
        np.stack([e.differences for e in found], axis=1), np.stack([h.differences for h in harms], axis=1),
        least_benefit=least, most_risk=most,
    )  # fmt: skip
    n = int(study.outcomes["replicate"].nunique())
    benefits = rounding.together([(p.benefit.value, p.benefit.mcse) for p in points])
    excess = rounding.together([(100 * p.risk.value, 100 * p.risk.mcse) for p in points])
    rows = tuple(
        (
            e.arm.label,
            f"{benefits[k][0]} (MCSE {benefits[k][1]})",
            f"{excess[k][0]} (MCSE {excess[k][1]})",
            rounding.proportion(p.acceptable.value, p.acceptable.mcse, n),
        )
        for k, (e, p) in enumerate(zip(found, points, strict=True))
    )
    risk = (
        f" and at most {rounding.plain(100 * most)} percentage points more subjects with an event"
        if study.most_risk is not None
        else ""
    )
    benefit = f"a gain above {rounding.plain(least)}{'' if study.main.unit == '1' else f' {study.main.unit}'}"
    return Table(
        caption="Benefit, risk, and the share of replicates in which both are acceptable.",
        columns=columns(
            "Arm",
            rounding.under("Benefit", study.main.unit),
            "Any adverse event|percentage points",
            "Both acceptable|share of replicates",
        ),
        rows=rows,
        marks=marks(e.arm for e in found),
        notes=(
            f"Acceptable: {benefit}{risk}. A share over replicates mixes parameter uncertainty with the chance "
            f"of who was enrolled.",
        ),
    )


def operating(study: Study) -> Section:
    """Assurance over the posterior against power at its median."""
    found = results.effects(study)
    n = int(study.outcomes["replicate"].nunique())
    m = n if study.median is None else int(study.median.analyses["replicate"].nunique())
    bars = [
        drawing.Bar(
            label=e.arm.label, look=e.arm.look, first=_limits(e.assurance), second=_limits(e.power) if e.power else None
        )
        for e in found
    ]
    caption = (
        f"Probability that the comparison with {study.control.label} is significant ({study.side}-sided "
        f"{rounding.plain(study.alpha)}{', adjusted for the number of arms' if study.simultaneous else ''}), "
        "with 95 % Monte Carlo intervals. Assurance averages over the "
        "posterior; power takes the "
        "posterior median as the truth."
    )
    rows = tuple(
        (
            e.arm.label, rounding.proportion(e.assurance.value, e.assurance.mcse, n),
            rounding.proportion(e.power.value, e.power.mcse, m) if e.power else "not run",
        )
        for e in found
    )  # fmt: skip
    table = Table(
        caption=f"Operating characteristics with {rounding.count(study.subjects)} subjects in all.",
        columns=columns(
            "Arm",
            f"Assurance|{rounding.count(n)} replicates",
            f"Power at the posterior median|{rounding.count(m)} replicates",
        ),
        rows=rows,
        marks=marks(e.arm for e in found),
        notes=(captions.MCSE,),
    )
    panel = drawing.probabilities(bars, legend=("Assurance", "Power at the posterior median"), name="power")
    blocks: list[Block] = [Plots(caption=caption, panels=(panel,)), table]
    if study.decisions:
        blocks.append(_decisions(study))
    return Section(key="operating", title="Operating characteristics", blocks=tuple(blocks))


def _decisions(study: Study) -> Table:
    rows = tuple((d.name, d.rule, rounding.proportion(d.made.value, d.made.mcse, d.made.n)) for d in study.decisions)
    return Table(
        caption="Decision rules of the protocol, fixed before the run, and the share of trials in which each says yes.",
        columns=columns("Decision", "Rule", "Probability of yes", text=2),
        rows=rows,
        notes=(captions.MCSE,),
    )


def _limits(estimate: Estimate) -> tuple[float, float, float]:
    """Wilson limits: the plug-in interval has no width at 0 and 1."""
    from trials.analysis import binary

    found = binary.wilson(np.array([round(estimate.value * estimate.n)]), np.array([estimate.n]))
    return estimate.value, float(found.lower[0]), float(found.upper[0])


def sensitivity(study: Study) -> Section:
    """The primary difference and exposure under other assumptions."""
    if not study.sensitivities:
        text = "No sensitivity run was made: the influence of the model's form on the results is unknown."
        return Section(key="sensitivity", title="Sensitivity", blocks=(Text(text=text, tone="warning"),))
    main = Variant(key="main", label="Main run", outcomes=study.outcomes, analyses=study.analyses)
    rows, forest = [], []
    for arm in study.treated:
        for variant in (main, *study.sensitivities):
            means = results.true_means(study, variant.outcomes, study.main.visit)
            differences = means[:, arm.index] - means[:, study.control.index]
            rows.append((arm.label, variant.label, *_variant(study, variant, arm.index, differences)))
            estimate = results.mean(differences)
            label = arm.label if variant is main else f"  {variant.label}"
            forest.append(
                drawing.Row(
                    label=label, look=arm.look, value=estimate.value, outer=results.middle(differences),
                    inner=results.monte_carlo(estimate),
                )
            )  # fmt: skip
    x = rounding.bracketed(f"Difference from {study.control.label} in {study.main.output}", study.main.unit)
    table = Table(
        caption="Main run and sensitivity runs.",
        columns=columns(
            "Arm", "Run", "Replicates", f"Average level|{study.exposure_unit} (MCSE)",
            rounding.under(f"{study.main.output} difference", study.main.unit, "(MCSE)").replace(", (", " ("),
            "95 % of replicates", "Any adverse event|% (MCSE)", text=2,
        ),
        rows=tuple(rows),
        marks=tuple("group" if row[1] == main.label else "" for row in rows),
        notes=(captions.MCSE, *(f"{v.label}: {v.about}" for v in study.sensitivities if v.about)),
    )  # fmt: skip
    caption = "The primary difference under other assumptions. " + captions.interval_key("middle 95 % of replicates")
    plots = Plots(caption=caption, panels=(drawing.forest(forest, x_label=x, name="sensitivity"),))
    return Section(key="sensitivity", title="Sensitivity", blocks=(plots, table))


def _variant(study: Study, variant: Variant, arm: int, differences: results.Array) -> tuple[str, ...]:
    grid = results.cells(variant.outcomes, len(study.arms))
    level = results.mean(
        grid.mean(variant.outcomes[f"{study.average}@{study.final}"].to_numpy(dtype=np.float64))[:, arm]
    )
    any_event = (results.grades(variant.outcomes, _risk_keys(study)) >= 1).astype(np.float64)
    share = results.mean(grid.mean(any_event)[:, arm])
    estimate = results.mean(differences)
    return (
        rounding.count(differences.size),
        _short(level.value, level.mcse),
        _short(estimate.value, estimate.mcse),
        rounding.interval(*results.middle(differences), rounding.places(estimate.mcse)),
        _short(100 * share.value, 100 * share.mcse),
    )


def _short(value: float, mcse: float) -> str:
    shown, error = rounding.value_and_mcse(value, mcse)
    return f"{shown} ({error})"


def validation(study: Study) -> Section:
    """Predicted against published, validation apart from calibration."""
    items = credibility.evidence(study)
    blocks: list[Block] = []
    titles = {
        "validation": "Validation: results that did not enter the model",
        "calibration": "Calibration: results the model was set to meet",
    }
    for kind, title in titles.items():
        chosen = [item for item in items if item.kind == kind]
        blocks.append(Heading(text=title))
        if not chosen:
            blocks.append(Text(text="None is available for this run.", tone="warning"))
            continue
        blocks.append(
            Table(
                caption="Published results and this run; the criterion was fixed before the run.",
                columns=columns("Claim", "Witness", "This run", "Published", "Agreement means", "Verdict", text=6),
                rows=tuple((e.claim, e.witness, e.ours, e.theirs, e.tolerance, e.verdict.upper()) for e in chosen),
                marks=tuple("breach" if e.verdict == "disagrees" else "" for e in chosen),
            )
        )
    blocks.append(
        Text(
            text="The published interval is wide where the evidence is weak: agreement inside a wide interval says "
            "little. The simulated subjects are not the patients of the published studies.",
            tone="note",
        )
    )
    return Section(key="validation", title="Validation and calibration", blocks=tuple(blocks))


def assumptions(study: Study) -> Section:
    """Every value with its source and status, assumed ones first, in the order of the model text."""
    order = {"assumed": 0, "copied": 1, "verified": 2}
    ranked = sorted(study.parameters, key=lambda p: order.get(p.status, 0))
    counts = {s: sum(p.status == s for p in study.parameters) for s in ("verified", "copied", "assumed")}
    other = len(study.parameters) - sum(counts.values())
    text = (
        f"Values verified in their source: {counts['verified']}; copied from a secondary source or a fit: "
        f"{counts['copied']}; "
        f"assumed: {counts['assumed']}"
        + (f"; without a status: {other}" if other else "")
        + ". The most consequential assumption heads the list."
    )
    table = Table(
        caption="Values of the model text by status.",
        columns=columns("Status", "Parameter", "Value", "Source", "Note", text=5),
        rows=tuple((p.status or "none", p.name, _value(p), p.source or "none given", p.note or "") for p in ranked),
        marks=tuple("assumed" if p.status not in ("verified", "copied") else "" for p in ranked),
    )
    return Section(key="assumptions", title="Assumptions", blocks=(Text(text=text), table))


def _value(p: Parameter) -> str:
    return f"{rounding.plain(p.typical)} {p.unit}" if p.unit not in ("", "1") else rounding.plain(p.typical)


def computation(study: Study) -> Section:
    """Failures of solver and sampler, counted."""
    limits = (*(credibility.fit_limits(study.fit) if study.fit else ()), *credibility.run_limits(study))
    table = Table(
        caption="Limits of the computation.",
        columns=columns("What", "Found", "Limit", "Verdict", words=("Verdict",)),
        rows=tuple((limit.name, limit.shown, limit.bar, "holds" if limit.holds else "BREACHED") for limit in limits),
        marks=tuple("" if limit.holds else "breach" for limit in limits),
    )
    blocks: list[Block] = [table]
    codes = study.outcomes["status"].value_counts().sort_index()
    failed = [
        f"{rounding.count(n)} subjects: {study.status_advice.get(int(str(c)), f'status {c}')}"
        for c, n in codes.items()
        if c != 0
    ]
    if failed:
        blocks.append(Items(items=tuple(failed)))
    blocks.append(_missing(study))
    return Section(key="computation", title="Checks of the computation", blocks=tuple(blocks))


def _missing(study: Study) -> Table:
    grid = results.cells(study.outcomes, len(study.arms))
    rows = []
    parts = {"Treatment stopped early": "stopped.day", "Left the trial": "dropout.day"}
    for title, column in parts.items():
        if column in study.outcomes.columns:
            flag = np.isfinite(study.outcomes[column].to_numpy(dtype=np.float64)) * 1.0
            rows.append((title, *_percents(study, grid.mean(flag))))
    if study.primary is not None:
        lost = np.isnan(study.outcomes[f"{study.main.output}@{study.main.visit}"].to_numpy(dtype=np.float64)) * 1.0
        rows.append((f"{study.main.output} at {study.main.visit} missing", *_percents(study, grid.mean(lost))))
    return Table(
        caption="Intercurrent events and missing data, per cent of randomised subjects.",
        columns=columns("What", *(arm.label for arm in study.arms)),
        rows=tuple(rows),
    )


def _percents(study: Study, shares: results.Array) -> list[str]:
    found = [results.mean(shares[:, arm.index]) for arm in study.arms]
    return [rounding.percent(e.value, e.mcse) for e in found]


def provenance(study: Study) -> Section:
    """Seed, versions, hashes, command."""
    facts = (
        ("Command that reproduces this run", study.command or "not recorded"),
        ("Seed", str(study.seed)),
        *study.provenance,
    )
    return Section(key="provenance", title="Provenance", blocks=(Facts(facts=facts),))


def limitations(study: Study) -> Section:
    """What this report cannot say."""
    items = [
        "Simulated subjects are drawn from a model; no result here was observed in a patient of this trial.",
        "Intervals hold the uncertainty the model text states. Where a value is marked assumed, its uncertainty "
        "is assumed too.",
        "The form of the model is fixed; only the sensitivity runs shown vary it.",
    ]
    if any(p.status == "assumed" for p in study.parameters):
        first = next(p for p in study.parameters if p.status == "assumed")
        items.append(
            f"The leading assumption is {first.name} = {_value(first)}" + (f": {first.note}." if first.note else ".")
        )
    rows = credibility.coverage(study)
    table = Table(
        caption="What guidance on simulation reports asks for, and what is here. No claim of conformity is made.",
        columns=columns("Item", "State", "Where, or why not", text=3),
        rows=tuple((r.item, r.state, r.where) for r in rows),
        marks=tuple("breach" if r.state == "not covered" else "" for r in rows),
    )
    return Section(key="limitations", title="Limitations", blocks=(Items(items=tuple(items)), table))
