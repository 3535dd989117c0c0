"""Diagnostics on chains whose faults are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pkpd.bayes.diagnostics import Chains, Limits, diagnose, shrinkage
from pkpd.bayes.prior import normal


def chains(values: np.ndarray, divergences: int = 0, energy: np.ndarray | None = None) -> Chains:
    moving = np.random.default_rng(9).normal(size=values.shape) if energy is None else energy
    return Chains(values={"log_V": values}, divergences=divergences, energy=moving)


def independent(seed: int = 1, shape: tuple[int, int] = (4, 1000)) -> np.ndarray:
    return np.random.default_rng(seed).normal(3.4, 0.05, shape)


def test_independent_draws_hold_every_limit():
    found = diagnose(chains(independent()), {"log_V": normal(3.4, 1.0)}, {"V": 0.1})
    assert found.ok
    row = found.parameters[0]
    assert row.mean == pytest.approx(3.4, abs=0.005)
    assert row.ess_bulk == pytest.approx(4000, rel=0.15)  # independent: ESS is the number of draws
    assert row.mcse == pytest.approx(0.05 / np.sqrt(4000), rel=0.15)
    assert row.contraction == pytest.approx(1 - 0.05**2, abs=1e-3)
    assert row.prior_interval == pytest.approx((3.4 - 1.95996, 3.4, 3.4 + 1.95996), abs=1e-4)
    assert found.ebfmi[0] == pytest.approx(2.0, rel=0.1)  # white noise: E(dE)^2 = 2 var E


def test_chains_in_two_modes_are_an_error_without_any_divergence():
    """Flip-flop: V 32 L in three chains, 2 L in one; inference notes, section 5."""
    x = independent()
    x[3] -= np.log(16.0)
    found = diagnose(chains(x), {}, {})
    assert not found.ok
    assert found.parameters[0].apart > 3
    assert found.verdict.startswith("Chains disagree about log_V")
    assert "different modes" in found.verdict


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (chains(independent(), divergences=3), "3 divergent transitions"),
        (chains(independent(shape=(4, 50))), "Bulk ESS of log_V"),
        (chains(independent() + 0.04 * np.arange(4)[:, None]), "R-hat of log_V"),
        (chains(independent(), energy=np.cumsum(np.random.default_rng(2).normal(size=(4, 1000)), axis=1)), "E-BFMI is"),
        (chains(np.where(np.arange(1000) == 5, np.nan, independent())), "log_V"),
    ],
)
def test_each_broken_limit_is_one_sentence_with_its_remedy(given, problem):
    found = diagnose(given, {}, {})
    assert not found.ok
    assert any(problem in p for p in found.problems)
    assert all(p.endswith(".") and p.count(": ") == 1 for p in found.problems)


def test_limits_can_be_set():
    found = diagnose(chains(independent(), divergences=3), {}, {}, Limits(divergences=5))
    assert found.ok


def test_shrinkage_by_its_definition():
    """1 - sd(posterior mean eta)/omega (Savic & Karlsson 2009, AAPS J 11:558)."""
    rng = np.random.default_rng(3)
    centre = rng.normal(size=12)
    eta = centre + 0.1 * rng.normal(size=(4000, 12))
    assert shrinkage(eta, np.full(4000, 2.0)) == pytest.approx(1 - centre.std(ddof=1) / 2.0, abs=0.01)
    found = diagnose(chains(independent()), {}, {"KA": 0.45, "CL": 0.1})
    assert found.ok  # said, not refused
    assert found.remarks == ("Shrinkage of KA is 45 %: individual estimates of it lean on the population.",)


def test_plain_data_is_json():
    plain = diagnose(chains(independent()), {"log_V": normal(3.4, 1.0)}, {"V": 0.1}).to_dict()
    back = json.loads(json.dumps(plain, allow_nan=False))
    assert back["ok"] is True
    assert back["max_rhat"] == plain["max_rhat"] <= 1.01
    assert back["parameters"][0]["name"] == "log_V"
