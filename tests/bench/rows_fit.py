"""Theophylline, default settings, each of 10 seeds: the posterior of three other tools, and the limits of a fit."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
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
import json, sys, time
from pkpd.bayes import fit
from pkpd.model.library import load
from pkpd.model.records import Records
model = load(sys.argv[1])
found = fit(model, Records.read(sys.argv[2], model), seed=1)
print(json.dumps({"cpu": time.process_time(), "stages": found.seconds}))
"""


def cold(folder: Path, name: str, data: Path) -> dict:
    """A fit in a new process with every cache under `folder`: CPU seconds of the process, wall seconds of the stages."""
    kept = folder / "cache"
    kept.mkdir(mode=0o700, exist_ok=True)
    places = {
        "VTRIAL_CACHE": str(kept), "PYTENSOR_FLAGS": f"base_compiledir={folder}/pytensor", "NUMBA_CACHE_DIR": f"{folder}/numba",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", COLD, name, str(data)], capture_output=True, text=True, check=True,
        env=os.environ | places,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


@cache
def first_and_second() -> tuple[dict, dict, dict]:
    """On empty caches; with compiled code but no fit; with the fit."""
    from pkpd.model.library import data_path

    with tempfile.TemporaryDirectory() as name:
        folder, given = Path(name), ("theophylline", data_path("theophylline.csv"))
        first = cold(folder, *given)
        shutil.rmtree(folder / "cache")
        return first, cold(folder, *given), cold(folder, *given)


def spent(found: dict) -> Measured:
    split = ", ".join(f"{stage} {value:.1f}" for stage, value in found["stages"].items() if not stage.endswith(".cpu"))
    return Measured(found["cpu"], f"CPU of the whole process; wall by stage: {split}")


@row("fit.theophylline.cpu_cold", unit="CPU s", bar="<= 30")
def cpu_cold() -> Measured:
    return spent(first_and_second()[0])


@row("fit.theophylline.cpu_warm", unit="CPU s", bar="<= 12")
def cpu_warm() -> Measured:
    """Compiled code cached, the posterior not: what a second model or seed costs."""
    return spent(first_and_second()[1])


@row("fit.theophylline.cpu_reused", unit="CPU s", bar="<= 3")
def cpu_reused() -> Measured:
    return Measured(first_and_second()[2]["cpu"], "CPU of the whole process, posterior read from the cache")


@row("fit.theophylline.speed", unit="bulk ESS per CPU s", bar=">= 300")
def speed() -> Measured:
    """2 x (1000 + 1000), sampling alone: the worst of three seeds."""
    from pkpd.model.library import data_path

    each = [
        quick("theophylline", data_path("theophylline.csv"), seed, draws=1000, tune=1000, chains=2)
        for seed in SEEDS[:3]
    ]
    speeds = [d["min_ess_bulk"] / d["seconds"]["sample.cpu"] for d in each]
    return Measured(min(speeds), f"least bulk ESS {', '.join(f'{d["min_ess_bulk"]:.0f}' for d in each)}")


def quick(name: str, path: Path, seed: int, **settings: int) -> dict:
    """Diagnostics of one fit of a library model, its seconds with them; nothing from the cache."""
    from pkpd.bayes import fit
    from pkpd.model.library import load
    from pkpd.model.records import Records

    model = load(name)
    found = fit(model, Records.read(path, model), seed=seed, cache=False, **settings)
    shutil.rmtree(found.tree_path.parent)
    return {**found.diagnostics, "seconds": found.seconds}


DATA = REFERENCE.parents[1] / "data" / "pk"
WARFARIN = {
    "log k": "log_K", "log CL": "log_CL", "log V": "log_V", "log EC50": "log_EC50", "log kout": "log_KOUT",
    "log E0": "log_E0",
}  # fmt: skip
NONMEM = {
    "CL": ("log_CL", 0.03),
    "V": ("log_V", 0.03),
    "EC50": ("log_EC50", 0.1),
    "kout": ("log_KOUT", 0.03),
    "E0": ("log_E0", 0.03),
}


@cache
def warfarin() -> tuple[dict, ...]:
    return tuple(quick("warfarin_pca", DATA / "warfarin.csv", seed) for seed in SEEDS)


@cache
def phenobarbital() -> tuple[dict, ...]:
    return tuple(quick("grasela_phenobarbital", DATA / "phenobarbital.csv", seed) for seed in SEEDS)


def of(found: dict, name: str) -> dict:
    return next(p for p in found["parameters"] if p["name"] == name)


def reference(dataset: str, source: str) -> pd.DataFrame:
    table = pd.read_csv(REFERENCE)
    return table[(table.dataset == dataset) & table.source.str.startswith(source)].set_index("parameter")


@row("fit.warfarin.means", unit="posterior sd over its limit", bar="<= 1")
def warfarin_means() -> Measured:
    """Against the Bayes rows: 0.15 posterior sd, absorption 0.3."""
    rows = reference("warfarin", "Bayes")
    z = {
        n: [(of(f, ours)["mean"] - float(rows.value[n])) / float(rows.sd_or_se[n]) for f in warfarin()]
        for n, ours in WARFARIN.items()
    }
    limit = {n: 0.3 if n == "log k" else 0.15 for n in z}
    note = ", ".join(f"{n} {min(x):+.3f} to {max(x):+.3f}" for n, x in z.items())
    return Measured(max(abs(v) / limit[n] for n, x in z.items() for v in x), note)


@row("fit.warfarin.sds", unit="|ratio - 1|", bar="<= 0.15")
def warfarin_sds() -> Measured:
    rows = reference("warfarin", "Bayes")
    ratio = {n: [of(f, ours)["sd"] / float(rows.sd_or_se[n]) - 1.0 for f in warfarin()] for n, ours in WARFARIN.items()}
    return Measured(
        max(abs(v) for x in ratio.values() for v in x),
        ", ".join(f"{n} {1 + min(x):.3f} to {1 + max(x):.3f}" for n, x in ratio.items()),
    )


@row("fit.warfarin.nonmem", unit="distance over its limit", bar="<= 1")
def warfarin_nonmem() -> Measured:
    """CL, V, kout, E0 within 3 %, EC50 within 10 % of NONMEM's."""
    rows = reference("warfarin", "NONMEM")
    away = {
        n: max(abs(math.exp(of(f, ours)["mean"]) / float(rows.value[n]) - 1.0) for f in warfarin())
        for n, (ours, _) in NONMEM.items()
    }
    return Measured(max(v / NONMEM[n][1] for n, v in away.items()), ", ".join(f"{n} {v:.3f}" for n, v in away.items()))


def limits(found: tuple[dict, ...]) -> Measured:
    """Broken limits: R-hat 1.01, bulk ESS 400, no divergence."""
    broken = sum(d["max_rhat"] > 1.01 or d["min_ess_bulk"] < 400 or d["divergences"] > 0 for d in found)
    each = ", ".join(f"{d['max_rhat']:.4f}/{d['min_ess_bulk']:.0f}/{d['divergences']}" for d in found)
    return Measured(float(broken), f"R-hat/bulk ESS/divergences by seed: {each}")


@row("fit.warfarin.limits", unit="seeds", bar="== 0")
def warfarin_limits() -> Measured:
    return limits(warfarin())


@row("fit.warfarin.speed", unit="bulk ESS per CPU s", bar=">= 40")
def warfarin_speed() -> Measured:
    each = [d["min_ess_bulk"] / d["seconds"]["sample.cpu"] for d in warfarin()]
    return Measured(min(each), f"by seed {', '.join(f'{x:.0f}' for x in each)}")


@row("fit.warfarin.density", unit="microseconds", bar="<= 80")
def warfarin_density() -> Measured:
    """Log density and gradient at typical values, called through C: the fastest of 20 times 200 calls."""
    import ctypes

    import numpy as np

    from pkpd.bayes.density import density
    from pkpd.bayes.design import design, measured_outputs
    from pkpd.bayes.plan import plan
    from pkpd.model.library import load
    from pkpd.model.records import Records

    model = load("warfarin_pca")
    records = Records.read(DATA / "warfarin.csv", model)
    found = density(plan(model, measured_outputs(model, records)), design(model, records))
    x, value = np.zeros(found.layout.size), np.empty(1)
    x[:7] = [0.165, -2.006, 2.045, 4.81, 0.096, -2.938, 4.570]
    point, out, total = (a.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for a in (x, np.empty(x.size), value))
    best = math.inf
    for _ in range(20):
        start = time.process_time()
        for _ in range(200):
            found.module.entry.ctypes(x.size, point, out, total, found.header.ctypes.data)
        best = min(best, (time.process_time() - start) / 200)
    return Measured(1e6 * best, f"log density {value[0]:.3f}")


@row("fit.warfarin.cpu_cold", unit="CPU s", bar="<= 35")
def warfarin_cold() -> Measured:
    with tempfile.TemporaryDirectory() as name:
        return spent(cold(Path(name), "warfarin_pca", DATA / "warfarin.csv"))


@row("fit.phenobarbital.nlme", unit="standard errors", bar="<= 1")
def phenobarbital_nlme() -> Measured:
    rows = reference("phenobarbital", "nlme")
    z = {
        n: max(abs(of(f, ours)["mean"] - float(rows.value[n])) / float(rows.sd_or_se[n]) for f in phenobarbital())
        for n, ours in (("log CL", "log_CL"), ("log V", "log_V"))
    }
    return Measured(max(z.values()), ", ".join(f"{n} {v:.2f}" for n, v in z.items()))


@row("fit.phenobarbital.limits", unit="seeds", bar="== 0")
def phenobarbital_limits() -> Measured:
    return limits(phenobarbital())
