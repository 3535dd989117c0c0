"""Times to events from the data base to the analysis table and the report. Witnesses: cases by hand, the analyses
themselves (which R witnesses in tests/trials/analysis), identities between strategies.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pkpd.ground.errors import InputError
from trials.analysis import cox, recurrent, survival, win_ratio
from trials.endpoints import analyse, time_columns
from trials.event_times import event_times, true_hazards, true_number, true_rates, true_time, true_wins
from trials.kinds import KINDS, Lived
from trials.observed import Observed
from trials.protocol import Protocol

ROOT = Path(__file__).parents[2]
TEXT = """
vtrial: protocol/1
name: times
model: {file: model.yaml}
seed: 3
replicates: 3
population: {law: nhanes_adults}
subjects: 60
arms: {none: {regimen: []}, drug: {regimen: [{amount: 1 mg, into: A}]}}
allocation: {method: permuted_block, size: 4, strata: [SEX]}
visits: {start: {day: 0}, half: {day: 50}, last: {day: 100}}
intercurrent: {stopped: {after: grade 3}}
endpoints:
  os: {event: death, as: time_to_event}
  early: {event: death, as: time_to_event, at: half}
  rash: {event: rash, as: time_to_event, at_least: 2}
  bleeds: {event: bleed, as: recurrences}
  order: {event: [death, rash], as: hierarchy}
estimands:
  logrank: {endpoint: os, compare: drug, against: none, summary: hazard_ratio, strategies: {stopped: treatment_policy}}
  late: {endpoint: os, compare: drug, against: none, summary: hazard_ratio, strategies: {stopped: treatment_policy}}
  combo: {endpoint: os, compare: drug, against: none, summary: hazard_ratio, strategies: {stopped: treatment_policy}}
  cox: {endpoint: os, compare: drug, against: none, summary: hazard_ratio, strategies: {stopped: hypothetical}}
  rmst: {endpoint: os, compare: drug, against: none, summary: rmst_ratio, strategies: {stopped: composite}}
  mile: {endpoint: early, compare: drug, against: none, summary: survival_difference, strategies: {stopped: treatment_policy}}
  rashes: {endpoint: rash, compare: drug, against: none, summary: incidence_difference, strategies: {stopped: treatment_policy}}
  lwyy: {endpoint: bleeds, compare: drug, against: none, summary: rate_ratio, strategies: {stopped: while_on_treatment}}
  wins: {endpoint: order, compare: drug, against: none, summary: win_odds, strategies: {stopped: treatment_policy}}
analyses:
  logrank: {method: logrank}
  late: {method: logrank, gamma: 1, stratified: false, side: less}
  combo: {method: max_combo}
  cox: {method: cox}
  rmst: {method: rmst}
  mile: {method: kaplan_meier}
  rashes: {method: aalen_johansen}
  lwyy: {method: lwyy}
  wins: {method: win_ratio}
