"""A trial of any model the language can say: occasions, mixtures, hazards, counts, categories, Markov states.

Witnesses are closed forms and the numbers at the addresses of chance.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals, slots, uniforms
from pkpd.model.spec import Model
from pkpd.model.variability import PopulationDraws, point
from trials import measured
from trials.run import prepare
from trials.setting import Setting, opened
from trials.trial import Trial, curves, outcome_columns, potential, simulate_trial

PROTOCOL = """
vtrial: protocol/1
name: any
model: {{file: model.yaml}}
seed: 7
replicates: 2
population: {{law: nhanes_adults}}
subjects: {subjects}
arms: {arms}
visits: {visits}
{extra}
endpoints:
  level: {{output: CP, at: last, as: value}}
estimands:
  primary: {{endpoint: level, compare: [drug], against: none, summary: mean_difference{strategies}}}
analyses:
  primary: {{method: ancova}}
truth: {{replicates: 1}}
"""
ARMS = "{none: {regimen: []}, drug: {regimen: [{amount: 100 mg, into: A}]}}"
VISITS = "{start: {day: 0}, day3: {day: 3}, day7: {day: 7}, last: {day: 10}}"
Study = tuple[Setting, Trial, pd.DataFrame]


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Study]:
    """Simulate a model: setting, trial, outcome table."""

    def write(model: str, **parts: Any) -> Path:
        asked = {"subjects": 40, "arms": ARMS, "visits": VISITS, "extra": "", "strategies": ""} | parts
        (tmp_path / "model.yaml").write_text(model)
        (tmp_path / "protocol.yaml").write_text(asked.pop("protocol", PROTOCOL).format(**asked))
        return tmp_path / "protocol.yaml"

    def simulated(model: str, replicates: int = 2, **parts: Any) -> Study:
        setting = opened(prepare(write(model, **parts)).variants["main"].payload)
        trial = simulate_trial(setting, range(replicates))
        return setting, trial, pd.DataFrame(outcome_columns(setting, trial))

    return simulated


HEAD = """
vtrial: model/1
name: any
states: {A: mg}
"""
VARYING = (
    HEAD
    + """
parameters:
  CL: {typical: 0.3 L/h, iiv: 0.3, iov: 0.4, effects: {fast: {1: 2.0}}, status: assumed}
  V: {typical: 20 L, status: assumed}
occasion: {every: 7 d}
mixture: {fast: 0.25, slow: rest}
equations: |
  C = A/V
  d/dt(A) = -CL*C
  CLW = CL*WEEKS
outputs: {CP: {is: C, error: {additive: 0.1 mg/L}}, W: {is: CLW}}
doses: {A: {bioavailability: 1}}
"""
)


def _clearances(table: pd.DataFrame, occasions: int, seed: int = 7) -> np.ndarray:
    """CL of every row on each occasion from the addresses: class, eta, kappas."""
    at = {"subject": table["subject"].to_numpy(), "replicate": table["replicate"].to_numpy()}
    wide = {name: value[:, None] for name, value in at.items()}
    fast = uniforms(seed, Purpose.MIXTURE, **at) < 0.25
    eta = 0.3 * normals(seed, Purpose.IIV, **at, slot=slots(["CL"])[0])
    kappa = 0.4 * normals(seed, Purpose.IOV, **wide, index=np.arange(occasions), slot=slots(["CL"])[0])
    return np.asarray(0.3 * np.where(fast, 2.0, 1.0)[:, None] * np.exp(eta[:, None] + kappa))


def _levels(clearance: np.ndarray, borders: np.ndarray, times: np.ndarray) -> np.ndarray:
    """100/20 exp(-sum of CL_k x time in occasion k / 20) at times (n, V), borders (n, K)."""
    n = len(times)
    start = np.column_stack([np.zeros(n), borders])
    end = np.column_stack([borders, np.full(n, np.inf)])
    inside = np.clip(times[:, :, None], start[:, None], end[:, None]) - start[:, None]
    return np.asarray(5.0 * np.exp(-(inside * clearance[:, None]).sum(axis=2) / 20.0))


def test_occasions_and_classes_follow_their_closed_form(study: Callable[..., Study]) -> None:
    _, trial, table = study(VARYING)
    clearance = _clearances(table, 2)
    hours = 24.0 * np.array([[3.0, 7.0, 10.0]])
    border = np.full((len(table), 1), 168.0)
    expected = (
        _levels(clearance, border, np.repeat(hours, len(table), axis=0)) * (table["arm"] == 1).to_numpy()[:, None]
    )
    found = table[["CP.true@day3", "CP.true@day7", "CP.true@last"]].to_numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert 0.1 < table["fast"].mean() < 0.45
    assert (table["fast"] + table["slow"] == 1).all()
    # an equation of the response layer sees the clearance of its time: at the border still that of before
    weeks = table[["W.true@day3", "W.true@day7", "W.true@last"]].to_numpy()
    np.testing.assert_allclose(weeks, clearance[:, [0, 0, 1]] * hours / 168.0, rtol=1e-12)
    assert trial.people.line.time.size == 2 * len(table)


@pytest.mark.parametrize("at", ["[day7]", "[168 h]", "every 7 d"])
def test_a_protocol_says_when_occasions_of_a_column_begin(study: Callable[..., Study], at: str) -> None:
    """Borders at the subject's own visit: with a window they are its actual times."""
    visits = VISITS.replace("{day: 7}", "{day: 7, window: 1}") if at == "[day7]" else VISITS
    model = VARYING.replace("{every: 7 d}", "{column: OCC}")
    _, trial, table = study(model, visits=visits, extra=f"occasions: {{at: {at}}}")
    times = trial.people.times
    assert (np.ptp(times[:, 2]) > 20.0) == (at == "[day7]")
    border = times[:, 2:3] if at == "[day7]" else np.full((len(table), 1), 168.0)
    expected = _levels(_clearances(table, 2), border, times[:, 1:]) * (table["arm"] == 1).to_numpy()[:, None]
    found = table[["CP.true@day3", "CP.true@day7", "CP.true@last"]].to_numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


