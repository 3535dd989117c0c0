"""The page of one patient's twin: one self-contained HTML file, no script, nothing fetched, every text escaped."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pkpd.twin.accounts import Account
from pkpd.twin.dosing import Choice
from pkpd.twin.forecasting import Forecast
from pkpd.twin.twin import METHODS
from reports import rounding
from reports.figures.twin import Course, Levels, course
from reports.tables import Column, Facts, Items, Plots, Section, Table, Text

__all__ = ["Page", "chance", "page", "render"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the template is given: plain texts and blocks."""

    patient: str
    byline: str
    breaches: tuple[str, ...]
    answer: tuple[str, ...]
    trust: tuple[str, ...]
    sections: tuple[Section, ...]


def render(found: Account, units: Mapping[str, str]) -> str:
    """The page of an account; units: of outputs and of doses into states. The same account gives the same bytes."""
    from reports.html import environment

    numbers: Mapping[str, Callable[[], int]] = {kind: itertools.count(1).__next__ for kind in ("table", "figure")}
    text: str = (
        environment()
        .get_template("twin.html.j2")
        .render(page=page(found, units), next_table=numbers["table"], next_figure=numbers["figure"])
    )
    return text


def page(found: Account, units: Mapping[str, str]) -> Page:
    """The page's contents."""
    case = found.twins.case
    method = METHODS[int(found.twins.method[0])]
    odd = any(d.unlikely for d in found.data)
    breaches = () if found.sound and not odd else (found.verdict, *found.outside, *found.warnings)
    return Page(
        patient=found.id,
        byline=f"model {case.model.name} · {len(found.data)} levels, {len(case.doses.time)} doses",
        breaches=breaches, answer=_answer(found, units), trust=_trust(found, method),
        sections=(*_courses(found, units), *_doses(found, units), _parameters(found), _data(found, units),
                  _provenance(found, method)),
    )  # fmt: skip


def _answer(found: Account, units: Mapping[str, str]) -> tuple[str, ...]:
    said = [found.verdict]
    if found.chosen is not None:
        best = found.chosen.best
        dose, harm = _regimen(best, units), chance(best.toxic, best.toxic_mcse, found)
        more = f", of {found.chosen.toxic} {harm}" if found.chosen.toxic else ""
        said.append(
            f"Best of {len(found.chosen.choices)} regimens: {dose}: the chance of {found.chosen.target} is "
            f"{chance(best.reached, best.reached_mcse, found)}{more}."
        )
        tied = [c for c in found.chosen.choices[1:] if c.tied]
        if tied:
            said.append(f"{len(tied)} more cannot be told apart from it by this simulation: see the table.")
    for forecast in found.curves:
        said.append(_at_the_end(forecast, units))
    return tuple(said)


def _at_the_end(forecast: Forecast, units: Mapping[str, str]) -> str:
    unit, last = units.get(forecast.output, ""), forecast.latent[0, :, -1]
    limits = f"{rounding.number(last[0])} to {rounding.number(last[4])}"
    return (
        f"Under the doses of the data, {forecast.output} at {forecast.times[0, -1]:g} h is {rounding.number(last[2])} "
        f"{unit} (90 % interval {limits} {unit})."
    )


def chance(value: float, mcse: float, found: Account) -> str:
    """A chance with its MCSE; where all draws agree, the limit that so many draws allow (the rule of three)."""
    least = 3.0 / max(float(found.twins.ess[0]), 3.0)
    if value < least or value > 1.0 - least:
        return f"< {least:.3f}" if value < 0.5 else f"> {1.0 - least:.3f}"
    shown, error = rounding.value_and_mcse(value, mcse)
    return f"{shown} ({error})"


def _regimen(choice: Choice, units: Mapping[str, str]) -> str:
    c = choice.candidate
    over = f" over {c.duration:g} h" if c.duration > 0 else ""
    return f"{c.amount:g} {units.get('dose', '')} every {c.every:g} h{over}"


def _trust(found: Account, method: str) -> tuple[str, ...]:
    t = found.twins
    k = f", Pareto k {t.k[0]:.2f} (at most {t.settings.worst_k:g})" if np.isfinite(t.k[0]) and t.method[0] < 2 else ""
    said = [f"Posterior by {method}: {t.ess[0]:.0f} effective draws of {t.draw.shape[1]}{k}."]
    said.append(
        "The uncertainty of the population is in every interval."
        if t.case.number > 1
        else "The population's parameters are taken as known: their source gives no uncertainty."
    )
    said += [*found.warnings] if found.sound else []
    said.append("Bands say what the model and these data allow; they know nothing of a cause the model does not hold.")
    return tuple(said)


def _courses(found: Account, units: Mapping[str, str]) -> tuple[Section, ...]:
    blocks = []
    for k, forecast in enumerate(found.curves):
        planned = found.planned[k] if found.planned else None
        unit = units.get(forecast.output, "")
        label = f"{forecast.output} ({unit})" if unit else forecast.output
        start = found.chosen.start if found.chosen else np.inf
        plan = None if planned is None else _course(planned, np.inf)
        drawn = course(
            _course(forecast, start), _levels(found, forecast.output), planned=plan,
            now=found.last, doses=found.twins.case.doses.time.tolist(), label=label, name=f"course{k}",
        )  # fmt: skip
        green = " Green: the best regimen of the table below, from its first dose." if planned is not None else ""
        caption = (
            f"{label}. Line: posterior median of the true level. Dark band 50 %, middle band 90 % of the true level; "
            f"light band 90 % of a new measurement.{green}"
        )
        blocks.append(Plots(caption=caption, panels=(drawn,)))
    return (Section(key="course", title="Levels and forecast", blocks=tuple(blocks)),)