"""
DAY = 24.0


def parsed(text: str = TEXT) -> Protocol:
    return Protocol.parse(text, complete=False)


def trial() -> Observed:
    """Three trials of 60 subjects: terminal deaths, graded rash, recurrent bleeds, stops, dropout, a failed subject."""
    rng, shape = np.random.default_rng(8), (3, 60)
    arm = np.tile(np.arange(60) % 2, (3, 1))
    leave = rng.exponential(400 * DAY, shape)
    death = rng.exponential(np.where(arm == 1, 130, 80) * DAY)
    ended = np.where(death <= np.minimum(leave, 100 * DAY), death, np.inf)
    seen = np.minimum(np.minimum(leave, ended), 100 * DAY)
    rash = rng.exponential(90 * DAY, shape)
    rash = np.where(rash <= seen, rash, np.inf)
    bleeds = np.cumsum(rng.exponential(40 * DAY, (*shape, 6)), axis=2)
    stop = rng.exponential(200 * DAY, shape)
    failed = np.zeros(shape, np.bool_)
    failed[0, 5] = True
    return Observed(
        replicate=np.arange(3, dtype=np.uint32), arm=arm, stratum=(np.arange(180).reshape(shape) // 7) % 2,
        times=np.broadcast_to(np.array([0, 50, 100]) * DAY, (*shape, 3)).copy(), outputs={},
        onset={"death": ended, "rash": rash, "bleed": np.full(shape, np.inf)},
        grade={"death": np.isfinite(ended).astype(np.int8), "rash": rng.integers(1, 4, shape).astype(np.int8)},
        stop=np.where(stop <= seen, stop, np.inf), leave=leave, failed=failed, ended=ended, number={},
        occurrences={"bleed": np.where(bleeds <= seen[:, :, None], bleeds, np.inf)},
    )  # fmt: skip


def one(**parts: float) -> Observed:
    """One subject in each of two arms, everything in days, the first as told."""

    def pair(name: str) -> np.ndarray:
        return np.array([[parts.get(name, np.inf), np.inf]]) * DAY

    return Observed(
        replicate=np.zeros(1, np.uint32), arm=np.array([[1, 0]]), stratum=np.zeros((1, 2), np.int64),
        times=np.array([[[0.0, 50.0, 100.0]] * 2]) * DAY, outputs={}, onset={"rash": pair("rash"), "death": pair("death")},
        grade={"rash": np.array([[int(parts.get("grade", 3)), 0]], np.int8), "death": np.ones((1, 2), np.int8)},
        stop=pair("stop"), leave=pair("leave"), failed=np.zeros((1, 2), np.bool_), ended=pair("death"), number={},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "strategy", "expected"),
    [
        ({"rash": 30}, "treatment_policy", (30, 1)), ({"rash": 30, "grade": 1}, "treatment_policy", (100, 0)),
        ({"rash": 30, "stop": 20}, "treatment_policy", (30, 1)), ({"rash": 30, "stop": 20}, "composite", (20, 1)),
        ({"rash": 30, "stop": 20}, "while_on_treatment", (20, 0)), ({"rash": 30, "stop": 20}, "hypothetical", (20, 0)),
        ({"rash": 30, "stop": 30}, "while_on_treatment", (30, 1)), ({"leave": 12}, "treatment_policy", (12, 0)),
        ({"death": 40}, "treatment_policy", (40, 2)), ({"rash": 40, "death": 40}, "treatment_policy", (40, 1)),
        ({"death": 40, "stop": 10}, "hypothetical", (10, 0)), ({"death": 40, "stop": 10}, "composite", (10, 1)),
    ],
)  # fmt: skip
def test_one_subject(parts: dict[str, float], strategy: str, expected: tuple[float, int]) -> None:
    protocol = parsed(TEXT.replace("rashes: {endpoint: rash, compare: drug, against: none, summary: incidence_difference, "
                                   "strategies: {stopped: treatment_policy}}",
                                   "rashes: {endpoint: rash, compare: drug, against: none, "
                                   f"summary: incidence_difference, strategies: {{stopped: {strategy}}}}}"))  # fmt: skip
    found = event_times(protocol, protocol.endpoints["rash"], protocol.estimands["rashes"], one(**parts))
    assert (found.time[0, 0], found.cause[0, 0]) == expected
    assert (found.time[0, 1], found.event[0, 1]) == (100, False)


def test_every_method_is_given_its_data() -> None:
    protocol, seen = parsed(), trial()
    table = pd.DataFrame(analyse(protocol, seen))
    assert (table["status"] == 0).all()
    assert set(table["missing"][table["replicate"] == 0]) == {1}
    rows = {key: part.reset_index() for key, part in table.groupby("analysis")}
    end = np.minimum(np.minimum(seen.leave, seen.ended), 100 * DAY) / DAY
    died, codes = np.isfinite(seen.ended), np.where(seen.failed, -1, seen.arm)

    def same(key: str, found: Any, *, ratio: bool) -> None:
        shown = np.exp if ratio else np.asarray
        for column in ("estimate", "lower", "upper"):
            np.testing.assert_allclose(rows[key][column], shown(getattr(found, column)[:, 0]), rtol=1e-12)
        for column in ("se", "p", "reject"):
            np.testing.assert_allclose(rows[key][column], getattr(found, column)[:, 0], rtol=1e-12)
        np.testing.assert_array_equal(rows[key]["n_treated"], (codes == 1).sum(axis=1))

    given = end, died, codes
    same("logrank", survival.logrank(*given, arms=2, strata=seen.stratum), ratio=True)
    same("late", survival.logrank(*given, arms=2, gamma=1, side="less"), ratio=True)
    same("combo", survival.max_combo(*given, arms=2, strata=seen.stratum).compared, ratio=True)
    on = np.minimum(end, seen.stop / DAY)
    same("cox", cox.cox_arms(on, died & (end <= on), codes, arms=2, strata=seen.stratum), ratio=True)
    failing = died | np.isfinite(seen.stop)
    same("rmst", survival.rmst(on, failing, codes, arms=2, tau=100, ratio=True), ratio=True)
    early = np.minimum(end, 50)
    same("mile", survival.milestone(early, died & (end <= 50), codes, arms=2, at=50), ratio=False)
    bad = np.isfinite(seen.onset["rash"]) & (seen.grade["rash"] >= 2)
    first = np.where(bad, seen.onset["rash"] / DAY, end)
    cause = np.where(bad, 1, np.where(died, 2, 0))
    same("rashes", survival.incidence_difference(first, cause, codes, arms=2, at=100), ratio=False)
    until = np.where(seen.failed, 0.0, on)
    same("lwyy", recurrent.andersen_gill(seen.occurrences["bleed"] / DAY, until, codes, arms=2, strata=seen.stratum),
         ratio=True)  # fmt: skip
    any_rash = np.isfinite(seen.onset["rash"])
    order = [win_ratio.timed(end, died), win_ratio.timed(np.where(any_rash, seen.onset["rash"] / DAY, end), any_rash)]
    same("wins", win_ratio.win_odds(win_ratio.wins(order, codes, arms=2)), ratio=True)


def test_true_values() -> None:
    """Means of min(T, tau), T > tau and T <= tau by hand; NaN where the mean of a time says nothing."""
    protocol, inf = parsed(), np.inf
    death, rash = np.array([[30.0, inf, 200.0, 60.0]]), np.array([[10.0, 70.0, inf, 80.0]])
    stop = np.array([[inf, 20.0, inf, inf]])
    lived = Lived(
        outputs={}, onset={"death": death * DAY, "rash": rash * DAY},
        grade={"death": np.ones((1, 4), np.int8), "rash": np.array([[3, 2, 0, 3]], np.int8)}, stop=stop * DAY,
        ended=death * DAY, times=np.zeros((1, 4, 3)), occurrences={"bleed": np.array([[[1.0, 25.0], [9.0, 30.0],
        [150.0, inf], [70.0, inf]]]) * DAY},
    )  # fmt: skip

    def true(key: str) -> list[float]:
        estimand = protocol.estimands[key]
        return list(true_time(protocol, protocol.endpoints[estimand.endpoint[0]], estimand, lived)[0])

    assert true("rmst") == [30, 20, 100, 60]  # composite: the second stops on day 20
    assert true("mile") == [0, 1, 1, 1]
    assert true("rashes") == [1, 1, 0, 0]  # the fourth dies before its rash
    assert np.isnan(true("cox")).all()  # hypothetical, and somebody stopped
    number = true_number(protocol, protocol.endpoints["bleeds"], protocol.estimands["lwyy"], lived)
    assert number.tolist() == [[2, 1, 0, 0]]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("strategies: {stopped: hypothetical}}", "}", "has no strategy for the intercurrent event stopped"),
        ("intercurrent: {stopped: {after: grade 3}}", "intercurrent: {stopped: {after: grade 3}, worse: {after: grade 4}}",
         "has no strategy for the intercurrent event worse"),
        ("wins: {endpoint: order, compare: drug, against: none, summary: win_odds, strategies: {stopped: treatment_policy}}",
         "wins: {endpoint: order, compare: drug, against: none, summary: win_odds, strategies: {stopped: composite}}",
         "is not for endpoints as hierarchy"),
        ("mile: {method: kaplan_meier}", "mile: {method: cox}", "does not estimate this estimand"),
        ("rmst: {method: rmst}", "rmst: {method: rmst, gamma: 1}", "rmst does not use it"),
        ("early: {event: death, as: time_to_event, at: half}", "early: {event: death, as: time_to_event, at: start}",
         "must be after the baseline"),
    ],
)  # fmt: skip
def test_bad_protocols_say_what_is_wrong(old: str, new: str, words: str) -> None:
    assert old in TEXT
    with pytest.raises(InputError, match=words):
        parsed(TEXT.replace(old, new))


def test_the_example_is_a_protocol(tmp_path: Path) -> None:
    """Read with its model; recurrences of an event that happens once are refused."""
    folder = ROOT / "examples/ovarian_survival"
    assert Protocol.read(folder / "protocol.yaml").analyses["weighted"].method == "max_combo"
    (tmp_path / "model.yaml").write_text((folder / "model.yaml").read_text())
    wrong = (folder / "protocol.yaml").read_text().replace("{event: fever,", "{event: toxicity,")
    (tmp_path / "protocol.yaml").write_text(wrong)
    with pytest.raises(InputError, match="needs an event of kind recurrent"):
        Protocol.read(tmp_path / "protocol.yaml")


def timed_milestone(record: Any, none: list[float], drug: list[float]) -> Any:
    """The milestone analysis of a report whose first two trials have these true values."""
    from reports.event_times import timed

    truth = pd.DataFrame({"replicate": [0, 1, 0, 1], "analysis": "mile", "endpoint": "early",
                          "arm": ["none"] * 2 + ["drug"] * 2, "mean": none + drug})  # fmt: skip
    found = timed(SimpleNamespace(**{**vars(record), "truth": truth}))
    assert found is not None
    return next(c for c in found.compared if c.analysis == "mile")


def test_the_report_gathers_curves_and_analyses() -> None:
    """Curves are means of the trials' own; every contrast has a row; the figure shows who is at risk."""
    from markupsafe import Markup

    from reports.event_times import timed
    from reports.figures.palette import looks
    from reports.figures.survival import Steps, steps

    protocol, seen = parsed(), trial()
    columns = {"replicate": np.repeat(seen.replicate, 60), "subject": np.tile(np.arange(60), 3)}
    outcomes = pd.DataFrame({**columns, "arm": seen.arm.reshape(-1), **time_columns(protocol, seen)})
    truth = pd.DataFrame(
        {"replicate": [0, 0], "analysis": "mile", "endpoint": "early", "arm": ["none", "drug"], "mean": [0.5, 0.6]}
    )
    record: Any = SimpleNamespace(
        protocol=protocol, outcomes=outcomes, analyses=pd.DataFrame(analyse(protocol, seen)), truth=truth
    )
    found = timed(record)
    assert found is not None
    assert [c.analysis for c in found.compared] == list(protocol.estimands)
    assert timed_milestone(record, [0.5, np.nan], [0.6, 0.7]).bias is None  # half of the trials have no true value
    milestone = next(c for c in found.compared if c.analysis == "mile")
    assert milestone.bias is not None
    assert (milestone.bias.n, milestone.bias.failed) == (1, 2)
    assert {(c.endpoint, c.strategy) for c in found.curves} == {
        ("os", "treatment policy"), ("os", "hypothetical"), ("os", "composite"), ("early", "treatment policy"),
        ("rash", "treatment policy"),
    }  # fmt: skip
    curves = next(c for c in found.curves if c.endpoint == "os")
    end, died = np.minimum(np.minimum(seen.leave, seen.ended), 2400) / DAY, np.isfinite(seen.ended)
    km = survival.kaplan_meier(end, died, np.where(seen.failed, -1, seen.arm), arms=2, at=curves.arms[1].day)
    np.testing.assert_allclose(curves.arms[1].value, km.survival[:, 1].mean(axis=0))
    drawn = [
        Steps(
            label=f"Arm {c.arm}", look=look, day=c.day, value=c.value, lower=c.lower, upper=c.upper, at_risk=c.at_risk
        )
        for c, look in zip(curves.arms, looks([True, False], [False, False]), strict=True)
    ]
    picture = steps(drawn, curves.ticks, y_label="Alive (%)", name="x")
    assert isinstance(picture, Markup)
    assert "At risk" in picture
    assert f">{curves.arms[0].at_risk[1]:.0f}<" in picture


