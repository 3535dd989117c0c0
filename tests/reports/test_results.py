"""The numbers of the report. Witness: pandas group-by on the same table, and identities."""

import dataclasses

import numpy as np
import pytest

from reports import credibility, results
from reports.sections.headline import headline
from reports.study import FitEvidence, Study


def test_expected_difference_is_the_mean_of_replicate_differences(study: Study) -> None:
    frame = study.outcomes.assign(change=study.outcomes["FEV1.true@week12"] - study.outcomes["FEV1.true@baseline"])
    means = frame.groupby(["replicate", "arm"])["change"].mean().unstack()
    for k, effect in enumerate(results.effects(study), start=1):
        difference = means[k] - means[0]
        assert effect.expected.value == pytest.approx(difference.mean(), abs=1e-12)
        assert effect.expected.mcse == pytest.approx(difference.std(ddof=1) / np.sqrt(len(difference)), rel=1e-9)
        assert effect.spread == pytest.approx(tuple(difference.quantile([0.025, 0.975])), abs=1e-12)


def test_what_one_trial_reports_comes_from_the_analyses(study: Study) -> None:
    rows = study.analyses[study.analyses["contrast"] == "t300"]
    effect = results.effects(study)[1]
    assert effect.arm.key == "t300"
    assert effect.one == pytest.approx((rows["estimate"].mean(), rows["lower"].median(), rows["upper"].median()))
    assert effect.assurance.value == rows["reject"].mean()
    assert study.median is not None
    other = study.median.analyses
    assert effect.power is not None
    assert effect.power.value == other.loc[other["contrast"] == "t300", "reject"].mean()


def test_bias_and_coverage_use_potential_outcomes_where_they_are(study: Study) -> None:
    """Identity: against a truth equal to the estimates the bias is 0 and every interval covers."""
    rows = study.analyses[study.analyses["contrast"] == "t300"].set_index("replicate")["estimate"]
    truth = rows.head(10).to_frame("t300").assign(placebo=0.0)
    effect = results.effects(dataclasses.replace(study, truth=truth))[1]
    assert effect.bias.value == pytest.approx(0, abs=1e-12)
    assert effect.coverage is not None
    assert (effect.coverage.value, effect.coverage.n) == (1.0, 10)


def test_risks_by_grade(study: Study) -> None:
    for grade in (1, 2, 3):
        hit = study.outcomes["nausea.grade"] >= grade
        shares = hit.groupby([study.outcomes["replicate"], study.outcomes["arm"]]).mean().unstack()
        for k, risk in enumerate(results.risks(study, ("nausea",), grade)):
            assert risk.incidence.value == pytest.approx(shares[k].mean(), abs=1e-12)
            if k:
                assert risk.difference is not None
                assert risk.difference.value == pytest.approx((shares[k] - shares[0]).mean(), abs=1e-12)


def test_any_event_counts_a_subject_once(study: Study) -> None:
    worst = study.outcomes[[f"{key}.grade" for key in study.composite]].max(axis=1)
    found = results.risks(study, study.composite, 1)
    control = worst[study.outcomes["arm"] == 0]
    by_replicate = (control >= 1).groupby(study.outcomes["replicate"]).mean()
    assert found[0].incidence.value == pytest.approx(by_replicate.mean(), abs=1e-12)


def test_binned_means_and_their_clustered_error() -> None:
    """Identity: with one subject a replicate the clustered error is the ordinary one (n in the denominator)."""
    x, y = np.arange(100.0), np.sin(np.arange(100.0))
    found = results.binned(x, y, np.arange(100))
    first = y[:10]
    assert found.mean[0] == pytest.approx(first.mean())
    assert found.mcse[0] == pytest.approx(first.std() / np.sqrt(10))
    same = results.binned(x, y, np.zeros(100, dtype=np.int64))
    assert same.mcse[0] == pytest.approx(0, abs=1e-12)  # one cluster around its own mean


def test_the_budget_adds_up(study: Study) -> None:
    """Identity of the split: parameters^2 + subjects^2 = variance of true differences."""
    effect = results.effects(study)[3]
    parts = results.budget(study, effect)
    total = effect.differences.var(ddof=1)
    assert parts.subjects > 0
    assert parts.parameters**2 + parts.subjects**2 == pytest.approx(max(total, parts.subjects**2))
    assert parts.monte_carlo == effect.expected.mcse


def test_thinning_is_deterministic_and_spread() -> None:
    rows = results.thinned(1000, 7)
    assert rows.tolist() == [0, 142, 285, 428, 571, 714, 857]
    assert results.thinned(3, 7).tolist() == [0, 1, 2]


def test_evidence_says_agreement_or_not(study: Study) -> None:
    items = {item.claim.partition(" (")[0]: item for item in credibility.evidence(study)}
    fev1 = items["FEV1 difference from placebo"]
    assert (fev1.kind, fev1.verdict) == ("calibration", "agrees")
    assert "600 mg" in fev1.claim  # the arm whose average level is nearest to 11 mg/L
    assert items["464 mg every 12 h, mean level, 12 h after the dose"].verdict == "not assessed"
    narrow = tuple(dataclasses.replace(p, interval=(5.0, 6.0)) for p in study.published if p.what != "levels")
    assert {e.verdict for e in credibility.evidence(dataclasses.replace(study, published=narrow))} <= {
        "disagrees",
        "agrees",
    }
    assert credibility.evidence(dataclasses.replace(study, published=narrow))[0].verdict == "disagrees"


@pytest.mark.parametrize(
    ("name", "value", "holds"),
    [
        ("max_rhat", 1.01, True), ("max_rhat", 1.011, False), ("max_rhat", np.nan, False), ("min_ess_bulk", 400.0, True),
        ("min_ess_bulk", 399.0, False), ("min_ess_tail", 10.0, False), ("divergences", 0.0, True), ("divergences", 1.0, False),
        ("apart", 3.1, False), ("apart", np.nan, False), ("ebfmi", 0.29, False), ("ebfmi", np.nan, False),
    ],
)  # fmt: skip
def test_limits_of_the_fit(study: Study, name: str, value: float, holds: bool) -> None:
    good = {
        "max_rhat": 1.0,
        "min_ess_bulk": 1000.0,
        "min_ess_tail": 1000.0,
        "divergences": 0.0,
        "apart": 0.1,
        "ebfmi": 1.0,
    }
    assert study.fit is not None
    fit: FitEvidence = dataclasses.replace(study.fit, diagnostics={**good, name: value})
    assert all(limit.holds for limit in credibility.fit_limits(fit)) is holds


def test_failed_solves_are_counted_and_breach(study: Study) -> None:
    outcomes = study.outcomes.copy()
    outcomes.loc[:4, "status"] = 3
    found = credibility.breaches(dataclasses.replace(study, outcomes=outcomes))
    assert any(line.startswith("Subjects whose equations could not be solved: 5") for line in found)


def test_the_headline_names_the_flag_and_the_usual_dose(study: Study) -> None:
    said = headline(study)
    assert "600 mg (upper limit, above usual dosing)" in said.answer[0]
    assert said.answer[1].startswith("Largest within usual dosing: 400 mg")
    assert "first of all EC50" in said.trust[0]
