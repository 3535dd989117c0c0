"""Protocols beside each other on the same virtual patients.

Every protocol is run with the same seed: subject s of replicate r is the same person (covariates, parameters, errors,
events) whatever the arms, the number of subjects or the visits. What is the same is checked, not assumed: the share of
subjects with equal covariates and draw is among the remarks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from trials.comparison import Comparison, Sample, Scenario, scenario

if TYPE_CHECKING:
    import pandas as pd

    from trials.comedication import Comedication
    from trials.designs.text_scenarios import Costs
    from trials.dispatch import Mode
    from trials.protocol import Intercurrent, Protocol
    from trials.record import RunRecord
    from trials.run import Progress

__all__ = ["NULL", "compared", "without_effect"]

Floats = NDArray[np.float64]
NULL: Final = "null"
DIFFERENCES: Final = ("mean_difference", "risk_difference")
DAYS_PER_WEEK: Final = 7.0


def without_effect(protocol: Protocol) -> Protocol:
    """The protocol with the doses (and rules) of the first estimand's control in every arm, its switching, rescue and
    comedication: nothing to be found.
    """
    from trials.methods.dose_response import doses_of

    first = next(iter(protocol.estimands.values()))
    control = protocol.arms[first.against]
    arms = {
        name: dataclasses.replace(arm, regimen=control.regimen, rules=control.rules, tdm=control.tdm)
        for name, arm in protocol.arms.items()
    }
    analyses = {
        name: dataclasses.replace(a, doses=doses_of(protocol, protocol.estimands[name], a)) if a.shapes else a
        for name, a in protocol.analyses.items()
    }
    changes = {name: _alike(event, tuple(arms), first.against) for name, event in protocol.intercurrent.items()}
    beside = {name: _taken_alike(plan, first.against) for name, plan in protocol.comedication.items()}
    return dataclasses.replace(protocol, arms=arms, analyses=analyses, intercurrent=changes, comedication=beside)


def _taken_alike(plan: Comedication, control: str) -> Comedication:
    """A comedication that all arms take as the control does, or nobody."""
    if not plan.arms:
        return plan
    own = plan.arms.get(control)
    if own is None:
        return dataclasses.replace(plan, arms={}, share=0.0)
    share, who = plan.share if own.share is None else own.share, plan.who if own.who is None else own.who
    return dataclasses.replace(plan, arms={}, share=share, who=who)


def _alike(event: Intercurrent, arms: tuple[str, ...], control: str) -> Intercurrent:
    """A switch or rescue that all arms have, if the control has it, else none."""
    if event.switch is not None:
        from_ = arms if control in event.switch.from_ else ()
        return dataclasses.replace(event, switch=dataclasses.replace(event.switch, from_=from_))
    if event.rescue is not None and event.rescue.arms:
        at = event.rescue.at if control in event.rescue.arms else ()
        return dataclasses.replace(event, rescue=dataclasses.replace(event.rescue, arms=(), at=at))
    return event


def compared(
    files: Mapping[str, Path], out: Path, *, mode: Mode, seed: int | None = None, replicates: int | None = None,
    null: bool = False, costs: Costs | None = None, on_progress: Callable[[str, Progress], None] | None = None,
) -> Comparison:  # fmt: skip
    """Run every protocol into OUT/NAME (a finished run of the same key is read) and compare them.

    null: also with the control's doses in every arm. Errors: InputError (seeds differ, another run in OUT/NAME).
    """
    from trials.run import execute, prepare

    def beside(protocol: Protocol) -> dict[str, Protocol]:
        return {NULL: without_effect(protocol)} if null else {}

    prepared = {n: prepare(f, replicates=replicates, seed=seed, beside=beside) for n, f in files.items()}
    _common({name: p.protocol for name, p in prepared.items()})
    records = {}
    for name, ready in prepared.items():
        resume = (out / name / "manifest.json").exists()
        records[name] = execute(
            ready, out / name, mode=mode, resume=resume, block_size=None, command="vtrial compare",
            on_progress=lambda now, name=name: on_progress(name, now) if on_progress else None,  # type: ignore[misc]
        )  # fmt: skip
    return of_records(records, costs=costs, null=null)


def _common(protocols: Mapping[str, Protocol]) -> None:
    """InputError where the protocols would share nobody."""
    for field, remedy in (("seed", "write the same seed, or give --seed"),
                          ("replicates", "write the same number, or give --replicates")):  # fmt: skip
        found = {getattr(p, field) for p in protocols.values()}
        if len(found) > 1:
            problem = f"the protocols have different {field}: trials could not be paired"
            raise InputError(problem, field=field, value=sorted(found), remedy=remedy)


def of_records(records: Mapping[str, RunRecord], *, costs: Costs | None = None, null: bool = False) -> Comparison:
    """The comparison of finished runs, the first is compared against."""
    from trials.record import RunRecord as Run

    kinds = {"assurance": dict(records)}
    if all(len(r.draws) < 2 for r in records.values()):
        kinds = {"power": dict(records)}
    elif all(r.median is not None for r in records.values()):
        kinds["power at the median parameters"] = {n: r.median for n, r in records.items() if r.median is not None}
    if null:
        kinds["no effect"] = {name: Run.read(r.directory / NULL) for name, r in records.items()}
    made = tuple(_scenario(kind, runs, costs, wrong=kind == "no effect") for kind, runs in kinds.items())
    first = next(iter(records.values()))
    return Comparison(
        designs=tuple(records), scenarios=made, seed=first.protocol.seed, remarks=_remarks(records, null=null)
    )


def _scenario(name: str, runs: Mapping[str, RunRecord], costs: Costs | None, *, wrong: bool) -> Scenario:
    found = {design: samples(run, costs=costs) for design, run in runs.items()}
    if wrong:
        for by in found.values():
            by["type_i_error"] = dataclasses.replace(by["reject"], label="Type I error, any contrast")
    return scenario(name, found, null=dict.fromkeys(runs, "global") if wrong else None)


def samples(run: RunRecord, *, costs: Costs | None = None) -> dict[str, Sample]:
    """Measures of a run, one value a replicate in order; `reject` is of any contrast of the first estimand."""
    replicate = np.arange(run.protocol.replicates)
    out = _decisions(run, replicate)
    first = next(iter(run.protocol.estimands))
    rows = run.analyses[run.analyses["analysis"] == first]
    any_ = _floats(rows.groupby("replicate")["reject"].any().reindex(replicate))
    out["reject"] = Sample(label=f"P(reject any) in {first}", values=any_, kind="share")
    for key, estimand in run.protocol.estimands.items():
        for endpoint in estimand.endpoint:
            for arm in estimand.compare:
                out |= _contrast(run, (key, endpoint, arm), replicate, main=key == first)
    size = run.outcomes[run.outcomes["arm"] >= 0].groupby("replicate").size().reindex(replicate)
    lost = run.outcomes["dropout.day"].notna().groupby(run.outcomes["replicate"]).mean()
    out["subjects"] = Sample(label="Subjects", values=_floats(size))
    out["dropout"] = Sample(label="Share that dropped out", values=_floats(lost.reindex(replicate)))
    out["duration"] = Sample(label="Duration, days", values=_days(run, replicate))
    return out | _worth(out, costs)


def _floats(column: pd.Series[Any]) -> Floats:
    return np.asarray(column, dtype=np.float64)


def _decisions(run: RunRecord, replicate: NDArray[np.int64]) -> dict[str, Sample]:
    said = run.decisions.set_index("replicate").reindex(replicate)
    return {
        f"decide_{name}": Sample(label=f"P({name})", values=_floats(said[name]), kind="share")
        for name in run.protocol.decide
    }


def _contrast(
    run: RunRecord, which: tuple[str, str, str], replicate: NDArray[np.int64], *, main: bool
) -> dict[str, Sample]:  # fmt: skip
    """Rejection, and of the first estimand bias, coverage and half the width of the interval."""
    key, endpoint, arm = which
    a = run.analyses
    rows = a[(a["analysis"] == key) & (a["endpoint"] == endpoint) & (a["contrast"] == arm)]
    rows = rows.set_index("replicate").reindex(replicate)
    asked = [name for name, estimand in run.protocol.estimands.items() if endpoint in estimand.endpoint]
    name, words = f"{key}.{endpoint}.{arm}", f"{endpoint}, {arm}" + (f" ({key})" if len(asked) > 1 else "")
    out: dict[str, Sample] = {}
    if rows["p"].notna().any():
        reject = np.where(rows["reject"].isna(), np.nan, _floats(rows["reject"]))
        out[f"reject_{name}"] = Sample(label=f"P(reject) {words}", values=reject, kind="share")
    estimate, low, high = (_floats(rows[c]) for c in ("estimate", "lower", "upper"))
    out[f"estimate_{name}"] = Sample(label=f"Estimate {words}", values=estimate)
    if not main:
        return out
    if np.isfinite(high - low).any():
        out[f"width_{name}"] = Sample(label=f"Half-width of its interval {words}", values=(high - low) / 2)
    true = _truth(run, which, replicate)
    if np.isfinite(true).any():
        inside = np.where(np.isfinite(low + high + true), ((low <= true) & (true <= high)).astype(np.float64), np.nan)
        out[f"bias_{name}"] = Sample(label=f"Bias {words}", values=estimate - true)
        out[f"coverage_{name}"] = Sample(label=f"Coverage {words}", values=inside, kind="share")
    return out


def _truth(run: RunRecord, which: tuple[str, str, str], replicate: NDArray[np.int64]) -> Floats:
    """True difference of each replicate (every subject under both arms), NaN where it was not computed."""
    key, endpoint, arm = which
    estimand, table = run.protocol.estimands[key], run.truth
    if estimand.summary not in DIFFERENCES or table.empty:
        return np.full(replicate.size, np.nan)
    asked = table[(table["analysis"] == key) & (table["endpoint"] == endpoint)]
    means: pd.DataFrame = asked.pivot_table(index="replicate", columns="arm", values="mean").reindex(replicate)
    if arm not in means or estimand.against not in means:
        return np.full(replicate.size, np.nan)
    return _floats(means[arm] - means[estimand.against])


def _days(run: RunRecord, replicate: NDArray[np.int64]) -> Floats:
    """From the first entry to the end; without enrolment, days of follow-up of a subject."""
    looks: pd.DataFrame | None = getattr(run, "looks", None)
    if looks is None or looks.empty:
        return np.full(replicate.size, run.protocol.horizon / 24.0)
    ended = looks[looks["ended"]].groupby("replicate")["day"].first()
    return _floats(ended.reindex(replicate))


def _worth(out: Mapping[str, Sample], costs: Costs | None) -> dict[str, Sample]:
    """Cost, and what a success is worth less the cost: the decision named `go`, a rejection where there is none."""
    if costs is None:
        return {}
    cost = costs.fixed + costs.subject * out["subjects"].values + costs.time * out["duration"].values
    found = {"cost": Sample(label="Cost", values=cost)}
    if costs.value is not None:
        success = out["decide_go"] if "decide_go" in out else out["reject"]
        found["net"] = Sample(label="Net value", values=costs.value * success.values - cost)
    return found


def _remarks(records: Mapping[str, RunRecord], *, null: bool) -> tuple[str, ...]:
    first, *others = records
    found = [
        f"{100 * share:.1f} % of the subjects of {first} that {name} also has are the same people (covariates, draw)."
        for name in others if (share := same_people(records[first], records[name])) >= 0
    ]  # fmt: skip
    if null:
        found.append("No effect: every arm has the control's doses. Of a test with a margin that is not its null.")
    return tuple(found)


def same_people(a: RunRecord, b: RunRecord) -> float:
    """Share of the subjects both runs have whose covariates and draw of the parameters are equal; -1 without any."""
    names = [n for n in a.outcomes.columns if n.isupper() and n.isidentifier() and n in b.outcomes.columns]
    keys = ["replicate", "subject"]
    both = a.outcomes[[*keys, "draw", *names]].merge(b.outcomes[[*keys, "draw", *names]], on=keys)
    if both.empty:
        return -1.0
    equal = np.ones(len(both), np.bool_)
    for name in ("draw", *names):
        x, y = both[f"{name}_x"].to_numpy(), both[f"{name}_y"].to_numpy()
        equal &= (x == y) | (np.isnan(x.astype(np.float64)) & np.isnan(y.astype(np.float64)))
    return float(equal.mean())
