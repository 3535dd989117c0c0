"""Signals: witness openEBGM 0.9.1 on CAERS 2012 (../shared/data/signals), papers, identities."""

from __future__ import annotations

import csv
import gzip
import math
from collections import Counter
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pkpd.ground.errors import InputError
from trials.analysis import signals, signals_fit, signals_ratio, signals_reports
from trials.analysis.signals_fit import SignalStatus, Theta
from trials.analysis.signals_reports import Columns

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "data" / "signals"
REPORTS = FOLDER / "caers_2012_supplements.csv.gz"
EVANS = {"a": 41, "b": 14, "c": 754, "d": 591_958}  # rifabutin and uveitis: Evans et al. 2001
VIGNETTE = Theta(alpha1=3.25595, beta1=0.39999, alpha2=2.02375, beta2=1.90613, p=0.06531)

witness = pytest.mark.witness
needs = pytest.mark.skipif(not FOLDER.exists(), reason="../shared/data/signals is not here")


def rows(name: str) -> list[dict[str, str]]:
    path = FOLDER / name
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return list(csv.DictReader(file))


def theta(name: str) -> Theta:
    row = next(r for r in rows("caers_hyperparameters.csv") if r["fit"] == name)
    return Theta(**{k: float(row[v]) for k, v in {"alpha1": "alpha1", "beta1": "beta1", "alpha2": "alpha2",
                                                  "beta2": "beta2", "p": "P"}.items()})  # fmt: skip


@pytest.fixture(scope="module")
def table() -> signals_reports.Reports:
    return signals_reports.read(REPORTS)


@pytest.fixture(scope="module")
def caers(table: signals_reports.Reports) -> signals.Counts:
    return signals.counts(table)


@pytest.fixture(scope="module")
def strata() -> tuple[signals_reports.Reports, signals.Counts]:
    read = signals_reports.read(REPORTS, Columns(strata=("sex",)))
    return read, signals.counts(read)


