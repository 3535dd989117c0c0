"""Dose-finding rules by tables of examples, and their simulation against exact enumeration."""

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from trials.designs import blrm, boin, crm, mtpi, tite
from trials.designs.escalation import STOP, State, enumerate_exactly, simulate
from trials.designs.isotonic import isotonic
from trials.designs.three_plus_three import three_plus_three

TRUTH = [0.1, 0.2, 0.33, 0.5, 0.7]


@pytest.mark.parametrize(
    ("expand", "n", "toxic", "dose", "next_dose", "selected"),
    [
        (False, [3, 0, 0], [0, 0, 0], 0, 1, None),
        (False, [3, 0, 0], [1, 0, 0], 0, 0, None),
        (False, [6, 0, 0], [1, 0, 0], 0, 1, None),
        (False, [6, 0, 0], [2, 0, 0], 0, STOP, STOP),
        (False, [3, 0, 0], [2, 0, 0], 0, STOP, STOP),
        (False, [3, 3, 0], [0, 2, 0], 1, STOP, 0),
        (False, [3, 3, 3], [0, 0, 0], 2, STOP, 2),
        (True, [3, 3, 0], [0, 2, 0], 1, 0, None),
        (True, [6, 3, 0], [1, 2, 0], 0, STOP, 0),
        (True, [6, 3, 0], [1, 2, 0], 1, STOP, 0),
        (True, [6, 3, 0], [2, 2, 0], 0, STOP, STOP),
        (True, [3, 6, 3], [0, 2, 2], 1, 0, None),
        (True, [3, 3, 3], [0, 0, 0], 2, 2, None),
        (True, [3, 3, 6], [0, 0, 1], 2, STOP, 2),
        (True, [3, 3, 6], [0, 0, 2], 2, 1, None),
    ],
)
def test_three_plus_three_rule(expand, n, toxic, dose, next_dose, selected):
    """The rules as README of the truth tables words them (Storer 1989)."""
    design = three_plus_three(3, expand=expand)
    state = State.of(n, toxic, dose)
    assert design.rule(state).dose[0] == next_dose
    assert selected is None or design.select(state)[0] == selected


@pytest.mark.parametrize(
    ("n", "toxic", "dose", "next_dose"),
    [
        ([3, 0, 0], [0, 0, 0], 0, 1),
        ([3, 3, 0], [0, 1, 0], 1, 1),
        ([3, 3, 0], [0, 2, 0], 1, 0),
        ([3, 3, 3], [0, 0, 3], 2, 1),
        ([3, 6, 3], [0, 0, 3], 1, 1),  # the dose above is eliminated
        ([3, 0, 0], [3, 0, 0], 0, STOP),
        ([3, 3, 3], [0, 0, 0], 2, 2),
    ],
)
@pytest.mark.parametrize("family", [boin.boin, mtpi.mtpi])
def test_interval_rules(family, n, toxic, dose, next_dose):
    """Target 0.3: Liu & Yuan 2015 table 1 (escalate at <= 0.236, de-escalate at >= 0.358); mTPI-2 agrees at these counts."""
    assert family(3, 0.3, patients=30).rule(State.of(n, toxic, dose)).dose[0] == next_dose


def test_boin_selects_the_example_of_the_package():
    """BOIN's documentation, select.mtd: n 3 3 15 9 0, toxicities 0 0 4 4 0, target 0.3: isotonic estimates, dose 3."""
    design = boin.boin(5, 0.3, patients=30)
    assert design.select(State.of([3, 3, 15, 9, 0], [0, 0, 4, 4, 0], 2))[0] == 2


def test_isotonic_pools_violators_and_skips_empty_doses():
    """Weighted mean of a violating block (Barlow 1972): (0.4 * 1 + 0.2 * 3)/4 = 0.25."""
    fit = isotonic([[0.1, 0.4, 0.9, 0.2]], [[1.0, 1.0, 0.0, 3.0]])[0]
    np.testing.assert_allclose(fit, [0.1, 0.25, np.nan, 0.25], rtol=1e-14)


