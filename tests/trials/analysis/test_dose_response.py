"""MCP-Mod. Witnesses: ../shared/reference/trials/mcpmod_biom_*.csv (R DoseFinding), R mvtnorm, Dunnett's quadrature,
closed forms and finite differences.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pkpd.ground.errors import InputError
from trials.analysis.continuous import AnalysisStatus
from trials.analysis.dose_response import Candidate, DoseMeans, contrast_test, contrasts, dose_means
from trials.analysis.dose_response_fit import (
    COEFFICIENTS,
    FitStatus,
    average,
    bootstrap,
    bounds,
    curve,
    fit,
    target_dose,
)
from trials.analysis.dunnett import adjusted_p, critical
from trials.analysis.multivariate_t import joint_power, joint_test

SHARED = Path(__file__).parents[4] / "shared"
TABLES, DATA = SHARED / "reference/trials", SHARED / "data/trials/dosefinding_biom.csv"
HERE = TABLES.is_dir() and DATA.is_file()


def witness(test):
    return pytest.mark.witness(pytest.mark.skipif(not HERE, reason="no ../shared/reference/trials")(test))


# guesses of the stored contrasts (Bornkamp et al. 2009, section 4; linlog's offset 0.1 reproduces the stored ones)
CANDIDATES = {
    "emax": Candidate(kind="emax", guesses=(0.2,)),
    "linlog": Candidate(kind="linlog"),
    "linear": Candidate(kind="linear"),
    "exponential": Candidate(kind="exponential", guesses=(0.279,)),
    "quadratic": Candidate(kind="quadratic", guesses=(-0.854,)),
}
NAMES = {"sigEmax": "sig_emax", "betaMod": "beta"}
# mvtnorm 1.1-3, GenzBretz(maxpts = 5e6, abseps = 1e-7), df 95, the five contrasts' correlation; the last of `P_ONE` is
# 0.003338 +- 0.000018 by 1e7 draws (set.seed(3); rnorm, rchisq): the package's default control gives 0.0025 ... 0.0042
T = (3.46411343706088, 3.36412864218203, 2.97153434466477, 2.21744148978755, 3.10014412513442)
P_ONE = (0.0010253658, 0.0015171591, 0.0049046865, 0.0336595674, 0.0033835397)
P_TWO = (0.0022253319, 0.0030394756, 0.0097877652, 0.0672683919, 0.0067546572)


def biom():
    data = pd.read_csv(DATA)
    doses = np.unique(data["dose"])
    return dose_means(data["resp"].to_numpy()[None], np.searchsorted(doses, data["dose"])[None], doses)


def shown(name, errors):
    """The largest of a table's errors, said aloud; a table without rows is an error of its own."""
    found = np.asarray(errors, np.float64)
    print(f"{name}.csv: {len(found)} rows, worst error {found.max():.3g}")
    return found.max()


def table(name, **options):
    return pd.read_csv(TABLES / f"{name}.csv", **options)


@witness
def test_contrasts_of_biom():
    theirs = table("mcpmod_biom_contrasts", index_col=0)
    found, _ = contrasts(biom(), [CANDIDATES[name] for name in theirs.columns], offset=0.1)
    assert shown("mcpmod_biom_contrasts", np.abs(found[0].T - theirs.to_numpy())) <= 1e-6


@witness
def test_contrast_correlation_of_biom():
    theirs = table("mcpmod_biom_contrast_cor", index_col=0)
    _, found = contrasts(biom(), [CANDIDATES[name] for name in theirs.columns], offset=0.1)
    assert shown("mcpmod_biom_contrast_cor", np.abs(found[0] - theirs.to_numpy())) <= 1e-6


@witness
def test_contrast_test_of_biom():
    """t to 1e-3. p to 5e-4, but `quadratic`: the stored value carries the Monte Carlo error of DoseFinding's default
    control (abseps 1e-3, see P_ONE) and gets that; all five p-values equal mvtnorm at abseps 1e-7 within 1e-4.
    """
    theirs = table("mcpmod_biom_tests", index_col="model")
    found = contrast_test(biom(), [CANDIDATES[name] for name in theirs.index], offset=0.1)
    assert found.reject.all()
    assert theirs.index[found.best[0]] == "emax"
    assert shown("mcpmod_biom_tests (t)", np.abs(found.t[0] - theirs["tstat"])) <= 1e-3
    gaps = pd.Series(np.abs(found.p[0] - theirs["pval"]), index=theirs.index)
    assert shown("mcpmod_biom_tests (p, but quadratic)", gaps.drop("quadratic")) <= 5e-4
    assert shown("mcpmod_biom_tests (p, quadratic)", gaps[["quadratic"]]) <= 1e-3


