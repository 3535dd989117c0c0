"""Witnesses: ../shared/reference/trials/real_trial_reference_analyses.csv; R 4.2.2, survival 3.5-3 (commands beside)."""

import csv
from pathlib import Path

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from trials.analysis import cox, recurrent, survival
from trials.analysis.survival_data import SurvivalStatus, chi_square_p, normal_p

SHARED = Path(__file__).parents[3].parent / "shared"


def table(name: str) -> dict[str, np.ndarray]:
    """Columns of a data set, as texts."""
    path = SHARED / "data/trials" / name
    if not path.exists():
        pytest.skip(f"no {path.name}: the shared witnesses are not on this machine")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def numbers(data: dict[str, np.ndarray], name: str) -> np.ndarray:
    return data[name].astype(np.float64)[None]


def veteran() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """time, event, trt - 1, celltype as R codes it."""
    data = table("survival_veteran.csv")
    cell = np.array([["squamous", "smallcell", "adeno", "large"].index(name) for name in data["celltype"]])
    return numbers(data, "time"), numbers(data, "status") == 1, (numbers(data, "trt") - 1).astype(int), cell[None]


def reference(dataset: str) -> list[dict[str, str]]:
    with (SHARED / "reference/trials/real_trial_reference_analyses.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["dataset"] == dataset]


def near(found: float, text: str) -> bool:
    """1e-4 relative or half a unit of the last stored digit, whichever is larger; p of 1e-13 are 1 - pchisq, on a grid
    of 2^-53.
    """
    mantissa, _, exponent = text.lower().partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return abs(found - float(text)) <= max(1e-4 * abs(float(text)), 0.5 * unit * (1 + 1e-9), 2.0**-53)


def hazard_ratios(fit: cox.Cox, names: list[str]) -> dict[str, tuple[float, ...]]:
    beta, se, z, p = fit.beta[0], fit.se[0], fit.z[0], fit.p[0]
    low, high = (np.exp(beta + sign * 1.959963984540054 * se) for sign in (-1, 1))
    return {f"HR {name}": (np.exp(beta[k]), se[k], low[k], high[k], z[k], p[k]) for k, name in enumerate(names)}


def colon() -> dict[tuple[str, str], tuple[float, ...]]:
    data, found = table("survival_colon.csv"), {}
    arms = ["Obs", "Lev", "Lev+5FU"]
    arm = np.array([arms.index(name) for name in data["rx"]])
    for etype in ("1", "2"):
        keep = data["etype"] == etype
        time, event, codes = numbers(data, "time")[:, keep], numbers(data, "status")[:, keep] == 1, arm[keep][None]
        if etype == "1":
            x = np.stack([codes == 1, codes == 2], axis=2).astype(np.float64)
            for label, row in hazard_ratios(cox.cox(cox.rows(time, event, x)), ["rxLev", "rxLev+5FU"]).items():
                found["Cox recurrence ~ rx", label] = row
            continue
        test = survival.logrank_groups(time, event, codes, arms=3)
        found["log-rank death 3 arms", "chisq"] = (*test.chi, *4 * [np.nan], *test.p)
        km = survival.kaplan_meier(time, event, codes, arms=3, at=[1825], tau=1825, interval="log")
        for k, name in enumerate(arms):
            values = tuple(float(v[0, k, 0]) for v in (km.survival, km.se, km.lower, km.upper))
            found["KM 5-year (1825 d) survival", f"rx={name}"] = values
            found["RMST to 1825 d", f"rx={name}"] = (km.mean[0, k], km.mean_se[0, k])
    return found


def lung() -> dict[tuple[str, str], tuple[float, ...]]:
    time, event, arm, cell = veteran()
    karno = numbers(table("survival_veteran.csv"), "karno")
    x = np.stack([arm, karno, cell == 1, cell == 2, cell == 3], axis=2).astype(np.float64)
    names = ["trt", "karno", "celltypesmallcell", "celltypeadeno", "celltypelarge"]
    ratios = hazard_ratios(cox.cox(cox.rows(time, event, x)), names)
    found = {("Cox ~ trt+karno+celltype", label): row for label, row in ratios.items()}
    two = cox.rows(time, event, x[:, :, :2])  # the stored test is of trt + karno: 2 degrees of freedom
    test = cox.proportionality(two, cox.cox(two))
    found["cox.zph km transform", "global chisq"] = (test.overall[0], *4 * [np.nan], test.overall_p[0])
    return found


def infections() -> dict[tuple[str, str], tuple[float, ...]]:
    data, found = table("survival_cgd.csv"), {}
    treated = (data["treat"] == "rIFN-g")[None, :, None].astype(np.float64)
    start, stop, event = numbers(data, "tstart"), numbers(data, "tstop"), numbers(data, "status") == 1
    who, enum = numbers(data, "id").astype(int) - 1, numbers(data, "enum").astype(int) - 1
    models = {
        "Andersen-Gill ~ treat, robust cluster id": cox.rows(stop, event, treated, start=start, cluster=who),
        "PWP-TT strata enum": cox.rows(stop, event, treated, start=start, strata=enum, cluster=who),
        "first event Cox": cox.rows(stop, event, treated, start=start, strata=np.where(enum == 0, 0, -1)),
    }
    for name, rows in models.items():
        for label, row in hazard_ratios(cox.cox(rows), ["treatrIFN-g"]).items():
            found[name, label] = row
    return found


def bladder() -> dict[tuple[str, str], tuple[float, ...]]:
    data = table("survival_bladder2.csv")
    x = np.stack([numbers(data, name) for name in ("rx", "size", "number")], axis=2)
    rows = cox.rows(numbers(data, "stop"), numbers(data, "event") == 1, x, start=numbers(data, "start"),
                    cluster=numbers(data, "id").astype(int) - 1)  # fmt: skip
    ratios = hazard_ratios(cox.cox(rows), ["rx", "size", "number"])
    return {("Andersen-Gill", label): row for label, row in ratios.items()}


def pilot() -> dict[tuple[str, str], tuple[float, ...]]:
    data = table("cdisc_pilot_adtte.csv")
    arm = np.unique(data["TRTP"], return_inverse=True)[1][None]
    test = survival.logrank_groups(numbers(data, "AVAL"), numbers(data, "CNSR") == 0, arm, arms=3)
    return {("log-rank 3 groups", "chisq"): (*test.chi, *4 * [np.nan], *test.p)}


@pytest.mark.witness
@pytest.mark.parametrize(
    ("dataset", "analyse"),
    [("survival::colon", colon), ("survival::veteran", lung), ("survival::cgd", infections),
     ("survival::bladder2", bladder), ("cdisc_pilot", pilot)],
)  # fmt: skip
def test_reference_rows_of_r(dataset, analyse):
    found, seen = analyse(), 0
    for row in reference(dataset):
        values = found.get((row["analysis"], row["quantity"]))
        if values is None:
            assert dataset == "cdisc_pilot", row  # its other rows are means
            continue
        seen += 1
        for value, column in zip(values, ("estimate", "se", "ci_lo", "ci_hi", "statistic", "p"), strict=False):
            assert row[column] == "NA" or near(float(value), row[column]), (row, column, value)
    assert seen == len(found) > 0


@pytest.mark.witness
def test_intervals_and_medians_equal_r():
    """R: summary(survfit(Surv(time, status) ~ trt, veteran, conf.type = ...), times = c(50, 200)), quantile(., 0.5)."""
    time, event, arm, cell = veteran()
    expected = {
        "plain": ([103.0, 56.0, 126.0], [52.5, 44.0, 90.0], 0.5693189205, 0.317456551),
        "log": ([103.0, 59.0, 132.0], [52.5, 44.0, 95.0], 0.577820910, 0.345331901),
        "log-log": ([103.0, 54.0, 126.0], [52.5, 43.0, 90.0], 0.555430165, 0.323663073),
    }
    for interval, (one, two, low, high) in expected.items():
        km = survival.kaplan_meier(time, event, arm, arms=2, at=[50, 200], interval=interval)
        np.testing.assert_array_equal(km.median[0], [one, two])
        np.testing.assert_allclose([km.lower[0, 0, 0], km.upper[0, 1, 1]], [low, high], rtol=2e-9)
    np.testing.assert_allclose(km.se[0, :, 0], [0.0563375870, 0.0602128324], rtol=1e-8)
    np.testing.assert_array_equal(km.at_risk[0], [[46, 12], [38, 13]])
    assert survival.logrank(time, event, arm, arms=2, strata=cell).statistic[0, 0] ** 2 == pytest.approx(0.701743346844)
    late = survival.logrank_groups(time, event, arm, arms=2, strata=cell, rho=0.5)  # survdiff(., rho = 0.5)
    assert late.chi[0] == pytest.approx(0.925392487304)
    assert survival.logrank_groups(time, event, cell, arms=4).chi[0] == pytest.approx(25.4037003458)


@pytest.mark.witness
def test_max_combo_equals_r():
    """R: weighted statistics from the risk table by hand, 1 - pmvnorm(-c, c, corr, GenzBretz(5e6, abseps = 1e-9))."""
    time, event, arm, _ = veteran()
    found = survival.max_combo(time, event, arm, arms=2)
    np.testing.assert_allclose(
        found.z[0, 0], [0.0907047033089, -0.898024314591, 0.9333860363896, 0.602346584211], rtol=1e-11
    )
    np.testing.assert_allclose(found.compared.p[0, 0], 0.5879120244, atol=1e-5)
    data = table("survival_colon.csv")
    keep = (data["etype"] == "2") & (data["rx"] != "Lev")
    sample = numbers(data, "time")[:, keep], numbers(data, "status")[:, keep] == 1
    treated = (data["rx"] == "Lev+5FU")[keep].astype(int)[None]
    two = survival.max_combo(*sample, treated, arms=2)
    assert two.compared.p[0, 0] == pytest.approx(0.001425585606, abs=8e-6)
    less = survival.max_combo(*sample, treated, arms=2, side="less")
    assert less.compared.p[0, 0] == pytest.approx(0.0007129994036, abs=8e-6)


def test_quadrature_of_correlated_normals_equals_r():
    """R: mvtnorm::pmvnorm; rank 2 against the product of independent normals."""
    from trials.kernels.multinormal import within

    full = np.array([[1, 0.5, 0.2, 0.7], [0.5, 1, 0.3, 0.1], [0.2, 0.3, 1, 0.4], [0.7, 0.1, 0.4, 1]])
    assert 1 - within(full, 2.0, True) == pytest.approx(0.1480214305, abs=1e-6)
    inside = 1 - 2 * 0.0227501319481792
    assert within(np.eye(3), 2.0, True) == pytest.approx(inside**3, abs=1e-12)
    twice = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert within(twice, 2.0, True) == pytest.approx(inside**2, abs=1e-9)


def small() -> tuple[np.ndarray, ...]:
    """40 subjects with ties by whole-number arithmetic, the same in R: see the commands of the test below."""
    i = np.arange(40)
    time = np.array([float(f"{20 * ((k * 7919) % 101) / 101 + 1:.1f}") for k in i]) + 2.0 * (i % 2)
    return time[None], ((i * 31) % 7 > 1)[None], (i % 2)[None], ((i // 2) % 3)[None], ((i * 53) % 17 / 17)[None]


def test_small_data_equal_r():
    """R: i <- 0:39; t <- round(20*((i*7919)%%101)/101+1,1)+2*(i%%2); s <- ((i*31)%%7>1)*1; a <- i%%2;
    st <- (i%/%2)%%3; x <- ((i*53)%%17)/17; survdiff(Surv(t,s)~a+strata(st)); coxph(Surv(t,s)~a+x+strata(st));
    coxph(Surv(t,s)~a,ties="breslow"); summary(survfit(Surv(t,s)~a),rmean=12)$table.
    """
    time, event, arm, strata, x = small()
    assert survival.logrank_groups(time, event, arm, arms=2, strata=strata).chi[0] == pytest.approx(0.700090535603)
    assert survival.logrank(time, event, arm, arms=2).statistic[0, 0] ** 2 == pytest.approx(1.17342737069)
    fit = cox.cox(cox.rows(time, event, np.stack([arm, x], axis=2), strata=strata))
    np.testing.assert_allclose(fit.beta[0], [-0.264864987651, 0.502335535162], rtol=1e-9)
    np.testing.assert_allclose(fit.se[0], [0.399841385100, 0.743874272256], rtol=1e-9)
    breslow = cox.cox(cox.rows(time, event, arm), ties="breslow")
    np.testing.assert_allclose([breslow.beta[0, 0], breslow.se[0, 0]], [-0.414547123619, 0.389451120991], rtol=1e-9)
    km = survival.kaplan_meier(time, event, arm, arms=2, tau=12, interval="log")
    np.testing.assert_allclose(km.mean[0], [9.734008097, 10.232579125], rtol=1e-9)
    np.testing.assert_allclose(km.mean_se[0], [0.7476194812, 0.6262036024], rtol=1e-9)
    np.testing.assert_array_equal(km.median[0], [[13.5, 9.5, np.inf], [14.7, 9.7, np.inf]])
    found = survival.rmst(time, event, arm, arms=2, tau=12)
    assert found.estimate[0, 0] == pytest.approx(10.232579125 - 9.734008097, rel=1e-8)
    assert found.se[0, 0] == pytest.approx(np.hypot(0.7476194812, 0.6262036024), rel=1e-8)
    ratio = survival.rmst(time, event, arm, arms=2, tau=12, ratio=True)
    assert ratio.estimate[0, 0] == pytest.approx(np.log(10.232579125 / 9.734008097), rel=1e-8)
    assert ratio.se[0, 0] == pytest.approx(np.hypot(0.7476194812 / 9.734008097, 0.6262036024 / 10.232579125), rel=1e-8)


def test_competing_causes():
    """R: survfit(Surv(t, factor(cause)) ~ 1), same data, cause 2 where i%%3==0; its error is an infinitesimal
    jackknife, ours Aalen's: near, not equal. With one cause the incidence is 1 - Kaplan-Meier and its error Greenwood's.
    """
    time, event, arm, _, _ = small()
    cause = np.where(event, np.where(np.arange(40)[None] % 3 == 0, 2, 1), 0)
    found = survival.cumulative_incidence(time, cause, 0 * arm, arms=1, causes=2, at=[5, 10, 15])
    expected = [
        [0.0769230769231, 0.2145509662751, 0.3681681362262],
        [0.0527472527473, 0.1346974864216, 0.1658983887659],
    ]
    np.testing.assert_allclose(found.value[0, 0], expected, rtol=1e-11)
    jackknife = [
        [0.0426692458635, 0.0674680824769, 0.0821741389852],
        [0.0362985930629, 0.0561014281576, 0.0621252124526],
    ]
    np.testing.assert_allclose(found.se[0, 0], jackknife, rtol=0.03)
    one = survival.cumulative_incidence(time, event.astype(int), arm, arms=2, causes=1, at=[5, 10])
    km = survival.kaplan_meier(time, event, arm, arms=2, at=[5, 10])
    np.testing.assert_allclose(one.value[:, :, 0], 1 - km.survival, rtol=1e-12)
    np.testing.assert_allclose(one.se[:, :, 0], km.se, rtol=1e-12)
    versus = survival.incidence_difference(time, event.astype(int), arm, arms=2, at=10)
    assert versus.estimate[0, 0] == pytest.approx(-survival.milestone(time, event, arm, arms=2, at=10).estimate[0, 0])


def test_replicates_do_not_know_of_each_other():
    """A batch gives the bits of its replicates one by one, whatever the other arms and replicates are."""
    from tests.bench.rows_survival import simulated

    time, event, arm, strata = simulated(np.arange(3), n=60)
    three = np.where(np.arange(60) % 3 == 2, 2, arm)
    whole = [survival.logrank(time, event, three, arms=3, strata=strata), cox.cox_arms(time, event, arm, arms=2)]
    for r in range(3):
        at = slice(r, r + 1)
        alone = survival.logrank(time[at], event[at], np.where(three == 2, -1, three)[at], arms=2, strata=strata[at])
        assert alone.p[0, 0] == whole[0].p[r, 0]
        assert cox.cox_arms(time[at], event[at], arm[at], arms=2).estimate[0, 0] == whole[1].estimate[r, 0]


def test_what_cannot_be_estimated_says_why():
    time = np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]] * 3)
    arm = np.array([[0, 1, 0, 1, 0, 1]] * 3)
    event = np.array([[False] * 6, [True, False, True, False, True, False], [True] * 6])
    assert survival.logrank(time, event, arm, arms=2).status.tolist() == [[SurvivalStatus.NO_EVENTS], [0], [0]]
    fit = cox.cox_arms(time, event, arm, arms=2)
    assert fit.status[:, 0].tolist() == [SurvivalStatus.NO_EVENTS, SurvivalStatus.MONOTONE_LIKELIHOOD, 0]
    assert np.isnan(fit.estimate[:2]).all()
    assert not fit.reject[:2].any()
    flat = cox.cox(cox.rows(time, event, np.zeros(time.shape)))
    assert flat.status.tolist() == [SurvivalStatus.NO_EVENTS] + 2 * [SurvivalStatus.NOT_ESTIMABLE]
    short = survival.rmst(time, event, arm, arms=2, tau=7.0)
    assert short.status[:, 0].tolist() == 2 * [SurvivalStatus.SHORT_FOLLOW_UP] + [0]
    lonely = survival.logrank(time, event, 0 * arm, arms=2)
    assert (lonely.status == SurvivalStatus.NO_SUBJECTS).all()
    assert survival.milestone(time, event, arm, arms=2, at=0.5).status[0, 0] == SurvivalStatus.NO_EVENTS
    assert all(status.advice for status in SurvivalStatus)
    with pytest.raises(InputError, match="finite"):
        survival.logrank(time * np.inf, event, arm, arms=2)