@pytest.mark.parametrize(
    ("n", "toxic", "dose", "last", "next_dose"),
    [
        ([0, 1, 0, 0], [0, 0, 0, 0], 1, 0, 2),  # the model wants the highest: one step only
        ([0, 4, 1, 0], [0, 0, 1, 0], 2, 1, 2),  # coherent: no escalation right after a toxicity
        ([0, 1, 0, 0], [0, 1, 0, 0], 1, 1, 0),  # down may skip
    ],
)
def test_crm_rule(n, toxic, dose, last, next_dose):
    """Cheung 2005 (coherence) and no skipped dose upwards; the fits themselves are in the truth tables."""
    model = crm.Model(skeleton=(0.1, 0.25, 0.4, 0.5), target=0.25)
    assert crm.crm(model, patients=12).rule(State.of(n, toxic, dose, last=last, given=1)).dose[0] == next_dose


def test_crm_two_stage_by_maximum_likelihood():
    """Until the first toxicity the initial design rules; then the fit, where it exists."""
    model = crm.Model(skeleton=(0.1, 0.25, 0.4), target=0.25, method="mle")
    design = crm.crm(model, patients=6, initial=(0, 0, 1, 1, 2, 2))
    assert design.rule(State.of([2, 0, 0], [0, 0, 0], 0, last=0, given=1)).dose[0] == 1
    assert design.rule(State.of([1, 0, 0], [1, 0, 0], 0, last=1, given=1)).dose[0] == 0
    assert np.isnan(crm.fit(model, [3, 0, 0], [0, 0, 0]).estimate[0])
    with pytest.raises(InputError, match="initial design"):
        crm.crm(model, patients=6)


def test_maximum_likelihood_solves_the_score_equation():
    """Identity: at the maximum the derivative of the log likelihood is 0 (empiric: sum over doses by hand)."""
    model = crm.Model(skeleton=(0.1, 0.25, 0.4), target=0.25, method="mle")
    n, toxic = np.array([3, 5, 4]), np.array([0, 1, 2])
    b, log = crm.fit(model, n, toxic).estimate[0], np.log(model.skeleton)
    p = np.exp(np.exp(b) * log)
    score = (np.exp(b) * log * (toxic - (n - toxic) * p / (1 - p))).sum()
    assert abs(score) < 1e-6


def test_tite_weights():
    """Cheung & Chappell 2000, adaptive scheme by hand: toxicities at 24 and 168 of 180; 102 days: (1 + 78/144)/3."""
    found = crm.weights([168.0, 24.0, 102.0, 3.0, 178.0], [1, 1, 0, 0, 0], 180.0, scheme="adaptive")
    np.testing.assert_allclose(found, [1, 1, (1 + 78 / 144) / 3, 3 / 24 / 3, (2 + 10 / 12) / 3], rtol=1e-14)


def test_tite_with_complete_follow_up_is_the_crm():
    """Identity: entries two windows apart leave nothing unknown; the same people, so the same trials."""
    model = crm.Model(skeleton=tuple(crm.skeleton(0.05, 0.25, prior_mtd=3, doses=5)), target=0.25)
    plan = tite.Plan(model=model, patients=15, window=1.0, every=2.0, poisson=False, start=2)
    ours = tite.simulate(plan, TRUTH, seed=3, replicates=np.arange(60)).trials
    crms = simulate(crm.crm(model, patients=15, start=2), TRUTH, seed=3, replicates=np.arange(60))
    assert (ours.state.n == crms.state.n).all()
    assert (ours.selected == crms.selected).all()