HAZARD = (
    HEAD
    + """
parameters:
  K: {typical: 0.02 1/h, status: assumed}
  V: {typical: 10 L, status: assumed}
  B: {typical: 0.0015 L/mg/h, iiv: 0.4, status: assumed}
  H0: {typical: 0.004 1/h, iiv: 0.3, status: assumed}
  P: {typical: 0.05 1, scale: logit, status: assumed}
  S: {typical: 0.02 1/h, status: assumed}
equations: |
  C = A/V
  d/dt(A) = -K*A
  HD = H0
  HB = B*C
  RISK = P
  SEVERE = exp(-S*TIME)
outputs: {CP: {is: C, error: {additive: 0.1 mg/L}}}
doses: {A: {bioavailability: 1}}
events:
  death: {hazard: HD, kind: terminal}
  bleed: {hazard: HB, kind: recurrent}
  rash: {hazard: HD, kind: first, at_least: {3: SEVERE}}
  ache: {risk: RISK, per: 1 d, term: Headache}
"""
)
DOSES = "{none: {regimen: []}, drug: {regimen: [{amount: 300 mg, into: A, every: 24 h, for: 10 d}]}}"


def _by_address(table: pd.DataFrame, name: str) -> np.ndarray:
    at = {"subject": table["subject"].to_numpy(), "replicate": table["replicate"].to_numpy()}
    return np.asarray(normals(7, Purpose.IIV, **at, slot=slots([name])[0]))


def _thresholds(table: pd.DataFrame, event: str, count: int) -> np.ndarray:
    at = {"subject": table["subject"].to_numpy()[:, None], "replicate": table["replicate"].to_numpy()[:, None]}
    u = uniforms(7, Purpose.HAZARD, **at, index=np.arange(count), slot=slots([event])[0])
    return np.asarray(np.cumsum(-np.log(u), axis=1))


def _area(until: np.ndarray, doses: np.ndarray, given: np.ndarray) -> np.ndarray:
    """AUC of 300 mg boluses in 10 L at rate 0.02/h up to `until` (n,), of the doses given (n, K)."""
    since = np.maximum(until[:, None] - doses, 0.0)
    return np.asarray((given * 30.0 / 0.02 * (1.0 - np.exp(-0.02 * since))).sum(axis=1))


