"""A perpetrator's kinetics against the dynamic model; bounds on counts of events; the law of a risk over draws."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import betaincc, betaincinv, betaln

from pkpd.ground.streams import Purpose, uniforms
from pkpd.interactions.assembly import assemble, quantities
from pkpd.interactions.course import Course, Given
from pkpd.interactions.dynamic import solve
from pkpd.interactions.library import drugs
from pkpd.interactions.observed import read_studies
from reports.chained import names_of
from trials import event_bounds
from trials.comedication import Comedication, Condition
from trials.modifiers import _kept, enzymes_of, profile
from trials.pair_course import Over, Times, course_of, over_time
from trials.pairs import Drawn, pair, single
from trials.pairs import drawn as drawn_pair
from trials.risk_law import risk_law

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "ddi"


def one_draw(names: tuple[str, str]) -> Drawn:
    """A pair at the mode of its calibration: no pair effect, no spread."""
    of = drawn_pair(names, None, draws=2, seed=1)
    known = dataclasses.replace(of.known, hyper={**of.known.hyper, "pair": 0.0, "spread": 0.0})
    return dataclasses.replace(of, known=known, theta=known.theta[None])


def by_day(of: Drawn, stop: float, days: list[int]) -> np.ndarray:
    """AUC ratios of the dynamic model by day, the victim taken daily an hour after the perpetrator until `stop` [h]."""
    taken = tuple(np.arange(0.0, stop - 1e-9, of.regimen.interval).tolist())
    given = Given(drug=of.names[0], times=taken, amounts=(of.regimen.dose,) * len(taken))
    doses = tuple(24.0 * k + 1.0 for k in range(max(days) + 1))
    courses = [
        Course(perpetrators=(given,), victim=of.names[1], doses=doses, window=(24.0 * d + 1.0, 24.0 * d + 25.0))
        for d in days
    ]
    made = assemble(courses, of.library, of.known.layout)
    return np.asarray(solve(made.batch, quantities(made, of.theta[None])).auc[:, 0])


def one_compartment(of: Drawn, over: Over, days: list[int]) -> np.ndarray:
    """The same by the steps, in the model a protocol would have: first pass on what enters, the rest on clearance."""
    who = of.library[of.names[1]].victim
    assert who is not None
    h = 0.1
    time = np.arange(0.0, 24.0 * (max(days) + 1), h)
    place = np.searchsorted(over.time, time + 1e-9, side="right") - 1
    ratio, first = over.ratio()[0][place], over.first[0][place]

    def areas(enters: np.ndarray, slowed: np.ndarray) -> np.ndarray:
        depot, body, found = 0.0, 0.0, np.zeros(time.size)
        for k, t in enumerate(time.tolist()):
            depot += 1.0 if abs(t / 24.0 - round(t / 24.0)) < 1e-9 else 0.0
            entered = depot * -np.expm1(-who.ka.value * h) * enters[k]
            depot *= np.exp(-who.ka.value * h)
            rate = np.log(2) / who.half_life.value / slowed[k]
            after = body * np.exp(-rate * h) + entered * -np.expm1(-rate * h) / (rate * h)
            found[k], body = (body - after + entered) / rate, after
        return np.asarray([found[(time >= 24 * d - 1e-9) & (time < 24 * d + 24 - 1e-9)].sum() for d in days])

    one = np.ones(time.size)
    return np.asarray(areas(ratio**first, ratio ** (1.0 - first)) / areas(one, one))


@pytest.mark.parametrize(("names", "stop"), [
    (("rifampicin", "midazolam"), 7),
    pytest.param(("rifampicin", "midazolam"), 14, marks=pytest.mark.slow),
    pytest.param(("rifampicin", "s-warfarin"), 14, marks=pytest.mark.slow),
    pytest.param(("fluvoxamine", "theophylline"), 10, marks=pytest.mark.slow),
])  # fmt: skip
def test_kinetics_come_and_go_as_in_the_dynamic_model(names: tuple[str, str], stop: int) -> None:
    """Independent method: the dynamic model solved for a victim taken every day, AUC by day; within 1 % while an inducer
    and an inhibitor come, and up to two weeks after their end."""
    days, of = [0, 1, 2, 4, stop - 1, stop, stop + 1, stop + 3, stop + (13 if stop > 7 else 5)], one_draw(names)
    over = course_of(of, Times(lasts=24.0 * stop, until=24.0 * (days[-1] + 2), every=24.0, apart=1.0))
    assert one_compartment(of, over, days) == pytest.approx(by_day(of, 24.0 * stop, days), rel=0.01)


def test_steady_state_is_that_of_the_matrix() -> None:
    """Identity: what is reached after many doses is the pair's ratio in `vtrial ddi` after as many; that of the library's
    regimen where it is near its steady state; long after the last dose there is nothing."""
    for names in (("itraconazole", "simvastatin"),):
        of = one_draw(names)
        over = course_of(of, Times(lasts=14 * 24.0, until=40 * 24.0))
        many = of.assembled(single(of, 30, None))
        ratio = solve(many[0].batch, many[1]).auc[0, 0]
        held = over.time < 14 * 24.0
        assert over.steady.ratio[0] == pytest.approx(ratio, rel=2e-3)
        assert over.ratio()[0][held][-1] == pytest.approx(ratio, rel=0.012)
        assert over.ratio()[0][-1] == pytest.approx(1.0, abs=5e-3)
    found = pair(("fluvoxamine", "theophylline"), None, draws=2, seed=1)
    assert over_time(("fluvoxamine", "theophylline"), None, Times(lasts=200.0, until=200.0), draws=2, seed=1
                     ).steady.ratio == pytest.approx(found.ratio, rel=0.03)  # fmt: skip


@pytest.mark.slow
@pytest.mark.witness
def test_observed_time_courses() -> None:
    """Neuvonen 1996 (triazolam 0, 3, 12 and 24 h after 200 mg of itraconazole once); Backman 1998, Reitman 2011 and
    Gashaw 2003 (4, 7, 14 and 15 days after rifampicin): ratios of ../shared/data/ddi within two-fold, by the steps."""
    table = SHARED / "observed_auc_ratios.csv"
    if not table.is_file():
        pytest.skip("../shared/data/ddi is not here")
    studies = {s.key: s for s in read_studies(table, drugs())[0]}
    for key in ("1078", "1079", "1080", "1081", "57", "393", "394", "2010"):
        study = studies[key]
        given, at = study.course.perpetrators[0], study.course.doses[0]
        of = one_draw((given.drug, study.course.victim))
        tau = of.regimen.interval
        regimen = dataclasses.replace(of.regimen, dose=given.amounts[0])
        of = dataclasses.replace(of, regimen=regimen)
        after = (at - given.times[0]) % tau
        times = Times(lasts=tau * len(given.times), until=at - given.times[0] + tau, apart=after)
        over = course_of(of, times)
        ratio = over.ratio()[0][np.searchsorted(over.time, at - given.times[0] - after + 1e-6, side="right") - 1]
        assert abs(np.log(ratio / study.ratio)) < np.log(2.0), key


def test_bounds_are_those_of_clinfun() -> None:
    """R package clinfun 1.1.1, run on the source of CRAN: toxbdry(0.2, 0.35, c(20,40,60)), toxbdry(0.1, 0.3,
    c(10,20,30,40), cP0=0.05), toxbdry(0.05, 0.2, 25*(1:5), cP0=0.1), high boundary, ngrid=2, niter=60 (it stops beyond
    the bound, we from it on)."""
    cases = [
        ([20, 40, 60], 0.2, 0.1, 0.35, [7, 12, 17], (0.07912317381, 0.85852429845), (58.14342445, 37.80446222)),
        ([10, 20, 30, 40], 0.1, 0.05, 0.3, [3, 5, 6, 8], (0.04061640853, 0.91633859265), (39.31116421, 21.81089081)),
        ([25, 50, 75, 100, 125], 0.05, 0.1, 0.2, [3, 5, 7, 9, 10], (0.09600246286, 0.99985533471),
         (119.0310734, 32.1402403)),
    ]  # fmt: skip
    for looks, low, alpha, high, bound, crossed, subjects in cases:
        least = event_bounds.pocock(looks, low, alpha)
        found = event_bounds.crossing(looks, least, [low, high])
        assert least.tolist() == [b + 1 for b in bound]
        assert found.stopped[-1] == pytest.approx(crossed, abs=1e-9)
        assert found.subjects == pytest.approx(subjects, abs=1e-7)


def test_a_bayesian_bound_is_the_least_count_that_is_sure() -> None:
    """The beta distribution by quadrature: P(risk > 0.2 | k of n) with prior Beta(0.2, 0.8) crosses 0.9 between the bound
    and one less; a look that no count satisfies never stops."""
    looks = [3, 10, 20]
    for n, least in zip(looks, event_bounds.bayes(looks, 0.2, 0.9, (0.2, 0.8)), strict=True):
        for k, sure in ((least, True), (least - 1, False)):
            x = np.linspace(0.2, 1.0, 200_001)
            whole = betaln(0.2 + k, 0.8 + n - k)
            density = np.exp((k - 0.8) * np.log(x[:-1]) + (n - k - 0.2) * np.log1p(-x[:-1]) - whole)
            assert (density.sum() * (x[1] - x[0]) > 0.9) == sure
    assert event_bounds.bayes([1], 0.5, 0.99, (5.0, 5.0)).tolist() == [2]


def test_the_law_of_a_risk_takes_chance_out() -> None:
    """Known truth: risks of 200 replicates are Beta(4, 36), 10 people each. P(risk > 0.15) is 0.119 by the law, 0.19 by
    counting shares of ten; the 90 % interval holds it. None of 3,000 leaves P(risk > 1 %) below 1 in 20."""
    u = uniforms(7, Purpose.COMEDICATION, subject=np.arange(200)[:, None], replicate=0, index=np.arange(11)[None, :])
    p = betaincinv(4.0, 36.0, u[:, 0])
    events = (u[:, 1:] < p[:, None]).sum(axis=1)
    value, low, high = risk_law(events, np.full(200, 10)).above(0.15)
    truth = float(betaincc(4.0, 36.0, 0.15))
    assert low < truth < high
    assert abs(value - truth) < 0.04
    assert abs((events / 10 > 0.15).mean() - truth) > 0.05
    assert risk_law(np.zeros(30), np.full(30, 100)).above(0.01)[0] < 0.05


@pytest.mark.parametrize("lasts", [1.0, 30.0, 200.0])
def test_what_is_given_for_less_than_its_half_life_does_as_little_as_it_can(lasts):
    """Areas of the level while taken and after it, half-life 38.6 h: closed form of 1 - exp(-k t). (A step cut short
    had the mean and the end of a whole one: 0.155 instead of 0.009 of one hour.)"""
    plan = Comedication(parameters={"CL": -1.0}, clearance=0.5, from_=24.0, until=24.0 + lasts, half_life=38.6)
    time, level = profile(plan)
    k, end = np.log(2.0) / 38.6, 24.0 + lasts
    width = np.diff(np.append(time[1:], 24.0 + lasts + 7.0 * 38.6))
    during = time[1:] < end - 1e-9
    reached = -np.expm1(-k * lasts)
    assert (width * level[1:])[during].sum() == pytest.approx(lasts - reached / k, rel=2e-2 if lasts > 100 else 1e-9)
    assert (width * level[1:])[~during].sum() == pytest.approx(reached / k, rel=1e-2)


def test_a_step_of_kinetics_begins_at_its_border_wherever_that_is():
    """from: 10.3 h: 10.3 + 24 k - 10.3 is less than 24 k for some k; the level was that of the day before."""
    days = 24.0 * np.arange(60)
    effect = {"time": days[None], "first": np.zeros((1, 60)), "fm": np.ones((1, 1)), "left": np.zeros((1, 1)),
              "level.CYP1A2": (days / 2000.0)[None]}  # fmt: skip
    plan = Comedication(parameters={"CL": -1.0}, drug="fluvoxamine", victim="caffeine", from_=10.3, course="kinetics")
    line = SimpleNamespace(time=10.3 + days, subject=np.zeros(60, np.int64))
    one = np.ones((1, 1))
    if enzymes_of(plan) != ("CYP1A2",):
        pytest.fail("another pathway of caffeine in the library: choose another pair")
    kept = _kept(plan, effect, (one, {"AGE": one}, np.zeros(1, np.int64)), line)[0]
    np.testing.assert_array_equal(kept, np.maximum(1.0 - days / 2000.0, 0.002))


def test_classes_of_an_impairment_with_a_label_are_told_apart():
    """Three classes under one label were three lines of one name."""
    kidney = Condition(scale="egfr", parameters={}, label="Kidney")
    liver = Condition(scale="child_pugh", parameters={}, label="Liver")
    protocol = SimpleNamespace(
        comedication={}, conditions={"k": kidney, "l": liver, "f": Condition(scale="food", parameters={})}
    )
    names = names_of(protocol)
    assert [names[f"k {kind}"] for kind in ("mild", "severe")] == ["Kidney, mild", "Kidney, severe"]
    assert (names["l B"], names["f fed"]) == ("Liver B", "Fed")
