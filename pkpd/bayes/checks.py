"""Everything a fit is asked after it was sampled: residuals, predictive checks, leave-one-subject-out, as plain tables.

The sampler's own diagnostics (`diagnostics`) decide whether a fit may be used; these say how it fits its data. They
take seconds, are made once for a fit, and lie beside it in the cache as `checks.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pkpd.bayes.censoring import limited
from pkpd.bayes.design import measured_outputs
from pkpd.bayes.loo import WORST_K, Loo, leave_one_out, refitted
from pkpd.bayes.predictive import predictions, simulated
from pkpd.bayes.residuals import UNLIKELY, Residuals, normality, p_values, residuals
from pkpd.bayes.vpc import PredictiveCheck, vpc
from pkpd.ground import digest, store
from pkpd.ground.errors import InputError
from pkpd.posterior import Posterior, median

if TYPE_CHECKING:
    from pkpd.bayes.fit import Fit
    from pkpd.model.records import Records

__all__ = ["Checks", "checked", "with_checks"]

Floats = NDArray[np.float64]
FILE = "checks.json"
KIND = "vtrial-checks/1"
REPLICATES, NPDE_REPLICATES = 1000, 2000
EXTREME = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """rows: a row per observation: id, time, output, observed, population, individual, lower, upper, iwres, npde,
    ewres, below. subjects: a row per subject: id, distance_p (share of simulated subjects whose data lie as far out),
    elpd, lpd, k. p_values: see `residuals.p_values`. npde: by output, and "all": see `residuals.normality`. epsilon:
    shrinkage 1 - sd(iwres) by output. loo: None where it could not be computed; remarks say why, and what deserves a
    look.
    """

    rows: pd.DataFrame
    subjects: pd.DataFrame
    check: PredictiveCheck
    p_values: pd.DataFrame
    npde: dict[str, dict[str, float]]
    epsilon: dict[str, float]
    loo: Loo | None
    remarks: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """What a posterior carries with it: numbers, no tables of observations."""
        return {
            "npde": self.npde, "epsilon_shrinkage": self.epsilon, "remarks": list(self.remarks),
            "p_values": _plain(self.p_values, "records"), "vpc_inside": self.check.inside,
            "loo": None if self.loo is None else self.loo.to_dict(),
        }  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain data, tables by column."""
        frames = {"rows": self.rows, "subjects": self.subjects, "p_values": self.p_values}
        parts = {name: getattr(self.check, name) for name in ("bands", "corrected", "below", "points")}
        return {
            "kind": KIND, **{name: _plain(frame) for name, frame in frames.items()},
            "check": {name: _plain(frame) for name, frame in parts.items()}
            | {"replicates": self.check.replicates, "failed": self.check.failed},
            "npde": self.npde, "epsilon": self.epsilon, "remarks": list(self.remarks),
            "loo": None if self.loo is None else self.loo.to_dict(),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Checks:
        """What `to_dict` gave."""
        check: dict[str, Any] = dict(values["check"])
        check |= {name: _frame(check[name]) for name in ("bands", "corrected", "below", "points")}
        loo = values["loo"]
        return cls(
            rows=_frame(values["rows"]), subjects=_frame(values["subjects"]), p_values=_frame(values["p_values"]),
            check=PredictiveCheck(**check), npde=dict(values["npde"]), epsilon=dict(values["epsilon"]),
            loo=None if loo is None else Loo.from_dict(loo), remarks=tuple(values["remarks"]),
        )  # fmt: skip


def _plain(frame: pd.DataFrame, orient: Any = "list") -> Any:
    """Without NaN, which JSON does not have."""
    return frame.astype(object).where(frame.notna(), None).to_dict(orient=orient)


def _frame(columns: Mapping[str, Any]) -> pd.DataFrame:
    made = pd.DataFrame(dict(columns))
    for name in made.columns:
        if name not in ("id", "output", "statistic", "below") or (name == "below" and made[name].isna().any()):
            made[name] = made[name].astype(np.float64)
    return made


def checked(
    fit: Fit,
    records: Records,
    *,
    seed: int,
    replicates: int = REPLICATES,
    refits: int = 5,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Checks:
    """The checks of a fit on its records; made once, then read from beside the fit.

    refits: subjects with a Pareto k above 0.7 whose leave-one-out value is computed by fitting the others again, at
    most. `on_stage` hears "check", "leave one out", "refit".
    """
    file = fit.tree_path.parent / FILE
    key = digest.of_json([KIND, fit.posterior.digest, records.digest, seed, replicates, refits])
    try:
        stored = json.loads(file.read_text())
        if stored["key"] == key:
            return Checks.from_dict(stored["checks"])
    except (OSError, ValueError, KeyError):
        pass
    on_stage("check")
    made = _made(fit, records, (seed, replicates), (refits, on_stage))
    store.write_atomic(file, json.dumps({"key": key, "checks": made.to_dict()}, allow_nan=False).encode())
    return made


def with_checks(posterior: Posterior, found: Checks) -> Posterior:
    """The posterior with the checks' summary among its diagnostics; its digest is of the draws and stays."""
    return replace(posterior, diagnostics={**posterior.diagnostics, "checks": found.summary()})


def _made(fit: Fit, records: Records, chance: tuple[int, int], more: tuple[int, Callable[[str], None]]) -> Checks:
    posterior, (seed, replicates) = fit.posterior, chance
    model = posterior.model
    blq = fit.diagnostics.get("blq", {}).get("method", "m3")
    studies = simulated(posterior, records, seed=seed, replicates=replicates)
    middle = replace(posterior, draws=median(posterior.draws))
    around = residuals(model, records, simulated(middle, records, seed=seed, replicates=NPDE_REPLICATES), seed=seed)
    rows = predictions(fit, records).assign(npde=around.npde, ewres=around.ewres)
    more[1]("leave one out")
    loo, lost = _left_out(posterior, limited(model, records, blq), (seed, blq), more)
    parts = {name: rows[rows["output"] == name] for name in measured_outputs(model, records)}
    found = Checks(
        rows=rows, subjects=_subjects(records, around, loo), check=vpc(posterior, records, seed=seed, studies=studies),
        p_values=p_values(model, records, studies),
        npde={**{n: _normality(around, p.index) for n, p in parts.items()}, "all": _normality(around, rows.index)},
        epsilon={n: 1.0 - float(np.nanstd(_values(p, "iwres"), ddof=1)) for n, p in parts.items()},
        loo=loo, remarks=lost,
    )  # fmt: skip
    return replace(found, remarks=(*lost, *_remarks(found)))


def _normality(around: Residuals, rows: pd.Index) -> dict[str, float]:
    at = rows.to_numpy()
    return normality(around.npde[at], around.reference[:, at])


def _shown(p: float) -> str:
    return "< 0.001" if p < 0.001 else "> 0.999" if p > 0.999 else f"{p:.3f}"


def _values(frame: pd.DataFrame, column: str) -> Floats:
    return frame[column].to_numpy(dtype=np.float64)


def _left_out(
    posterior: Posterior, records: Records, how: tuple[int, str], more: tuple[int, Callable[[str], None]]
) -> tuple[Loo | None, tuple[str, ...]]:
    try:
        loo = leave_one_out(posterior.model, records, posterior.draws, seed=how[0])
    except InputError as error:
        return None, (f"Leave-one-subject-out was not computed: {error.problem}.",)
    if loo.doubtful and more[0]:
        more[1]("refit")
        loo = refitted(loo, posterior.model, records, seed=how[0], most=more[0], blq=how[1])
    return loo, ()


def _subjects(records: Records, around: Residuals, loo: Loo | None) -> pd.DataFrame:
    empty = np.full(len(records), np.nan)
    values = (empty, empty, empty) if loo is None else (loo.elpd, loo.lpd, np.minimum(loo.k, 9.99))
    elpd, lpd, k = values
    return pd.DataFrame({"id": list(records.ids), "distance_p": around.p, "elpd": elpd, "lpd": lpd, "k": k})


def _remarks(found: Checks) -> list[str]:
    """What deserves a look, the gravest first."""
    said = []
    subjects = zip(found.subjects["id"], _values(found.subjects, "distance_p"), strict=True)
    said += [
        f"Subject {name} does not fit: {100 * p:.2g} % of simulated subjects lie as far out. Check its doses, "
        "times and units."
        for name, p in subjects
        if p < max(UNLIKELY / len(found.subjects), 1.5 / NPDE_REPLICATES)
    ]
    if found.loo is not None and found.loo.doubtful:
        names = ", ".join(found.loo.doubtful[:5])
        said.append(
            f"The leave-one-out values of {len(found.loo.doubtful)} subjects ({names}) are too good to be trusted "
            f"(Pareto k above {WORST_K:g}): the fit leans on them."
        )
    for name, value in found.epsilon.items():
        if value > 0.3:
            said.append(
                f"Epsilon-shrinkage of {name} is {100 * value:.0f} %: individual residuals cannot show a misfit."
            )
    overall = found.npde["all"]
    least = min(overall.get(key, 1.0) for key in ("p_mean", "p_sd", "p_shape"))
    if least < 0.01:
        said.append(
            f"NPDE are not standard normal (mean {overall['mean']:.2f}, sd {overall['sd']:.2f}, least p {least:.2g}): "
            "see the residuals."
        )
    tested = zip(found.p_values["statistic"], found.p_values["output"], _values(found.p_values, "p"), strict=True)
    said += [
        f"The {statistic} of {output} is not what the model gives (posterior predictive p {_shown(p)})."
        for statistic, output, p in tested
        if not EXTREME <= p <= 1.0 - EXTREME
    ]
    return said
