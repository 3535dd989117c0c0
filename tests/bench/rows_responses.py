"""The analyses of binary, count and ordered outcomes decide as R does on 1,000 common data sets."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from pkpd.ground.streams import Purpose, uniforms
from tests.bench.harness import Measured, row
from trials.analysis import exact, stratified
from trials.analysis.counts import negative_binomial, poisson
from trials.analysis.logistic import logistic
from trials.analysis.ordinal import proportional_odds, wilcoxon

Floats = NDArray[np.float64]
SEED, SETS, N = 20261123, 1000, 80
NAMES = ("glm.nb", "quasi-Poisson", "logistic", "Fisher", "CMH", "polr", "Wilcoxon")
SCRIPT = """
suppressMessages(library(MASS)); d <- read.csv(commandArgs(TRUE)[1]); options(warn = -1)
one <- function(g) {
  nb <- tryCatch({f <- glm.nb(y ~ arm + x, g, control = glm.control(maxit = 200)); summary(f)$coef["arm", 4]},
                 error = function(e) NA)
  q <- summary(glm(y ~ arm + x, poisson, g)); q <- 2 * pnorm(-abs(q$coef["arm", 1] /
       (q$coef["arm", 2] * sqrt(sum(residuals(glm(y ~ arm + x, poisson, g), "pearson")^2) / (nrow(g) - 3)))))
  l <- summary(glm(b ~ arm + x, binomial, g, control = glm.control(epsilon = 1e-12)))$coef["arm", 4]
  f <- fisher.test(table(factor(g$b, 0:1), g$arm))$p.value
  m <- mantelhaen.test(table(factor(g$b, 0:1), g$arm, g$s), correct = FALSE)$p.value
  p <- summary(polr(factor(o) ~ arm + x, g, Hess = TRUE, control = list(reltol = 1e-15)))$coef["arm", 3]
  w <- wilcox.test(o ~ arm, g, exact = FALSE, correct = FALSE)$p.value
  c(nb, q, l, f, m, 2 * pnorm(-abs(p)), w)
}
write.table(t(sapply(split(d, d$set), one)), sep = ",", row.names = FALSE, col.names = FALSE)
"""


def simulated() -> dict[str, Floats]:
    """(SETS, N): counts, events, categories, covariate, stratum, arm; a moderate effect, so that decisions differ."""
    u = [
        uniforms(SEED, Purpose.SUMMARY_TRIAL, subject=np.arange(N)[None, :], replicate=np.arange(SETS)[:, None], slot=k)
        for k in range(4)
    ]
    arm = np.broadcast_to(np.arange(N) % 2, (SETS, N)).astype(np.float64)
    x = np.round(stats.norm.ppf(u[0]), 6)
    mean = np.exp(0.8 - 0.45 * arm + 0.3 * x)
    y = stats.nbinom.ppf(u[1], 1.2, 1.2 / (1.2 + mean))
    b = (u[2] < 1 / (1 + np.exp(0.4 - 0.9 * arm - 0.5 * x))).astype(np.float64)
    latent = np.log(u[3] / (1 - u[3])) + 0.8 * arm + 0.5 * x
    o = np.searchsorted([-1.5, 0.0, 1.5], latent).astype(np.float64)
    s = np.broadcast_to((np.arange(N) // 2) % 2, (SETS, N)).astype(np.float64)
    return {"y": y, "b": b, "o": o, "x": x, "s": s, "arm": arm}


def ours(data: dict[str, Floats]) -> Floats:
    """p-values (SETS, 7)."""
    arm, x, s = data["arm"].astype(np.int64), data["x"], data["s"].astype(np.int64)
    counts = [
        np.stack([((arm == a) & (s == k) & keep).sum(axis=1) for k in range(2)], axis=1)
        for a in (1, 0)
        for keep in (data["b"] == 1, np.ones(s.shape, np.bool_))
    ]
    x1, n1, x0, n0 = counts
    return np.column_stack([
        negative_binomial(data["y"], arm, arms=2, covariates=x).compared.p[:, 0],
        poisson(data["y"], arm, arms=2, covariates=x, variance="quasi").compared.p[:, 0],
        logistic(data["b"], arm, arms=2, covariates=x).p[:, 0],
        exact.fisher(x1.sum(axis=1), n1.sum(axis=1), x0.sum(axis=1), n0.sum(axis=1)),
        stratified.mantel_haenszel(x1, n1, x0, n0).p,
        proportional_odds(data["o"], arm, arms=2, covariates=x).p[:, 0],
        wilcoxon(data["o"], arm, arms=2).p[:, 0],
    ])  # fmt: skip


def theirs(data: dict[str, Floats]) -> Floats | None:
    """R's, None without R."""
    if shutil.which("Rscript") is None:
        return None
    frame = pd.DataFrame({"set": np.repeat(np.arange(SETS), N), **{k: v.reshape(-1) for k, v in data.items()}})
    with tempfile.TemporaryDirectory() as folder:
        table, script = Path(folder) / "data.csv", Path(folder) / "all.R"
        frame.to_csv(table, index=False)
        script.write_text(SCRIPT)
        run = subprocess.run(["Rscript", str(script), str(table)], capture_output=True, text=True, check=True)
    return pd.read_csv(io.StringIO(run.stdout), header=None).to_numpy(np.float64)


@row("trials.responses.decisions_of_r", unit="of 1,000", bar="== 0")
def decisions_of_r() -> Measured:
    """Data sets on which one of seven two-sided 5 % decisions is not that of R (glm.nb with its stated failures apart)."""
    data = simulated()
    found = theirs(data)
    if found is None:
        return Measured(float("nan"), "R is not installed")
    mine = ours(data)
    both = np.isfinite(found)
    differ = (((mine <= 0.05) != (found <= 0.05)) & both).any(axis=1)
    worst = np.where(both, np.abs(mine - found), 0.0).max(axis=0)
    words = ", ".join(f"{name} {gap:.1e}" for name, gap in zip(NAMES, worst, strict=True))
    return Measured(float(differ.sum()), f"largest differences of p: {words}; R failed on {(~both).sum()} fits")