def test_piecewise_exponential_is_poisson_regression():
    """R: glm(status ~ factor(piece) + trt + karno + offset(log(ex)), poisson) on survSplit(veteran, cut = c(50, 120,
    300)).
    """
    time, event, arm, _ = veteran()
    karno = numbers(table("survival_veteran.csv"), "karno")
    fit = cox.piecewise_exponential(time, event, np.stack([arm + 1.0, karno], axis=2), cuts=[50, 120, 300])
    np.testing.assert_allclose(fit.beta[0], [0.1502718747008, -0.0345658896288], rtol=1e-9)
    np.testing.assert_allclose(fit.se[0], [0.18169519478403, 0.00504612942893], rtol=1e-8)
    steps = np.diff(np.log(fit.rates[0]), prepend=0.0)
    assert steps[0] == pytest.approx(-2.8863023926669, rel=1e-9)
    assert np.log(fit.rates[0, 2] / fit.rates[0, 0]) == pytest.approx(-0.1329626540831, rel=1e-8)


@pytest.mark.witness
def test_counting_process_and_proportionality_equal_r():
    """R: coxph(Surv(tstart, tstop, status) ~ treat + age + cluster(id), cgd); cox.zph of it without cluster, and with
    strata(enum); coxph(Surv(time, status) ~ trt + karno + strata(celltype), veteran): tests and cox.zph.
    """
    data = table("survival_cgd.csv")
    x = np.stack([(data["treat"] == "rIFN-g")[None].astype(float), numbers(data, "age")], axis=2)
    given = numbers(data, "tstop"), numbers(data, "status") == 1, x
    start, enum = numbers(data, "tstart"), numbers(data, "enum").astype(int) - 1
    fit = cox.cox(cox.rows(*given, start=start, cluster=numbers(data, "id").astype(int) - 1))
    np.testing.assert_allclose(fit.se[0], [0.3099309376073, 0.0144474227668], rtol=1e-9)
    np.testing.assert_allclose(fit.loglik[0], [-342.144723869, -329.195187007], rtol=1e-10)
    for strata, expected in ((None, [0.424433175369, 0.004440665236, 0.434235720413]),
                             (enum, [0.63015469052, 0.01255637638, 0.63055498211])):  # fmt: skip
        rows = cox.rows(*given, start=start, strata=strata)
        test = cox.proportionality(rows, cox.cox(rows))
        np.testing.assert_allclose([*test.chi[0], test.overall[0]], expected, rtol=1e-7)
    time, event, arm, cell = veteran()
    karno = numbers(table("survival_veteran.csv"), "karno")
    rows = cox.rows(time, event, np.stack([arm + 1.0, karno], axis=2), strata=cell)
    fit = cox.cox(rows)
    np.testing.assert_allclose(
        [fit.score[0], fit.wald[0], fit.lr[0]], [45.76376878, 42.77598386, 42.31130467], rtol=1e-8
    )
    identity = cox.proportionality(rows, fit, transform="identity")
    np.testing.assert_allclose(identity.chi[0], [0.4257456964, 2.3635699811], rtol=1e-7)


