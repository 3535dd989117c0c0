"""Hierarchical models of adverse events: witness c212 1.0.1 (R) on its example trial; the prior; a single term.

`../shared/data/ae`: c212.BB and c212.1a, 3 chains of 25,000 after 5,000, with their defaults, which are (file
R/c212.BB.R and R/c212.1a.R of the package: `hyper_params = list(mu.gamma.0.0 = 0, ...)`) those of DEFAULTS below.
"""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals
from trials.analysis import chains
from trials.analysis.ae_hierarchy import Hyper, hierarchy

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "data" / "ae"
DEFAULTS = {
    "mu.gamma.0.0": 0, "tau2.gamma.0.0": 10, "mu.theta.0.0": 0, "tau2.theta.0.0": 10, "alpha.gamma.0.0": 3,
    "beta.gamma.0.0": 1, "alpha.theta.0.0": 3, "beta.theta.0.0": 1, "alpha.gamma": 3, "beta.gamma": 1,
    "alpha.theta": 3, "beta.theta": 1, "lambda.alpha": 1.0, "lambda.beta": 1.0,
}  # fmt: skip


def trial() -> dict[str, list[int]]:
    with (FOLDER / "hierarchical_ae_trial.csv").open() as file:
        rows = list(csv.DictReader(file))
    keys = sorted({(r["B"], r["AE"]) for r in rows})
    systems = sorted({b for b, _ in keys})
    count = {(r["B"], r["AE"], r["Group"]): (int(r["Count"]), int(r["Total"])) for r in rows}
    out = {f"{what}{arm}": [count[b, ae, str(arm + 1)][k] for b, ae in keys]
           for arm in (0, 1) for k, what in enumerate("xn")}  # fmt: skip
    return out | {"system": [systems.index(b) for b, _ in keys]}


@pytest.mark.witness
@pytest.mark.skipif(not FOLDER.exists(), reason="../shared/data/ae is not here")
@pytest.mark.parametrize("model", ["BB", "1a"])
def test_agrees_with_c212(model: str) -> None:
    """All 45 terms: P(theta > 0) within 0.03, posterior mean within 0.05 of c212; chains agree."""
    assert {k.replace("_", "."): v for k, v in asdict(Hyper()).items()} == DEFAULTS
    with (FOLDER / f"hierarchical_ae_c212_{model}_reference.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda r: (r["B"], r["AE"]))
    made = hierarchy(**trial(), model=model, chains=16, draws=300, warmup=100)
    found = made.terms
    positive, mean, sd = (np.array([float(r[c]) for r in rows]) for c in ("ptheta", "mean", "SD"))
    assert positive.size == 45
    assert np.abs(found.positive - positive).max() <= 0.03
    assert np.abs(found.mean - mean).max() <= 0.05
    assert np.abs(found.sd - sd).max() <= 0.05
    assert found.rhat.max() < 1.03
    assert found.ess.min() > 1000
    assert made.accepted > 0.7


def test_without_data_the_prior_comes_back() -> None:
    """Nobody at risk: P(theta = 0) is 1/2 by symmetry, the signs of theta and gamma are even, systems apart."""
    made = hierarchy([0, 0], [0, 0], [0, 0], [0, 0], system=[0, 1], chains=100, draws=200, warmup=80)
    none = (made.theta == 0).mean()
    assert abs(none - 0.5) < 0.03
    assert abs((made.theta > 0).mean() - 0.25) < 0.03
    assert abs((made.gamma > 0).mean() - 0.5) < 0.05
    # mu.theta ~ N(0, 10 + tau2), tau2 ~ inverse gamma(3, 1) of mean 1/2
    assert abs(made.mu_theta.var() / 10.5 - 1) < 0.12


def test_order_of_terms_and_refusals() -> None:
    """A term's numbers go with the term; every wrong argument is named."""
    kept = {"chains": 4, "draws": 60, "warmup": 20}
    made = hierarchy([40, 5, 6], 100, [5, 5, 6], 100, system=[1, 0, 0], model="1a", **kept)
    assert made.theta.mean(axis=(0, 1)).argmax() == 0
    assert made.mu_theta.mean(axis=(0, 1)).argmax() == 1
    assert made.of_difference().mean[0] > 0.2
    assert not made.sound
    for wrong in ({"model": "2b"}, {"system": [0, 2, 2]}, {"system": [0]}):
        with pytest.raises(InputError):
            hierarchy([40, 5, 6], 100, [5, 5, 6], 100, **{"system": [1, 0, 0], **wrong}, **kept)


def test_effective_draws_of_a_known_process() -> None:
    """An autoregression of coefficient 0.6: n (1 - 0.6)/(1 + 0.6) effective draws (textbook); a stuck chain shows."""
    z = normals(3, Purpose.AE_MODEL, subject=np.arange(4)[:, None], replicate=0, index=np.arange(4000))
    x = z.copy()
    for t in range(1, x.shape[1]):
        x[:, t] = 0.6 * x[:, t - 1] + 0.8 * z[:, t]
    assert abs(chains.effective(x[..., None])[0] / 16000 / 0.25 - 1) < 0.15
    assert chains.rhat(x[..., None])[0] < 1.01
    stuck = np.where(np.arange(4)[:, None] == 0, 0.3, x)
    assert chains.rhat(stuck[..., None])[0] > 1.05