def _course(forecast: Forecast, until: float) -> Course:
    """The bands up to a time: where the plan begins, the doses of the data end."""
    keep = forecast.times[0] <= until
    return Course(
        time=forecast.times[0][keep], latent=forecast.latent[0][:, keep], measured=forecast.measured[0][:, keep]
    )


def _levels(found: Account, output: str) -> Levels:
    rows = [d for d in found.data if d.output == output]
    return Levels(
        time=np.asarray([d.time for d in rows]), value=np.asarray([d.value for d in rows]),
        below=np.asarray([d.below for d in rows], np.bool_), flagged=np.asarray([d.unlikely for d in rows], np.bool_),
    )  # fmt: skip


def _doses(found: Account, units: Mapping[str, str]) -> tuple[Section, ...]:
    chosen = found.chosen
    if chosen is None:
        return ()
    unit = units.get(chosen.target.output, "")
    titles = (
        Column(title="Regimen", numeric=False),
        Column(title=chosen.target.name, under=f"median (90 %), {chosen.target.unit(unit)}"),
        Column(title="P(target)", under="MCSE"), Column(title="P(toxic)", under="MCSE"),
        Column(title="Utility"), Column(title="Behind the best", under="MCSE, paired"),
    )  # fmt: skip
    rows, marks = [], []
    for k, c in enumerate(chosen.choices):
        toxic = chance(c.toxic, c.toxic_mcse, found) if chosen.toxic else "not asked"
        behind = "best" if k == 0 else f"{c.behind:.2f} ({c.behind_mcse:.2f})" + (", tied" if c.tied else "")
        number = rounding.number
        rows.append((
            _regimen(c, units), f"{number(c.median)} ({number(c.lower)} to {number(c.upper)})",
            chance(c.reached, c.reached_mcse, found), toxic, rounding.fixed(c.utility, 2), behind,
        ))  # fmt: skip
        marks.append("" if c.tied else "control")
    notes = [
        f"Target: {chosen.target}. " + (f"Toxic: {chosen.toxic}. " if chosen.toxic else "")
        + f"From {chosen.start:g} h over {chosen.horizon:g} h. Utility = P(target) - {chosen.penalty:g} P(toxic).",
        "All regimens are compared in the same draws. The metric is of the true level, without measurement error.",
    ]  # fmt: skip
    if any(c.failed > 0.001 for c in chosen.choices):
        notes.append("Some draws could not be solved; they count as target not reached and as toxic.")
    table = Table(caption="Candidate regimens, the most useful first", columns=titles, rows=tuple(rows),
                  marks=tuple(marks), notes=tuple(notes))  # fmt: skip
    return (Section(key="doses", title="Which dose", blocks=(table,)),)


def _parameters(found: Account) -> Section:
    titles = (
        Column(title="Parameter", numeric=False), Column(title="Unit", numeric=False), Column(title="Posterior median"),
        Column(title="90 % interval"), Column(title="Typical", under="with these covariates"),
    )  # fmt: skip
    number = rounding.number
    rows = tuple(
        (p.name, p.unit, number(p.median), f"{number(p.lower)} to {number(p.upper)}", number(p.typical))
        for p in found.parameters
    )
    table = Table(caption="Individual parameters that differ between subjects", columns=titles, rows=rows)
    return Section(key="parameters", title="The patient's parameters", blocks=(table,))


def _data(found: Account, units: Mapping[str, str]) -> Section:
    titles = (
        Column(title="Time", under="h"), Column(title="Output", numeric=False), Column(title="Measured"),
        Column(title="Fitted", under="median"), Column(title="p", under="predictive"),
        Column(title="p", under="given the others"),
    )  # fmt: skip
    rows, marks = [], []
    for d in found.data:
        unit = units.get(d.output, "")
        value = f"{'< ' if d.below else ''}{rounding.number(d.value)} {unit}".strip()
        rows.append((f"{d.time:g}", d.output, value, rounding.number(d.fitted), rounding.p_value(d.p),
                     rounding.p_value(d.p_others)))  # fmt: skip
        marks.append("flagged" if d.unlikely else "")
    note = (
        "p: two-sided probability of a value as far out as the measured one; below 0.01 by either the row is flagged. "
        "One in a hundred good data is flagged by chance."
    )
    table = Table(caption="Do the data fit?", columns=titles, rows=tuple(rows), marks=tuple(marks), notes=(note,))
    domain = tuple(f"{name}: {told}" for name, told in found.twins.case.model.domain.items())
    blocks = (table, Text(text="Where the model holds, in its own words:", tone="note"), Items(items=domain))
    return Section(key="data", title="Data and domain", blocks=blocks if domain else (table,))


def _provenance(found: Account, method: str) -> Section:
    facts = [
        ("Data", found.inputs.data), ("Model", found.inputs.model), ("Population draws", found.inputs.draws),
        ("Their source", found.inputs.source), ("Method", method), ("Seed", str(found.twins.seed)),
        ("Answer", str(found.to_dict()["digest"])),
    ]  # fmt: skip
    for k, update in enumerate(found.updates):
        facts.append((f"Update {k}: {update.observations} levels", update.digest))
    return Section(key="provenance", title="Provenance", blocks=(Facts(facts=tuple(facts)),))
