"""Does the decision hang on the form of the model, or on how sure its values were said to be?

Structure: the same protocol under several model texts (`sensitivity: {NAME: {model: {file, weight}}}`), each with its
probability of every decision, and their mean by the weights (given, or from stacking). The runs share their people, so
the error of the mean is that of sums over common replicates.

Uncertainty: the law p(theta) from which replicates took their parameters is raised to a power a (0.8: wider, 1.25:
narrower), and replicates are weighted by p(theta)^(a - 1). Kallioinen N et al., Stat Comput 2024;34:57.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trials.operating import Estimate, proportion

if TYPE_CHECKING:
    from pkpd.model.spec import Model
    from pkpd.model.variability import PopulationDraws
    from trials.record import RunRecord

__all__ = [
    "POWERS", "Robustness", "Scaled", "Structure", "answers", "averaged", "powered", "robustness", "standardised",
]  # fmt: skip

Floats = NDArray[np.float64]
POWERS: Final = (0.8, 1.25)
MAIN: Final = "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """One model: name of its run, file, weight (NaN: none given), and the probability of every answer."""

    name: str
    file: str
    weight: float
    answers: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """An answer with the uncertainty of some parameters (`of`: a name, or `all`) raised to the `POWERS`: wider,
    narrower; change: narrower less wider; effective: number of replicates the worse of the two stands on.
    """

    answer: str
    of: str
    wider: Estimate
    narrower: Estimate
    change: Estimate
    effective: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Robustness:
    """structures: the main model first, one if there are no others; weighted {answer: mean over models}, empty without
    weights; scaled: by answer, all parameters together, then one by one.
    """

    structures: tuple[Structure, ...]
    weighted: Mapping[str, Estimate]
    scaled: tuple[Scaled, ...]


def robustness(record: RunRecord) -> Robustness:
    """Of a finished run and the runs of other models beside it."""
    found = {MAIN: (record, record.protocol.model.file, record.protocol.model.weight)}
    for name, change in record.protocol.sensitivity.items():
        run = record.sensitivity.get(name)
        only = change.model is not None and change.adherence is None and change.dropout is None
        if only and change.model is not None and run is not None and run.done:
            found[name] = (run, change.model.file, change.model.weight)
    flags = {name: answers(run) for name, (run, _, _) in found.items()}
    structures = tuple(
        Structure(
            name=name, file=file, weight=float("nan") if weight is None else weight,
            answers={label: proportion(values.to_numpy()) for label, values in flags[name].items()},
        )
        for name, (_, file, weight) in found.items()
    )  # fmt: skip
    return Robustness(structures=structures, weighted=_weighted(record, structures, flags), scaled=_scaled(record))


def answers(run: RunRecord) -> dict[str, pd.Series[bool]]:
    """What every replicate says, by replicate: the decisions of the protocol, and what is significant in its first
    estimand.
    """
    found: dict[str, pd.Series[bool]] = {}
    decisions = run.decisions.set_index("replicate")
    for name in run.protocol.decide:
        found[name] = decisions[name].astype(bool)
    first = next(iter(run.protocol.estimands), None)
    if run.analyses.empty:
        return found
    rows = run.analyses[run.analyses["analysis"] == first]
    for (endpoint, contrast), part in rows.groupby(["endpoint", "contrast"], sort=False):
        found[f"{endpoint}, {contrast}: significant"] = part.set_index("replicate")["reject"].astype(bool)
    return found


def _weighted(
    record: RunRecord, structures: Sequence[Structure], flags: Mapping[str, Mapping[str, pd.Series[bool]]]
) -> dict[str, Estimate]:  # fmt: skip
    """The mean over models, where every model with a weight was run."""
    weights = {s.name: s.weight for s in structures if np.isfinite(s.weight)}
    if len(weights) < 2 or abs(sum(weights.values()) - 1.0) > 1e-6:
        return {}
    return {label: averaged([(w, flags[name][label]) for name, w in weights.items()]) for label in flags[MAIN]}


def averaged(parts: Sequence[tuple[float, pd.Series[bool]]]) -> Estimate:
    """Sum of weight x share; the error holds the covariance over replicates that runs have in common.

    >>> same = pd.Series([True, False, True, False])
    >>> round(averaged([(0.5, same), (0.5, same)]).mcse / proportion(same).mcse, 9)
    1.0
    """
    shares = [proportion(values.to_numpy()) for _, values in parts]
    variance = 0.0
    for i, (w, a) in enumerate(parts):
        for j, (v, b) in enumerate(parts):
            shared = shares[i].mcse ** 2 if i == j else _covariance(a, b)
            variance += w * v * shared
    value = sum(w * share.value for (w, _), share in zip(parts, shares, strict=True))
    return Estimate(value=float(value), mcse=float(np.sqrt(max(variance, 0.0))), n=min(s.n for s in shares))


def _covariance(a: pd.Series[bool], b: pd.Series[bool]) -> float:
    """Of two shares, from the replicates both have (divided by their number, as in the error of a share)."""
    x, y = a.align(b, join="inner")
    if not len(x):
        return 0.0
    p, q = x.to_numpy(np.float64), y.to_numpy(np.float64)
    return float(np.mean((p - p.mean()) * (q - q.mean())) * len(p) / (len(a) * len(b)))


def standardised(model: Model, draws: PopulationDraws, *, known: Sequence[str] = ()) -> dict[str, Floats]:
    """How many standard errors each draw of a published value lies from it on the parameter's scale, {name: (D,)}.

    known: parameters that come from elsewhere (a fit) and are left out, as are those without a standard error.
    """
    from pkpd.model import equations as eq

    values = {name: draws.typical[:, i] for i, name in enumerate(draws.names)}
    typical = {name: np.asarray(p.value) for name, p in model.parameters.items()}
    found = {}
    for name, p in model.parameters.items():
        if p.se == 0 or name in known:
            continue
        ours, theirs = values[name], typical[name]
        if p.above is not None:
            ours, theirs = ours - eq.evaluate(p.above, values), theirs - eq.evaluate(p.above, typical)
        link = "log" if p.above is not None else p.link
        found[name] = np.asarray((_on(link, ours) - _on(link, theirs)) / p.se)
    return found


def _on(link: str, value: Floats) -> Floats:
    if link == "log":
        return np.asarray(np.log(value))
    return np.asarray(np.log(value / (1.0 - value)) if link == "logit" else value)


def powered(flags: Floats, square: Floats, power: float) -> tuple[Estimate, Floats]:
    """Share of true flags (R,) if the law of the parameters were raised to `power`, and the weights of the replicates.

    square (R,): sum of squared standard normal variables of those parameters in each replicate; the log density is
    -square/2 but for a constant.
    """
    raw = -0.5 * (power - 1.0) * square
    weight = np.exp(raw - raw.max())
    weight = weight / weight.sum()
    value = float(flags[0]) if np.all(flags == flags[0]) else float(np.sum(weight * flags))  # 1 is 1 to the last bit
    mcse = float(np.sqrt(np.sum(weight**2 * (flags - value) ** 2)))
    return Estimate(value=value, mcse=mcse, n=len(flags)), weight


def _scaled(record: RunRecord) -> tuple[Scaled, ...]:
    """Every decision (the significance of the first estimand, if there is none) under other uncertainties."""
    taken = record.protocol.model.parameters.take if record.protocol.model.parameters is not None else ()
    moved = standardised(record.model, record.draws, known=taken)
    if len(record.draws) < 2 or not moved:
        return ()
    draw = record.outcomes.groupby("replicate")["draw"].first()
    asked = answers(record)
    chosen = {name: asked[name] for name in (record.protocol.decide or asked)}
    squares = {"all": np.sum([z * z for z in moved.values()], axis=0), **{n: z * z for n, z in moved.items()}}
    made = []
    for label, flags in chosen.items():
        values, rows = np.asarray(flags, np.float64), draw.loc[flags.index].to_numpy(np.int64)
        made += [_change(label, name, values, square[rows]) for name, square in squares.items()]
    return tuple(made)


def _change(answer: str, of: str, flags: Floats, square: Floats) -> Scaled:
    """Both powers, and their difference with the error of a difference of two weightings of the same replicates."""
    (wider, v), (narrower, w) = (powered(flags, square, power) for power in POWERS)
    error = np.sqrt(np.sum((w * (flags - narrower.value) - v * (flags - wider.value)) ** 2))
    return Scaled(
        answer=answer, of=of, wider=wider, narrower=narrower,
        change=Estimate(value=narrower.value - wider.value, mcse=float(error), n=len(flags)),
        effective=float(min(1.0 / np.sum(v**2), 1.0 / np.sum(w**2))),
    )  # fmt: skip