@witness
def test_fits_of_biom():
    """Coefficients, residual sum of squares, AIC and target dose to 1e-3 relative; the exponential on its bound."""
    theirs, worst = table("mcpmod_biom_fits"), []
    shapes = [NAMES.get(name, name) for name in theirs["model"]]
    found = fit(biom(), shapes)
    doses = target_dose(found, 0.4).dose[0]
    for number, row in enumerate(theirs.itertuples(index=False)):
        ours = found.named(0, shapes[number])
        pairs = dict(part.split("=") for part in row.coef.split(";"))
        gaps = [abs(ours[name] / float(value) - 1) for name, value in pairs.items()]
        gaps += [abs(found.rss[0, number] / row.rss - 1), abs(found.aic[0, number] / row.AIC - 1)]
        worst.append(max(*gaps, abs(doses[number] / row[5] - 1)))
        assert FitStatus(found.status[0, number]).name == ("AT_BOUND" if row.model == "exponential" else "OK")
    assert shown("mcpmod_biom_fits", worst) <= 1e-3


def five():
    doses = np.array([0, 0.05, 0.2, 0.6, 1.0])
    return DoseMeans.of(doses, [0.345, 0.457, 0.810, 0.935, 0.949], np.eye(5) * 0.0248)


def test_adjusted_p_equals_mvtnorm():
    """The five contrasts have rank 4: their correlation is singular."""
    _, correlation = contrasts(five(), list(CANDIDATES.values()), offset=0.1)
    assert np.abs(joint_test([T], 95, correlation, side="greater").p[0] - P_ONE).max() < 1e-4
    assert np.abs(joint_test([T], 95, correlation, side="two").p[0] - P_TWO).max() < 1e-4


def test_product_structure_equals_dunnetts_quadrature():
    loadings, t = np.array([0.9, 0.7, 0.5, 0.3]), [2.9, 2.4, 1.7, 0.6]
    matrix = np.outer(loadings, loadings) + np.diag(1 - loadings**2)
    for side in ("two", "greater"):
        for df in (12, np.inf):
            found = joint_test([t], df, matrix, side=side)
            np.testing.assert_allclose(found.p[0], adjusted_p(t, df, loadings, side), atol=1e-4)
            np.testing.assert_allclose(found.critical[0], critical(0.05, df, loadings, side), atol=1e-3)
    power = joint_power(2.0, [[1.0, 0.5, 2.0, 0.0]], matrix)
    # R: 1 - pmvnorm(upper = 2 - c(1, .5, 2, 0), corr = R, algorithm = GenzBretz(5e6, 1e-7))
    assert power[0] == pytest.approx(0.55141204, abs=1e-4)


@pytest.mark.slow
def test_generalised_equals_raw_with_the_same_covariance():
    """Estimates handed over as such: same contrasts and statistics, normal instead of t, gAIC = deviance + 2p."""
    rng = np.arange(40)
    arm = np.stack([rng % 4] * 2)
    y = np.stack([0.3 * (arm[0] > 0) + np.sin(rng * 1.7), 0.1 * arm[1] + np.cos(rng * 2.3)])
    raw = dose_means(y, arm, [0, 1, 2, 4], baseline=np.stack([np.cos(rng), np.sin(rng * 0.7)]))
    known = DoseMeans.of(raw.doses, raw.mean, raw.covariance)
    candidates = [Candidate(kind="emax", guesses=(1.0,)), Candidate(kind="linear")]
    one, two = contrast_test(raw, candidates), contrast_test(known, candidates)
    np.testing.assert_allclose(one.t, two.t, rtol=1e-12)
    assert (one.p > two.p).all()
    fitted, general = fit(raw, ["emax", "linear"]), fit(known, ["emax", "linear"])
    np.testing.assert_allclose(fitted.coefficients, general.coefficients, rtol=1e-12)
    np.testing.assert_allclose(general.aic, general.deviance + [6.0, 4.0])
    design = np.column_stack([arm[0] == k for k in range(4)] + [np.cos(rng) - np.cos(rng).mean()]).astype(float)
    beta, rss, *_ = np.linalg.lstsq(design, y[0], rcond=None)
    np.testing.assert_allclose(raw.mean[0], beta[:4], rtol=1e-12)
    np.testing.assert_allclose(raw.covariance[0], (rss / 35 * np.linalg.inv(design.T @ design))[:4, :4], rtol=1e-10)
    dose = np.array([0, 1, 2, 4])[arm[0]]
    straight = np.column_stack([np.ones(40), dose, design[:, 4]])
    least = np.linalg.lstsq(straight, y[0], rcond=None)
    np.testing.assert_allclose(fitted.rss[0, 1], least[1][0], rtol=1e-12)
    np.testing.assert_allclose(fitted.coefficients[0, 1, 1], least[0][1], rtol=1e-10)
    variance = least[1][0] / 37 * np.linalg.inv(straight.T @ straight)[1, 1]
    np.testing.assert_allclose(fitted.covariance[0, 1, 1, 1], variance, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(COEFFICIENTS))
