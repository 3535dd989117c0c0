"""Times to an event: decisions of R's `survival` on common data, true size, coverage and speed of the analyses."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose, uniforms
from tests.bench.harness import Measured, row
from trials.analysis import survival
from trials.analysis.cox import cox_arms
from trials.analysis.recurrent import andersen_gill
from trials.analysis.win_ratio import net_benefit, timed, win_odds, win_ratio, wins
from trials.operating import proportion

Floats = NDArray[np.float64]
Data = tuple[Floats, NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]

SEED = 20261122
R_SCRIPT = """
suppressMessages(library(survival))
f <- commandArgs(TRUE); d <- read.csv(f[1]); s <- split(d, d$r)
one <- function(x) {
  l <- survdiff(Surv(time, event) ~ arm + strata(stratum), x)
  c <- summary(coxph(Surv(time, event) ~ arm, x))
  m <- summary(survfit(Surv(time, event) ~ arm, x), rmean = 1)$table
  e <- diff(m[, "rmean"]); v <- sqrt(sum(m[, "se(rmean)"]^2))
  c(l$pvalue, c$coefficients[1, 5], c$coefficients[1, 1], 2 * pnorm(-abs(e / v)))
}
cost <- function(g) { t <- proc.time()[[1]]; for (x in s) g(x); proc.time()[[1]] - t }
out <- t(sapply(s, one))
write.csv(out, f[2], row.names = FALSE)
cat(cost(function(x) survdiff(Surv(time, event) ~ arm + strata(stratum), x)),
    cost(function(x) coxph(Surv(time, event) ~ arm, x)),
    cost(function(x) summary(survfit(Surv(time, event) ~ arm, x), rmean = 1)), "\\n")
"""


def simulated(replicates: NDArray[np.int64], *, n: int = 200, ratio: float = 0.65) -> Data:
    """Times with ties (a hundredth of the mean), dropout, follow-up of 1.5 means; arm, stratum: (R, n) each."""
    who: dict[str, Any] = {"subject": np.arange(n), "replicate": replicates[:, None]}
    u, lost, cut = (uniforms(SEED, Purpose.SUMMARY_TRIAL, **who, slot=slot) for slot in (0, 1, 2))
    arm = np.broadcast_to(np.arange(n) % 2, u.shape).astype(np.int64)
    stratum = (cut > 0.6).astype(np.int64) + (cut > 0.9)
    when = -np.log(u) / np.where(arm == 1, ratio, 1.0) / (1 + 0.4 * stratum)
    until = np.minimum(-np.log(lost) * 4.0, 1.5)
    seen = np.ceil(100 * np.minimum(when, until)) / 100
    return seen, when <= until, arm, stratum


def analysed(data: Data) -> tuple[Floats, Floats, Floats, Floats]:
    """p of the stratified log-rank test, p and log hazard ratio of Cox, p of the restricted mean to 1."""
    seen, event, arm, stratum = data
    cox = cox_arms(seen, event, arm, arms=2)
    return (
        survival.logrank(seen, event, arm, arms=2, strata=stratum).p[:, 0], cox.p[:, 0], cox.estimate[:, 0],
        survival.rmst(seen, event, arm, arms=2, tau=1.0).p[:, 0],
    )  # fmt: skip


@cache
def by_r(replicates: int) -> tuple[Floats, tuple[float, ...]] | None:
    """The same four columns by R and its CPU seconds of each analysis; None without R."""
    if shutil.which("Rscript") is None:
        return None
    seen, event, arm, stratum = simulated(np.arange(replicates))
    with tempfile.TemporaryDirectory() as folder:
        data, script, out = (Path(folder) / name for name in ("data.csv", "script.R", "out.csv"))
        columns = [
            np.repeat(np.arange(replicates), seen.shape[1]),
            *(a.reshape(-1) for a in (seen, event, arm, stratum)),
        ]
        np.savetxt(data, np.column_stack(columns), delimiter=",", header="r,time,event,arm,stratum", comments="",
                   fmt=("%d", "%.2f", "%d", "%d", "%d"))  # fmt: skip
        script.write_text(R_SCRIPT)
        done = subprocess.run(["Rscript", str(script), str(data), str(out)], capture_output=True, text=True, check=True)
        seconds = tuple(float(word) for word in done.stdout.split())
        return np.loadtxt(out, delimiter=",", skiprows=1), seconds


def _none() -> Measured:
    return Measured(float("nan"), "R is not installed: not measured")


@row("survival.decisions_of_r", unit="of 1,000", bar="== 0")
def decisions_of_r() -> Measured:
    """Common data sets on which a log-rank or Cox decision at 5 % is not that of R's survival."""
    found = by_r(1000)
    if found is None:
        return _none()
    mine, theirs = np.column_stack(analysed(simulated(np.arange(1000)))), found[0]
    differ = ((mine[:, [0, 1]] <= 0.05) != (theirs[:, [0, 1]] <= 0.05)).any(axis=1)
    worst = np.abs(mine / theirs - 1).max(axis=0)
    words = ", ".join(f"{x:.1e}" for x in worst)
    return Measured(float(differ.sum()), f"worst relative difference (log-rank p, Cox p, log HR, RMST p): {words}")


@cache
def speeds() -> tuple[Floats, Floats] | None:
    """Analyses a second on one core, ours and R's: log-rank (stratified), Cox, restricted mean; 2 x 100 subjects."""
    found = by_r(1000)
    if found is None:
        return None
    seen, event, arm, stratum = simulated(np.arange(4000))
    calls: tuple[Callable[[], Any], ...] = (
        lambda: survival.logrank(seen, event, arm, arms=2, strata=stratum),
        lambda: cox_arms(seen, event, arm, arms=2),
        lambda: survival.rmst(seen, event, arm, arms=2, tau=1.0),
    )
    mine = []
    for call in calls:
        call()
        began = time.process_time()
        call()
        mine.append(len(seen) / (time.process_time() - began))
    return np.array(mine), 1000 / np.array(found[1])


