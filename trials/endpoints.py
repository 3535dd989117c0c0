"""From what was observed in a batch of trials to endpoint values and to the analyses of the protocol.

Only `Observed` is read here: potential outcomes and true values never enter an analysis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trials.estimand import Analysis, Endpoint, Estimand
from trials.prognosis import SCORE
from trials.protocol import Protocol

__all__ = ["Observed", "analyse", "decide", "incidence", "values_at"]

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_COUNTS = ("n_control", "n_treated", "x_control", "x_treated", "missing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the trial's data base holds, arrays (R, N) unless said.

    outputs: {output: (R, N, V)}, NaN where not observed; onset [h, infinite: none] and grade (0: none) by event;
    stop [h]: end of treatment before plan, infinite: none; ended [h]: end of follow-up by a terminal event, infinite:
    none; number: occurrences of each recurrent event; times (R, N, V) of the visits, h; replicate (R,);
    failed: the simulation of the subject failed, so that nothing of it was observed; prognosis: point and standard
    deviation of the prognostic score, where the protocol asks for one.
    """

    replicate: NDArray[np.uint32]
    arm: Integers
    stratum: Integers
    times: Floats
    outputs: Mapping[str, Floats]
    onset: Mapping[str, Floats]
    grade: Mapping[str, NDArray[np.int8]]
    stop: Floats
    leave: Floats
    failed: NDArray[np.bool_]
    ended: Floats
    number: Mapping[str, Integers]
    prognosis: tuple[Floats, Floats] | None = None


def values_at(protocol: Protocol, endpoint: Endpoint, outputs: Mapping[str, Floats]) -> Floats:
    """Value of an output endpoint for each subject, (R, N): at its visit, less the baseline for a change."""
    visits = protocol.visit_names
    found = outputs[str(endpoint.output)]
    value = found[:, :, visits.index(str(endpoint.at))]
    return value - found[:, :, 0] if endpoint.as_ == "change_from_baseline" else value


def incidence(
    endpoint: Endpoint, estimand: Estimand | None, trial: Observed | tuple[Mapping[str, Any], Mapping[str, Any], Floats]
) -> NDArray[np.bool_]:
    """Whether each subject has the event endpoint, (R, N); `while_on_treatment` counts none after treatment ended."""
    onset, grade, stop = (trial.onset, trial.grade, trial.stop) if isinstance(trial, Observed) else trial
    on_treatment = estimand is not None and "while_on_treatment" in estimand.strategies.values()
    found = np.zeros(stop.shape, np.bool_)
    for name in endpoint.events:
        counts = grade[name] >= endpoint.at_least
        found |= counts & (onset[name] <= stop) if on_treatment else counts
    return found


def analyse(protocol: Protocol, trial: Observed) -> dict[str, NDArray[Any] | list[str]]:
    """The analysis table of a batch: one row per replicate, analysis, endpoint and contrast."""
    rows: list[dict[str, Any]] = []
    for name, estimand in protocol.estimands.items():
        for endpoint in estimand.endpoint:
            made = _contrasts(protocol, (estimand, protocol.analyses[name]), protocol.endpoints[endpoint], trial)
            for column, contrast in enumerate(estimand.compare):
                picked = {key: value[:, column] if value.ndim == 2 else value for key, value in made.items()}
                rows.append({"analysis": name, "endpoint": endpoint, "contrast": contrast, **picked})
    return _columns(trial.replicate, rows)


def _columns(replicate: NDArray[np.uint32], rows: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[Any] | list[str]]:
    """Rows of (R,) arrays as columns sorted by replicate; an entry a method does not have is NaN, -1 or False."""
    blank: dict[str, Any] = {"reject": False, **dict.fromkeys(_COUNTS, -1), "status": 0}
    kinds = {"reject": np.bool_, **dict.fromkeys(_COUNTS, np.int32), "status": np.int8}
    names = ("estimate", "se", "df", "lower", "upper", "p", *blank)
    columns: dict[str, NDArray[Any] | list[str]] = {"replicate": np.repeat(replicate, len(rows))}
    for label in ("analysis", "endpoint", "contrast"):
        columns[label] = [str(row[label]) for row in rows] * replicate.size
    for name in names:
        stacked = [np.broadcast_to(row.get(name, blank.get(name, np.nan)), replicate.shape) for row in rows]
        table = np.stack(stacked, axis=1) if stacked else np.empty((replicate.size, 0))
        columns[name] = np.ascontiguousarray(table.reshape(-1), dtype=kinds.get(name, np.float64))
    return columns


def _contrasts(
    protocol: Protocol, question: tuple[Estimand, Analysis], endpoint: Endpoint, trial: Observed
) -> dict[str, NDArray[Any]]:
    """Every compared arm against control, arrays (R, k) or (R,)."""
    estimand, analysis = question
    codes = _codes(protocol, estimand, trial.arm)
    if analysis.method == "miettinen_nurminen":
        event = incidence(endpoint, estimand, trial)
        return _risk_difference(event, (codes, trial.failed), len(estimand.compare), analysis.level)
    return _mean_difference(protocol, analysis, endpoint, (trial, codes, 1 + len(estimand.compare)))


