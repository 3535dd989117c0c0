"""What is made of several runs of sequential Monte Carlo: shares, pooled draws, valleys. The fits are marked slow."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pkpd.bayes import fit
from pkpd.bayes import modes as by_modes
from pkpd.bayes.density import density
from pkpd.bayes.design import design
from pkpd.bayes.fit import Settings
from pkpd.bayes.modes import Mode, Modes, _weighed, pooled, valley
from pkpd.bayes.plan import plan
from pkpd.bayes.smc import Path, Tuning, run
from pkpd.ground.errors import InputError, RunFailed
from pkpd.model.records import Records
from pkpd.model.spec import Model
from pkpd.posterior import require_sound

TIMES = np.array([0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 12.0])
NOISE = 0.15 * np.array([0.9, -0.6, 0.3, -1.2, 0.5, 0.1, 1.1, -0.4, -0.8, 0.6])
LEVELS = 100.0 / 20.0 * 0.8 / 0.55 * (np.exp(-0.25 * TIMES) - np.exp(-0.8 * TIMES)) * np.exp(NOISE)
TEXT = """
vtrial: model/1
name: one_dose
states: {depot: mg, central: mg}
parameters:
  KA: {typical: 0.8 1/h, prior: {median: 0.4, sd: 1}, status: assumed}
  K:  {typical: 0.25 1/h, prior: {median: 0.4, sd: 1}, status: assumed}
  V:  {typical: 20 L, prior: {median: 20, sd: 1}, status: assumed}
equations: |
  C = central/V
  d/dt(depot)   = -KA*depot
  d/dt(central) =  KA*depot - K*central
doses: {depot: {bioavailability: 1}}
outputs:
  CP: {is: C, error: {log: {typical: 0.15, prior: 0.5}}}
