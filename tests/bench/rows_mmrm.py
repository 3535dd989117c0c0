"""The mixed model for repeated measures: speed, size in small samples, and the whole way of the W2 workload."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose, normals, uniforms
from tests.bench.harness import Measured, row
from trials.analysis.continuous import ancova_dunnett
from trials.analysis.mmrm import mmrm
from trials.operating import proportion

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SEED = 20261122
NULL_TRIALS, CHUNK = 20_000, 2_000
EXAMPLE = Path(__file__).parents[2] / "examples" / "warfarin_mmrm" / "protocol.yaml"

GLS = """suppressMessages(library(nlme))
d <- read.csv(commandArgs(TRUE)[1]); d$A <- factor(d$arm); d$V <- factor(d$v)
t <- system.time(m <- gls(y ~ A*V + base*V, data=d, correlation=corSymm(form=~v|id), weights=varIdent(form=~1|V),
                          method="REML"))
cat(sum(t[1:2]), coef(m)["A1"] + coef(m)["A1:V6"], logLik(m))
"""


def people(replicate: Integers, *, subjects: int, arms: int, visits: int) -> tuple[Floats, Floats, Integers]:
    """Visits (R, N, V) without any effect, correlated, 15 % missing (dropout and missed visits), baseline, arm."""
    who = {"subject": np.arange(subjects)[:, None], "replicate": replicate[:, None, None]}
    z = normals(SEED, Purpose.SUMMARY_TRIAL, **who, slot=np.arange(visits + 2))
    u = uniforms(SEED, Purpose.SUMMARY_TRIAL, **who, slot=100 + np.arange(2 * visits))
    y = 0.8 * z[:, :, :1] + 0.3 * np.cumsum(z[:, :, 2:], axis=2) * np.sqrt(4 / visits)
    gone = np.cumsum(u[:, :, :visits] < 0.21 / visits, axis=2) > 0
    y[gone | (u[:, :, visits:] < 0.04)] = np.nan
    return y, z[:, :, 0] + 0.7 * z[:, :, 1], np.tile(np.arange(subjects) % arms, (replicate.size, 1))


def per_second(multiplicity: str, trials: int) -> float:
    """Analyses per CPU second of 4 arms x 100 subjects x 6 visits, compilation apart."""
    y, base, arm = people(np.arange(trials), subjects=400, arms=4, visits=6)
    strata = np.zeros_like(arm)
    mmrm(y[:1], base[:1], arm[:1], strata[:1], arms=4, multiplicity=multiplicity)
    start = time.process_time()
    found = mmrm(y, base, arm, strata, arms=4, multiplicity=multiplicity)
    seconds = time.process_time() - start
    assert (found.status == 0).all()
    return trials / seconds


@row("trials.mmrm.analyses", unit="1/s, one core", bar=">= 500")
def analyses() -> Measured:
    """Unstructured REML with Kenward-Roger, 4 arms x 100 subjects x 6 visits, 15 % missing."""
    y, _, _ = people(np.arange(20), subjects=400, arms=4, visits=6)
    note = f"{np.isnan(y).mean():.0%} missing; with Dunnett's quadrature too {per_second('dunnett', 200):.0f}/s"
    return Measured(per_second("none", 300), note)


@row("trials.mmrm.times_faster_than_gls", unit="1", bar=">= 100")
def against_gls() -> Measured:
    """One such analysis against R nlme::gls (which gives no small-sample df) in the same run, CPU time; 0 without R."""
    if shutil.which("Rscript") is None:
        return Measured(0.0, "no R here")
    y, base, arm = people(np.arange(1), subjects=400, arms=4, visits=6)
    with tempfile.TemporaryDirectory() as folder:
        data, script = Path(folder) / "d.csv", Path(folder) / "gls.R"
        rows = [f"{i},{v + 1},{y[0, i, v]!r},{base[0, i]!r},{arm[0, i]}" for i in range(400) for v in range(6)
                if np.isfinite(y[0, i, v])]  # fmt: skip
        data.write_text("id,v,y,base,arm\n" + "\n".join(rows).replace("np.float64(", "").replace(")", ""))
        script.write_text(GLS)
        made = subprocess.run(["Rscript", str(script), str(data)], capture_output=True, text=True, check=True)
    seconds, estimate, _ = (float(x) for x in made.stdout.split())
    mine = mmrm(y, base, arm, np.zeros_like(arm), arms=4, multiplicity="none")
    gap = abs(mine.estimate[0, 0] / estimate - 1)
    return Measured(seconds * per_second("none", 100), f"gls {seconds:.1f} s CPU; estimates differ by {gap:.0e} of one")


def null_size(df: str) -> Measured:
    """Share of null trials of 20 per arm, 4 visits, that reject at the last visit."""
    start, reject, failed = time.process_time(), [], 0
    for first in range(0, NULL_TRIALS, CHUNK):
        y, base, arm = people(1_000_000 + np.arange(first, first + CHUNK), subjects=40, arms=2, visits=4)
        found = mmrm(y, base, arm, np.zeros_like(arm), arms=2, df=df)
        reject.append(found.reject[found.status[:, 0] == 0, 0])
        failed += int((found.status != 0).sum())
    size = proportion(np.concatenate(reject))
    seconds = time.process_time() - start
    note = f"MCSE {size.mcse:.4f}, {NULL_TRIALS} null trials, {failed} without an estimate, {seconds:.0f} s CPU"
    return Measured(size.value, note)


@row("trials.mmrm.size_20_per_arm_kenward_roger", unit="1", bar="0.045 .. 0.055")
def size_kenward_roger() -> Measured:
    """Type I error at 20 per arm, two-sided 5 %, 4 visits, 15 % missing; approximate by theory."""
    return null_size("kenward_roger")


@row("trials.mmrm.size_20_per_arm_satterthwaite", unit="1", bar="<= 0.06")
def size_satterthwaite() -> Measured:
    """The same with Satterthwaite's df and the unadjusted standard error."""
    return null_size("satterthwaite")


