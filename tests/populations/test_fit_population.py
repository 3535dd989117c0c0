"""The script that makes the law: its statistics against theory, and the shipped artefact against a fresh fit."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from pkpd.ground.streams import Purpose, normals, uniforms

ROOT = Path(__file__).parents[2]
NHANES = ROOT.parent / "shared" / "data" / "populations" / "nhanes.csv.gz"
ARTEFACT = ROOT / "populations" / "data" / "nhanes_adults.json"
needs_nhanes = pytest.mark.skipif(not NHANES.exists(), reason="../shared/data/populations/nhanes.csv.gz is not here")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fit_population", ROOT / "tools" / "fit_population.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fit_population"] = module  # dataclasses with slots look their module up
    spec.loader.exec_module(module)
    return module


@needs_nhanes
@pytest.mark.witness
def test_the_shipped_law_is_a_fresh_fit(tool: ModuleType) -> None:
    """Same bytes: nobody edited the artefact, and the script still makes it."""
    fresh = tool.text_of(tool.fit(tool.adults(NHANES), tool.digest_of(NHANES)))
    assert fresh == ARTEFACT.read_text(encoding="utf-8")


@needs_nhanes
@pytest.mark.witness
def test_the_artefact_holds_no_extreme_person(tool: ModuleType) -> None:
    """At least 3 people of the sex lie beyond (or 10 at) each end of the quantiles; the size is that of margins."""
    law, people = json.loads(ARTEFACT.read_text(encoding="utf-8")), tool.adults(NHANES)
    for name in tool.CONTINUOUS:
        for sex, code in (("male", 1.0), ("female", 0.0)):
            seen = np.sort(people.loc[people["SEX"] == code, name].dropna())
            inner = law["variables"][name][sex]["quantiles"][3:-3]
            assert len(inner) == 101
            for beyond, at in ((seen < inner[0], seen == inner[0]), (seen > inner[-1], seen == inner[-1])):
                assert beyond.sum() >= 3 or at.sum() >= 10, (name, sex)
    assert ARTEFACT.stat().st_size < 60_000


@needs_nhanes
@pytest.mark.witness
def test_missing_shares_are_recorded(tool: ModuleType) -> None:
    """Counts of the README of the data: creatinine 5,154 adults, 5.6 % of the weight missing; smoking complete."""
    law = json.loads(ARTEFACT.read_text(encoding="utf-8"))
    creatinine, smoking = law["variables"]["SCR"], law["variables"]["SMOKING"]
    assert (creatinine["n"], creatinine["missing"]) == (5154, 0.0563)
    assert (smoking["n"], smoking["missing"]) == (5533, 0.0)
    assert law["source"]["people"] == 5533
    assert set(law["repair"].values()) == {0.0}  # both correlation matrices were positive definite as estimated


def test_quantiles_are_monotone_and_tails_lie_outside(tool: ModuleType) -> None:
    law = json.loads(ARTEFACT.read_text(encoding="utf-8"))
    assert (np.diff(law["scores"]) > 0).all()
    for name in tool.CONTINUOUS:
        for sex in ("male", "female"):
            one = law["variables"][name][sex]
            assert (np.diff(one["quantiles"]) >= 0).all()
            assert (np.diff(one["residual"]) >= 0).all()
            assert one["quantiles"][0] > 0


def test_tetrachoric_is_the_bivariate_normal(tool: ModuleType) -> None:
    """scipy.stats.multivariate_normal as oracle, all four cells."""
    cut = np.array([0.7, -0.3, 2.2])
    other = np.array([-0.4, 1.9, 1.1])
    for rho in (-0.8, -0.2, 0.0, 0.5, 0.9):
        cells = [
            np.exp(tool.tetrachoric(rho, (np.full(3, x), cut), (np.full(3, y), other)))
            for x in (0.0, 1.0)
            for y in (0.0, 1.0)
        ]
        below = [multivariate_normal([0, 0], [[1, rho], [rho, 1]]).cdf([a, b]) for a, b in zip(cut, other, strict=True)]
        np.testing.assert_allclose(cells[0], below, atol=2e-5)
        np.testing.assert_allclose(sum(cells), 1.0, atol=1e-12)
        np.testing.assert_allclose(cells[0] + cells[1], norm.cdf(cut), atol=1e-12)


def sample(n: int, slot: int) -> np.ndarray:
    return normals(1, Purpose.COVARIATES, subject=np.arange(n), replicate=0, slot=slot)


def test_known_latent_correlations_are_found(tool: ModuleType) -> None:
    """Simulated latents with correlation 0.5: all three kinds of pair find it, 4 standard errors (about 0.02 each)."""
    n = 20_000
    x = sample(n, 0)
    y = 0.5 * x + np.sqrt(0.75) * sample(n, 1)
    cut_x, cut_y = np.full(n, 0.8), np.linspace(-0.5, 1.5, n)
    scores = [tool.Latent(name="a", score=x), tool.Latent(name="b", score=y)]
    steps = [
        tool.Latent(name="c", step=(x > cut_x).astype(float), cut=cut_x),
        tool.Latent(name="d", step=(y > cut_y).astype(float), cut=cut_y),
    ]
    weight = np.ones(n)
    for first in (scores[0], steps[0]):
        for second in (scores[1], steps[1]):
            assert tool.correlation(first, second, weight) == pytest.approx(0.5, abs=0.06)
            assert tool.correlation(second, first, weight) == pytest.approx(0.5, abs=0.06)


def test_weights_undo_selection(tool: ModuleType) -> None:
    """Rows kept with probability 1/w and weighted w: quantiles and probit find the law before selection."""
    n = 60_000
    x = sample(n, 0)
    w = 1.0 + 4.0 * norm.cdf(x)
    kept = uniforms(2, Purpose.COVARIATES, subject=np.arange(n), replicate=0) < 1.0 / w
    q = tool.quantiles(x[kept], w[kept])
    np.testing.assert_allclose(q[[1 + 9, 50, 1 + 89]], norm.ppf([0.1, 0.5, 0.9])[[0, 1, 2]], atol=0.04)
    age = 18 + 62 * norm.cdf(sample(n, 1))
    y = (sample(n, 2) + 1.0 * x > -1.0 + 0.04 * (age - 18)).astype(float)
    beta = tool.probit(y[kept], w[kept], tool.hats(age[kept]))
    error = beta - (1.0 - 0.04 * (tool.KNOTS - 18)) / np.sqrt(2)  # standard errors about 0.03, at the last knot 0.08
    assert np.abs(error[:-1]).max() < 0.12
    assert abs(error[-1]) < 0.3


def test_repair_gives_a_correlation_matrix(tool: ModuleType) -> None:
    """An indefinite matrix comes back positive definite with unit diagonal; a definite one comes back itself."""
    bad = np.array([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1.0]])
    repaired = tool.nearest_correlation(bad)
    assert np.linalg.eigvalsh(repaired)[0] > 0
    np.testing.assert_allclose(repaired.diagonal(), 1.0)
    good = np.array([[1, 0.2], [0.2, 1.0]])
    assert (tool.nearest_correlation(good) == good).all()
