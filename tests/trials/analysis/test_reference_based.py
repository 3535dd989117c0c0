"""Reference-based imputation and tipping points: identities, and the conditional normal means of Carpenter, Roger & Kenward
(2013) at large samples (their formula by the covariance matrix, where the kernel works by sequential regressions)."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals, uniforms
from trials.analysis.continuous import ASSUMPTIONS, ancova_dunnett, ancova_imputed, ancova_mi_dunnett, impute
from trials.analysis.tipping import tipping_point
from trials.protocol import Protocol

VISITS = 3
CONTROL = np.array([0.0, 0.3, 0.5])
EFFECT = np.array([1.0, 2.0, 3.0])
ROOT = np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.5, 0.3, 0.7]])
HOW = {"seed": 3, "replicate": np.arange(1), "imputations": 4}


def trial(n: int, leave: float = 0.2) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two arms with known means and covariance; everybody leaves after a visit by the same chance."""
    who = {"subject": np.arange(n)[:, None], "replicate": 0}
    z = normals(21, Purpose.SUMMARY_TRIAL, **who, slot=np.arange(VISITS + 1))
    u = uniforms(22, Purpose.SUMMARY_TRIAL, **who, slot=np.arange(VISITS - 1))
    arm = np.arange(n) % 2
    y = CONTROL + arm[:, None] * EFFECT + z[:, 1:] @ ROOT.T
    gone = np.cumsum(u < leave, axis=1) > 0
    y[:, 1:][gone] = np.nan
    return y[None], z[None, :, 0], arm[None], np.zeros((1, n), np.int64)


def expected(rule: str, leave: float = 0.2) -> float:
    """Difference at the last visit: each pattern's mean by the rule's means and Sigma_mo Sigma_oo^-1."""
    sigma, own = ROOT @ ROOT.T, CONTROL + EFFECT
    total = (1 - leave) ** (VISITS - 1) * own[-1]
    for last in range(1, VISITS):
        share = leave * (1 - leave) ** (last - 1)
        steps = own[last - 1] + CONTROL - CONTROL[last - 1]
        mean = {"at_random": own, "jump_to_reference": np.where(np.arange(VISITS) < last, own, CONTROL),
                "copy_reference": CONTROL, "copy_increments": np.where(np.arange(VISITS) < last, own, steps)}[rule]  # fmt: skip
        slope = sigma[-1, :last] @ np.linalg.inv(sigma[:last, :last])
        total += share * (mean[-1] + slope @ (own[:last] - mean[:last]))
    return float(total - CONTROL[-1])


@pytest.mark.parametrize("rule", ASSUMPTIONS)
def test_large_samples_give_the_conditional_normal_means(rule: str):
    """40,000 subjects, 36 % missing in the end: within 4 standard errors (0.02) of the closed form; the four differ by
    0.25 and more."""
    y, base, arm, strata = trial(40_000)
    found = ancova_mi_dunnett(y, base, arm, strata, arms=2, assume=rule, **HOW)
    assert found.estimate[0, 0] == pytest.approx(expected(rule), abs=4 * found.se[0, 0])
    assert found.se[0, 0] < 0.02


def test_closed_forms_by_hand():
    """Jumping loses the whole effect of those who leave (36 %): 3 x 0.64; at random it is 3; increments keep the effect
    of the last visit seen: 0.64 x 3 + 0.2 x 1 + 0.16 x 2."""
    assert expected("jump_to_reference") == pytest.approx(3 * 0.64)
    assert expected("at_random") == pytest.approx(3.0)
    assert expected("copy_increments") == pytest.approx(1.92 + 0.2 + 0.32)


def test_control_and_complete_data_are_as_at_random():
    """No rule touches control subjects; without missing values every rule is the ANCOVA, bit for bit."""
    y, base, arm, strata = trial(60)
    free = impute(y, base, arm, strata, arms=2, **HOW)
    for rule in ASSUMPTIONS[1:]:
        other = impute(y, base, arm, strata, arms=2, assume=rule, **HOW)
        assert np.array_equal(other.final[:, arm == 0], free.final[:, arm == 0])
        assert not np.array_equal(other.final[:, arm == 1], free.final[:, arm == 1])
    whole = np.where(np.isnan(y), 0.0, y)
    plain = ancova_dunnett(whole[:, :, -1], base, arm, strata, arms=2)
    found = ancova_mi_dunnett(whole, base, arm, strata, arms=2, assume="copy_reference", delta=-5.0, **HOW)
    assert found.estimate[0, 0] == plain.estimate[0, 0]


def test_delta_moves_the_imputed_values_of_treated_subjects():
    """delta 0 changes no bit; delta d adds d there, and to the estimate the ANCOVA of d x (imputed and treated)."""
    y, base, arm, strata = trial(80)
    zero, moved = (impute(y, base, arm, strata, arms=2, delta=d, **HOW) for d in (0.0, -1.5))
    free = impute(y, base, arm, strata, arms=2, **HOW)
    assert np.array_equal(zero.final, free.final)
    indicator = zero.imputed & (arm == 1)
    assert moved.final == pytest.approx(zero.final - 1.5 * indicator, abs=1e-14)
    at = ancova_imputed(zero, base, arm, strata, arms=2), ancova_imputed(moved, base, arm, strata, arms=2)
    share = ancova_dunnett(-1.5 * indicator, base, arm, strata, arms=2)
    assert at[1].estimate - at[0].estimate == pytest.approx(share.estimate, rel=1e-10)


def test_the_tipping_point_is_where_significance_ends():
    """Just before it the test rejects, just after it not; a limit that is not enough gives infinity; what is not
    significant at 0 gives NaN."""
    y, base, arm, strata = trial(60)
    filled = impute(y, base, arm, strata, arms=2, **HOW)
    point = float(tipping_point(filled, base, arm, strata, arms=2, limit=-50.0)[0, 0])
    assert -50 < point < 0
    before, after = (
        ancova_mi_dunnett(y, base, arm, strata, arms=2, delta=point * s, **HOW).reject[0, 0] for s in (0.999, 1.001)
    )
    assert before
    assert not after
    assert tipping_point(filled, base, arm, strata, arms=2, limit=point / 2)[0, 0] == -np.inf
    none = impute(y - 3 * arm[..., None], base, arm, strata, arms=2, **HOW)
    assert np.isnan(tipping_point(none, base, arm, strata, arms=2, limit=-1.0)[0, 0])


def test_rules_are_refused_where_they_mean_nothing(write_study):
    y, base, arm, strata = trial(20)
    with pytest.raises(InputError, match="assume"):
        impute(y, base, arm, strata, arms=2, assume="jump", **HOW)
    with pytest.raises(InputError, match="off_treatment"):
        impute(y, base, arm, strata, arms=2, assume="copy_reference", off_treatment=np.zeros(y.shape), **HOW)
    with pytest.raises(InputError, match="limit"):
        tipping_point(impute(y, base, arm, strata, arms=2, **HOW), base, arm, strata, arms=2, limit=0.0)
    old = "{method: multiple_imputation, imputations: 3}"
    path = write_study((old, "{method: complete_case, assume: jump_to_reference}"))
    with pytest.raises(InputError, match=r"analyses.primary.missing.assume: goes with multiple imputation only"):
        Protocol.read(path)
    sound = Protocol.read(write_study((old, "{method: multiple_imputation, assume: copy_increments, delta: -0.1}")))
    assert sound.analyses["primary"].missing.delta == -0.1