def _speed(place: int) -> Measured:
    found = speeds()
    if found is None:
        return _none()
    ours, theirs = found[0][place], found[1][place]
    return Measured(float(ours), f"{ours / theirs:.0f} times R's survival in the same run ({theirs:.0f}/s)")


@row("survival.speed.logrank", unit="analyses/s", bar=">= 10000")
def speed_logrank() -> Measured:
    """Stratified log-rank tests of 2 x 100 subjects on one core, CPU time."""
    return _speed(0)


@row("survival.speed.cox", unit="analyses/s", bar=">= 5000")
def speed_cox() -> Measured:
    """Cox fits (Efron, one covariate) of 2 x 100 subjects on one core, CPU time."""
    return _speed(1)


@row("survival.speed.rmst", unit="analyses/s", bar=">= 5000")
def speed_rmst() -> Measured:
    """Differences of restricted means with standard errors of 2 x 100 subjects on one core, CPU time."""
    return _speed(2)


def repeated(replicates: NDArray[np.int64], *, n: int, ratio: float = 1.0) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Recurrent events of gamma frailty (variance 0.5, mean rate 1.2 in follow-up 1): times (R, n, 8), until, arm."""
    who: dict[str, Any] = {"subject": np.arange(n), "replicate": replicates[:, None]}
    frail = -0.5 * sum(np.log(uniforms(SEED, Purpose.SUMMARY_TRIAL, **who, slot=slot)) for slot in (20, 21))
    arm = np.broadcast_to(np.arange(n) % 2, frail.shape).astype(np.int64)
    wide: dict[str, Any] = {"subject": np.arange(n)[:, None], "replicate": replicates[:, None, None]}
    gaps = -np.log(uniforms(SEED, Purpose.SUMMARY_TRIAL, **wide, index=np.arange(8), slot=22))
    rate = 1.2 * frail * np.where(arm == 1, ratio, 1.0)
    times = np.cumsum(gaps, axis=2) / rate[:, :, None]
    until = np.minimum(1.0, -2.0 * np.log(uniforms(SEED, Purpose.SUMMARY_TRIAL, **who, slot=23)))
    return np.where(times <= until[:, :, None], times, np.inf), until, arm


def _rejections(n: int, replicates: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Null trials: what each analysis rejects at 5 %, two-sided."""
    seen, event, arm, stratum = simulated(replicates, n=n, ratio=1.0)
    pairs = wins([timed(seen, event)], arm, arms=2)
    times, until, groups = repeated(replicates, n=n)
    found = {
        "log-rank": survival.logrank(seen, event, arm, arms=2), "Cox": cox_arms(seen, event, arm, arms=2),
        "log-rank, strata": survival.logrank(seen, event, arm, arms=2, strata=stratum),
        "G(0,1)": survival.logrank(seen, event, arm, arms=2, gamma=1.0),
        "RMST": survival.rmst(seen, event, arm, arms=2, tau=1.0),
        "milestone": survival.milestone(seen, event, arm, arms=2, at=1.0),
        "MaxCombo": survival.max_combo(seen, event, arm, arms=2).compared, "win ratio": win_ratio(pairs),
        "win odds": win_odds(pairs), "net benefit": net_benefit(pairs),
        "LWYY": andersen_gill(times, until, groups, arms=2),
        "Andersen-Gill": andersen_gill(times, until, groups, arms=2, model="andersen_gill"),
    }  # fmt: skip
    return {name: made.reject[:, 0] for name, made in found.items()}


@cache
def sizes(n: int, replicates: int = 10_000) -> dict[str, float]:
    """True size of every analysis at 5 %, n subjects in two arms, gamma frailty 0.5 for recurrent events."""
    parts = [_rejections(n, np.arange(k, min(replicates, k + 1000))) for k in range(0, replicates, 1000)]
    return {name: proportion(np.concatenate([part[name] for part in parts])).value for name in parts[0]}


def _size(n: int) -> Measured:
    found = sizes(n)
    honest = {name: value for name, value in found.items() if name != "Andersen-Gill"}
    words = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
    return Measured(max(honest.values()), f"10,000 null trials, MCSE 0.0022: {words}")


@row("survival.size.2x100", unit="share", bar="0.04 .. 0.06")
def size_large() -> Measured:
    """Largest true size at a nominal 5 % of the asymptotic tests, 2 x 100 subjects (Andersen-Gill is shown, not held)."""
    return _size(200)


@row("survival.size.2x25", unit="share", bar="0.04 .. 0.08")
def size_small() -> Measured:
    """The same at 2 x 25 subjects: what small trials have to know."""
    return _size(50)


@row("survival.coverage", unit="share", bar="0.94 .. 0.96")
def coverage() -> Measured:
    """Coverage of the Cox interval of a hazard ratio of 0.65, 2 x 100 subjects, 40,000 stratified trials."""
    hits = []
    for k in range(0, 40_000, 1000):
        seen, event, arm, stratum = simulated(np.arange(k, k + 1000))
        found = cox_arms(seen, event, arm, arms=2, strata=stratum)
        hits.append((found.lower <= np.log(0.65)) & (np.log(0.65) <= found.upper))
    return Measured(proportion(np.concatenate(hits)).value, "MCSE 0.0011; strata carry a factor of the hazard")