def test_tails():
    """scipy.stats.chi2.sf, norm.sf."""
    from scipy import stats

    for df in range(1, 9):
        np.testing.assert_allclose(chi_square_p([0.1, 3.0, 40.0], df), stats.chi2.sf([0.1, 3.0, 40.0], df), rtol=1e-12)
    np.testing.assert_allclose(normal_p([-3.0, 0.5], "greater"), stats.norm.sf([-3.0, 0.5]), rtol=1e-14)


def test_intervals_of_recurrent_events():
    """Rows by hand; LWYY on them equals Andersen-Gill but for the variance, first events equal Cox on first times."""
    seen = recurrent.intervals([[[3.0, 1.0, np.inf], [9.0, np.inf, np.inf], [2.0, 2.0, 5.0]]], [[4.0, 8.0, 5.0]])
    rows = [
        (int(w), float(a), float(b), bool(e), int(k))
        for w, a, b, e, k in zip(seen.subject[0], seen.start[0], seen.stop[0], seen.event[0], seen.number[0], strict=True)
        if w >= 0
    ]  # fmt: skip
    assert rows == [
        (0, 0.0, 1.0, True, 0), (0, 1.0, 3.0, True, 1), (0, 3.0, 4.0, False, 2), (1, 0.0, 8.0, False, 0),
        (2, 0.0, 2.0, True, 0), (2, 2.0, 5.0, True, 1),
    ]  # fmt: skip
    from tests.bench.rows_survival import repeated

    times, until, arm = repeated(np.arange(2), n=60, ratio=0.7)
    lwyy, naive, first = (
        recurrent.andersen_gill(times, until, arm, arms=2, model=m) for m in ("lwyy", "andersen_gill", "first")
    )
    np.testing.assert_array_equal(lwyy.estimate, naive.estimate)
    assert (lwyy.se > naive.se).all()
    np.testing.assert_array_equal(lwyy.x[:, 1], (np.isfinite(times) & (arm == 1)[:, :, None]).sum(axis=(1, 2)))
    one = np.minimum(times[:, :, 0], until)
    np.testing.assert_allclose(
        first.estimate, cox.cox_arms(one, np.isfinite(times[:, :, 0]), arm, arms=2).estimate, rtol=1e-9
    )