def test_events_by_hazard_come_when_the_cumulative_hazard_crosses(study: Callable[..., Study]) -> None:
    """Death at -log(u)/H0, own H0; nothing is known after it; bleeds: thresholds below B AUC(end)."""
    _, trial, table = study(HAZARD, arms=DOSES, subjects=300)
    hazard = 0.004 * np.exp(0.3 * _by_address(table, "H0"))
    death = _thresholds(table, "death", 1)[:, 0] / hazard
    died = death <= 240.0
    assert 0.3 < died.mean() < 0.8
    np.testing.assert_allclose(table["death.day"][died] * 24.0, death[died], rtol=1e-9)
    assert table["death.day"][~died].isna().all()
    assert (table["death.grade"] == died).all()
    for visit, hours in (("day3", 72.0), ("day7", 168.0), ("last", 240.0)):
        for column in (f"CP@{visit}", f"CP.true@{visit}"):
            assert (table[column].isna() == (death < hours)).all()
    doses, end = np.arange(10) * 24.0, np.minimum(death, 240.0)
    given = np.repeat((table["arm"] == 1).to_numpy()[:, None], 10, axis=1)
    burden = 0.0015 * np.exp(0.4 * _by_address(table, "B")) * _area(end, doses, given)
    expected = (_thresholds(table, "bleed", 200) <= burden[:, None]).sum(axis=1)
    assert table["bleed.number"].tolist() == expected.tolist()
    assert expected[table["arm"] == 1].mean() > 2
    late = table["ache.day"] * 24.0 > death
    assert not late.any()
    assert (table["ache.day"][died].notna()).any()
    assert (table["status"] == 0).all()
    assert trial.analyses["missing"][0] == died[(table["replicate"] == 0)].sum()


def test_survival_is_exp_of_minus_the_cumulative_hazard(study: Callable[..., Study]) -> None:
    """HD = H0 (1 + TIME/T1): S(t) = exp(-H0 (t + t^2/(2 T1))), 4,000 subjects, 4 standard errors at ten times."""
    text = HAZARD.replace("HD = H0", "HD = H0*(1 + S*TIME)").replace("0.004 1/h, iiv: 0.3", "0.004 1/h")
    _, _, table = study(text, replicates=1, subjects=4000)
    days = table["death.day"].fillna(np.inf).to_numpy() * 24.0
    for t in np.linspace(20.0, 239.0, 10):
        expected = np.exp(-0.004 * (t + 0.02 * t * t / 2))
        assert (days > t).mean() == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 4000))


def test_grades_of_an_event_by_hazard_are_those_of_its_time(study: Callable[..., Study]) -> None:
    """P(grade >= 3 | rash at t) = exp(-0.02 t): the sum of indicators less probabilities is 0 within 4 sd."""
    text = HAZARD.replace("kind: terminal", "kind: first")
    _, _, table = study(text, replicates=1, subjects=3000)
    seen = table[table["rash.day"].notna()]
    assert len(seen) > 1000
    p = np.exp(-0.02 * seen["rash.day"].to_numpy() * 24.0)
    bad = (seen["rash.grade"] == 3).to_numpy()
    assert set(seen["rash.grade"]) == {1, 3}
    assert abs((bad - p).sum()) < 4 * np.sqrt((p * (1 - p)).sum())
    early = p > np.median(p)  # and it follows time: not one probability for all
    assert abs((bad - p)[early].sum()) < 4 * np.sqrt((p * (1 - p))[early].sum())


def test_the_end_of_treatment_changes_the_hazard_that_follows(study: Callable[..., Study]) -> None:
    """The first bleed ends treatment: doses after it are not given, later bleeds come by the area that is left."""
    text = HAZARD.replace("  rash: {hazard: HD, kind: first, at_least: {3: SEVERE}}\n", "").replace(
        "  ache: {risk: RISK, per: 1 d, term: Headache}\n", ""
    )
    text = text.replace("  death: {hazard: HD, kind: terminal}\n", "")
    _, _, table = study(text, arms=DOSES, subjects=200, extra="intercurrent: {stopped: {after: grade 1}}",
                        strategies=", strategies: {stopped: treatment_policy}")  # fmt: skip
    table = table[table["arm"] == 1]
    doses, given = np.arange(10) * 24.0, np.ones((len(table), 10))
    b = 0.0015 * np.exp(0.4 * _by_address(table, "B"))
    asked = _thresholds(table, "bleed", 200)
    low, high = np.zeros(len(table)), np.full(len(table), 240.0)
    for _ in range(60):  # bisection of B AUC(t) = threshold
        middle = 0.5 * (low + high)
        over = b * _area(middle, doses, given) >= asked[:, 0]
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    bled = b * _area(np.full(len(table), 240.0), doses, given) >= asked[:, 0]
    np.testing.assert_allclose(table["bleed.day"][bled] * 24.0, high[bled], rtol=1e-5)
    np.testing.assert_allclose(table["stopped.day"][bled], table["bleed.day"][bled])
    taken = doses < np.where(bled, high, np.inf)[:, None]
    burden = b * _area(np.full(len(table), 240.0), doses, taken)
    assert table["bleed.number"].tolist() == (asked <= burden[:, None]).sum(axis=1).tolist()
    assert bled.mean() > 0.5


