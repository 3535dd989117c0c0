"""Calibration studies without a fit: their texts, their truths, what ranks say. Fits are in test_fit.py (`slow`: here)."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pkpd.bayes.sbc import JOINT, Outcome, calibrated, prepared, summary
from pkpd.bayes.sbc_design import StudyDesign, json_schema, records_of
from pkpd.ground.errors import InputError
from pkpd.model.spec import Model

EXAMPLES = Path(__file__).parents[3] / "examples" / "sbc"


@pytest.fixture(scope="module")
def oral() -> Model:
    return Model.read(EXAMPLES / "oral.yaml")


@pytest.fixture(scope="module")
def design() -> StudyDesign:
    return StudyDesign.read(EXAMPLES / "oral_design.yaml")


@pytest.fixture(scope="module")
def study(oral: Model, design: StudyDesign):
    return prepared(oral, replace(design, fits=400))


def test_the_examples_are_sound_and_of_300_fits():
    for name in ("oral", "turnover", "occasions"):
        design = StudyDesign.read(EXAMPLES / f"{name}_design.yaml")
        records = records_of(design, Model.read(EXAMPLES / f"{name}.yaml"))
        assert design.fits == 300
        assert (design.kept + 1) % 20 == 0
        assert len(records) in (10, 12)
        assert (np.diff(records.subject) >= 0).all()
    assert "groups" in json_schema()["required"]


TEXT = (EXAMPLES / "oral_design.yaml").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("subjects: 12", "subject: 12"), r"d.yaml:\d+:\d+ groups\[0\].subject: unknown key.*did you mean 'subjects'"),
        (("subjects: 12", "subjects: 12\n    occasions: [1 h, 9 h]"), r"groups\[0\]: occasions must begin at 0 h and ascend"),
        (("subjects: 12", "subjects: 0"), r"groups\[0\].subjects: must be greater than or equal to 1, got '?0"),
        (("seed: 20261122", "seed: 20261122\nkept: 100"), r"d.yaml.*kept \+ 1 must be a multiple of 20.*Remedy: write 99 or 199"),
        (("0.25 h", "0.25 mg"), r"d.yaml:\d+:\d+ groups\[0\].samples.CP\[0\]: .*0.25 mg"),
        (("amount: 320 mg", "amount: 320"), r"groups\[0\].doses\[0\].amount: needs a unit, got '320'.*Remedy: write for example 320 mg"),
        (("sbc/1", "sbc/2"), r"vtrial: must be 'sbc/1', got 'sbc/2'"),
    ],
)  # fmt: skip
def test_a_wrong_design_is_told_with_place_and_remedy(change, message):
    with pytest.raises(InputError, match=message):
        StudyDesign.parse(TEXT.replace(*change), "d.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("{CP: [", "{CQ: ["), r"groups\[0\].samples: the model has no such output, got 'CQ'. Remedy: valid here: CP"),
        (("into: depot", "into: depo"), r"into: no such state in the model, got 'depo'.*did you mean 'depot'"),
        (("subjects: 12", "subjects: 12\n    occasions: [0 h, 9 h]"), r"groups\[0\].occasions: the model has no variability between"),
        (("subjects: 12", "subjects: 12\n    covariates: {WT: 70}"), r"covariates: the model has no such covariate, got 'WT'"),
    ],
)  # fmt: skip
def test_a_design_that_does_not_fit_its_model_is_told(oral, change, message):
    with pytest.raises(InputError, match=message) as told:
        records_of(StudyDesign.parse(TEXT.replace(*change)), oral, file="d.yaml")
    assert str(told.value).startswith("d.yaml ")


def test_truths_are_drawn_from_the_priors(study):
    """400 truths of every quantity against its prior's distribution: Kolmogorov-Smirnov, p > 0.001 over ten quantities."""
    for name, prior in study.plan.priors.items():
        grid = np.linspace(0.0005, 0.9995, 2000)
        found = stats.kstest(np.interp(study.truth[name], prior.quantile(grid), grid), "uniform")
        assert found.pvalue > 1e-4, name
    assert np.unique(study.truth["log_CL"]).size == 400
    assert study.y.shape == (400, 108)


def test_a_truth_does_not_depend_on_how_many_there_are(oral, design, study):
    few = prepared(oral, replace(design, fits=3))
    np.testing.assert_array_equal(few.x, study.x[:3])
    np.testing.assert_array_equal(few.y, study.y[:3])
    assert few.key == study.key


