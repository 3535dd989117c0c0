"""`vtrial fit`: a model made to meet data."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.desk import guard, progress, say

if TYPE_CHECKING:
    from pkpd.bayes import Fit
    from pkpd.bayes.checks import Checks
    from pkpd.model.records import Records
    from pkpd.model.spec import Model
    from pkpd.posterior import Posterior

PARTICLES = 500  # of a run of SMC that is only to tell shares of modes
REFITS = 5  # subjects left out by fitting the others again, where smoothing cannot be trusted
COLUMNS = ("parameter", "mean", "sd", "2.5 %", "97.5 %", "MCSE", "R-hat", "bulk ESS")

__all__ = ["Answer", "Sampling", "fit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to sample; `fresh` samples although the same fit is stored."""

    seed: int
    draws: int
    tune: int
    chains: int
    fresh: bool
    blq: str = "m3"
    method: str = "nuts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Where the posterior (Parquet) and the page go, whether the fit is checked on its data, and how the command
    speaks.
    """

    out: Path | None
    report: Path | None
    checks: bool
    machine: bool


def fit(name: str, data: str, sampling: Sampling, answer: Answer) -> int:
    """Fit a model to data, print posterior and diagnostics; 3 where the fit is not to be trusted."""
    model, records = _inputs(name, data)
    from pkpd.bayes import fit as fitted  # after the inputs are known to be sound: this import takes seconds
    from pkpd.bayes.checks import with_checks
    from pkpd.posterior import write

    with progress.listening(machine=answer.machine) as heard:
        found = fitted(
            model, records, seed=sampling.seed, draws=sampling.draws, tune=sampling.tune, chains=sampling.chains,
            cache=not sampling.fresh, blq=sampling.blq, method=sampling.method,
            on_stage=lambda stage: heard(stage, 0, 0),
        )  # fmt: skip
        checks = _checked(found, records, sampling.seed, heard) if answer.checks else None
    posterior = found.posterior if checks is None else with_checks(found.posterior, checks)
    if answer.out is not None:
        write(posterior, answer.out)
    if answer.report is not None:
        _page((name, data), records, posterior, (checks, answer.report))
    return _said(found, checks, answer, _shares(name, data, found.diagnostics))


def _shares(name: str, data: str, found: Mapping[str, Any]) -> list[str]:
    """The command that tells what modes there are, where rates can change places and nobody has looked."""
    if not found.get("exchanges") or found.get("method") != "nuts":
        return []
    return [f"shares of the modes: vtrial fit {name} --data {data} --method smc --draws {PARTICLES}"]


def _checked(found: Fit, records: Records, seed: int, heard: progress.Listener) -> Checks:
    from pkpd.bayes.checks import checked

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return checked(
            found,
            records,
            seed=seed,
            refits=REFITS if found.posterior.sound else 0,
            on_stage=lambda stage: heard(stage, 0, 0),
        )


def _page(names: tuple[str, str], records: Records, posterior: Posterior, made: tuple[Checks | None, Path]) -> None:
    """`fit.html` and `fit.json` in the folder."""
    from pkpd.ground.store import write_atomic
    from reports.fit_page import page
    from reports.fitted import described
    from reports.page import render

    checks, folder = made
    found = dict(posterior.diagnostics)
    data = f"{names[1]} ({len(records)} subjects, {len(records.dv)} observations)"
    evidence = described(posterior.model.name, data, found, posterior=posterior, checks=checks)
    facts = (("Posterior", posterior.digest), ("Model", posterior.model.digest), ("Data", records.digest))
    plain = {"digest": posterior.digest, "model": names[0], "data": names[1], "diagnostics": found}
    more = {} if checks is None else {"checks": checks.to_dict()}
    write_atomic(
        folder / "fit.json", (json.dumps(_finite({**plain, **more}), indent=1, allow_nan=False) + "\n").encode()
    )
    write_atomic(folder / "fit.html", render(page(evidence, found, facts)).encode())


def _inputs(name: str, data: str) -> tuple[Model, Records]:
    """The model and the data, of the library or of this directory."""
    from pkpd.model.records import Records
    from trials.run import data_file, fit_model

    model = fit_model(name, Path())
    return model, Records.read(data_file(data, Path()), model)


def _said(found: Fit, checks: Checks | None, answer: Answer, advice: list[str]) -> int:
    plain = dict(found.diagnostics) if checks is None else {**found.diagnostics, "checks": checks.summary()}
    if answer.machine:
        say.machine({"event": "done", "digest": found.posterior.digest, "diagnostics": _finite(plain)})
    else:
        say.result(*say.table([COLUMNS, *(_row(parameter) for parameter in plain["parameters"])]))
        say.result(plain["verdict"], *plain["remarks"], *_checks(checks), f"posterior {found.posterior.digest[:16]}")
        say.result(*_modes(plain.get("modes")), *advice)
        say.remark(f"every draw: {found.tree_path}", *([f"population draws: {answer.out}"] if answer.out else []),
                   *([f"page: {answer.report / 'fit.html'}"] if answer.report else []))  # fmt: skip
    return guard.OK if plain["ok"] else guard.FAILED


def _modes(found: Mapping[str, Any] | None) -> list[str]:
    """Modes with their shares, and population quantities by mode."""
    if found is None or len(found["modes"]) < 2:
        return []
    modes = found["modes"]
    rows = [("in each mode, mean (sd)", *(m["label"] for m in modes))]
    rows.append(("share", *(f"{m['share']:.4g} +- {m['share_error']:.1g}" for m in modes)))
    rows.append(("log evidence", *(f"{m['log_evidence']:.2f} +- {m['log_evidence_error']:.2f}" for m in modes)))
    rows += [(name, *(f"{m['means'][name]:.4g} ({m['sds'][name]:.2g})" for m in modes)) for name in modes[0]["means"]]
    return list(say.table(rows))


def _finite(value: Any) -> Any:
    """The same without NaN and infinities, which JSON does not have: null."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _checks(found: Checks | None) -> list[str]:
    """What the checks say, in a few lines."""
    if found is None:
        return []
    lines = [*found.remarks, f"{100 * found.check.inside:.0f} % of the observed percentiles lie inside their 95 % band"]
    if found.loo is not None:
        loo = found.loo
        lines.append(
            f"leave-one-subject-out: elpd {loo.total:.1f} (se {loo.se:.1f}), {loo.effective_parameters:.1f} effective "
            f"parameters, {len(loo.doubtful)} subjects with Pareto k above 0.7"
        )
    return lines


def _row(parameter: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = (f"{parameter[name]:.4g}" for name in ("mean", "sd", "lower", "upper", "mcse"))
    rhat = f"{parameter['rhat']:.4f}" if math.isfinite(parameter["rhat"]) else "-"
    return (parameter["name"], *numbers, rhat, f"{parameter['ess_bulk']:.0f}")