def test_rules_decide_nothing_after_the_end_and_see_what_changed(study: Callable[..., Study]) -> None:
    arms = DOSES.replace("10 d}]}}", "10 d}], rules: [{at: every 1 d, do: {scale_dose: 0.5}, times: 5, from: 2 d}]}}")
    setting, trial, table = study(HAZARD, arms=arms, subjects=200)
    both = table["adjusted.day"].notna() & table["death.day"].notna()
    assert both.any()
    assert (table["adjusted.day"][both] < table["death.day"][both]).all()
    early = (table["arm"] == 1) & (table["death.day"] < 2.0)
    assert early.any()
    assert table["adjusted.day"][early].isna().all()
    for rows, time, *_ in trial.course.plans[1].dosed.log:
        assert (time < trial.course.ended[trial.course.plans[1].members[rows]]).all()
    truth = potential(setting, trial)
    assert np.isfinite(truth["mean"]).all()
    shown = curves(setting, trial)
    assert shown is None


OUTCOMES = (
    HEAD
    + """
parameters:
  K: {typical: 0.02 1/h, status: assumed}
  V: {typical: 10 L, status: assumed}
  LAM: {typical: 3 1, status: assumed}
  A1: {typical: 0.4 1, scale: identity, status: assumed}
  A2: {typical: -0.8 1, scale: identity, status: assumed}
  E: {typical: 0.2 L/mg, scale: identity, status: assumed}
  P01: {typical: 0.3 1, scale: logit, status: assumed}
  P11: {typical: 0.8 1, scale: logit, status: assumed}
equations: |
  C = A/V
  d/dt(A) = -K*A
  MEAN = LAM*exp(-E*C)
  PAIN1 = expit(A1 - E*C)
  PAIN2 = expit(A2 - E*C)
  STAY = P01 + (P11 - P01)*LAST
doses: {A: {bioavailability: 1}}
outputs:
  CP: {is: C, error: {additive: 0.2 mg/L}}
  CQ: {is: C, error: {additive: 0.4 mg/L}}
  N: {is: MEAN, kind: count, law: poisson}
  PAIN: {kind: ordered, at_least: {1: PAIN1, 2: PAIN2}}
  SICK: {kind: ordered, at_least: {1: STAY}, previous: {name: LAST, first: 0}}
residual_correlations: [[CP, CQ, 0.6]]
"""
)


def _near(found: float, p: float, n: int) -> None:
    assert found == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / n) + 1e-12)


def test_counts_categories_and_markov_states_have_their_proportions(study: Callable[..., Study]) -> None:
    """At each visit, 2,000 subjects an arm: Poisson mean and P(0), P(level >= k), the chain's marginals by its matrix."""
    _, _, table = study(OUTCOMES, replicates=1, subjects=4000)
    chain = np.array([[0.7, 0.3], [0.2, 0.8]])
    state = np.array([1.0, 0.0])
    for visit, hours in (("start", 0.0), ("day3", 72.0), ("day7", 168.0), ("last", 240.0)):
        state = state @ chain
        for arm in (0, 1):
            rows = table[table["arm"] == arm]
            n = len(rows)
            level = 10.0 * np.exp(-0.02 * hours) if arm and hours else 0.0  # the baseline comes before the dose
            mean = 3 * np.exp(-0.2 * level)
            assert rows[f"N@{visit}"].mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / n))
            _near((rows[f"N@{visit}"] == 0).mean(), np.exp(-mean), n)
            for k, a in ((1, 0.4), (2, -0.8)):
                _near((rows[f"PAIN@{visit}"] >= k).mean(), 1 / (1 + np.exp(-(a - 0.2 * level))), n)
            _near((rows[f"SICK@{visit}"] == 1).mean(), state[1], n)
    assert (table["N@last"] == table["N.true@last"]).all()  # the outcome itself is the truth of a count
    stays = table[table["SICK@day3"] == 1]["SICK@day7"]
    _near(stays.mean(), 0.8, len(stays))  # the state before, not the marginal, is what counts