"""
LOG_2PI = math.log(2.0 * math.pi)


def quadrature(points: int = 401, widths: int = 60) -> tuple[float, float]:
    """(share of KA above K, log evidence of the levels' logarithms) of one dose of 100 mg: a grid over log KA, log K
    (9 prior sds) and log sigma; log V is integrated by hand, as log C = log g(KA, K) - log V is linear in it.
    """
    a = np.linspace(math.log(0.4) - 4.5, math.log(0.4) + 4.5, points)
    b = a + 0.5 * (a[1] - a[0])  # off the diagonal
    A, B = np.meshgrid(np.exp(a), np.exp(b), indexing="ij")
    r = [math.log(y) - np.log(100.0 * A / (A - B) * (np.exp(-B * t) - np.exp(-A * t)))
         for t, y in zip(TIMES, LEVELS, strict=True)]  # fmt: skip
    k, mean = len(TIMES), math.log(20.0)
    first = sum(r) + k * mean
    second = sum(one**2 for one in r) + 2.0 * mean * sum(r) + k * mean**2
    s = np.exp(np.linspace(math.log(0.02), math.log(2.5), widths))
    v = s**2
    logs = -0.5 * (second[:, :, None] / v - first[:, :, None] ** 2 / (v * (v + k)))
    logs += -0.5 * ((k - 1) * np.log(v) + np.log(v + k)) - 0.5 * k * LOG_2PI
    prior = -0.5 * (a - math.log(0.4)) ** 2 - 0.5 * LOG_2PI
    other = -0.5 * (b - math.log(0.4)) ** 2 - 0.5 * LOG_2PI
    logs += prior[:, None, None] + other[None, :, None]
    logs += math.log(math.sqrt(2.0 / math.pi) / 0.5) - 2.0 * v + np.log(s)
    weight = np.exp(logs - logs.max()).sum(axis=2)
    cell = (a[1] - a[0]) ** 2 * math.log(s[1] / s[0])
    return float(weight[A > B].sum() / weight.sum()), float(logs.max() + math.log(weight.sum() * cell))


def mode(label: str, share: float) -> Mode:
    return Mode(
        label=label, share=share, share_error=0.002, log_evidence=-5.0, log_evidence_error=0.1, means={}, sds={}
    )


def modes(*found: Mode) -> Modes:
    return Modes(
        modes=found, log_evidence=-4.0, log_evidence_error=0.1, runs=4, particles=100, levels=9, accepted=0.8,
        families=40, evaluations=1000, exchanges=("KA and CL/V can change places",),
        remedies=("order them: write above: CL/V under parameters.KA",),
    )  # fmt: skip


def posterior(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log density of (log KA, log K, log V, log sigma) given the levels, and its gradient by hand."""
    with np.errstate(all="ignore"):
        (ka, ke), sd = np.exp(x[:, :2]).T[:, :, None], np.exp(x[:, 3:])
        slow, fast, far = np.exp(-ke * TIMES), np.exp(-ka * TIMES), ka - ke
        left = np.log(LEVELS) - np.log(100.0 * ka / far * (slow - fast)) + x[:, 2:3]
        value = (-0.5 * (left / sd) ** 2 - x[:, 3:] - 0.5 * LOG_2PI).sum(axis=1)
        by_ka = 1.0 - ka / far + ka * TIMES * fast / (slow - fast)
        by_ke = ke / far - ke * TIMES * slow / (slow - fast)
        pull = left / sd**2
        rows = (pull * by_ka, pull * by_ke, -pull, (left / sd) ** 2 - 1.0)
        before, g = prior(x)
        return value + before, g + np.stack([row.sum(axis=1) for row in rows], axis=1)


def prior(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normals of log KA, log K and log V, a half-normal of sigma by its logarithm."""
    with np.errstate(over="ignore"):
        away, sd = x[:, :3] - np.log([0.4, 0.4, 20.0]), np.exp(x[:, 3])
    value = -0.5 * (away**2).sum(1) - 1.5 * LOG_2PI - 2.0 * sd**2 + x[:, 3]
    return value + math.log(math.sqrt(2.0 / math.pi) / 0.5), np.column_stack([-away, 1.0 - 4.0 * sd**2])


def start(z: np.ndarray) -> np.ndarray:
    return np.column_stack([np.log([0.4, 0.4, 20.0]) + z[:, :3], np.log(0.5 * np.abs(z[:, 3]))])


def test_a_flip_flop_data_set_agrees_with_quadrature():
    """One dose, ten levels, ka and ke of the same prior: evidence and share of each side against a grid."""
    share, evidence = quadrature(201, 40)
    found = []
    for sign in (1.0, -1.0):
        path = Path(
            size=4, base=prior, target=posterior, draw=start, inside=lambda x, s=sign: s * (x[:, 0] - x[:, 1]) > 0
        )
        found.append([run(path, seed=9, replicate=10 + int(sign) * 5 + r, tuning=Tuning(particles=400)).log_evidence
                      for r in range(4)])  # fmt: skip
    z = np.exp(np.array(found)).mean(axis=1)
    assert 0.6 < share < 0.7
    assert z[0] / z.sum() == pytest.approx(share, abs=0.05)
    assert math.log(z.sum()) == pytest.approx(evidence, abs=0.12)


def test_a_posterior_of_two_minds_is_refused_with_the_remedy():
    """Shares of 0.66 and 0.34: a problem that names both and how to order; 0.999 and 0.001: none."""
    found = modes(mode("KA above CL/V", 0.66), mode("CL/V above KA", 0.34))
    assert json.loads(json.dumps(found.to_dict()))["of_two_minds"] is True
    assert "KA above CL/V: 0.66 +- 0.002" in found.problems[0]
    assert "write above: CL/V under parameters.KA" in found.problems[0]
    settled = modes(mode("KA above CL/V", 0.999), mode("CL/V above KA", 0.001))
    assert settled.problems == ()
    assert "0.9990 +- 0.002" in settled.remarks[0]


def test_runs_that_disagree_are_refused():
    """A standard error of 0.8 of a log evidence, one mode or not; of a single run nothing is known."""
    unsure = replace(mode("one mode", 1.0), log_evidence_error=0.8)
    alone = replace(mode("one mode", 1.0), log_evidence_error=math.nan, share_error=math.nan)
    assert "Runs disagree about the evidence (one mode: -5.0 +- 0.80)" in modes(unsure).problems[0]
    assert "neither shares nor draws are to be trusted" in modes(alone).problems[0]
    little = replace(mode("CL/V above KA", 0.001), log_evidence_error=0.8)
    assert modes(mode("KA above CL/V", 0.999), little).problems == ()


def test_pooled_draws_are_in_proportion_and_in_their_order():
    """Shares 0.75 and 0.25 of 400 draws; each mode's draws evenly taken, spread over the sequence."""
    own = np.arange(400.0)[:, None]
    x = pooled([[own], [own + 1000.0]], [0.75, 0.25])[0, :, 0]
    second = x >= 1000.0
    assert second.sum() == 100
    assert np.all(np.diff(x[~second]) > 0.0)
    assert np.diff(np.flatnonzero(second)).max() <= 5


def test_draws_are_in_proportion_to_the_shares_whichever_side_the_prior_prefers(monkeypatch):
    """Sides come in the order of prior mass, modes in that of their shares: with evidence 1/9 of the posterior on the
    side the prior prefers, a ninth of the draws is from there.
    """
    layout: Any = SimpleNamespace(
        population=1, plan=SimpleNamespace(priors={"a": None}), population_named=lambda x: {"a": x[:, 0]}
    )
    sides = [SimpleNamespace(label=name, holds=None) for name in ("likely before", "likely after")]

    def fake(path: Any, *, seed: int, replicate: int, tuning: Tuning) -> Any:
        side = replicate // by_modes.RUNS_A_SIDE
        x = np.full((tuning.particles, 1), float(side))
        evidence = math.log((1.0, 8.0)[side])
        return SimpleNamespace(log_evidence=evidence, x=x, powers=(1.0,), accepted=0.8, families=9, evaluations=1)

    law = SimpleNamespace(size=1, draw=None)
    for name, value in (("_sides", lambda *_: sides), ("run", fake), ("batched", lambda _: None),
                        ("prior_law", lambda _: law)):  # fmt: skip
        monkeypatch.setattr(by_modes, name, value)
    place: Any = SimpleNamespace(sentence="", remedy="", side=lambda sign: sides[sign < 0].label)
    x, told = by_modes.tempered(SimpleNamespace(layout=layout), [place], seed=1, particles=90, runs=2)  # type: ignore[arg-type]
    assert [m.label for m in told.modes] == ["likely after", "likely before"]
    assert (x[:, :, 0] == 1.0).mean(axis=1).tolist() == pytest.approx([8 / 9] * 2)


def test_the_error_of_a_share_is_that_of_its_logits(model, records):
    """Runs of their own on each side: se of log(Z1/Z2) is the root of the sum of squares, times share (1 - share)."""
    layout = density(plan(model, "CP"), design(model, records)).layout
    logs = np.array([[-1.0, -1.2, -0.9, -1.1], [-3.0, -2.8, -3.3, -3.1]])
    parts = [[(float(v), np.zeros((5, layout.size))) for v in row] for row in logs]
    first, second = _weighed(layout, ["a", "b"], parts, apart=True)
    z = np.exp(logs)
    own = z.std(axis=1, ddof=1) / 2.0 / z.mean(axis=1)
    share = z[1].mean() / z.mean(axis=1).sum()
    assert second.share == pytest.approx(share)
    assert second.share_error == pytest.approx(share * (1.0 - share) * np.hypot(*own), rel=1e-9)
    assert first.share_error == pytest.approx(second.share_error)


def test_valleys():
    """None in a normal, a t of 5 degrees and a log-normal law; the one between two normals where it is."""
    rng = np.random.default_rng(5)
    z = rng.normal(size=4000)
    single = (z, rng.standard_t(5, size=4000), np.exp(z))
    assert [valley(x) for x in single] == [None, None, None]
    depth, place = valley(np.where(np.arange(4000) % 10 < 3, z - 4.0, z + 4.0))
    assert depth < 0.05
    assert abs(place) < 1.5


def test_an_unknown_method_is_refused():
    """With the nearest name."""
    with pytest.raises(InputError, match="no method of a fit") as found:
        Settings(seed=1, method="smcc")
    assert "smc" in str(found.value.remedy)


def one_dose() -> tuple[Model, Records]:
    model = Model.parse(TEXT)
    rows = "".join(f"1,{t},0,{float(y)!r},0,0,2\n" for t, y in zip(TIMES, LEVELS, strict=True))
    return model, Records.parse("ID,TIME,AMT,DV,EVID,MDV,CMT\n1,0,100,0,1,1,1\n" + rows, model=model)


@pytest.mark.slow
def test_the_product_agrees_with_quadrature_and_says_what_to_do():
    """The compiled model of the same data: share within 4 se of the grid's, refused with the order that cures it; NUTS
    says that rates changed places.
    """
    share, evidence = quadrature()
    model, records = one_dose()
    found = fit(model, records, seed=1, method="smc", draws=1000, cache=False)
    told = found.diagnostics["modes"]
    first = told["modes"][0]
    assert first["label"] == "KA above K"
    assert abs(first["share"] - share) < max(4.0 * first["share_error"], 0.02)
    assert abs(told["log_evidence"] + np.log(LEVELS).sum() - evidence) < 0.1
    assert "write above: K under parameters.KA" in found.posterior.verdict
    with pytest.raises(RunFailed):
        require_sound(found.posterior)
    nuts = fit(model, records, seed=1, draws=300, cache=False)
    assert "rates changed places" in nuts.posterior.verdict


@pytest.mark.slow
def test_a_posterior_of_one_mode_agrees_with_nuts(model, records, theophylline):
    """Theophylline, ordered: means within 0.15 posterior sd of the session's NUTS fit, one mode, sound."""
    found = fit(model, records, seed=3, method="smc", draws=1000, cache=False).diagnostics
    nuts = {p["name"]: p for p in theophylline.diagnostics["parameters"]}
    far = {p["name"]: abs(p["mean"] - nuts[p["name"]]["mean"]) / nuts[p["name"]]["sd"] for p in found["parameters"]}
    assert max(far.values()) < 0.15
    assert [m["label"] for m in found["modes"]["modes"]] == ["one mode"]
    assert found["ok"], found["verdict"]


@pytest.mark.slow
def test_a_quick_look_is_near_and_is_refused(model, records, theophylline):
    """Theophylline by Laplace: means of typical values within 0.3 posterior sd of NUTS, k below 1, never sound."""
    found = fit(model, records, seed=3, method="laplace", cache=False)
    nuts = {p["name"]: p for p in theophylline.diagnostics["parameters"]}
    rows = {p["name"]: p for p in found.diagnostics["parameters"]}
    far = [abs(rows[n]["mean"] - nuts[n]["mean"]) / nuts[n]["sd"] for n in ("log_KA", "log_CL", "log_V")]
    assert max(far) < 0.3
    assert found.diagnostics["quick"]["pareto_k"] < 1.0
    assert "not a fit" in found.posterior.verdict
    with pytest.raises(RunFailed, match="quick look"):
        require_sound(found.posterior)