def _codes(protocol: Protocol, estimand: Estimand, arm: Integers) -> Integers:
    """Arm codes of one estimand: 0 control, 1, 2 ... the compared arms in order, -1 any other arm."""
    codes = np.full(len(protocol.arms) + 1, -1, np.int64)  # the last entry serves arm -1
    for code, name in enumerate((estimand.against, *estimand.compare)):
        codes[protocol.arm_names.index(name)] = code
    return codes[arm]


def _risk_difference(
    event: NDArray[np.bool_], who: tuple[Integers, NDArray[np.bool_]], compared: int, level: float
) -> dict[str, NDArray[Any]]:
    """A failed subject is in no numerator and no denominator: it is counted as missing."""
    from trials.analysis.binary import miettinen_nurminen

    missing = ((who[0] >= 0) & who[1]).sum(axis=1)
    codes = np.where(who[1], -1, who[0])

    n = np.stack([(codes == code).sum(axis=1) for code in range(compared + 1)], axis=1)
    x = np.stack([(event & (codes == code)).sum(axis=1) for code in range(compared + 1)], axis=1)
    found = miettinen_nurminen(x[:, 1:], n[:, 1:], x[:, :1], n[:, :1], level=level)
    reject = (found.lower > 0) | (found.upper < 0)
    return {
        "estimate": found.estimate, "lower": found.lower, "upper": found.upper, "p": found.p, "reject": reject,
        "n_control": n[:, 0], "n_treated": n[:, 1:], "x_control": x[:, 0], "x_treated": x[:, 1:],
        "missing": missing,
    }  # fmt: skip


def _mean_difference(
    protocol: Protocol, analysis: Analysis, endpoint: Endpoint, batch: tuple[Observed, Integers, int]
) -> dict[str, NDArray[Any]]:
    """ANCOVA of the value at the endpoint's visit given baseline: its contrasts are those of the change."""
    from trials.analysis.continuous import ancova_dunnett, ancova_mi_dunnett

    trial, codes, arms = batch
    last = protocol.visit_names.index(str(endpoint.at))
    output = trial.outputs[str(endpoint.output)]
    baseline, visits = np.ascontiguousarray(output[:, :, 0]), np.ascontiguousarray(output[:, :, 1 : last + 1])
    strata = np.where(codes >= 0, trial.stratum, -1)
    test: dict[str, Any] = {"arms": arms, "alpha": analysis.alpha, "side": analysis.side}
    if analysis.missing.method == "complete_case":
        score = trial.prognosis[0] if trial.prognosis is not None and SCORE in analysis.adjust else None
        found = ancova_dunnett(visits[:, :, -1], baseline, codes, strata, **test, covariates=score)
    else:
        off = (trial.stop[:, :, None] <= trial.times[:, :, 1 : last + 1]).astype(np.float64)
        found = ancova_mi_dunnett(
            visits, baseline, codes, strata, **test, seed=protocol.seed, replicate=trial.replicate,
            imputations=analysis.missing.imputations, off_treatment=off if protocol.intercurrent else None,
        )  # fmt: skip
    return {name: getattr(found, name) for name in _CONTRASTS}


_CONTRASTS = ("estimate", "se", "df", "lower", "upper", "p", "reject", "n_control", "n_treated", "missing", "status")


def decide(protocol: Protocol, analyses: pd.DataFrame) -> pd.DataFrame:
    """The protocol's decisions in each replicate: `replicate` and a column of True or False for each name of `decide`.

    A name such as `t300.any_ae.upper` is the field of the row with that contrast and analysis or endpoint.
    """
    import pandas as pd

    from pkpd.model import equations

    replicate = np.unique(analyses["replicate"].to_numpy()) if len(analyses) else np.empty(0, np.uint32)
    columns: dict[str, NDArray[Any]] = {"replicate": replicate}
    for decision, rule in protocol.decide.items():
        parsed = equations.expression(rule, dotted=True)
        values = {name: _field(analyses, name) for name in equations.names(parsed)}
        truth = np.asarray(equations.evaluate(parsed, values))
        columns[decision] = np.broadcast_to(truth != 0 if truth.dtype != np.bool_ else truth, replicate.shape)
    return pd.DataFrame(columns)


def _field(analyses: pd.DataFrame, name: str) -> Floats:
    arm, which, column = name.split(".")
    named = (analyses["analysis"] == which) | (analyses["endpoint"] == which)
    rows = analyses[named & (analyses["contrast"] == arm)].sort_values("replicate", kind="stable")
    return rows[column].to_numpy(np.float64)