def test_residual_errors_are_correlated(study: Callable[..., Study]) -> None:
    _, _, table = study(OUTCOMES, replicates=1, subjects=3000)
    errors = [(table[f"{name}@day3"] - table[f"{name}.true@day3"]) for name in ("CP", "CQ")]
    assert errors[0].std() == pytest.approx(0.2, rel=0.06)
    assert errors[1].std() == pytest.approx(0.4, rel=0.06)
    assert np.corrcoef(*errors)[0, 1] == pytest.approx(0.6, abs=4 * (1 - 0.36) / np.sqrt(3000))


def test_residual_errors_are_correlated_as_the_fit_says() -> None:
    """A text that leaves the correlation to a fit: subjects of each population draw have that draw's, 0.9 and -0.5."""
    model = Model.parse(OUTCOMES.replace("residual_correlations: [[CP, CQ, 0.6]]", "sigma: {block: [CP, CQ]}"))
    one, n = point(model), 3000
    error = np.column_stack([np.repeat(one.error, 2, axis=0), [0.9, -0.5]])
    draws = PopulationDraws(
        names=one.names, typical=np.repeat(one.typical, 2, axis=0), eta_names=one.eta_names,
        omega=np.repeat(one.omega, 2, axis=0), error_names=(*one.error_names, "CP~CQ"), error=error,
    )  # fmt: skip
    setting: Any = SimpleNamespace(seed=5, model=model, draws=draws)
    found = measured.errors(setting, subject=np.arange(n)[None, :], replicate=np.array([[7], [8]]), visit=1,
                            draw=np.array([[0], [1]]))  # fmt: skip
    for row, r in enumerate((0.9, -0.5)):
        assert found["CQ"][row].std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * n))
        seen = np.corrcoef(found["CP"][row], found["CQ"][row])[0, 1]
        assert seen == pytest.approx(r, abs=4 * (1 - r**2) / np.sqrt(n))


def test_a_count_can_be_the_endpoint(study: Callable[..., Study]) -> None:
    """Mean difference of counts at day 10, ANCOVA: the truth of both arms by the same people, MEAN at their levels."""
    protocol = PROTOCOL.replace("output: CP, at: last", "output: N, at: day3")
    setting, trial, _ = study(OUTCOMES, replicates=1, subjects=2000, protocol=protocol)
    level = 10.0 * np.exp(-0.02 * 72.0)
    truth = dict(zip(potential(setting, trial)["arm"], potential(setting, trial)["mean"], strict=True))
    assert truth["none"] == pytest.approx(3.0, abs=4 * np.sqrt(3.0 / 2000))
    assert truth["drug"] == pytest.approx(3 * np.exp(-0.2 * level), abs=4 * np.sqrt(3.0 / 2000))
    estimate, se = trial.analyses["estimate"][0], trial.analyses["se"][0]
    assert estimate == pytest.approx(3 * np.exp(-0.2 * level) - 3, abs=4 * se)


def test_probabilities_that_make_no_sense_fail_the_subject(study: Callable[..., Study]) -> None:
    """P(level >= 2) above P(level >= 1): status, no values, counted as missing."""
    text = OUTCOMES.replace("A2: {typical: -0.8 1, scale: identity", "A2: {typical: 0.4 1, scale: identity, iiv: 1")
    _, _, table = study(text, replicates=1, subjects=200)
    a2 = 0.4 + _by_address(table, "A2")
    assert ((table["status"] != 0) == (a2 > 0.4)).all()
    assert table["CP@last"][a2 > 0.4].isna().all()
    assert table["PAIN@last"][a2 <= 0.4].notna().all()


CLOCKS = """
vtrial: model/1
name: clocks
covariates: {WT: {unit: kg, reference: 70, between: linear}}
states: {G: mg, A: mg}
parameters:
  K: {typical: 0.1 1/h, status: assumed}
  N: {typical: 2 1, status: assumed}
  MTT: {typical: 3 h, status: assumed}
  D0: {typical: 100 mg, status: assumed}
  W0: {typical: 70 kg, status: assumed}
  KA: {typical: 5 1/h, status: assumed}
equations: |
  d/dt(G) = -KA*G
  d/dt(A) = KA*G - K*(WT/W0)*A*(1 + 0*sin(K*TIME))
  LAST = TAD*K + DOSE/D0
doses: {G: {transit: {number: N, time: MTT}}}
outputs: {CP: {is: A}, S: {is: LAST}}
"""