def columns(
    name: str, table: signals_reports.Reports, made: signals.Counts
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Places of the witness's pairs in the counts, and its numbers."""
    place = {(table.products[p], table.events[e]): k for k, (p, e) in enumerate(zip(made.product, made.event))}
    found = rows(name)
    at = np.array([place[r["product"], r["event"]] for r in found])
    return at, {c: np.array([float(r[c]) for r in found]) for c in found[0] if c not in ("product", "event")}


def brute(made: signals.Counts, t: Theta) -> float:
    """-log likelihood by scipy's negative binomial, components truncated; with the constants."""
    parts = [
        stats.nbinom.pmf(made.n, a, b / (b + made.expected)) / stats.nbinom.sf(0, a, b / (b + made.expected))
        for a, b in ((t.alpha1, t.beta1), (t.alpha2, t.beta2))
    ]
    return -float(np.log(t.p * parts[0] + (1 - t.p) * parts[1]).sum())


@needs
@witness
def test_every_pair_of_the_witness(table: signals_reports.Reports, caers: signals.Counts) -> None:
    at, want = columns("caers_reference_scores.csv.gz", table, caers)
    assert caers.n.size == len(at) == len(set(at.tolist())) == 17_189
    for name in ("n", "n_product", "n_event"):
        np.testing.assert_array_equal(getattr(caers, name)[at], want["N" if name == "n" else name])
    np.testing.assert_array_equal(caers.expected, caers.n_product * caers.n_event / 3356)
    np.testing.assert_allclose(caers.expected[at], want["E"], rtol=5e-7)
    scores = signals.disproportionality(caers)
    for ours, theirs in {"prr": "PRR", "ror": "ROR", "chi2": "chi2_yates", "ic": "IC", "ic_lower": "IC025",
                         "ic_upper": "IC975", "log_lr": "logLR"}.items():  # fmt: skip
        np.testing.assert_allclose(getattr(scores, ours)[at], want[theirs], rtol=2e-6, atol=1e-6, err_msg=ours)
    for ours, theirs in {"prr_lower": "PRR_lo95", "prr_upper": "PRR_hi95", "ror_lower": "ROR_lo95",
                         "ror_upper": "ROR_hi95"}.items():  # fmt: skip
        known = np.isfinite(want[theirs])
        np.testing.assert_allclose(getattr(scores, ours)[at][known], want[theirs][known], rtol=2e-6, err_msg=ours)
        assert scores.zero_cell[at][~known].all()


@needs
@witness
def test_shrunk_scores_at_the_given_hyperparameters(table: signals_reports.Reports, caers: signals.Counts) -> None:
    at, want = columns("caers_reference_scores.csv.gz", table, caers)
    made = signals_fit.shrunk(caers.n, caers.expected, theta("unstratified_autosquash"))
    for ours, theirs in {"ebgm": "EBGM", "eb05": "EB05", "eb95": "EB95", "weight": "Qn"}.items():
        np.testing.assert_allclose(getattr(made, ours)[at], want[theirs], rtol=1e-5, atol=6e-6, err_msg=ours)
    assert int((made.eb05 > 2).sum()) == 131  # vignette


@needs
@witness
def test_strata(strata: tuple[signals_reports.Reports, signals.Counts]) -> None:
    at, want = columns("caers_reference_sex_stratified_top200.csv", *strata)
    made = strata[1]
    assert at.size == 200
    np.testing.assert_allclose(made.expected[at], want["E"], rtol=5e-7)
    given = theta("sex_stratified_autosquash")
    scores = signals_fit.shrunk(made.n, made.expected, given)
    for ours, theirs in {"ebgm": "EBGM", "eb05": "EB05", "eb95": "EB95", "weight": "Qn"}.items():
        np.testing.assert_allclose(getattr(scores, ours)[at], want[theirs], rtol=1e-5, atol=6e-6, err_msg=ours)
    fit = signals_fit.fit(made.n, made.expected)
    there = signals_fit.negative_log_likelihood(given, made.n, made.expected)
    assert fit.status is SignalStatus.OK
    assert there - 0.01 < fit.negative_log_likelihood <= there
    assert fit.theta.alpha1 == pytest.approx(given.alpha1, rel=0.01)


@needs
@witness
def test_fit_finds_the_published_optimum_and_a_better_one(caers: signals.Counts) -> None:
    """The optimum of the vignette (-log L 4162.456) is a local one: another is 0.275 better, and both are told."""
    fit = signals_fit.fit(caers.n, caers.expected)
    published = theta("unstratified_full")
    there = signals_fit.negative_log_likelihood(published, caers.n, caers.expected)
    assert fit.status is SignalStatus.OK
    assert fit.left < 1e-8
    assert fit.negative_log_likelihood < there - 0.27
    assert len(fit.others) == 1
    assert fit.others[0][0] == pytest.approx(there, abs=1e-4)
    second = fit.others[0][1]
    for name in ("alpha1", "beta1", "alpha2", "beta2", "p"):
        assert getattr(second, name) == pytest.approx(getattr(published, name), rel=1e-3)
        assert getattr(second, name) == pytest.approx(getattr(VIGNETTE, name), rel=1e-3)
    assert brute(caers, published) - brute(caers, fit.theta) == pytest.approx(0.2749, abs=1e-3)
    constant = brute(caers, published) - there
    assert brute(caers, fit.theta) == pytest.approx(fit.negative_log_likelihood + constant, abs=1e-6)


@needs
@witness
@pytest.mark.slow
def test_36_further_starts_end_at_one_of_two_optima(caers: signals.Counts) -> None:
    starts = tuple(product((0.3, 3.0, 30.0), (0.1, 1.0), (0.5, 3.0), (1.0,), (0.01, 0.1, 0.4)))
    fit = signals_fit.fit(caers.n, caers.expected, starts=starts)
    usual = signals_fit.fit(caers.n, caers.expected)
    assert fit.starts == len(starts) == 36
    assert fit.negative_log_likelihood == pytest.approx(usual.negative_log_likelihood, abs=1e-6)
    assert [value for value, _ in fit.others] == pytest.approx([value for value, _ in usual.others], abs=1e-6)


@needs
@witness
def test_permutation_and_duplicates_change_nothing(table: signals_reports.Reports, caers: signals.Counts) -> None:
    turn = np.argsort((np.arange(table.report.size) * 7919) % table.report.size, kind="stable")
    turn = np.concatenate([turn, turn[:500]])
    again = signals_reports.Reports(
        report=table.report[turn], product=table.product[turn], event=table.event[turn], stratum=table.stratum,
        products=table.products, events=table.events, strata=table.strata,
    )  # fmt: skip
    made = signals.counts(again)
    for name in ("product", "event", "n", "expected", "n_product", "n_event"):
        np.testing.assert_array_equal(getattr(made, name), getattr(caers, name))


@needs
@witness
def test_cells_that_no_report_names(strata: tuple[signals_reports.Reports, signals.Counts]) -> None:
    made = strata[1]
    n, expected, many = signals.with_zeros(made)
    of_reports, of_products, of_events = made.by_stratum
    total = (of_products.sum(axis=1) * of_events.sum(axis=1) / of_reports).sum()
    assert many @ expected == pytest.approx(total, rel=1e-12)  # margins
    assert many @ n == made.n.sum()


def pair(a: int, b: int, c: int, d: int) -> signals.Counts:
    one = np.ones((1, 1), dtype=np.int64)
    total = a + b + c + d
    return signals.Counts(
        product=np.zeros(1, np.int64), event=np.zeros(1, np.int64), n=np.array([a]), reports=total,
        expected=np.array([(a + b) * (a + c) / total]), n_product=np.array([a + b]), n_event=np.array([a + c]),
        by_stratum=(np.array([total]), one * (a + b), one * (a + c)),
    )  # fmt: skip


def test_rifabutin_and_uveitis() -> None:
    """Evans et al. 2001: PRR 586, chi-squared 22,740 (without continuity correction); limits and IC by hand."""
    made = signals.disproportionality(pair(**EVANS))
    a, b, c, d = (float(v) for v in EVANS.values())
    assert round(float(made.prr[0])) == 586
    total = a + b + c + d
    corrected = (abs(a * d - b * c) - total / 2) / abs(a * d - b * c)
    assert made.chi2[0] / corrected**2 == pytest.approx(22_740, abs=1)
    assert made.ror[0] == pytest.approx(a * d / (b * c))
    half = 1.959963984540054 * math.sqrt(1 / a + 1 / b + 1 / c + 1 / d)
    assert math.log(made.ror_upper[0] / made.ror_lower[0]) == pytest.approx(2 * half)
    expected = 55 * 795 / 592_767
    assert made.ic[0] == pytest.approx(math.log2(41.5 / (expected + 0.5)))
    law = stats.gamma(41.5, scale=1 / (expected + 0.5))
    assert [2 ** made.ic_lower[0], 2 ** made.ic_upper[0]] == pytest.approx([law.ppf(0.025), law.ppf(0.975)])


@pytest.mark.parametrize("cells", [(3, 5, 0, 92), (3, 0, 4, 93), (3, 0, 0, 97)])
def test_empty_cells_keep_a_lower_limit(cells: tuple[int, int, int, int]) -> None:
    """Identity: the score limit is that of `miettinen_nurminen_ratio`; no limit is missing."""
    made = signals.disproportionality(pair(*cells))
    assert made.zero_cell[0]
    assert 0 < made.ror_lower[0] < math.inf
    assert made.ror_upper[0] == math.inf
    assert 0 < made.prr_lower[0] < made.prr[0]
    assert made.prr_upper[0] > made.prr_lower[0]


@pytest.mark.parametrize("truncation", ["component", "joint", "none"])
def test_fit_returns_the_truth_of_exact_frequencies(truncation: signals_fit.Truncation) -> None:
    """Cells weighted by their exact probabilities: maximum likelihood is the truth (Kullback-Leibler)."""
    true = Theta(alpha1=2.0, beta1=0.3, alpha2=3.0, beta2=2.5, p=0.15)
    n, expected = (v.ravel() for v in np.meshgrid(np.arange(0.0, 400.0), [0.05, 0.4, 1.5, 6.0]))
    mass, none = [], []
    for a, b in ((true.alpha1, true.beta1), (true.alpha2, true.beta2)):
        mass.append(stats.nbinom.pmf(n, a, b / (b + expected)))
        none.append(stats.nbinom.pmf(0, a, b / (b + expected)))
    if truncation == "component":
        law = true.p * mass[0] / (1 - none[0]) + (1 - true.p) * mass[1] / (1 - none[1])
    else:
        law = true.p * mass[0] + (1 - true.p) * mass[1]
        law = law / (1 - true.p * none[0] - (1 - true.p) * none[1]) if truncation == "joint" else law
    keep = law > 0 if truncation == "none" else (n > 0) & (law > 0)
    fit = signals_fit.fit(n[keep], expected[keep], weight=1e4 * law[keep], truncation=truncation)
    assert fit.status is SignalStatus.OK
    for name in ("alpha1", "beta1", "alpha2", "beta2", "p"):
        assert getattr(fit.theta, name) == pytest.approx(getattr(true, name), rel=1e-4)
    assert all(0 < s < math.inf for s in fit.se)


@pytest.mark.parametrize("truncation", ["component", "joint", "none"])
def test_em_never_climbs(truncation: signals_fit.Truncation) -> None:
    n, expected = np.array([1, 2, 9, 1, 3, 1, 30]), np.array([0.5, 1.0, 1.0, 2.0, 2.0, 0.1, 2.0])
    at, values = Theta(alpha1=0.2, beta1=0.1, alpha2=2, beta2=4, p=0.3), []
    for _ in range(8):
        values.append(signals_fit.negative_log_likelihood(at, n, expected, truncation=truncation))
        at = signals_fit.em(at, n, expected, steps=2, truncation=truncation)
    assert (np.diff(values) < 0).all()


def test_failures_are_statuses() -> None:
    few = signals_fit.fit([1, 2], [1.0, 1.0])
    assert few.status is SignalStatus.TOO_FEW
    assert math.isnan(few.negative_log_likelihood)
    law = stats.poisson.pmf(np.arange(1, 40), 5.0)  # no dispersion at all: the gamma laws run away
    plain = signals_fit.fit(np.arange(1, 40), np.full(39, 5.0), weight=1e3 * law)
    assert plain.status is not SignalStatus.OK
    assert math.isnan(plain.se[0])
    assert all(status.advice for status in SignalStatus)


def test_quantiles_of_the_mixture() -> None:
    """Witness: the mixture's distribution function by scipy.stats.gamma."""
    t = Theta(alpha1=3.0, beta1=0.4, alpha2=2.0, beta2=1.9, p=0.07)
    n, expected = (np.array(v, dtype=float) for v in zip(*product((1, 3, 60), (1e-3, 0.7, 40.0))))
    made = signals_fit.shrunk(n, expected, t)
    for point, level in ((made.eb05, 0.05), (made.eb95, 0.95)):
        below = made.weight * stats.gamma.cdf(point, t.alpha1 + n, scale=1 / (t.beta1 + expected))
        below += (1 - made.weight) * stats.gamma.cdf(point, t.alpha2 + n, scale=1 / (t.beta2 + expected))
        np.testing.assert_allclose(below, level, rtol=1e-9)


def test_likelihood_ratio_test_against_every_subset() -> None:
    """Witness: all ways to draw the product's reports from the two strata, enumerated."""
    report = [0, 0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 9]
    event = [*"xyxxyzzzxyzyx"]
    drug = ["A" if r in (0, 1, 2, 6) else "B" for r in report]
    sex = ["F" if r < 6 else "M" for r in report]
    table = signals_reports.reports([str(r) for r in report], drug, event, sex)
    tested = signals_ratio.likelihood_ratio_test(table, seed=3, replicates=1999)
    made = signals.counts(table)
    here = np.flatnonzero(made.product == 0)
    seen = signals.disproportionality(made).log_lr[here].max()
    larger = []
    for women, men in product(combinations(range(6), 3), combinations(range(6, 10), 1)):
        n = Counter(e for r, e in zip(report, event) if r in women + men)
        expected = dict(zip(table.events, 3 * made.by_stratum[2][0] / 6 + 1 * made.by_stratum[2][1] / 4))
        ratios = [
            k * math.log(k / expected[e]) + (0 if k == 4 else (4 - k) * math.log((4 - k) / (4 - expected[e])))
            for e, k in n.items() if k > expected[e]
        ]  # fmt: skip
        larger.append(max(ratios, default=0.0) >= seen - 1e-9)
    exact = float(np.mean(larger))
    assert len(larger) == 80
    assert 0 < exact < 0.5
    assert tested.p_product[0] == pytest.approx(exact, abs=3.5 * math.sqrt(exact * (1 - exact) / 1999) + 1 / 2000)
    assert tested.p[here].min() == tested.p_product[0]
    low, high = sorted(tested.p_product)
    assert sorted(tested.fdr) == pytest.approx([min(2 * low, high), high])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("report_id,product\n1,A\n", ["1 event", "the column is missing"]),
        ("report_id,product,event\n1,A\n", [":2", "2 cells"]),
        ("report_id,product,event\n1,A,rash\n2, ,rash\n", [":3 product", "is empty"]),
        ('report_id,product,event\n1,"A,rash\n', ["not valid CSV"]),
        ("report_id,product,event\n", ["no reports"]),
        ("", ["the column is missing"]),
        ("report_id,product,event,sex\n\n1,A,rash,F\n1,A,pain,M\n", [":4 strata", "two strata"]),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "r.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        signals_reports.read(path, Columns(strata=("sex",) if "sex" in text else ()))
    assert "r.csv" in str(caught.value)
    assert "Remedy" in str(caught.value)
    for word in words:
        assert word in str(caught.value)