def test_data_are_the_law_of_the_truth(study):
    """Residuals over their sd at the true individual parameters are standard normal: engine against closed form by hand."""
    named = study.law.layout.named(study.x)
    root = study.law.layout.root(named)
    z = np.stack([named[f"z_{n}"] for n in study.plan.spread], axis=-1)
    eta = np.einsum("fij,fnj->fni", root, z)
    base = np.stack([named["log_KA_above"], named["log_CL"], named["log_V"]], axis=1)
    above, cl, v = np.moveaxis(np.exp(base[:, None, :] + eta), 2, 0)
    ka, ke = above + cl / v, cl / v
    t = np.array([0.25, 0.5, 1, 2, 4, 6, 9, 12, 24])
    f = (320 * ka / (v * (ka - ke)))[..., None] * (np.exp(-ke[..., None] * t) - np.exp(-ka[..., None] * t))
    sd = np.sqrt(named["CP_additive"][:, None, None] ** 2 + (named["CP_proportional"][:, None, None] * f) ** 2)
    away = (study.y.reshape(400, 12, 9) - f) / sd
    assert stats.kstest(away.ravel(), "norm").pvalue > 0.001


def test_data_of_several_occasions_are_the_law_of_the_truth():
    """As above, boluses by hand with each week's own clearance (what a week leaves behind is e^-20 of it)."""
    about = replace(StudyDesign.read(EXAMPLES / "occasions_design.yaml"), fits=100)
    made = prepared(Model.read(EXAMPLES / "occasions.yaml"), about)
    named = made.law.layout.named(made.x)
    iov = (named["omega_CL.iov"][:, None] * named["z_CL.iov"]).reshape(100, 12, 3)
    own = named["log_CL"][:, None] + named["omega_CL"][:, None] * named["z_CL"]
    cl, v = np.exp(own[:, :, None] + iov), np.exp(named["log_V"][:, None] + named["omega_V"][:, None] * named["z_V"])
    k = (cl / v[:, :, None])[..., None]
    f = 250 / v[:, :, None, None] * np.exp(-k * np.array([1.0, 4.0, 8.0, 16.0]))
    sd = np.hypot(named["CP_additive"][:, None, None, None], named["CP_proportional"][:, None, None, None] * f)
    away = (made.y.reshape(100, 12, 3, 4) - f) / sd
    assert stats.kstest(away.ravel(), "norm").pvalue > 0.001
    assert stats.kstest(named["z_CL.iov"].ravel(), "norm").pvalue > 0.001
    assert set(made.truth) >= {"omega_CL", "omega_CL.iov", "omega_V", "log_CL"}


def _outcomes(study, ranks: np.ndarray) -> list[Outcome]:
    names = [*study.truth, JOINT]
    return [
        Outcome(
            fit=i, draws=800, rhat=1.0, seconds=1.0, rank=dict.fromkeys(names, int(r)), pit=dict.fromkeys(names, (r + 0.5) / 100),
            truth=dict.fromkeys(names, 0.0), mean=dict.fromkeys(names, 0.1), sd=dict.fromkeys(names, 1.0), ess=dict.fromkeys(names, 300.0),
        )
        for i, r in enumerate(ranks)
    ]  # fmt: skip


def test_uniform_ranks_pass_and_shrunk_ones_do_not(study):
    """chi2 of 400 ranks in 20 bins, by scipy; ranks crowded in the middle (intervals too wide) fail."""
    rng = np.random.default_rng(4)
    ranks = rng.integers(0, 100, 400)
    good = summary(study, _outcomes(study, ranks))
    exact = stats.chisquare(np.bincount(ranks // 5, minlength=20))
    assert good.quantities[0].p == pytest.approx(exact.pvalue)
    assert good.ok
    assert "Calibrated as far as 400 fits can tell" in good.verdict
    assert good.needed == pytest.approx(0.001 / 11)
    assert good.quantities[0].coverage["0.9"] == pytest.approx(np.mean(np.abs((ranks + 0.5) / 100 - 0.5) <= 0.45))
    assert good.quantities[0].contraction == pytest.approx(1.0 - 1.0 / study.plan.priors["log_KA_above"].sd ** 2)
    bad = summary(study, _outcomes(study, (0.25 * ranks + 37.5).astype(int)))
    assert not bad.ok
    assert "Not calibrated: the least p" in bad.verdict


def test_failed_fits_are_counted_and_too_many_fail_the_study(study):
    ranks = np.random.default_rng(4).integers(0, 100, 400)
    some = _outcomes(study, ranks)
    for i in range(9):
        some[i] = Outcome(fit=i, failed="R-hat above 1.05")
    found = summary(study, some)
    assert found.counted == 391
    assert found.failures == {"R-hat above 1.05": 9}
    assert found.failed == pytest.approx(0.0225)
    assert not found.ok
    assert "9 of 400 fits failed (most often: R-hat above 1.05); raise tune and draws" in found.verdict


@pytest.mark.slow
def test_a_bias_of_the_fit_is_seen(oral, design):
    """60 fits to data of a clearance 30 % larger than the prior's draw: CL's ranks pile up, CL and only such quantities fail."""
    study = prepared(oral, replace(design, fits=60))
    moved = replace(study, truth={**study.truth, "log_CL": study.truth["log_CL"] - np.log(1.3)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = summary(moved, calibrated(moved))
    by_name = {q.name: q for q in found.quantities}
    assert by_name["log_CL"].p < found.needed
    assert by_name["log_V"].p > found.needed
    assert not found.ok