def test_clocks_transits_and_covariates_of_the_dynamics(study: Callable[..., Study]) -> None:
    """A = the gamma pulse of a dose through two more exponentials: by SciPy's quadrature, own weight each."""
    from scipy.integrate import quad

    arms = ARMS.replace("into: A}", "into: G, from: 6 h}")
    visits = "{start: {day: 0}, day3: {day: 0.5}, last: {day: 1.5}}"
    _, _, table = study(CLOCKS, replicates=1, subjects=6, arms=arms, visits=visits)
    treated = table[table["arm"] == 1]
    np.testing.assert_allclose(treated["S.true@day3"], 6 * 0.1 + 1.0)
    np.testing.assert_allclose(treated["S.true@last"], 30 * 0.1 + 1.0)
    assert (table[table["arm"] == 0]["S.true@last"] == 0).all()
    for _, row in treated.iterrows():
        k = 0.1 * row["WT"] / 70

        def level(t: float, k: float = k) -> float:
            pulse = lambda s: (s**2 / 2) * np.exp(-s)  # noqa: E731  (n = 2, ktr = 1/h)
            after = lambda s: 5 / (5 - k) * (np.exp(-k * (t - s)) - np.exp(-5 * (t - s)))  # noqa: E731
            return float(100 * quad(lambda s: pulse(s) * after(s), 0, t, epsabs=1e-12, epsrel=1e-10, limit=200)[0])

        assert row["CP.true@day3"] == pytest.approx(level(6.0), rel=1e-5)
        assert row["CP.true@last"] == pytest.approx(level(30.0), rel=1e-5)


STATELESS = """
vtrial: model/1
name: score
parameters:
  BASE: {typical: 20 1, iiv: 0.2, status: assumed}
  SLOPE: {typical: 0.5 1, scale: identity, status: assumed}
  DAY: {typical: 24 h, status: assumed}
equations: SCORE = BASE + SLOPE*TIME/DAY
outputs: {CP: {is: SCORE, error: {additive: 1 1}}}
"""


def test_a_model_without_states(study: Callable[..., Study]) -> None:
    _, _, table = study(STATELESS, arms="{none: {regimen: []}, drug: {regimen: []}}")
    base = 20 * np.exp(0.2 * _by_address(table, "BASE"))
    for visit, day in (("start", 0), ("day3", 3), ("last", 10)):
        np.testing.assert_allclose(table[f"CP.true@{visit}"], base + 0.5 * day, rtol=1e-12)


IMPUTED = PROTOCOL.replace("method: ancova", "method: ancova, missing: {{method: multiple_imputation}}")


@pytest.mark.parametrize(
    ("model", "parts", "place", "words"),
    [
        (VARYING.replace("{every: 7 d}", "{column: OCC}"), {}, "occasions", "is missing: model any varies"),
        (VARYING, {"extra": "occasions: {at: every 7 d}"}, "occasions", "says itself when"),
        (HAZARD, {"extra": "occasions: {at: every 7 d}"}, "occasions", "no variability between occasions"),
        (VARYING.replace("{every: 7 d}", "{column: OCC}"), {"extra": "occasions: {at: dose}"}, "occasions.at", "at times"),
        (VARYING.replace("{every: 7 d}", "{column: OCC}"), {"extra": "occasions: {at: [start]}"}, "occasions.at", "visit"),
        (VARYING.replace("{every: 7 d}", "{column: OCC}"), {"extra": "occasions: {at: [0 h]}"}, "occasions.at", "after"),
        (
            HAZARD, {"protocol": PROTOCOL.replace("method: ancova", "method: mmrm")}, "analyses.primary.method",
            "values after a terminal event (death) cannot be imputed",
        ),
        (
            HAZARD, {"protocol": IMPUTED}, "analyses.primary.missing", "values after a terminal event (death) cannot be imputed",
        ),
        (
            OUTCOMES,
            {"arms": ARMS.replace("into: A}]", "into: A}], rules: [{at: every 1 d, measure: N, above: 1 1, do: {stop: true}}]")},
            "arms.drug.rules[0].measure", "cannot look at counts",
        ),
        (
            OUTCOMES,
            {"arms": ARMS.replace("into: A}]", "into: A}], rules: [{at: every 1 d, true: STAY, above: 1 1, do: {stop: true}}]")},
            "arms.drug.rules[0].true", "cannot look at counts",
        ),
    ],
)  # fmt: skip
def test_what_a_trial_cannot_do_is_refused(
    study: Callable[..., Study], model: str, parts: dict[str, str], place: str, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        study(model, **parts)
    assert place in str(caught.value)
    assert words in caught.value.problem
    assert caught.value.remedy
    assert str(caught.value.file).endswith("protocol.yaml")
