"""Virtual trials beside the published outcomes of ../shared/reference/trials/validation_observed.csv, row by row.

`python -m tests.bench.rows_observed` prints every row: the outcome seen, the 95 % prediction interval of the same
number of virtual subjects under a model of the library, whether it covers, or why there is none. Rows quoted from
memory are shown and decide nothing. What the library does not know of a trial (its covariates, exposure) is assumed and
said. The interval holds uncertainty of the parameters where the library has it, variation between and within subjects.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pkpd import residual
from pkpd.engine.build import compiled
from pkpd.engine.solve import solve
from pkpd.ground.streams import Purpose, normals, slots
from pkpd.model.library import load
from pkpd.model.outcomes import classes, lived
from pkpd.model.regimen import Dose, Events, Regimen
from pkpd.model.variability import PopulationDraws, individual, published, random_effects
from tests.bench.harness import Measured, row

Floats = NDArray[np.float64]
TABLE = Path(__file__).parents[3] / "shared/reference/trials/validation_observed.csv"
SEED, TRIALS = 20261122, 400
NO_MODEL = {"EVO1": "the library has no model of evolocumab (its PCSK9 antibody is alirocumab)"}


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Virtual subjects (R, N) of one model."""

    model: Any
    draws: PopulationDraws
    parameters: Floats
    inputs: Mapping[str, Floats]

    def known(self, more: Mapping[str, Floats]) -> dict[str, Floats]:
        """What the response layer reads, each (R, N, 1) or (R, N, V)."""
        own = {name: self.parameters[:, :, i, None] for i, name in enumerate(self.model.parameters)}
        return {**own, **{name: value[..., None] for name, value in self.inputs.items()}, **more}


def drawn(name: str, n: int, covariates: Mapping[str, float]) -> People:
    """n subjects in each of the trials, all with the same covariates."""
    model, who, number = load(name), np.arange(n), np.arange(TRIALS)
    draws = published(model, TRIALS, SEED)
    inputs = {key: np.full((TRIALS, n), float(value)) for key, value in covariates.items()}
    inputs |= classes(model, draws.typical, SEED, subject=who, replicate=number)
    z = random_effects(model, SEED, subject=who, replicate=number)[:, :, 0]
    made = individual(model, draws.typical, np.linalg.cholesky(draws.omega), inputs, z=z)
    return People(model=model, draws=draws, parameters=made, inputs=inputs)


def measured(people: People, output: str, true: Floats) -> Floats:
    """Values (R, N, V) with residual error."""
    z = normals(
        SEED, Purpose.RESIDUAL, subject=np.arange(true.shape[1])[None, :, None],
        replicate=np.arange(true.shape[0])[:, None, None], index=np.arange(true.shape[2]), slot=slots([output]),
    )  # fmt: skip
    error = residual.error_of(people.model, people.draws, output)
    found: Floats = residual.observe(residual.taken(error, np.arange(true.shape[0]), (1, 1)), true, z)
    return found


def seizures(arm: str, n: int) -> tuple[Floats, str]:
    """Share with at least 50 % fewer seizures: 12 weeks before, 12 on treatment; at least 12 seizures before."""
    exposure = {"placebo": 0.0, "1000 mg/d": 10.3, "3000 mg/d": 31.0}[arm]
    pool = drawn("schoemaker_levetiracetam", 3 * n, {"CHILD": 0, "TREAT": 0, "CAV": exposure})
    treated = np.broadcast_to(np.arange(6) >= 3, (*pool.parameters.shape[:2], 6)).astype(np.float64)
    known = pool.known({"TREAT": treated, "TIME": np.broadcast_to(np.arange(1.0, 7.0) * 672, treated.shape)})
    model, shape = pool.model, pool.parameters.shape[:2]
    made, _ = lived(model, known, model.response, seed=SEED, subject=np.arange(shape[1])[None, :],
                    replicate=np.arange(shape[0])[:, None])  # fmt: skip
    before, after = made["MONTHLY"][:, :, :3].sum(axis=2), made["MONTHLY"][:, :, 3:].sum(axis=2)
    shares = []
    for start, end in zip(before, after, strict=True):
        kept = np.flatnonzero(start >= 12)[:n]
        shares.append(100.0 * (end[kept] <= 0.5 * start[kept]).mean())
    return np.array(shares), "mean concentration from a clearance of 4.03 L/h (label, assumed); adults"


def neutropenia(arm: str, n: int, limit: float) -> tuple[Floats, str]:
    """Share whose lowest count in 21 days is under a limit [10^9/L], one course."""
    level = float(arm.split(" ")[0])
    surface = 1.9 if "label" in arm else 1.6
    reference = {"BSA": surface, "AAG": 1.34, "AGE": 56, "ALB": 41, "SEX": 0 if "breast" in arm else 1, "ECOG1": 0,
                 "PRIOR": 1}  # fmt: skip
    n_used = min(n, 200)
    people = drawn("netterberg_docetaxel", n_used, reference)
    from pkpd.ground.validation import adapter

    dose = adapter(Dose).validate_python({"amount": f"{level * surface} mg", "into": "central", "duration": "1 h"})
    rows = TRIALS * n_used
    model = compiled(people.model)
    events = Events.shared(Regimen((dose,)).schedule(people.model.states), rows)
    times = np.arange(0.0, 21.5 * 24, 12.0)
    inputs = {name: np.ascontiguousarray(people.inputs[name]).reshape(-1) for name in model.inputs}
    found = solve(model, people.parameters.reshape(rows, -1), events, times, covariates=inputs)
    circulating = found.values[:, model.outputs.index("Circ")].min(axis=1).reshape(TRIALS, n_used)
    assumed = f"true nadir of the first course, every 12 h; BSA {surface}, AAG 1.34, pretreated, else the reference"
    share = 100.0 * (circulating < limit).mean(axis=1)
    if n > n_used:  # the spread of a bigger trial
        share = share.mean() + (share - share.mean()) * np.sqrt(n_used / n)
    return share, assumed


