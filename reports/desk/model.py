"""`vtrial fit`: a model made to meet data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.desk import guard, progress, say

if TYPE_CHECKING:
    from pkpd.bayes import Fit
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Where the posterior goes (Parquet) and how the command speaks."""

    out: Path | None
    machine: bool


def fit(name: str, data: str, sampling: Sampling, answer: Answer) -> int:
    """Fit a model to data, print posterior and diagnostics; 3 where the fit is not to be trusted."""
    model, records = _inputs(name, data)
    from pkpd.bayes import fit as fitted  # after the inputs are known to be sound: this import takes seconds
    from pkpd.posterior import write

    with progress.listening(machine=answer.machine) as heard:
        found = fitted(
            model, records, seed=sampling.seed, draws=sampling.draws, tune=sampling.tune, chains=sampling.chains,
            cache=not sampling.fresh, on_stage=lambda stage: heard(stage, 0, 0),
        )  # fmt: skip
    if answer.out is not None:
        write(found.posterior, answer.out)
    return _said(found, answer)


def _inputs(name: str, data: str) -> tuple[Model, Records]:
    """The model and the data, of the library or of this directory."""
    from pkpd.model.records import Records
    from trials.run import data_file, fit_model

    model = fit_model(name, Path())
    return model, Records.read(data_file(data, Path()), model)


def _said(found: Fit, answer: Answer) -> int:
    plain = dict(found.diagnostics)
    if answer.machine:
        say.machine({"event": "done", "digest": found.posterior.digest, "diagnostics": plain})
    else:
        say.result(*say.table([COLUMNS, *(_row(parameter) for parameter in plain["parameters"])]))
        say.result(plain["verdict"], *plain["remarks"], f"posterior {found.posterior.digest[:16]}")
        say.remark(f"every draw: {found.tree_path}", *([f"population draws: {answer.out}"] if answer.out else []))
    return guard.OK if plain["ok"] else guard.FAILED


def _row(parameter: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = (f"{parameter[name]:.4g}" for name in ("mean", "sd", "lower", "upper", "mcse"))
    return (parameter["name"], *numbers, f"{parameter['rhat']:.4f}", f"{parameter['ess_bulk']:.0f}")
