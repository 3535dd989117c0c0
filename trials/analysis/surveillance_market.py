"""What is true after approval, draw by draw, and how many use the product month by month.

A draw has its own background rates, rate ratios, reporting shares and uptake: stated quantities by their 95 % interval,
those of a run by its replicates. All by address, so that a plan that is added or left out moves nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, slots, uniforms

if TYPE_CHECKING:
    from trials.analysis.surveillance_rates import Law
    from trials.analysis.surveillance_text import (
        Amount,
        Background,
        Event,
        Persistence,
        Proportion,
        Surveillance,
        Uptake,
    )
    from trials.record import RunRecord

__all__ = ["Truths", "Use", "truths", "use"]

Floats = NDArray[np.float64]
NORMAL_975 = 1.959963984540054
MONTHS = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Patients who have started by the end of each month and person-years in each month, (T,), before the factor."""

    started: Floats
    years: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Truths:
    """Draws (D,): factor of uptake; by event background rate (per person-year), ratio, share reported; share and rate
    of other events. planned: the background rate that a plan goes by; laws: what was taken from runs, by `event.part`.
    """

    factor: Floats
    background: Mapping[str, Floats]
    ratio: Mapping[str, Floats]
    reported: Mapping[str, Floats]
    share: Floats
    others: Floats
    planned: Mapping[str, float]
    laws: Mapping[str, Law]

    @property
    def draws(self) -> int:
        return len(self.factor)


def use(uptake: Uptake, months: int) -> Use:
    """Persons and person-years. Patients enter evenly over a month; a stated persistence is straight within a month.

    >>> from trials.analysis.surveillance_text import Persistence, Uptake
    >>> made = use(Uptake(starting=(12, 0), persistence=Persistence(still=(1, 1, 0))), 4)
    >>> made.years.round(3).tolist(), made.started.tolist()  # half a month, most of one, the rest
    ([0.5, 0.833, 0.167, 0.0], [12.0, 12.0, 12.0, 12.0])
    """
    given = np.asarray(uptake.starting, np.float64)
    starting = np.concatenate([given[:months], np.full(max(0, months - len(given)), given[-1])])
    stay = _stay(uptake.persistence, months)
    return Use(started=np.cumsum(starting), years=np.convolve(starting, stay)[:months] / MONTHS)


def _stay(persistence: Persistence, months: int) -> Floats:
    """Months on the product in the k-th month after that of entry (months,), of somebody who enters evenly over it."""
    if persistence.mean is not None:
        m, half = persistence.mean, 0.5 / persistence.mean
        first = m + m * m * np.expm1(-1.0 / m) if m < 1e4 else 0.5 - 1.0 / (6.0 * m)
        later = np.exp(-np.arange(1, months) / m) * (np.sinh(half) / half) ** 2
        return np.append(first, later)
    still = np.concatenate([persistence.still, np.zeros(months + 1)])[: months + 1]
    first = still[0] / 3.0 + still[1] / 6.0
    return np.append(first, (still[: months - 1] + 4.0 * still[1:months] + still[2 : months + 1]) / 6.0)