def test_blrm_prior_is_exact_at_the_reference_dose():
    """There logit p = log alpha is normal: P(p <= c) = Phi((logit c - mean)/sd), whatever beta and the correlation."""
    from scipy.special import expit, logit, ndtr, ndtri

    model = blrm.Model(doses=(10.0, 30.0), reference=30.0, correlation=-0.4)
    found = blrm.posterior(model, [0, 0], [0, 0])
    assert found.under[1] == pytest.approx(ndtr((logit(0.16) + 0.847) / 2), abs=1e-8)
    assert found.over[1] == pytest.approx(1 - ndtr((logit(0.33) + 0.847) / 2), abs=1e-8)
    np.testing.assert_allclose(found.quantiles[1], expit(-0.847 + 2 * ndtri([0.025, 0.5, 0.975])), rtol=1e-6)


def test_blrm_rule_never_gives_an_ineligible_dose():
    """EWOC: after 2 of 3 toxicities at dose 10 the rule goes down to what P(over) < 0.25 allows; no dose: stop."""
    model = blrm.Model(doses=(1.0, 3.0, 10.0, 30.0), reference=30.0, grid=(141, 71))
    design = blrm.blrm(model, patients=30)
    for n, toxic, dose in [
        ([3, 3, 3, 0], [0, 0, 2, 0], 2),
        ([3, 3, 3, 0], [0, 0, 0, 0], 2),
        ([3, 0, 0, 0], [3, 0, 0, 0], 0),
    ]:
        following = design.rule(State.of(n, toxic, dose)).dose[0]
        allowed = blrm.posterior(model, n, toxic).eligible
        assert allowed[following] if following != STOP else not allowed.any()
        assert following <= dose + 1


@pytest.mark.parametrize("family", ["3+3", "BOIN", "mTPI-2"])
def test_simulation_agrees_with_enumeration(family):
    """4,000 trials within 4 standard errors of the exact characteristics of the same rule."""
    designs = {
        "3+3": three_plus_three(5),
        "BOIN": boin.boin(5, 0.3, patients=21),
        "mTPI-2": mtpi.mtpi(5, 0.3, patients=21),
    }
    exact = enumerate_exactly(designs[family], TRUTH)
    found = simulate(designs[family], TRUTH, seed=1, replicates=np.arange(4000)).characteristics()
    assert exact.selected.sum() == pytest.approx(1, abs=1e-12)
    for name in ("selected", "patients", "toxicities", "total"):
        error = np.maximum(exact.sd[name], 1 / np.sqrt(4000)) / np.sqrt(4000)
        assert (np.abs(getattr(found, name) - getattr(exact, name)) < 4 * error).all(), name


def test_the_same_people_meet_every_design():
    """Replicates do not depend on who else is simulated, and the first cohort's toxicities are the same in two designs."""
    alone = simulate(boin.boin(5, 0.3, patients=21), TRUTH, seed=1, replicates=[17])
    among = simulate(boin.boin(5, 0.3, patients=21), TRUTH, seed=1, replicates=np.arange(20))
    assert (alone.state.n[0] == among.state.n[17]).all()
    first = [
        simulate(design, [0.4] * 5, seed=1, replicates=np.arange(50)).state.toxic[:, 0]
        for design in (boin.boin(5, 0.3, patients=3), mtpi.mtpi(5, 0.3, patients=3))
    ]
    assert (first[0] == first[1]).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: crm.Model(skeleton=(0.3, 0.2), target=0.25), "increase"),
        (lambda: crm.Model(skeleton=(0.1, 0.98), target=0.25, form="logistic"), "too small"),
        (lambda: boin.boundaries(0.3, under=0.35), "out of order"),
        (lambda: mtpi.intervals(0.04), "inside 0"),
        (lambda: boin.boin(5, 0.3, patients=2), "one cohort"),
        (lambda: simulate(boin.boin(5, 0.3, patients=9), [0.1, 0.2], seed=1, replicates=[0]), "5 probabilities"),
        (lambda: blrm.posterior(blrm.Model(doses=(1.0,), reference=1.0), [3], [4]), "dose by dose"),
    ],
)
def test_errors_name_what_is_wrong(wrong, message):
    with pytest.raises(InputError, match=message):
        wrong()
