"""Adapters of binary, count, ordered and dose-response analyses: from the data base to the analysis table.

Witness: the same numbers from the analysis functions on arrays put together by plain loops; the checks of a protocol.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pkpd.ground.errors import InputError
from trials.analysis.binary import newcombe
from trials.analysis.exact import boschloo
from trials.analysis.stratified import mantel_haenszel
from trials.endpoints import analyse
from trials.kinds import Lived, responders
from trials.methods import METHODS, offered
from trials.methods.dose_response import doses_of
from trials.observed import Observed
from trials.protocol import Protocol

EXAMPLE = Path(__file__).parents[2] / "examples/dose_finding/protocol.yaml"
TEXT = EXAMPLE.read_text()
R, N = 3, 60


@pytest.fixture(scope="module")
def protocol():
    return Protocol.parse(TEXT, file=str(EXAMPLE), complete=False)


@pytest.fixture(scope="module")
def seen():
    """Five arms of twelve; values fall with the dose; the fourth of every seven subjects misses the last visit."""
    i, r = np.arange(N)[None, :], np.arange(R)[:, None]
    arm = np.broadcast_to(i % 5, (R, N)).astype(np.int64)
    dose = np.array([0.0, 1, 2, 4, 8])[arm]
    start = 95 + 4 * np.cos(1.7 * i + r)
    last = start - 70 * dose / (2.5 + dose) + 9 * np.sin(2.3 * i * (r + 1))
    values = np.stack([start, 0.5 * (start + last), np.where(i % 7 == 3, np.nan, last)], axis=2)
    never = np.full((R, N), np.inf)
    return Observed(
        replicate=np.arange(R, dtype=np.uint32), arm=arm, stratum=np.broadcast_to((i // 5) % 2, (R, N)),
        times=np.broadcast_to(np.array([0.0, 72, 144]), (R, N, 3)), outputs={"EFFECT": values}, onset={}, grade={},
        stop=never, leave=never, failed=np.broadcast_to(i == 9, (R, N)), ended=never, number={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def table(protocol, seen):
    light = {name: how for name, how in protocol.analyses.items() if how.method in ("newcombe", "cmh", "boschloo")}
    asked = {name: protocol.estimands[name] for name in light}
    return pd.DataFrame(analyse(replace(protocol, analyses=light, estimands=asked), seen))


def row(table, analysis, endpoint, contrast):
    found = table[(table.analysis == analysis) & (table.endpoint == endpoint) & (table.contrast == contrast)]
    return found.sort_values("replicate")


def counted(seen, r, arm, *, observed_only):
    """Responders and subjects of an arm by stratum, counted one by one: `range` (<= 50) or `halved` (<= -50 %)."""
    x, n = [0, 0], [0, 0]
    for i in range(N):
        if seen.arm[r, i] != arm or seen.failed[r, i]:
            continue
        value, start = seen.outputs["EFFECT"][r, i, 2], seen.outputs["EFFECT"][r, i, 0]
        if np.isnan(value) and observed_only:
            continue
        s = seen.stratum[r, i]
        n[s] += 1
        x[s] += bool(value <= 50) if observed_only else bool((value - start) / start <= -0.5)
    return x, n


def test_responders_are_those_of_counts_by_hand(seen, table):
    for endpoint, observed_only in (("halved", False), ("range", True)):
        rows = row(table, "response", endpoint, "w8")
        for r in range(R):
            (x1, n1), (x0, n0) = (counted(seen, r, arm, observed_only=observed_only) for arm in (4, 0))
            mine = rows.iloc[r]
            assert (mine.x_treated, mine.n_treated, mine.x_control, mine.n_control) == (
                sum(x1),
                sum(n1),
                sum(x0),
                sum(n0),
            )
            found = newcombe(sum(x1), sum(n1), sum(x0), sum(n0))
            assert (mine.lower, mine.upper) == (float(found.lower), float(found.upper))
            others = counted(seen, r, 3, observed_only=observed_only)[1]
            assert mine.missing == 36 - sum(n1) - sum(n0) - sum(others)


def test_strata_and_exact_tests_see_the_same_counts(seen, table):
    for r in range(R):
        (x1, n1), (x0, n0) = (counted(seen, r, arm, observed_only=False) for arm in (3, 0))
        mine, found = row(table, "strata", "halved", "w4").iloc[r], mantel_haenszel(x1, n1, x0, n0)
        assert mine.estimate == pytest.approx(float(found.estimate), rel=1e-12)
        assert mine.p == pytest.approx(float(found.p), rel=1e-12)
        p = float(boschloo(sum(x1), sum(n1), sum(x0), sum(n0), side="greater"))
        exact = row(table, "exact", "halved", "w4").iloc[r]
        assert exact.p == p
        assert exact.reject == (p <= 0.025)


def test_composite_strategy_counts_who_stopped_as_not_responding(protocol, seen):
    estimand = replace(protocol.estimands["exact"], strategies={"stopped": "composite"})
    stopped = replace(seen, stop=np.where(np.arange(N) % 2 == 0, 100.0, np.inf) + np.zeros((R, 1)))
    plain = responders(protocol, protocol.endpoints["halved"], None, stopped)
    found = responders(protocol, protocol.endpoints["halved"], estimand, stopped)
    np.testing.assert_array_equal(found[:, 1::2], plain[:, 1::2])
    assert plain[:, ::2].sum() > 0
    assert found[:, ::2].sum() == 0
    lived = Lived(outputs=seen.outputs, onset={}, grade={}, stop=seen.stop, ended=seen.ended, times=seen.times)
    np.testing.assert_array_equal(responders(protocol, protocol.endpoints["halved"], estimand, lived), plain)


@pytest.mark.slow
def test_dose_response_and_ranks_are_those_of_the_functions(protocol, seen):
    from trials.analysis.dose_response import Candidate, contrast_test, dose_means
    from trials.analysis.dose_response_fit import curve, fit, target_dose
    from trials.analysis.ordinal import wilcoxon

    made = pd.DataFrame(analyse(protocol, seen))
    output, arm = seen.outputs["EFFECT"], np.where(seen.failed, -1, seen.arm)
    means = dose_means(output[:, :, 2], arm, [0, 1, 2, 4, 8], baseline=output[:, :, 0], strata=seen.stratum)
    guesses = {"linear": (), "emax": (2.0,), "sig_emax": (3.0, 2.0), "exponential": (4.0,)}
    test = contrast_test(means, [Candidate(kind=k, guesses=g, sign=-1) for k, g in guesses.items()], alpha=0.025)
    fits = fit(means, list(guesses))
    each, _ = curve(fits, [4.0], less_placebo=True)
    mine = row(made, "curve", "activity", "w4")
    np.testing.assert_allclose(mine.estimate, (fits.weights[..., None] * each).sum(axis=1)[:, 0], rtol=1e-12)
    np.testing.assert_allclose(mine.p, test.p.min(axis=1), rtol=1e-12)
    assert (mine.lower < mine.estimate).all()
    dose = target_dose(fits, -40.0).dose
    target = row(made, "target", "activity", "w1")
    assert ((dose.min(axis=1) <= target.estimate) & (target.estimate <= dose.max(axis=1))).all()
    assert (row(made, "target", "activity", "w8").estimate.to_numpy() == target.estimate.to_numpy()).all()
    pair = np.where(arm == 0, 0, np.where(arm == 1, 1, -1))
    ranks = wilcoxon(output[:, :, 2] - output[:, :, 0], pair, arms=2, strata=seen.stratum, side="less")
    np.testing.assert_allclose(row(made, "ranks", "activity", "w1").p, ranks.p[:, 0], rtol=1e-12)


def test_doses_come_from_the_regimens_or_from_the_analysis(protocol):
    estimand, analysis = protocol.estimands["curve"], protocol.analyses["curve"]
    assert list(doses_of(protocol, estimand, analysis).values()) == [0.0, 1.0, 2.0, 4.0, 8.0]
    stated = replace(analysis, doses={"w8": 16.0})
    assert doses_of(protocol, estimand, stated)["w8"] == 16.0


def test_a_prior_reads_an_estimate_as_a_posterior(protocol, seen):
    """Conjugate by hand where the error is normal (odds ratio, on its logarithm), likelihood by t for an ANCOVA."""
    from trials.analysis.updating import NormalMixture, updated

    text = TEXT.replace("strata: {endpoint: halved, compare: [w4, w8], against: placebo, summary: risk_difference}",
                        "strata: {endpoint: halved, compare: [w4, w8], against: placebo, summary: odds_ratio}\n"
                        "  mean: {endpoint: activity, compare: [w4, w8], against: placebo, summary: mean_difference}")  # fmt: skip
    plain = (
        "strata: {method: logistic, adjust: []}\n  mean: {method: ancova, adjust: [baseline, SEX], multiplicity: none}"
    )
    prior = "prior: [{at: 2, sd: 0.5, weight: 0.6}, {at: 1, sd: 2, weight: 0.4}]"
    mean = "prior: {at: -20, sd: 10}, margin: -15, side: less, alpha: 0.025"
    read = plain.replace("adjust: []", f"adjust: [], {prior}").replace("none}", f"none, {mean}}}")

    def tables(analyses):
        whole = Protocol.parse(text.replace("strata: {method: cmh}", analyses), complete=False)
        asked = {name: whole.analyses[name] for name in ("strata", "mean")}
        made = replace(whole, analyses=asked, estimands={name: whole.estimands[name] for name in asked})
        return pd.DataFrame(analyse(made, seen))

    before, after = tables(plain), tables(read)
    for arm in ("w4", "w8"):
        was, now = (row(t, "strata", "halved", arm) for t in (before, after))
        law = NormalMixture(weight=(0.6, 0.4), mean=(np.log(2.0), 0.0), sd=(0.5, 2.0))
        found = updated(np.log(was.estimate), was.se, law)
        np.testing.assert_allclose(now.estimate, np.exp(found.mean), rtol=1e-12)
        np.testing.assert_allclose(now.upper, np.exp(found.upper), rtol=1e-12)
        np.testing.assert_allclose(now.p, 2 * np.minimum(found.below, found.above), rtol=1e-12)
        was, now = (row(t, "mean", "activity", arm) for t in (before, after))
        law = NormalMixture(weight=(1.0,), mean=(-20.0,), sd=(10.0,))
        found = updated(was.estimate, was.se, law, df=was.df, margin=-15.0)
        np.testing.assert_allclose(now.lower, found.lower, rtol=1e-12)
        np.testing.assert_allclose(now.p, found.above, rtol=1e-10)
        assert (now["reject"] == (found.below > 0.975)).all()


def test_methods_know_what_they_serve():
    assert {"logistic", "cmh", "risk_ratio"} <= set(offered("responder", "risk_ratio"))
    assert {"fisher", "barnard", "boschloo", "newcombe"} <= set(offered("incidence", "risk_difference"))
    assert {"negative_binomial", "quasi_poisson", "lwyy"} <= set(offered("recurrences", "rate_ratio"))
    assert offered("value", "common_odds_ratio") == ("proportional_odds",)
    assert set(METHODS["mcp_mod"].serves) == {"value", "change_from_baseline"}


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("    effect: -40\n", "", "analyses.target.effect"),
        ("    effect: -40\n", "    effect: 40\n", "analyses.target.effect"),
        ("    select: average ", "    effect: -3 #", "analyses.curve.effect"),
        ("emax: [2], sig_emax", "emax: [], sig_emax", "36:32 emax: needs its own guesses"),
        ("shapes: {linear: [], emax", "shapes: {hill: [], emax", "36:20 shape: no such shape"),
        ("    side: less                              #", "    side: two #", "analyses.curve.side"),
        ("amount: 2 mg", "amount: 1 mg", "analyses.curve"),
        ("exact: {method: boschloo, side: greater, alpha: 0.025}", "exact: {method: mcp_mod}", "analyses.exact.method"),
        ("as: responder, threshold: 50, ", "as: responder, ", "endpoints.range.threshold"),
        ("as: change_from_baseline}", "as: change_from_baseline, threshold: 3}", "endpoints.activity.threshold"),
        ("strata: {method: cmh}", "strata: {method: cmh, alpha: 0.01}", "analyses.strata.alpha"),
        ("strata: {method: cmh}", "strata: {method: logistic, adjust: [WT]}", "analyses.strata.adjust"),
        ("strata: {method: cmh}", "strata: {method: cmh, prior: {at: 0, sd: 1}}", "analyses.strata.prior"),
        ("strata: {method: cmh}", "strata: {method: logistic, adjust: [], margin: 0.1}", "analyses.strata.margin"),
        ("strata: {method: cmh}", "strata: {method: logistic, adjust: [], prior: {at: 0, sd: 0}}", "prior"),
        ("strata: {method: cmh}",
         "strata: {method: logistic, adjust: [], prior: [{at: 0, sd: 1, weight: 0.5}]}", "weights must sum to 1"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_name(old, new, field):
    assert old in TEXT
    with pytest.raises(InputError) as error:
        Protocol.parse(TEXT.replace(old, new, 1), complete=False)
    assert field in str(error.value)