def moxifloxacin(hours: tuple[float, ...], n: int, white: int) -> tuple[Floats, str]:
    """Largest mean effect over the hours [ms], 400 mg once."""
    from pkpd.ground.validation import adapter

    people = drawn_without_effects(n, {"WT": 75.0 if white else 62.0, "WHITE": float(white)})
    dose = adapter(Dose).validate_python({"amount": "400 mg", "into": "depot"})
    rows, model = TRIALS * n, compiled(people.model)
    events = Events.shared(Regimen((dose,)).schedule(people.model.states), rows)
    inputs = {name: np.ascontiguousarray(people.inputs[name]).reshape(-1) for name in model.inputs}
    found = solve(model, people.parameters.reshape(rows, -1), events, np.array(hours), covariates=inputs)
    level = found.values[:, model.outputs.index("C")].reshape(TRIALS, n, len(hours))
    known = people.known({"C": level})
    true = known["A"] + known["AWHITE"] * known["WHITE"] + (known["B"] + known["BWHITE"] * known["WHITE"]) * level
    seen = measured(people, "DDQTCF", true)
    return seen.mean(axis=1).max(axis=1), "Morganroth's 10.5 ms within subjects, no variation between them"


def drawn_without_effects(n: int, covariates: Mapping[str, float]) -> People:
    model = load("morganroth_moxifloxacin")
    draws = published(model, TRIALS, SEED)
    inputs = {key: np.full((TRIALS, n), value) for key, value in covariates.items()}
    made = individual(model, draws.typical, np.empty((TRIALS, 0, 0)), inputs, z=np.empty((TRIALS, n, 0)))
    return People(model=model, draws=draws, parameters=made, inputs=inputs)


def alzheimer(n: int) -> tuple[Floats, str]:
    """Mean change of ADAS-cog at week 24 on placebo, everybody seen."""
    people = drawn("conrado_alzheimer", 2 * n, {"SEX": 0, "AGE": 75, "APOE4": 0.72, "COMED": 0})
    shape = people.parameters.shape[:2]
    time = np.broadcast_to(np.array([0.0, 168 * 24.0]), (*shape, 2))
    _, found = lived(people.model, people.known({"TIME": time}), people.model.response, seed=SEED,
                     subject=np.arange(shape[1])[None, :], replicate=np.arange(shape[0])[:, None])  # fmt: skip
    seen = measured(people, "ADAS", np.asarray(found["SCORE"]))
    change, start = seen[:, :, 1] - seen[:, :, 0], found["SCORE"][:, :, 0]
    kept = [own[(first >= 5) & (first <= 60)][:n].mean() for own, first in zip(change, start, strict=True)]
    return np.array(kept), "women of 75, no Alzheimer medication, baseline 5 to 60 points; nobody drops out"


def predicted(line: Any) -> tuple[Floats, str] | None:
    """Predictions (R,) of a row's outcome, and what was assumed; None without a model."""
    n = int(line.n)
    found: dict[str, Callable[[], tuple[Floats, str]]] = {
        "LEV1": lambda: seizures(line.arm, n),
        "LEV3": lambda: seizures(line.arm, n),
        "DOC": lambda: neutropenia(line.arm, n, 0.5 if "grade 4" in line.endpoint else 1.0),
        "QT1": lambda: moxifloxacin((4.0,) if "4 h" in line.endpoint else (3.0,), n, 0),
        "QT3": lambda: moxifloxacin((1.0, 2.0, 3.0, 4.0), n, 1),
        "AD": lambda: alzheimer(n),
    }
    return found[line.id]() if line.id in found else None


def judged(only: str = "") -> list[tuple[Any, Floats | None, str]]:
    """Every row with its prediction and a word."""
    made = []
    for line in pd.read_csv(TABLE).itertuples():
        if only and line.id != only:
            continue
        found = predicted(line)
        made.append((line, None, NO_MODEL[str(line.id)]) if found is None else (line, *found))
    return made


def covers(line: Any, values: Floats) -> bool:
    low, high = np.quantile(values, [0.025, 0.975])
    return bool(low <= line.estimate <= high)


@row("trials.observed.covered", unit="of 1", bar=">= 0.8")
def covered() -> Measured:
    """Share of the rows not from memory, with a model, that the 95 % prediction interval covers."""
    held = [covers(line, values) for line, values, _ in judged() if values is not None and line.how_known != "memory"]
    return Measured(float(np.mean(held)), f"{sum(held)} of {len(held)} rows")


def show(only: str = "") -> None:
    """The table of docs/analyses.md."""
    print("| row | arm | outcome | seen (how known) | predicted, 95 % | covers | assumed, or why not |\n|" + "---|" * 7)
    for line, values, word in judged(only):
        seen = f"{line.estimate:g} ({line.how_known})"
        if values is None:
            print(f"| {line.id} | {line.arm} | {line.endpoint} | {seen} | none | - | {word} |")
            continue
        low, middle, high = np.quantile(values, [0.025, 0.5, 0.975])
        verdict = ("yes" if covers(line, values) else "no") + (", no acceptance" if line.how_known == "memory" else "")
        shown = f"{middle:.3g} ({low:.3g} to {high:.3g})"
        print(f"| {line.id} | {line.arm} | {line.endpoint}, n {line.n} | {seen} | {shown} | {verdict} | {word} |")


if __name__ == "__main__":
    show(*sys.argv[1:])
