"""From what was observed in a batch of trials to the analysis table of the protocol, and to its decisions.

Only `Observed` is read here: potential outcomes and true values never enter an analysis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trials.data_cut import due
from trials.event_times import changed_by, event_times
from trials.methods import METHODS, Question
from trials.observed import Floats, Observed
from trials.protocol import Protocol

__all__ = ["analyse", "decide", "examined", "time_columns"]

if TYPE_CHECKING:
    import pandas as pd

_COUNTS = ("n_control", "n_treated", "x_control", "x_treated", "missing")


def analyse(protocol: Protocol, trial: Observed) -> dict[str, NDArray[Any] | list[str]]:
    """The analysis table of a batch: one row per replicate, analysis, endpoint and contrast."""
    rows: list[dict[str, Any]] = []
    for name, estimand in protocol.estimands.items():
        for endpoint in estimand.endpoint:
            analysis, asked = protocol.analyses[name], protocol.endpoints[endpoint]
            question = Question(protocol=protocol, estimand=estimand, analysis=analysis, endpoint=asked)
            made = METHODS[analysis.method].run(question, examined(question, trial))
            for column, contrast in enumerate(estimand.compare):
                picked = {key: value[:, column] if value.ndim == 2 else value for key, value in made.items()}
                rows.append({"analysis": name, "endpoint": endpoint, "contrast": contrast, **picked})
    return _columns(trial.replicate, rows)


def examined(question: Question, trial: Observed) -> Observed:
    """The data one analysis uses: at a visit, of those whose visit has come; where the estimand is hypothetical about
    switching or rescue, no value after it.
    """
    after = changed_by(question.estimand, trial, "hypothetical")
    if question.endpoint.output is None or not np.isfinite(after).any():
        return due(question, trial)
    outputs = {name: np.where(trial.times > after[:, :, None], np.nan, v) for name, v in trial.outputs.items()}
    return due(question, replace(trial, outputs=outputs))


def time_columns(protocol: Protocol, trial: Observed) -> dict[str, NDArray[Any]]:
    """Columns of the outcome table for times to an event, flat: `ANALYSIS.ENDPOINT.time` (day) and `.cause`."""
    found: dict[str, NDArray[Any]] = {}
    for name, estimand in protocol.estimands.items():
        for endpoint in estimand.endpoint:
            if protocol.endpoints[endpoint].as_ == "time_to_event":
                seen = event_times(protocol, protocol.endpoints[endpoint], estimand, trial)
                found[f"{name}.{endpoint}.time"] = seen.time.reshape(-1)
                found[f"{name}.{endpoint}.cause"] = seen.cause.reshape(-1)
    return found


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