def test_a_curve_of_the_shape_itself_is_found_again(kind):
    """Exact means: coefficients, curve and target dose come back; the derivative of every shape by differences."""
    doses = np.array([0, 0.1, 0.3, 0.6, 1.0, 1.5, 2.0])
    truth = {"emax": (0.4,), "exponential": (0.9,), "logistic": (0.7, 0.2), "sig_emax": (0.5, 2.2),
             "beta": (1.1, 0.6), "quadratic": (-0.3,)}.get(kind, ())  # fmt: skip
    candidate = Candidate(kind=kind, guesses=truth, sign=-1)
    values = 0.2 + 1.7 * candidate.means(doses, offset=0.02, scale=2.4)
    found = fit(DoseMeans.of(doses, values, np.eye(7) * 1e-4), [kind])
    assert found.status[0, 0] == FitStatus.OK
    assert found.deviance[0, 0] < 1e-8
    expected = (0.2, -1.7, 0.51) if kind == "quadratic" else (0.2, -1.7, *truth)
    np.testing.assert_allclose(found.coefficients[0, 0, : len(expected)], expected, rtol=2e-5, atol=1e-7)
    target = target_dose(found, -0.5)
    effect, _ = curve(found, [float(target.dose[0, 0])], less_placebo=True)
    assert effect[0, 0, 0] == pytest.approx(-0.5, abs=1e-9)
    step = 1e-5
    for name, at in zip(COEFFICIENTS[kind], range(len(expected)), strict=True):
        moved = found.coefficients.copy()
        moved[0, 0, at] += step
        values, _ = curve(found, doses)
        there = curve(type(found)(**{f: getattr(found, f) for f in found.__slots__} | {"coefficients": moved}), doses)
        unit = np.zeros((1, 1, 4, 4))
        unit[0, 0, at, at] = 1.0
        lone = type(found)(**{f: getattr(found, f) for f in found.__slots__} | {"covariance": unit})
        slope = np.abs(there[0] - values) / step
        np.testing.assert_allclose(curve(lone, doses)[1], slope, rtol=2e-4, atol=2e-4, err_msg=name)


@pytest.mark.slow
def test_averaged_curve_lies_between_and_its_interval_around_it():
    means = five()
    shapes = ["emax", "quadratic", "linear"]
    fits = fit(means, shapes)
    assert fits.weights.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(np.log(fits.weights[0, 0] / fits.weights[0, 2]), 0.5 * (fits.aic[0, 2] - fits.aic[0, 0]))
    each, _ = curve(fits, means.doses)
    made = average(fits, means.doses, effect=0.4)
    assert ((made.value >= each.min(axis=1)) & (made.value <= each.max(axis=1))).all()
    drawn = bootstrap(means, shapes, means.doses, seed=5, replicate=[3], samples=100, effect=0.4)
    assert ((drawn.lower < made.value) & (made.value < drawn.upper)).all()
    # the mean of the data at a dose varies with sd sqrt(0.0248): the curve's interval is narrower, not degenerate
    assert (np.diff([drawn.lower[0], drawn.upper[0]], axis=0) < 2 * 1.96 * 0.0248**0.5 * 1.15).all()
    assert drawn.target_lower[0] < made.target[0] < drawn.target_upper[0]
    twice = bootstrap(
        DoseMeans.of(means.doses, np.repeat(means.mean, 2, 0), means.covariance[0]), shapes, means.doses, seed=5,
        replicate=[9, 3], samples=100, effect=0.4,
    )  # fmt: skip
    np.testing.assert_array_equal(twice.lower[1], drawn.lower[0])
    assert (twice.lower[0] != drawn.lower[0]).any()


def test_what_cannot_be_estimated_says_so():
    y = np.array([[1.0, 2.0, np.nan, 3.0, 1.0, 4.0], [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]])
    means = dose_means(y, [[0, 0, 1, 2, 2, 2], [0, 0, 1, 1, 2, 2]], [0, 1, 2])
    assert means.status.tolist() == [AnalysisStatus.NOT_ESTIMABLE, AnalysisStatus.NO_VARIATION]
    assert means.missing.tolist() == [1, 0]
    test = contrast_test(means, [Candidate(kind="linear")])
    assert not test.reject.any()
    assert np.isnan(test.p).all()
    for wrong in ({"kind": "emax"}, {"kind": "hill"}, {"kind": "emax", "guesses": (-1.0,)}):
        with pytest.raises(InputError):
            Candidate(**wrong)
    with pytest.raises(InputError, match="ascend"):
        dose_means(y, [[0, 0, 1, 2, 2, 2]] * 2, [0, 2, 1])


@pytest.mark.slow
def test_fits_that_cannot_be_estimated_say_so():
    means = dose_means([[1.0, 2.0, np.nan, 3.0, 1.0, 4.0]], [[0, 0, 1, 2, 2, 2]], [0, 1, 2])
    fits = fit(means, ["linear", "sig_emax"])
    assert (fits.status[:, 1] == FitStatus.NOT_ESTIMABLE).all()
    assert np.isnan(fits.coefficients[:, 1]).all()
    with pytest.raises(InputError, match="bounds"):
        fit(five(), ["emax"], limits={"emax": [[2.0, 1.0]]})
    assert bounds(1.0, "sig_emax").tolist() == [[0.001, 1.5], [0.5, 10.0]]