@row("trials.ancova.size_20_per_arm", unit="1", bar="0.04793 .. 0.05207")
def size_ancova() -> Measured:
    """Type I error of the ANCOVA at 20 per arm, exact by theory, within 3 MCSE of 5 % at 100,000 null trials."""
    start, reject = time.process_time(), []
    for first in range(0, 100_000, 10_000):
        y, base, arm = people(2_000_000 + np.arange(first, first + 10_000), subjects=40, arms=2, visits=1)
        found = ancova_dunnett(y[:, :, -1], base, arm, np.zeros_like(arm), arms=2)
        reject.append(found.reject[:, 0])
    size = proportion(np.concatenate(reject))
    return Measured(size.value, f"MCSE {size.mcse:.5f}, {time.process_time() - start:.0f} s CPU")


@row("trials.mmrm.w2_end_to_end", unit="trials/s, two cores", bar=">= 50")
def end_to_end() -> Measured:
    """`vtrial run` of examples/warfarin_mmrm: W2 with errors of measurement, 4 arms x 100 subjects, six visits, MMRM.

    Enrolment to record, truth of 40 of the replicates included, kernels compiled: twice what one process does in a
    second of its CPU time; the note has two workers by the clock, which other work on the machine slows.
    """
    from trials.dispatch import Mode
    from trials.run import run

    trials = 400
    with tempfile.TemporaryDirectory() as folder:
        run(EXAMPLE, Path(folder) / "warm", mode=Mode.choose(serial=True), replicates=8)
        start = time.process_time()
        found = run(EXAMPLE, Path(folder) / "timed", mode=Mode.choose(serial=True), replicates=trials)
        seconds, clock = time.process_time() - start, time.perf_counter()
        run(EXAMPLE, Path(folder) / "workers", mode=Mode.choose(workers=2), replicates=trials)
        clock = time.perf_counter() - clock
        statuses = int((found.analyses["status"] != 0).sum())
    note = (
        f"{trials} trials in {seconds:.1f} s CPU, {statuses} contrasts without an estimate; two workers {clock:.0f} s"
    )
    return Measured(2 * trials / seconds, note)