def test_truths_of_arms_together() -> None:
    """The hazard ratio of everybody under both arms; wins of three subjects counted by hand."""
    protocol, rng = parsed(), np.random.default_rng(3)
    none, drug = (rng.exponential(days, (2, 50)) for days in (60.0, 90.0))

    def lived(death: np.ndarray, stop: float = np.inf) -> Lived:
        never = np.full(death.shape, np.inf)
        return Lived(
            outputs={}, onset={"death": death * DAY, "rash": never},
            grade={"death": np.ones(death.shape, np.int8), "rash": np.zeros(death.shape, np.int8)},
            stop=np.full(death.shape, stop * DAY), ended=death * DAY, times=np.zeros((*death.shape, 3)),
        )  # fmt: skip

    asked = protocol.endpoints["os"], protocol.estimands["logrank"]
    found = true_hazards(protocol, *asked, {"none": lived(none), "drug": lived(drug)})
    assert found is not None
    both = np.concatenate([none, drug], axis=1)
    arm = np.repeat([[0, 1]], 50, axis=1) * np.ones((2, 1), int)
    fit = cox.cox_arms(np.minimum(both, 100), both <= 100, arm, arms=2)
    np.testing.assert_allclose(found["drug"], np.exp(fit.estimate[:, 0]))
    assert found["none"].tolist() == [1, 1]
    hypothetical = protocol.estimands["cox"]
    lost = true_hazards(protocol, protocol.endpoints["os"], hypothetical, {"none": lived(none, 5), "drug": lived(drug)})
    assert lost is not None
    assert np.isnan(lost["drug"]).all()
    assert true_hazards(protocol, asked[0], protocol.estimands["rmst"], {}) is None
    few = {"none": lived(np.array([[10.0, 50.0, 300.0]])), "drug": lived(np.array([[20.0, 200.0, 300.0]]))}
    order = protocol.endpoints["order"], protocol.estimands["wins"]
    odds = true_wins(protocol, *order, few)
    assert odds is not None  # wins 1 + 2 + 2, losses 2, ties 2 of 9 pairs
    assert odds["drug"][0] == pytest.approx((5 + 1) / (2 + 1))


