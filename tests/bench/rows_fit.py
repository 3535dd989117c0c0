"""Theophylline, default settings, each of 10 seeds: the posterior of three other tools, and the limits of a fit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from tests.bench.harness import Measured, row

SEEDS = tuple(range(1, 11))
REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "pk_estimates.csv"
NAMES = {"log CL": "log_CL", "log V": "log_V", "log ka": "log_KA"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The diagnostics of one fit."""

    diagnostics: dict

    def of(self, name: str) -> dict:
        return next(p for p in self.diagnostics["parameters"] if p["name"] == name)


@cache
def runs() -> tuple[Run, ...]:
    """Ten fits with nothing but a seed given, none from the cache."""
    from pkpd.bayes import fit
    from pkpd.model.library import data_path, load
    from pkpd.model.records import Records

    model = load("theophylline")
    records = Records.read(data_path("theophylline.csv"), model)
    made = []
    for seed in SEEDS:
        found = fit(model, records, seed=seed, cache=False)
        made.append(Run(diagnostics=found.diagnostics))
        shutil.rmtree(found.tree_path.parent)
    return tuple(made)


@cache
def bayes() -> dict[str, tuple[float, float]]:
    """Mean and sd of the Bayes rows (Stan = PyMC NUTS = nutpie). The rows need ../shared."""
    table = pd.read_csv(REFERENCE)
    rows = table[(table.dataset == "theophylline") & table.source.str.startswith("Bayes")]
    return {r.parameter: (float(r.value), float(r.sd_or_se)) for r in rows.itertuples()}


def distance(parameter: str) -> Measured:
    """Largest |posterior mean - reference| in reference sds over the seeds."""
    mean, sd = bayes()[parameter]
    z = [(run.of(NAMES[parameter])["mean"] - mean) / sd for run in runs()]
    return Measured(max(map(abs, z)), f"z from {min(z):+.3f} to {max(z):+.3f} over {len(z)} seeds")


@row("fit.theophylline.log_cl", unit="posterior sd", bar="<= 0.15")
def log_cl() -> Measured:
    return distance("log CL")


@row("fit.theophylline.log_v", unit="posterior sd", bar="<= 0.15")
def log_v() -> Measured:
    return distance("log V")


@row("fit.theophylline.log_ka", unit="posterior sd", bar="<= 0.3")
def log_ka() -> Measured:
    return distance("log ka")


@row("fit.theophylline.sd_ratio", unit="|ratio - 1|", bar="<= 0.15")
def sd_ratio() -> Measured:
    found = {name: [run.of(NAMES[name])["sd"] / sd - 1.0 for run in runs()] for name, (_, sd) in bayes().items()}
    note = ", ".join(f"{name} {1 + min(x):.3f} to {1 + max(x):.3f}" for name, x in found.items())
    return Measured(max(abs(v) for x in found.values() for v in x), note)


@row("fit.theophylline.rhat", unit="R-hat", bar="<= 1.01")
def rhat() -> Measured:
    each = [run.diagnostics["max_rhat"] for run in runs()]
    return Measured(max(each), f"worst of 12 population parameters; by seed {', '.join(f'{x:.4f}' for x in each)}")


@row("fit.theophylline.ess_bulk", unit="draws", bar=">= 400")
def ess_bulk() -> Measured:
    each = [run.diagnostics["min_ess_bulk"] for run in runs()]
    return Measured(min(each), f"least of 12 population parameters; by seed {', '.join(f'{x:.0f}' for x in each)}")


@row("fit.theophylline.divergences", unit="transitions", bar="== 0")
def divergences() -> Measured:
    each = [run.diagnostics["divergences"] for run in runs()]
    return Measured(float(sum(each)), f"{len(each)} seeds, every chain and draw")


@row("fit.theophylline.apart", unit="pooled sd", bar="<= 3")
def apart() -> Measured:
    """Mode check: chains in a flip-flop mode would lie tens of sds apart."""
    return Measured(max(run.diagnostics["max_apart"] for run in runs()), "largest distance of chain means, 10 seeds")


COLD = """
import json, time
from pkpd.bayes import fit
from pkpd.model.library import data_path, load
from pkpd.model.records import Records
model = load("theophylline")
found = fit(model, Records.read(data_path("theophylline.csv"), model), seed=1)
print(json.dumps({"cpu": time.process_time(), "stages": found.seconds}))
"""


def cold(folder: Path) -> dict:
    """A fit in a new process with every cache under `folder`: CPU seconds of the process, wall seconds of the stages."""
    kept = folder / "cache"
    kept.mkdir(mode=0o700, exist_ok=True)
    places = {
        "VTRIAL_CACHE": str(kept), "PYTENSOR_FLAGS": f"base_compiledir={folder}/pytensor", "NUMBA_CACHE_DIR": f"{folder}/numba",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", COLD], capture_output=True, text=True, check=True, env=os.environ | places
    )
    return json.loads(done.stdout.splitlines()[-1])


@cache
def first_and_second() -> tuple[dict, dict, dict]:
    """On empty caches; with compiled code but no fit; with the fit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = cold(folder)
        shutil.rmtree(folder / "cache")
        return first, cold(folder), cold(folder)


def spent(found: dict) -> Measured:
    split = ", ".join(f"{stage} {value:.1f}" for stage, value in found["stages"].items())
    return Measured(found["cpu"], f"CPU of the whole process; wall by stage: {split}")


@row("fit.theophylline.cpu_cold", unit="CPU s", bar="<= 30")
def cpu_cold() -> Measured:
    return spent(first_and_second()[0])


@row("fit.theophylline.cpu_warm", unit="CPU s", bar="<= 20")
def cpu_warm() -> Measured:
    """Compiled code cached, the posterior not: what a second model or seed costs."""
    return spent(first_and_second()[1])


@row("fit.theophylline.cpu_reused", unit="CPU s", bar="<= 3")
def cpu_reused() -> Measured:
    return Measured(first_and_second()[2]["cpu"], "CPU of the whole process, posterior read from the cache")
