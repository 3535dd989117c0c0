"""The mixed model for repeated measures against SAS, R (nlme, pbkrtest), a real trial, ANCOVA and its identities."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals, uniforms
from trials.analysis.continuous import ancova_dunnett
from trials.analysis.contrasts import AnalysisStatus
from trials.analysis.mmrm import Design, Repeated, design_of, fitted, mmrm
from trials.methods import METHODS, Question
from trials.protocol import Protocol
from trials.run import prepare
from trials.setting import opened
from trials.trial import simulate_trial

SHARED = Path(__file__).parents[4] / "shared"
FEV = Path(__file__).parent / "data" / "fev_data.txt"


def fev() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y (1, 197, 4), arm (1, 197), (Black, White, female) (1, 197, 3)."""
    rows = [line.split() for line in FEV.read_text().splitlines() if not line.startswith("#")]
    y = np.array([[np.nan if v == "." else float(v) for v in row[3:]] for row in rows])
    arm = np.array([row[0] == "T" for row in rows]).astype(np.int64)
    return y[None], arm[None], np.array([[r[1] == "B", r[1] == "W", r[2] == "F"] for r in rows], np.float64)[None]


def simulated(case: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """y (1, N, V) with dropout and missed visits, baseline, arm, strata: what R read in `mmrm_oracle.R`."""
    n, visits, arms, levels = [(60, 3, 2, 1), (90, 4, 3, 2), (120, 5, 4, 3)][case - 1]
    who = {"subject": np.arange(n)[:, None], "replicate": case}
    z = normals(5, Purpose.SUMMARY_TRIAL, **who, slot=np.arange(visits + 2))
    u = uniforms(6, Purpose.SUMMARY_TRIAL, **who, slot=np.arange(2 * visits))
    arm, strata = np.arange(n) % arms, (np.arange(n) // arms) % levels
    base = 10 + 2 * z[:, 0]
    effect = 0.4 * arm[:, None] * np.arange(1, visits + 1) / visits
    y = base[:, None] + effect + z[:, 1:2] + np.cumsum(z[:, 2:], axis=1) * 0.6 + 0.3 * strata[:, None]
    gone = np.cumsum(u[:, :visits] < 0.06, axis=1) > 0
    y = np.where(gone | (u[:, visits:] < 0.05), np.nan, y)
    return y.round(6)[None], base.round(6)[None], arm[None], strata[None]


def repeated(case: int, **options: object) -> Repeated:
    y, base, arm, strata = simulated(case)
    arms = int(arm.max()) + 1
    return fitted(design_of(base, arm, strata, arms=arms), y, arm, arms=arms, **options)  # type: ignore[arg-type]


def test_kenward_roger_is_that_of_sas():
    """SAS PROC MIXED, `model FEV1 = ARMCD / ddfm=kenwardroger; repeated AVISIT / subject=USUBJID type=un`, on fev_data:
    openpharma/mmrm, design/ddfm_covtype/kr1_us.csv and design/KR/kr_us.txt (-2 restricted log-likelihood 3667.96276376
    where SAS stopped, 8e-6 above the minimum; hence 5e-4)."""
    y, arm, _ = fev()
    design = Design(t=np.stack([np.ones(arm.shape), arm], axis=-1), crossed=0, first=1)
    found = fitted(design, y, arm, arms=2)
    assert -2 * found.log_likelihood[0] == pytest.approx(3667.96276376, abs=2e-5)
    assert -2 * found.log_likelihood[0] < 3667.96276376
    assert found.estimate[0, -1, 0] == pytest.approx(3.81972492174648, rel=2e-5)
    assert found.se[0, -1, 0] == pytest.approx(0.66124382270307, rel=2e-4)
    assert found.df[0, -1, 0] == pytest.approx(160.733266403768, rel=5e-4)


def test_satterthwaite_is_that_of_sas():
    """SAS, `ddfm=satterthwaite`, FEV1 = ARMCD AVISIT ARMCD*AVISIT RACE SEX: openpharma/mmrm,
    design/SAS/sas_log_reml.txt, effect of treatment at the first visit (146 df) and the covariance there."""
    y, arm, more = fev()
    found = fitted(Design(t=np.concatenate([np.ones((*arm.shape, 1)), arm[..., None], more], axis=-1), crossed=2,
                          first=1), y, arm, arms=2, df="satterthwaite")  # fmt: skip
    assert -2 * found.log_likelihood[0] == pytest.approx(3386.44987722, abs=1e-4)
    assert found.estimate[0, 0, 0] == pytest.approx(3.7745, abs=2e-4)
    assert found.estimate[0, 3, 0] == pytest.approx(3.7745 + 0.6240, abs=2e-4)
    assert found.se[0, 0, 0] == pytest.approx(1.0741, abs=1e-4)
    assert round(float(found.df[0, 0, 0])) == 146
    sas = [[40.5509, 14.3982, 4.9744, 13.3731], [26.5692, 2.7851, 7.4790], [14.8970, 0.9017], [95.5528]]
    for v, row in enumerate(sas):
        assert found.sigma[0, v, v:] == pytest.approx(row, abs=0.006)


GLS = {
    1: (-195.408953, [(0.15037574, 0.37484901)]),
    2: (-331.935086, [(-0.37463411, 0.42563340), (0.43216485, 0.42950076)]),
    3: (-473.931894, [(-0.43096477, 0.48668865), (0.53152837, 0.48272638), (0.96015967, 0.48730414)]),
}
"""nlme 3.1-162: gls(y ~ A*V + base*V + S, correlation=corSymm(form=~v|id), weights=varIdent(form=~1|V), "REML",
glsControl(opt="optim", msTol=1e-13, tolerance=1e-11)): logLik, contrasts with their standard errors at the last visit."""

PBKRTEST = {
    1: (-209.050057, [(0.13456563, 0.35388948, 0.35391538, 70.611858)]),
    2: (-366.250528, [(-0.33035680, 0.37184338, 0.37185968, 107.732906),
                      (0.42083377, 0.37381661, 0.37384753, 113.114954)]),
}  # fmt: skip
"""lme4 1.1-31, pbkrtest 0.5.2: m <- lmer(y ~ A*V + base*V + S + (1|id)); estimate, SE, SE of vcovAdj(m), get_Lb_ddf."""


@pytest.mark.parametrize("case", GLS)
def test_estimates_and_likelihood_are_those_of_gls(case: int):
    """R nlme on three data sets with 10 to 23 % missing, monotone and not."""
    found = repeated(case)
    likelihood, contrasts = GLS[case]
    assert found.log_likelihood[0] == pytest.approx(likelihood, abs=2e-6)
    assert found.estimate[0, -1] == pytest.approx([c[0] for c in contrasts], abs=1e-6)
    assert found.se_model[0, -1] == pytest.approx([c[1] for c in contrasts], rel=2e-6)


@pytest.mark.parametrize("case", PBKRTEST)
def test_kenward_roger_of_compound_symmetry_is_that_of_pbkrtest(case: int):
    """The random-intercept model is compound symmetry; pbkrtest takes W from the expected information."""
    found = repeated(case, covariance="compound_symmetry", observed=False)
    likelihood, contrasts = PBKRTEST[case]
    assert found.log_likelihood[0] == pytest.approx(likelihood, abs=2e-6)
    for mine, column in ((found.estimate, 0), (found.se_model, 1), (found.se, 2), (found.df, 3)):
        assert mine[0, -1] == pytest.approx([c[column] for c in contrasts], rel=1e-6)


@pytest.mark.witness
def test_the_cdisc_pilot_equals_r():
    """ADAS-Cog of the CDISC pilot without imputed rows, CHG ~ TRT*AVISIT + SITEGR1 + BASE*AVISIT by gls, REML; and the
    same change analysed as value: the contrast given baseline is the same."""
    path = SHARED / "data" / "trials" / "cdisc_pilot_adadas.csv"
    if not path.exists():
        pytest.skip("../shared is not here")
    y, base, arm, site = _cdisc(path)
    found = fitted(design_of(base, arm, site, arms=3), y, arm, arms=3)
    table = SHARED / "reference" / "trials" / "real_trial_reference_analyses.csv"
    rows = {(r["analysis"], r["quantity"]): r for r in csv.DictReader(table.read_text().splitlines())}
    likelihood = rows["ADAS-Cog MMRM REML unstructured (no LOCF)", "REML logLik"]
    assert found.log_likelihood[0] == pytest.approx(float(likelihood["estimate"]), abs=1e-4)
    for j, name in enumerate(("Low-Pbo", "High-Pbo")):
        row = rows["ADAS-Cog MMRM wk24", name]
        assert found.estimate[0, -1, j] == pytest.approx(float(row["estimate"]), rel=1e-4)
        assert found.se_model[0, -1, j] == pytest.approx(float(row["se"]), rel=1e-3)
    value = mmrm(y + base[..., None], base, arm, site, arms=3)
    assert value.estimate[0] == pytest.approx(found.estimate[0, -1], rel=1e-6)
    high = mmrm(y, base, np.array([[1, 0, 2]])[0][arm], site, arms=3)  # against the low dose
    row = rows["ADAS-Cog MMRM wk24", "High-Low"]
    assert high.estimate[0, 1] == pytest.approx(float(row["estimate"]), rel=1e-4)


@pytest.mark.witness
def test_the_ancova_of_the_cdisc_pilot_equals_r():
    """R 4.2.2: d <- subset(read.csv("cdisc_pilot_adadas.csv"), EFFFL=="Y" & ANL01FL=="Y" & AVISIT=="Week 24" & ITTFL=="Y");
    lm(CHG ~ relevel(factor(TRTP), "Placebo") + factor(SITEGR1) + BASE, d). The p-values, 0.569 and 0.233, are those of the
    sponsor's report, Table 14-3.01 (from memory)."""
    path = SHARED / "data" / "trials" / "cdisc_pilot_adadas.csv"
    if not path.exists():
        pytest.skip("../shared is not here")
    y, base, arm, site = _cdisc(path, imputed=True)
    found = ancova_dunnett(y[:, :, -1], base, arm, site, arms=3, multiplicity="none")
    assert found.estimate[0] == pytest.approx([-0.4667823575, -1.0060135977], rel=1e-9)
    assert found.se[0] == pytest.approx([0.8180422223, 0.8405293568], rel=1e-9)
    assert found.p[0] == pytest.approx([0.5688469713, 0.2326410959], rel=1e-8)
    assert found.df[0].tolist() == [220.0, 220.0]


def _cdisc(path: Path, *, imputed: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Changes (1, N, 3), baseline, arm (placebo, low, high), site group; imputed: with values carried forward."""
    arms = {"Placebo": 0, "Xanomeline Low Dose": 1, "Xanomeline High Dose": 2}
    kept = [
        r
        for r in csv.DictReader(path.read_text().splitlines())
        if r["EFFFL"] == "Y" and r["ANL01FL"] == "Y" and (imputed or not r["DTYPE"])
    ]
    kept = [r for r in kept if r["AVISIT"] in ("Week 8", "Week 16", "Week 24")]
    names, sites = sorted({r["USUBJID"] for r in kept}), sorted({r["SITEGR1"] for r in kept})
    y, base = np.full((1, len(names), 3), np.nan), np.empty((1, len(names)))
    arm, site = np.empty((2, 1, len(names)), np.int64)
    for r in kept:
        i = names.index(r["USUBJID"])
        y[0, i, ("Week 8", "Week 16", "Week 24").index(r["AVISIT"])] = float(r["CHG"])
        base[0, i], arm[0, i], site[0, i] = float(r["BASE"]), arms[r["TRTP"]], sites.index(r["SITEGR1"])
    return y, base, arm, site


@pytest.mark.parametrize("df", ["kenward_roger", "satterthwaite"])
def test_complete_data_give_the_ancova_of_the_last_visit(df: str):
    """With all visits seen and every effect crossed with visits the last visit's GLS is its least squares: estimate,
    standard error, df = N - arms - 1, hence p and interval (Kenward & Roger: exact here)."""
    y, base, arm, _ = simulated(1)
    complete = np.where(np.isnan(y), base[..., None], y)
    none = np.zeros(arm.shape, np.int64)
    ours, theirs = (
        mmrm(complete, base, arm, none, arms=2, df=df),
        ancova_dunnett(complete[:, :, -1], base, arm, none, arms=2),
    )
    for name in ("estimate", "se", "df", "p", "lower", "upper"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-7), name
    assert ours.df[0, 0] == pytest.approx(57.0, rel=1e-9)


def test_shifts_scales_order_and_batch_change_nothing():
    """y -> 1000 + 10 y + c arm: estimate 10 e + c; subjects in another order; a replicate alone or among others."""
    y, base, arm, strata = simulated(2)
    first = mmrm(y, base, arm, strata, arms=3, multiplicity="none")
    moved = mmrm(1000 + 10 * y + 3.0 * arm[..., None], base * 100 - 7, arm, strata, arms=3, multiplicity="none")
    assert moved.estimate == pytest.approx(10 * first.estimate + 3.0 * np.array([[1, 2]]), rel=1e-6)
    assert moved.se == pytest.approx(10 * first.se, rel=1e-6)
    assert moved.df == pytest.approx(first.df, rel=1e-6)
    other = np.random.default_rng(1).permutation(arm.size)
    turned = mmrm(y[:, other], base[:, other], arm[:, other], strata[:, other], arms=3, multiplicity="none")
    assert turned.estimate == pytest.approx(first.estimate, rel=1e-6)
    both = mmrm(np.concatenate([turned_y := y[:, other], y]), np.concatenate([base[:, other], base]),
                np.concatenate([arm[:, other], arm]), np.concatenate([strata[:, other], strata]), arms=3,
                multiplicity="none")  # fmt: skip
    assert turned_y.shape == y.shape
    assert np.array_equal(both.p[1], first.p[0])
    assert np.array_equal(both.estimate[0], turned.estimate[0])


def test_dunnett_widens_and_none_is_students_t():
    """Critical values: t of each contrast's df without multiplicity (scipy), larger and common to all with Dunnett."""
    from scipy import stats

    y, base, arm, strata = simulated(3)
    single = mmrm(y, base, arm, strata, arms=4, multiplicity="none")
    joint = mmrm(y, base, arm, strata, arms=4)
    assert single.critical == pytest.approx(stats.t.ppf(0.975, single.df), rel=1e-9)
    assert np.array_equal(single.p, single.p_unadjusted)
    assert (joint.critical > single.critical).all()
    assert (joint.p >= single.p).all()
    assert joint.missing[0] + joint.n_control[0] + joint.n_treated[0].sum() == arm.size


def test_what_cannot_be_estimated_says_why():
    """An arm never seen at the last visit; two visits nobody has in common; fewer subjects than visits; none."""
    y, base, arm, strata = simulated(2)
    unseen = y.copy()
    unseen[0, arm[0] == 2, -1] = np.nan
    found = mmrm(unseen, base, arm, strata, arms=3)
    assert found.status.tolist() == [[AnalysisStatus.OK, AnalysisStatus.NOT_ESTIMABLE]]
    assert np.isnan(found.estimate[0, 1])
    assert not found.reject[0, 1]
    apart = y.copy()
    apart[0, ::2, 0], apart[0, 1::2, -1] = np.nan, np.nan
    assert (mmrm(apart, base, arm, strata, arms=3).status == AnalysisStatus.COVARIANCE_UNKNOWN).all()
    few = mmrm(y[:, :6], base[:, :6], arm[:, :6], strata[:, :6] * 0, arms=3)
    assert (few.status != AnalysisStatus.OK).all()
    assert np.isnan(few.p).all()
    nobody = mmrm(y, base, np.full(arm.shape, -1), strata, arms=3)
    assert (nobody.status == AnalysisStatus.NOT_ESTIMABLE).all()


def test_an_arm_that_is_a_stratum_cannot_be_estimated():
    """Where arm 2 and stratum 1 are the same subjects their effects cannot be told apart; arm 1's can."""
    y, base, arm, _ = simulated(2)
    found = mmrm(y, base, arm, (arm == 2).astype(np.int64), arms=3)
    assert found.status[0].tolist() == [AnalysisStatus.OK, AnalysisStatus.NOT_ESTIMABLE]


@pytest.mark.parametrize(
    ("change", "field"),
    [({"df": "kr"}, "df"), ({"covariance": "ar1"}, "covariance"), ({"multiplicity": "holm"}, "multiplicity"),
     ({"side": "both"}, "side"), ({"arms": 1}, "arms"), ({"arms": 2}, "arm")],
)  # fmt: skip
def test_wrong_options_are_refused_by_name(change: dict[str, object], field: str):
    y, base, arm, strata = simulated(2)
    with pytest.raises(InputError) as caught:
        mmrm(y, base, arm, strata, **({"arms": 3} | change))  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a_protocol_may_ask_for_a_mixed_model(write_study):
    """`method: mmrm`: its row is the analysis of the observed visits by hand, at the protocol's covariance and df."""
    old = (
        "    method: ancova\n    adjust: [baseline, SEX]\n    missing: {method: multiple_imputation, imputations: 3}\n"
    )
    options = "covariance: compound_symmetry, df: satterthwaite, multiplicity: none"
    path = write_study((old, f"    {{method: mmrm, adjust: [baseline, SEX], {options}}}\n"))
    protocol = Protocol.read(path)
    setting = opened(prepare(path).variants["main"].payload)
    trial = simulate_trial(setting, range(2))
    table = pd.DataFrame(trial.analyses)
    rows = table[(table.analysis == "primary") & (table.contrast == "high")]
    seen = trial.observed
    codes, output = np.where(seen.arm == 2, 2, seen.arm), seen.outputs["FEV1"]
    found = mmrm(output[:, :, 1:], output[:, :, 0], codes, seen.stratum, arms=3, df="satterthwaite",
                 covariance="compound_symmetry", multiplicity="none")  # fmt: skip
    for name in ("estimate", "se", "df", "lower", "upper", "p"):
        assert np.array_equal(rows[name], getattr(found, name)[:, 1]), name
    asked = protocol.estimands["primary"]
    question = Question(
        protocol=protocol, estimand=asked, analysis=protocol.analyses["primary"], endpoint=protocol.endpoints["fev1"]
    )
    assert question.arms == 3
    assert "Satterthwaite" in METHODS["mmrm"].words(question.analysis)
    assert "no adjustment" in METHODS["mmrm"].words(question.analysis)


def test_the_example_is_read():
    """examples/warfarin_mmrm: every cross-check passes, model included."""
    protocol = Protocol.read(Path(__file__).parents[3] / "examples" / "warfarin_mmrm" / "protocol.yaml")
    assert protocol.analyses["primary"].method == "mmrm"
    assert len(protocol.visits) == 7