def living(stop: np.ndarray, **parts: Any) -> Lived:
    """Subjects (R, N) with nothing but what is told, days."""
    never, none = np.full(stop.shape, np.inf), np.zeros(stop.shape, np.int8)
    told = {name: np.asarray(parts.get(name, never)) * DAY for name in ("death", "rash")}
    return Lived(
        outputs={}, onset=told, grade={name: np.where(np.isfinite(t), 3, none) for name, t in told.items()},
        stop=stop * DAY, ended=told["death"], times=np.zeros((*stop.shape, 3)),
        occurrences={"bleed": parts["bleed"] * DAY} if "bleed" in parts else {}, failed=parts.get("failed"),
    )  # fmt: skip


def test_whoever_is_followed_to_the_last_visit_is_followed_to_its_day() -> None:
    """Whatever day * 24 / 24 rounds to: a restricted mean asks for follow-up to that day."""
    day = next(k / 10 for k in range(1, 1000) if k / 10 * DAY / DAY < k / 10)
    protocol = parsed(
        TEXT.replace("last: {day: 100}", f"last: {{day: {day}}}").replace("half: {day: 50}", "half: {day: 0.01}")
    )
    seen = one()
    seen = replace(seen, times=np.array([[[0.0, 0.01, day]] * 2]) * DAY)
    found = event_times(protocol, protocol.endpoints["rash"], protocol.estimands["rashes"], seen)
    assert found.time.tolist() == [[day, day]]