@pytest.mark.slow
def test_decisions_of_r_on_a_thousand_data_sets():
    """R survival on the same 1,000 data sets, written to a file: `survival.decisions_of_r` of the bench."""
    from tests.bench.rows_survival import analysed, by_r, simulated

    found = by_r(1000)
    if found is None:
        pytest.skip("no Rscript on this machine")
    mine = np.column_stack(analysed(simulated(np.arange(1000))))
    np.testing.assert_allclose(mine, found[0], rtol=1e-9)
    np.testing.assert_array_equal(mine[:, [0, 1]] <= 0.05, found[0][:, [0, 1]] <= 0.05)


def test_a_few_of_the_thousand_as_r_says():
    """Rows 1 to 4 of by_r(4) of tests/bench/rows_survival.py: survdiff with strata, coxph, survfit with rmean = 1."""
    from tests.bench.rows_survival import analysed, simulated

    expected = np.array(STORED)
    np.testing.assert_allclose(np.column_stack(analysed(simulated(np.arange(4)))), expected, rtol=1e-9)


STORED = [
    [0.0416967357838, 0.0335453545623, -0.355771718549, 0.178194379534],
    [0.376850524575, 0.262462807568, -0.191838694974, 0.121132806358],
    [0.506014686644, 0.50576685563, -0.114816751207, 0.220256381624],
    [0.587767345811, 0.948831057906, 0.0111094030944, 0.623959795542],
]  # log-rank p, Cox p, log hazard ratio, p of the restricted mean


def test_max_combo_leaves_out_tests_that_say_nothing() -> None:
    """All events at one time: late weights are 0 there, the others are the log-rank test, whose p it must give."""
    given = [[1.0, 1.0, 1.0, 4.0, 5.0, 6.0]], [[True] * 3 + [False] * 3], [[1, 1, 0, 1, 0, 0]]
    found, plain = survival.max_combo(*given, arms=2).compared, survival.logrank(*given, arms=2)
    assert found.status.tolist() == [[0]]
    np.testing.assert_allclose(found.p, plain.p, atol=1e-5)
