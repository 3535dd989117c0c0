"""What is said of one patient, as plain data: the JSON of `vtrial twin`, and what its page is made of.

Every input is named by its hash, so that an answer can be traced and made again: the same inputs give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.ground import digest
from pkpd.model.variability import PopulationDraws
from pkpd.posterior import draws_digest
from pkpd.twin.dosing import Choice, Chosen, regimen
from pkpd.twin.fit_checks import Datum, data_checks, unusual
from pkpd.twin.forecasting import Forecast, folk, forecast, quantiles
from pkpd.twin.sequential import Update
from pkpd.twin.twin import METHODS, Twins

__all__ = ["KIND", "Account", "Inputs", "Parameter", "account"]

Floats = NDArray[np.float64]
KIND = "vtrial-twin/1"
POINTS = 240
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Hashes of what went in: data (file), model, population draws; source: what the draws are."""

    data: str
    model: str
    draws: str
    source: str

    @classmethod
    def of(cls, twins: Twins, draws: PopulationDraws, source: str) -> Inputs:
        """Of a twin and the population draws it was made with."""
        case = twins.case
        return cls(data=case.records.digest, model=case.model.digest, draws=draws_digest(draws), source=source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """An individual parameter at the start: posterior quantiles at 5, 50, 95 %, and the population's typical value for
    a patient with these covariates.
    """

    name: str
    unit: str
    lower: float
    median: float
    upper: float
    typical: float


@dataclass(frozen=True, kw_only=True)
class Account:
    """Everything that is said of one patient. curves: forecasts by output, under the doses of the data; planned: those
    under the best regimen; verdict: one sentence; sound: whether it may be used; updates: the log.
    """

    twins: Twins
    patient: int
    inputs: Inputs
    verdict: str
    sound: bool
    warnings: tuple[str, ...]
    outside: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    data: tuple[Datum, ...]
    curves: tuple[Forecast, ...]
    planned: tuple[Forecast, ...]
    chosen: Chosen | None
    updates: tuple[Update, ...]
    last: float

    @property
    def id(self) -> str:
        """The patient's identifier in the data."""
        return self.twins.case.records.ids[self.patient]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: numbers that are not finite are null."""
        t, i = self.twins, self.patient
        made: dict[str, Any] = {
            "kind": KIND, "patient": self.id, "sound": self.sound, "verdict": self.verdict,
            "warnings": list(self.warnings), "outside_domain": list(self.outside),
            "inputs": _fields(self.inputs), "model": t.case.model.name, "seed": t.seed,
            "posterior": {
                "method": METHODS[int(t.method[i])], "particles": t.draw.shape[1], "pareto_k": _plain(t.k[i]),
                "effective_draws": _plain(t.ess[i]),
                "map": dict(zip(t.case.coordinates.names, map(_plain, t.mode.x[i]), strict=True)),
            },
            "parameters": [_fields(p) for p in self.parameters],
            "data": [_fields(d) | {"unlikely": d.unlikely} for d in self.data],
            "forecast": [_forecast(f) for f in self.curves],
            "forecast_best": [_forecast(f) for f in self.planned],
            "doses": None if self.chosen is None else _chosen(self.chosen),
            "updates": [u.to_dict() for u in self.updates],
        }  # fmt: skip
        return made | {"digest": digest.of_json(made)}


def _plain(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _fields(noun: Any) -> dict[str, Any]:
    return {name: _plain(getattr(noun, name)) for name in noun.__slots__}


def _forecast(found: Forecast) -> dict[str, Any]:
    def table(values: Floats) -> list[list[Any]]:
        return [[_plain(v) for v in row] for row in values[0]]

    return {
        "output": found.output, "levels": list(found.levels), "time": [_plain(t) for t in found.times[0]],
        "latent": table(found.latent), "measured": table(found.measured), "failed": _plain(found.failed[0]),
    }  # fmt: skip


def _chosen(chosen: Chosen) -> dict[str, Any]:
    def row(choice: Choice) -> dict[str, Any]:
        plain = _fields(choice) | {"tied": choice.tied}
        return plain | {"candidate": _fields(choice.candidate)}

    return {
        "target": str(chosen.target), "toxic": None if chosen.toxic is None else str(chosen.toxic),
        "start": chosen.start, "horizon": chosen.horizon, "penalty": chosen.penalty,
        "choices": [row(choice) for choice in chosen.choices],
    }  # fmt: skip


def account(
    twins: Twins, inputs: Inputs, *, patient: int = 0, until: float, outside: Sequence[str] = (),
    chosen: Chosen | None = None, updates: Sequence[Update] = (), units: Mapping[str, str] | None = None,
) -> Account:  # fmt: skip
    """The account of a patient, forecasts up to `until` [h]. outside: why the model does not hold for the patient."""
    one = _alone(twins, patient)
    data = data_checks(one, 0)
    times = _times(one, until)
    planned: tuple[Forecast, ...] = ()
    if chosen is not None:
        plan = regimen(one, 0, chosen.best.candidate, start=chosen.start, horizon=chosen.horizon)
        ahead = np.linspace(chosen.start, chosen.start + chosen.horizon, POINTS)
        planned = tuple(forecast(one, ahead, output=name, schedule=plan, levels=LEVELS) for name in _outputs(one))
    far = unusual(one, 0)
    said = (*one.warnings[0], *far)
    verdict, sound = _verdict(one, tuple(outside), data, far)
    return Account(
        twins=one, patient=0, inputs=inputs, verdict=verdict, sound=sound, warnings=said, outside=tuple(outside),
        parameters=_parameters(one, units or {}), data=data, chosen=chosen, updates=tuple(updates),
        curves=tuple(forecast(one, times, output=name, levels=LEVELS) for name in _outputs(one)), planned=planned,
        last=float(np.nanmax(one.case.levels.time)),
    )  # fmt: skip


def _alone(twins: Twins, patient: int) -> Twins:
    """The twin of one patient of a batch."""
    from dataclasses import replace

    from pkpd.twin.subset import subset
    from pkpd.twin.target import Mode

    rows = np.asarray([patient], np.intp)
    names = ("draw", "x", "weight", "method", "k", "ess")
    columns: dict[str, Any] = {name: getattr(twins, name)[rows] for name in names}
    top = Mode(**{name: getattr(twins.mode, name)[rows] for name in Mode.__slots__})
    return replace(twins, case=subset(twins.case, rows), mode=top, warnings=(twins.warnings[patient],), **columns)


def _outputs(twins: Twins) -> list[str]:
    """Continuous outputs the data measure."""
    names = list(twins.case.model.outputs)
    return [names[k] for k in sorted({int(k) for k in twins.case.records.output})]


def _times(twins: Twins, until: float) -> Floats:
    """An even grid from 0 to `until`, and just before and after each dose."""
    doses = twins.case.doses
    doses_at = np.concatenate([doses.time, doses.time + doses.duration])
    grid = np.concatenate([np.linspace(0.0, until, POINTS), doses_at[doses_at <= until]])
    return np.unique(grid)


def _parameters(twins: Twins, units: Mapping[str, str]) -> tuple[Parameter, ...]:
    """Parameters that differ by chance between subjects."""
    from pkpd.twin.likelihood import people

    model, size = twins.case.model, twins.case.coordinates.size
    rows = folk(twins, np.asarray([0], np.int64))
    middle = np.asarray([twins.case.number], np.int64)
    typical = people(twins.case, np.zeros(1, np.int64), middle, np.zeros((1, size))).parameters[0]
    found = []
    for k, (name, p) in enumerate(model.parameters.items()):
        if p.random or p.iov is not None:
            lower, median, upper = quantiles(rows.parameters[None, :, [k]], twins.weight, (0.05, 0.5, 0.95))[0, :, 0]
            unit = units.get(name, p.typical.unit)
            found.append(Parameter(name=name, unit=unit, lower=float(lower), median=float(median), upper=float(upper),
                                   typical=float(typical[k])))  # fmt: skip
    return tuple(found)


def _verdict(twins: Twins, outside: tuple[str, ...], data: tuple[Datum, ...], far: tuple[str, ...]) -> tuple[str, bool]:
    """(one sentence, whether the numbers may be used)."""
    if not twins.ok(0):
        return "The posterior could not be computed reliably: do not use these numbers.", False
    if outside:
        return "The patient lies outside the model's domain: these numbers are an extrapolation.", False
    wild = [d for d in data if d.contradicts]
    if wild or far:
        what = f"{_named(wild)} contradict" if wild else "The patient's own parameters contradict"
        return f"{what} the model for this patient: do not use these numbers before the data are checked.", False
    odd = [d for d in data if d.unlikely]
    if odd:
        return (
            f"{len(odd)} of {len(data)} data do not fit this patient's own posterior ({_named(odd)}): check them.",
            True,
        )
    return "The posterior is sound, the patient is inside the model's domain, and the data fit.", True


def _named(data: Sequence[Datum]) -> str:
    return ", ".join(f"{d.output} at {d.time:g} h" for d in data)