def test_true_values_of_a_trial_do_not_depend_on_its_batch() -> None:
    """Somebody stops, or dies of something else, in the second trial only: the first keeps its value."""
    protocol, never = parsed(), np.inf
    death = np.array([[30.0, never], [30.0, never]])
    stops = np.array([[never, never], [20.0, never]])
    os, ratio = protocol.endpoints["os"], protocol.estimands["cox"]  # hypothetical
    arms = {"none": living(stops, death=death), "drug": living(stops, death=death + 1)}
    found = true_hazards(protocol, os, ratio, arms)
    assert found is not None
    assert np.isfinite(found["drug"]).tolist() == [True, False]
    mile = protocol.estimands["mile"]
    rash = living(np.full((2, 2), never), death=np.array([[never, never], [30.0, never]]))
    value = true_time(protocol, protocol.endpoints["rash"], mile, rash)
    assert np.isnan(value).tolist() == [[False, False], [True, True]]


def test_a_failed_subject_is_not_one_without_event() -> None:
    """As in the analysis it is in no arm: no mean of a trial that holds it."""
    from trials.estimand import Endpoint

    protocol = parsed()
    lived = living(np.full((1, 2), np.inf), failed=np.array([[True, False]]))
    true = KINDS["incidence"].true
    assert true is not None
    value = true(protocol, Endpoint(event=("rash",), as_="incidence"), protocol.estimands["rashes"], lived)
    assert np.isnan(value).tolist() == [[True, False]]


