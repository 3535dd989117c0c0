"""Sections on the question, the design and who was enrolled."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from reports import captions, results, rounding
from reports.figures import design as picture
from reports.results import Cells
from reports.study import Arm, Dosing, Study
from reports.tables import Block, Facts, Heading, Plots, Section, Table, Text, columns
from trials.operating import Estimate

_MOST_LABELS = 12


def question(study: Study) -> Section:
    """Question of interest, context of use, estimands."""
    blocks: tuple[Block, ...] = (
        Facts(facts=(("Question", study.question or "not stated"), ("Context of use", study.context or "not stated"))),
        Text(
            text="The context of use comes from the protocol and was fixed before the run. A simulated trial is "
            "evidence about the model's consequences, not about patients.",
        ),
        *((Heading(text="Estimands"), Facts(facts=study.estimands)) if study.estimands else ()),
    )
    return Section(key="question", title="Question and context of use", blocks=blocks)


def design(study: Study) -> Section:
    """Arms, titration, visits, and the rules of the trial."""
    lanes = [_lane(arm, study) for arm in study.arms]
    sketch = picture.sketch(lanes, study.visits, name="design")
    caption = (
        "Design: arms, dose steps and visits. Bar height and depth of colour follow the dose."
        + captions.dose_key(study)
    )
    table = Table(
        caption="Arms and their regimens.",
        columns=columns("Arm", "Regimen", "Ratio", "Subjects|per replicate", text=2),
        rows=tuple(_arm_row(arm, study) for arm in study.arms),
        marks=marks(study.arms),
    )
    return Section(
        key="design",
        title="Design",
        blocks=(Plots(caption=caption, panels=(sketch,)), table, Facts(facts=study.design)),
    )


def marks(arms: Iterable[Arm]) -> tuple[str, ...]:
    """Row style of one row an arm."""
    return tuple("control" if arm.control else "flagged" if arm.flag else "" for arm in arms)


def _lane(arm: Arm, study: Study) -> picture.Lane:
    largest = max((d.amount / d.every for a in study.arms for d in a.dosing if d.every > 0), default=1.0)
    steps = tuple(
        picture.Step(
            start=d.start, end=d.end, size=(d.amount / d.every if d.every > 0 else largest) / largest, text=_dose(d)
        )
        for d in arm.dosing
    )
    note = f": {arm.flag}" if arm.flag else ""
    return picture.Lane(label=arm.label, note=note, look=arm.look, steps=steps)


def _dose(dosing: Dosing) -> str:
    amount = f"{rounding.plain(dosing.amount)} {dosing.unit}"
    days = dosing.every > 24 and dosing.every % 24 == 0
    step = f"{rounding.plain(dosing.every / 24)} d" if days else f"{rounding.plain(dosing.every)} h"
    return f"{amount} every {step}" if dosing.every > 0 else f"{amount} once"


def _arm_row(arm: Arm, study: Study) -> tuple[str, ...]:
    steps = [f"{_dose(d)}, day {rounding.plain(d.start)} to {rounding.plain(d.end)}" for d in arm.dosing]
    text = "; ".join(steps) if steps else "no active treatment"
    sizes = results.cells(study.outcomes, len(study.arms)).sizes[:, arm.index]
    low, high = int(sizes.min()), int(sizes.max())
    label = f"{arm.label} ({arm.flag})" if arm.flag else arm.label
    return label, text, rounding.plain(arm.ratio), str(low) if low == high else f"{low} to {high}"


def population(study: Study) -> Section:
    """Baseline characteristics by arm, and how many candidates each criterion cost."""
    blocks: list[Block] = [_baseline(study)]
    if study.screening:
        blocks.append(_screened(study))
    return Section(key="population", title="Virtual population", blocks=tuple(blocks))


def _baseline(study: Study) -> Table:
    found = results.cells(study.outcomes, len(study.arms))
    rows: list[tuple[str, ...]] = []
    styles: list[str] = []
    for name in _covariates(study):
        values = study.outcomes[name]
        if name in study.labels or values.nunique() <= 2:
            rows += _shares(name, values, found, study)
        else:
            rows.append(_continuous(name, values, found, study))
        styles += [""] * (len(rows) - len(styles))
    return Table(
        caption=f"Baseline by arm, {captions.replicates(study)}: mean (standard deviation between subjects), or "
        "per cent.",
        columns=columns("Characteristic", *(arm.label for arm in study.arms)),
        rows=tuple(rows),
        marks=tuple(styles),
        notes=(
            "Every replicate enrols new subjects, each in one arm only. Digits follow the MCSE of the mean or share.",
        ),
    )


def _covariates(study: Study) -> list[str]:
    known = [name for name in study.outcomes.columns if name in study.units or name in study.labels]
    return [name for name in known if pd.api.types.is_numeric_dtype(study.outcomes[name])]


def _continuous(name: str, values: pd.Series, found: Cells, study: Study) -> tuple[str, ...]:
    x = values.to_numpy(dtype=np.float64)
    means = found.mean(x)
    arm_of = study.outcomes["arm"].to_numpy()
    unit = study.units.get(name, "")
    return (
        f"{name.replace('_', ' ').lower() if len(name) > 5 else name}{f', {unit}' if unit and unit != '1' else ''}",
    ) + tuple(
        _mean_sd(results.mean(means[:, arm.index]), float(np.nanstd(x[arm_of == arm.index], ddof=1)))
        for arm in study.arms
    )


def _mean_sd(estimate: Estimate, sd: float) -> str:
    places = rounding.decimals(estimate.mcse)
    places = 1 if places is None else min(max(places, 0), 2)
    return f"{rounding.fixed(estimate.value, places)} ({rounding.fixed(sd, places)})"


def _shares(name: str, values: pd.Series, found: Cells, study: Study) -> list[tuple[str, ...]]:
    x = values.to_numpy(dtype=np.float64)
    labels = study.labels.get(name) or {1: "yes"}
    title = name.replace("_", " ").lower()
    rows = []
    shown = list(labels.items())[1:] if len(labels) == 2 else list(labels.items())[:_MOST_LABELS]
    for code, label in shown:
        share = found.mean(np.where(np.isfinite(x), (x == code) * 1.0, np.nan))
        estimates = [results.mean(share[:, arm.index]) for arm in study.arms]
        rows.append((f"{title}: {label}", *(rounding.percent(e.value, e.mcse) for e in estimates)))
    return rows


def _screened(study: Study) -> Table:
    total = study.screened
    rows = tuple(
        (s.name.replace("_", " "), s.rule, rounding.count(s.lost), rounding.count(s.alone), rounding.count(s.missing))
        for s in study.screening
    )
    return Table(
        caption=f"Screening: {rounding.count(total)} candidates screened over all replicates, "
        f"{rounding.count(len(study.outcomes))} enrolled.",
        columns=columns("Criterion", "Rule", "Lost|in this order", "Lost|if it stood alone", "Value missing", text=2),
        rows=rows,
    )