def truths(plan: Surveillance, folder: Path, runs: Mapping[str, Path] | None = None) -> Truths:
    """Draws of all that is uncertain; one draw where nothing is. folder: of the text; runs: directories instead of the
    text's. Errors: InputError (no run, no such event or arm, nothing happened).
    """
    laws = _laws(plan, folder, dict(runs or {}))
    count = plan.draws if laws or _uncertain(plan) else 1
    source = _Source(plan.seed, count)
    shared = None if plan.reporting is None else source.share(plan.reporting.share, "reporting.share")
    made: dict[str, dict[str, Floats]] = {"background": {}, "ratio": {}, "reported": {}}
    for name, event in plan.events.items():
        background = _background(event.background, laws.get(f"{name}.background"), source, name)
        made["background"][name] = background
        made["ratio"][name] = _ratio(event, laws.get(f"{name}.ratio"), source, name) / (
            background if event.ratio.as_ == "rate" else 1.0
        )
        if event.reported is not None:
            made["reported"][name] = source.share(event.reported, f"{name}.reported")
        elif shared is not None:
            made["reported"][name] = shared
    others = None if plan.reporting is None else plan.reporting.others_per_1000_years
    return Truths(
        factor=source.amount(plan.uptake.factor, "uptake.factor"), **made, laws=laws,
        share=np.zeros(count) if shared is None else shared,
        others=np.zeros(count) if others is None else source.amount(others, "reporting.others") / 1000.0,
        planned={n: _planned(e.background, laws.get(f"{n}.background")) for n, e in plan.events.items()},
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Source:
    """Draws by the name of a quantity."""

    seed: int
    count: int

    def uniform(self, name: str) -> Floats:
        draw = np.arange(self.count)
        return uniforms(self.seed, Purpose.SURVEILLANCE, subject=draw, replicate=0, slot=slots([name]))

    def amount(self, amount: Amount, name: str) -> Floats:
        from scipy.special import ndtri

        if amount.interval is None:
            return np.full(self.count, amount.value)
        low, high = amount.interval
        return np.asarray(amount.value * np.exp(np.log(high / low) / (2.0 * NORMAL_975) * ndtri(self.uniform(name))))

    def share(self, part: Proportion, name: str) -> Floats:
        from scipy.special import expit, logit, ndtri

        if part.interval is None:
            return np.full(self.count, part.value)
        sd = float(logit(part.interval[1]) - logit(part.interval[0])) / (2.0 * NORMAL_975)
        return np.asarray(expit(logit(part.value) + sd * ndtri(self.uniform(name))))

    def law(self, law: Law, name: str) -> Floats:
        u = np.stack([self.uniform(f"{name}.law"), self.uniform(name)])
        return law.drawn(np.arange(self.count) % law.replicates, u)


def _uncertain(plan: Surveillance) -> bool:
    quantities = [plan.uptake.factor, *(e.reported for e in plan.events.values())]
    if plan.reporting is not None:
        quantities += [plan.reporting.share, plan.reporting.others_per_1000_years]
    several = any(q is not None and q.interval is not None for q in quantities)
    rates = any(e.background.interval or e.background.years or e.ratio.interval for e in plan.events.values())
    return several or bool(rates)


def _laws(plan: Surveillance, folder: Path, given: dict[str, Path]) -> dict[str, Law]:
    """Laws of what is taken from runs, each run read once."""
    from trials.analysis.surveillance_rates import counted, rate_law, ratio_law

    unknown = [name for name in given if name not in plan.runs]
    if unknown:
        raise InputError(
            "is no run of the plan", field="--run", value=unknown[0], remedy=f"one of {', '.join(plan.runs)}"
        )
    records = {n: _record(n, given.get(n, (folder / place).resolve())) for n, place in plan.runs.items()}
    found: dict[str, Law] = {}
    for name, event in plan.events.items():
        back, ratio = event.background, event.ratio
        if back.run is not None and back.against is not None:
            found[f"{name}.background"] = rate_law(counted(records[back.run], back.event or name, back.against))
        if ratio.run is not None and ratio.arm is not None:
            treated = counted(records[ratio.run], ratio.event or name, ratio.arm)
            control = None if ratio.against is None else counted(records[ratio.run], ratio.event or name, ratio.against)
            found[f"{name}.ratio"] = rate_law(treated) if control is None else ratio_law(treated, control)
    return found


def _record(name: str, place: Path) -> RunRecord:
    """A finished run."""
    from trials.record import RunRecord

    try:
        record = RunRecord.read(place)
    except InputError as error:
        remedy = f"run its protocol first (vtrial run PROTOCOL --out DIR), or say where it is: --run {name}=DIR"
        raise InputError(error.problem, field=f"runs.{name}", value=str(place), remedy=remedy) from None
    if record.manifest.state != "finished":
        remedy = "finish it: vtrial run PROTOCOL --resume"
        raise InputError("is not finished", field=f"runs.{name}", value=str(place), remedy=remedy)
    return record


def _background(back: Background, law: Law | None, source: _Source, name: str) -> Floats:
    """Rates per person-year. Of events in person-years: a gamma variable of shape events + 1/2 (Jeffreys' prior), the
    law that the conditional test goes by.
    """
    from scipy.special import gammaincinv

    from trials.analysis.surveillance_text import Amount

    if law is not None:
        return source.law(law, f"{name}.background")
    if back.events is not None and back.years is not None:
        return np.asarray(gammaincinv(back.events + 0.5, source.uniform(f"{name}.background")) / back.years)
    assert back.per_1000_years is not None
    amount = Amount(value=back.per_1000_years, interval=back.interval)
    return source.amount(amount, f"{name}.background") / 1000.0


def _ratio(event: Event, law: Law | None, source: _Source, name: str) -> Floats:
    from trials.analysis.surveillance_text import Amount

    if law is not None:
        return source.law(law, f"{name}.ratio")
    assert event.ratio.value is not None
    return source.amount(Amount(value=event.ratio.value, interval=event.ratio.interval), f"{name}.ratio")


def _planned(back: Background, law: Law | None) -> float:
    if law is not None:
        return law.middle
    if back.events is not None and back.years is not None:
        return back.events / back.years
    return (back.per_1000_years or 0.0) / 1000.0