def test_true_rates_are_what_lwyy_estimates() -> None:
    """Equal rates while on treatment, which ends sooner under drug: the numbers differ, the rates do not. Without an
    early end: the ratio of the numbers.
    """
    protocol, rng = parsed(), np.random.default_rng(12)
    endpoint, estimand = protocol.endpoints["bleeds"], protocol.estimands["lwyy"]  # while_on_treatment
    shape, never = (1, 3000), np.full((1, 3000), np.inf)

    def bleeds() -> np.ndarray:
        return np.cumsum(rng.exponential(25.0, (*shape, 12)), axis=2)

    arms = {"none": living(never, bleed=bleeds()), "drug": living(np.full(shape, 40.0), bleed=bleeds())}
    number = [true_number(protocol, endpoint, estimand, arms[arm]).mean() for arm in ("none", "drug")]
    assert number[1] / number[0] == pytest.approx(0.4, abs=0.02)
    found = true_rates(protocol, endpoint, estimand, arms)
    assert found is not None
    assert found["drug"][0] == pytest.approx(1.0, abs=0.05)  # 4800 occurrences in 40 days: 2 standard errors
    whole = {"none": living(never, bleed=bleeds()), "drug": living(never, bleed=bleeds() * 1.5)}
    number = [true_number(protocol, endpoint, estimand, whole[arm]).mean() for arm in ("none", "drug")]
    found = true_rates(protocol, endpoint, estimand, whole)
    assert found is not None
    assert found["drug"][0] == pytest.approx(number[1] / number[0], rel=1e-9)


def test_curves_show_every_arm_that_is_compared() -> None:
    """Two analyses of one endpoint that compare different arms share one figure with all of them."""
    from reports.event_times import _curves

    text = TEXT.replace("arms: {none: {regimen: []},", "arms: {none: {regimen: []}, half: {regimen: []},")
    text = text.replace("size: 4", "size: 6").replace(
        "late: {endpoint: os, compare: drug", "late: {endpoint: os, compare: half"
    )
    protocol, seen = parsed(text), trial()
    seen = replace(seen, arm=np.tile(np.arange(60) % 3, (3, 1)))
    columns = {"replicate": np.repeat(seen.replicate, 60), "subject": np.tile(np.arange(60), 3)}
    outcomes = pd.DataFrame({**columns, "arm": seen.arm.reshape(-1), **time_columns(protocol, seen)})
    record: Any = SimpleNamespace(protocol=protocol, outcomes=outcomes)
    (curves,) = _curves(record, [("logrank", "os"), ("late", "os")])
    assert [c.arm for c in curves.arms] == [0, 1, 2]


def test_ratios_without_a_mean_are_counted() -> None:
    """A trial that estimates a ratio of 0 or infinity is not silently left out of the geometric mean."""
    from reports.event_times import _compared

    protocol = parsed()
    table = pd.DataFrame({"replicate": [0, 1, 2, 3], "analysis": "logrank", "endpoint": "os", "contrast": "drug",
                          "estimate": [0.5, 0.0, np.inf, np.nan], "lower": 0.1, "upper": 2.0, "reject": False,
                          "status": [0, 0, 0, 20], "x_control": 3, "x_treated": 3})  # fmt: skip
    record: Any = SimpleNamespace(protocol=protocol, analyses=table, truth=pd.DataFrame())
    found = _compared(record, ("logrank", "os"), "drug")
    assert (found.estimate.n, found.beyond, sum(k for _, k in found.failed)) == (1, 2, 1)


@pytest.mark.slow
def test_the_example_runs_and_reports(tmp_path: Path) -> None:
    """`vtrial run` of the example with 8 trials: every analysis has a row, true values and figures."""
    from reports.html import write
    from trials.dispatch import Mode
    from trials.run import run

    folder = ROOT / "examples/ovarian_survival"
    (tmp_path / "model.yaml").write_text((folder / "model.yaml").read_text())
    (tmp_path / "protocol.yaml").write_text(
        (folder / "protocol.yaml").read_text().replace("replicates: 100", "replicates: 8")
    )
    record = run(tmp_path / "protocol.yaml", tmp_path / "out", mode=Mode(kind="serial"))
    assert set(record.analyses["analysis"]) == set(record.protocol.estimands)
    assert set(record.truth["analysis"]) == set(record.protocol.estimands)
    assert record.truth["mean"].notna().all()
    page = write(record, tmp_path / "out").read_text()
    assert "Times to events" in page
    assert page.count("At risk") == 4
    assert "Estimates against true values" in page
