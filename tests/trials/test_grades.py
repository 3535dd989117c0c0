"""Grades that move and recurrent events with grades, in a trial: the forward equations and the numbers at the addresses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import solve_ivp

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, slots, uniforms
from pkpd.model.grades import Path as GradePath
from pkpd.model.grades import grade_at
from trials.event_course import event_course
from trials.protocol import Protocol
from trials.run import prepare
from trials.setting import Setting, opened
from trials.trial import Trial, outcome_columns, potential, simulate_trial

MODEL = """
vtrial: model/1
name: graded
states: {A: mg}
parameters:
  K: {typical: 0.02 1/h, status: assumed}
  U: {typical: 0.006 1/h, status: assumed}
  S: {typical: 0.01 1/mg, status: assumed}
  D: {typical: 0.02 1/h, status: assumed}
  Q: {typical: 0.15 1, scale: logit, status: assumed}
  B: {typical: 0.02 1/h, status: assumed}
  T: {typical: 0.01 1/h, status: assumed}
equations: |
  d/dt(A) = -K*A
  UP = U*(1 + S*A)
  WORSE = 0.5*UP
  DOWN = D
  Q1 = Q
  HB = B
  BAD = exp(-T*TIME)
outputs: {A: {is: A, error: {additive: 1 mg}}}
events:
  rash: {term: Rash, soc: Skin, moves: {0 to 1: UP, 1 to 2: WORSE, 1 to 0: DOWN, 2 to 1: DOWN}, at_start: {1: Q1}}
  bleed: {term: Bleeding, soc: Blood, hazard: HB, kind: recurrent, at_least: {3: BAD}}
"""
PROTOCOL = """
vtrial: protocol/1
name: graded
model: {file: model.yaml}
seed: 17
replicates: 2
population: {law: nhanes_adults}
subjects: 1000
arms: {none: {regimen: []}, drug: {regimen: [{amount: 300 mg, into: A, every: 24 h, for: 10 d}]}}
visits: {start: {day: 0}, day3: {day: 3}, day7: {day: 7}, last: {day: 10}}
endpoints:
  any: {event: rash, as: incidence}
  bad: {event: rash, as: incidence, at_least: 2}
  spells: {event: rash, as: recurrences}
estimands:
  any: {endpoint: any, compare: drug, against: none, summary: risk_difference}
  bad: {endpoint: bad, compare: drug, against: none, summary: risk_difference}
  spells: {endpoint: spells, compare: drug, against: none, summary: rate_ratio}
analyses:
  any: {method: miettinen_nurminen}
  bad: {method: miettinen_nurminen}
  spells: {method: lwyy}
truth: {replicates: 1}
"""
Study = tuple[Setting, Trial, pd.DataFrame]


def simulated(folder: Path, protocol: str = PROTOCOL, replicates: tuple[int, ...] = (0, 1)) -> Study:
    folder.mkdir(exist_ok=True)
    (folder / "model.yaml").write_text(MODEL)
    (folder / "protocol.yaml").write_text(protocol)
    setting = opened(prepare(folder / "protocol.yaml").variants["main"].payload)
    trial = simulate_trial(setting, replicates)
    return setting, trial, pd.DataFrame(outcome_columns(setting, trial))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return simulated(tmp_path_factory.mktemp("graded"))


def _generator(up: float) -> np.ndarray:
    q = np.array([[0, up, 0], [0.02, 0, 0.5 * up], [0, 0.02, 0]])
    return q - np.diag(q.sum(axis=1))


def _probabilities(hours: float, *, drug: bool) -> np.ndarray:
    """Grades 0, 1, 2 at a time: the forward equations from dose to dose, error below 1e-6."""
    p = np.array([0.85, 0.15, 0.0])
    for dose in np.arange(0.0, hours, 24.0):
        level = 300.0 * np.exp(-0.02 * (dose - np.arange(0.0, dose + 1.0, 24.0))).sum() if drug else 0.0
        p = solve_ivp(
            lambda t, y, level=level, dose=dose: y @ _generator(0.006 * (1 + 0.01 * level * np.exp(-0.02 * (t - dose)))),
            (dose, min(dose + 24.0, hours)), p, rtol=1e-7, atol=1e-9,
        ).y[:, -1]  # fmt: skip
    return np.asarray(p)


def test_grades_at_visits_follow_the_kolmogorov_equations(study: Study) -> None:
    """Under treatment intensities move with the dose; 4 standard errors at three visits, both arms."""
    table = study[2]
    assert (table["status"] == 0).all()
    for code in (0, 1):
        own = table[table["arm"] == code]
        for visit, hours in (("start", 0.0), ("day3", 72.0), ("last", 240.0)):
            expected = _probabilities(hours, drug=code == 1)
            found = np.array([(own[f"rash@{visit}"] == grade).mean() for grade in range(3)])
            assert (np.abs(found - expected) <= 4 * np.sqrt(expected * (1 - expected) / len(own))).all()


def test_columns_agree_with_each_other(study: Study) -> None:
    """Worst grade, first days, days at a grade, episodes: one path."""
    setting, trial, table = study
    path = trial.course.latent.path("rash")
    assert ((table["rash.grade"] == 2) == table["rash.day2"].notna()).all()
    assert ((table["rash.grade"] >= 1) == table["rash.day"].notna()).all()
    assert (table["rash.day2"].dropna() >= table["rash.day"][table["rash.day2"].notna()]).all()
    assert (table["rash.days"] >= table["rash.days2"]).all()
    assert (table["rash.days2"][table["rash.grade"] < 2] == 0).all()
    always = (path.start > 0) & ~np.isfinite(path.time[:, 0])
    assert always.any()  # at grade 1 all the time: ten days of it, and yet no event
    assert (table["rash.days"][always] == 10.0).all()
    assert (table["rash.grade"][always] == 0).all()
    begun = (np.concatenate([path.start[:, None], path.grade[:, :-1]], axis=1) == 0) & (path.grade > 0)
    assert table["rash.number"].tolist() == (begun & np.isfinite(path.time)).sum(axis=1).tolist()
    truth = pd.DataFrame(potential(setting, trial)).set_index(["analysis", "arm", "replicate"])["mean"].sort_index()
    for name, least in (("any", 1), ("bad", 2)):
        for code, arm in ((0, "none"), (1, "drug")):
            own = table[(table["arm"] == code)]
            assert truth[name, arm].mean() == pytest.approx((own["rash.grade"] >= least).mean(), abs=0.05)
    assert truth["spells", "drug"].iloc[0] > 1.1


def test_grades_of_recurrent_events_are_each_its_own(study: Study) -> None:
    """Numbers at the addresses: occurrence k is of grade 3 where its uniform is below exp(-0.01 t)."""
    _, trial, table = study
    times = trial.course.latent.crossings["bleed"]
    people = trial.people
    u = uniforms(17, Purpose.EVENT_GRADE, subject=people.subject[:, None], replicate=people.replicate[:, None],
                 index=np.arange(times.shape[1]), slot=slots(["bleed"]))  # fmt: skip
    with np.errstate(invalid="ignore"):
        bad = np.isfinite(times) & (u < np.exp(-0.01 * times))
    first = np.where(bad, times, np.inf).min(axis=1)
    assert np.array_equal(np.isfinite(first), table["bleed.grade"] == 3)
    np.testing.assert_allclose(table["bleed.day3"].dropna() * 24.0, first[np.isfinite(first)], rtol=1e-6)
    assert (table["bleed.day3"] > table["bleed.day"]).sum() > 100  # it became worse after its first occurrence


def test_the_end_of_treatment_by_grade_changes_what_follows(tmp_path: Path) -> None:
    """Grade 2 ends treatment: until then the path is as it was, from then on intensities fall with the drug."""
    _, before, _ = simulated(tmp_path / "a", replicates=(0,))
    ending = PROTOCOL.replace("endpoints:\n", "intercurrent: {stopped: {after: grade 2}}\nendpoints:\n", 1)
    ending = ending.replace("_difference}", "_difference, strategies: {stopped: treatment_policy}}")
    ending = ending.replace("rate_ratio}", "rate_ratio, strategies: {stopped: treatment_policy}}")
    ending = ending.replace("rash, as: rec", "bleed, as: rec")
    _, after, table = simulated(tmp_path / "b", ending, replicates=(0,))
    stopped = table["stopped.day"].notna()
    assert stopped.sum() > 50
    rash, bleed = table["rash.day2"], table["bleed.day3"]
    np.testing.assert_allclose(
        table["stopped.day"][stopped], np.fmin(rash, bleed)[stopped], rtol=1e-12
    )  # the first of the two that is bad
    same, other = before.course.latent.path("rash"), after.course.latent.path("rash")
    stop = after.course.stop
    for row in np.flatnonzero(stopped & (table["arm"] == 1))[:60]:
        early = [(t, g) for t, g in zip(same.time[row], same.grade[row], strict=True) if t <= stop[row]]
        again = [(t, g) for t, g in zip(other.time[row], other.grade[row], strict=True) if t <= stop[row]]
        np.testing.assert_allclose([t for t, _ in early], [t for t, _ in again], rtol=1e-4)
        assert [g for _, g in early] == [g for _, g in again]
    treated = stopped & (table["arm"] == 1)
    hours = before.course.latent.path("rash"), after.course.latent.path("rash")
    jumps = [np.where(np.isfinite(p.time), p.time > stop[:, None], False)[treated].sum() for p in hours]
    assert jumps[1] < jumps[0]


def test_the_same_bits_whatever_the_batch(study: Study, tmp_path: Path) -> None:
    """Replicate 1 alone gives the rows it has in a batch."""
    _, _, alone = simulated(tmp_path, replicates=(1,))
    whole = study[2]
    mine = whole[whole["replicate"] == 1].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, alone, check_exact=True)


def test_leaving_while_a_grade_lasts_is_a_competing_risk(study: Study, tmp_path: Path) -> None:
    """1 - exp(-hazard x hours at the grade) of each subject, in all within 4 standard errors; by its own address."""
    _, _, before = study
    leaving = PROTOCOL.replace("endpoints:\n", "dropout: {while: {rash: {1: 0.1 1/d, 2: 0.5 1/d}}}\nendpoints:\n", 1)
    _, trial, table = simulated(tmp_path, leaving)
    hours = before["rash.days"] - before["rash.days2"], before["rash.days2"]
    left = 1 - np.exp(-(0.1 * hours[0] + 0.5 * hours[1]).to_numpy())
    found = table["dropout.day"].notna().to_numpy()
    assert 0.2 < left.mean() < 0.8
    assert abs((found - left).sum()) < 4 * np.sqrt((left * (1 - left)).sum())
    at = table["dropout.day"][found].to_numpy()[:, None] * 24.0
    path = trial.course.latent.path("rash")
    there = GradePath(start=path.start[found], time=path.time[found], grade=path.grade[found])
    assert (grade_at(there, at) > 0).all()
    u = uniforms(17, Purpose.DROPOUT, subject=trial.people.subject, replicate=trial.people.replicate, index=1,
                 slot=slots(["rash.while"]))  # fmt: skip
    spent_days = table["rash.days"].to_numpy() - table["rash.days2"].to_numpy()
    summed = 0.1 * spent_days + 0.5 * table["rash.days2"].to_numpy()
    np.testing.assert_allclose(summed[found], -np.log(u[found]), rtol=1e-9)


def test_some_stop_for_one_event_alone(tmp_path: Path) -> None:
    """`of` and `probability`: nobody stops for another event, and 60 % of those whom grade 2 of the rash would stop."""
    text = PROTOCOL.replace(
        "endpoints:\n", "intercurrent: {stopped: {after: grade 2, of: rash, probability: 0.6}}\nendpoints:\n", 1
    )
    text = text.replace("_difference}", "_difference, strategies: {stopped: treatment_policy}}")
    text = text.replace("rate_ratio}", "rate_ratio, strategies: {stopped: treatment_policy}}")
    _, trial, table = simulated(tmp_path, text)
    stopped, bad = table["stopped.day"].notna(), table["rash.day2"].notna()
    assert not (stopped & ~bad).any()
    np.testing.assert_array_equal(table["stopped.day"][stopped], table["rash.day2"][stopped])
    u = uniforms(17, Purpose.SWITCHING, subject=trial.people.subject, replicate=trial.people.replicate,
                 slot=slots(["stopped"]))  # fmt: skip
    assert stopped.tolist() == (bad & (u < 0.6)).tolist()


def test_the_course_of_events_is_that_of_the_outcome_table(study: Study) -> None:
    """Everybody followed to the end: the mean number is the mean of the numbers, shares those of the visits."""
    setting, trial, table = study
    rows = pd.DataFrame(event_course(setting, trial))
    for code in (0, 1):
        for replicate in (0, 1):
            own = table[(table["arm"] == code) & (table["replicate"] == replicate)]
            here = rows[(rows["arm"] == code) & (rows["replicate"] == replicate)]
            last = here[here["day"] == 10.0].set_index("event")
            for event in ("rash", "bleed"):
                assert last.loc[event, "mean"] == pytest.approx(own[f"{event}.number"].mean(), rel=1e-12)
                spread = own[f"{event}.number"].std(ddof=0) / np.sqrt(len(own))
                assert last.loc[event, "first"] == pytest.approx(own[f"{event}.day"].notna().mean(), rel=1e-12)
                assert last.loc[event, "se"] == pytest.approx(spread, rel=1e-12)
            day3 = here[(here["event"] == "rash") & np.isclose(here["day"], 3.0)]
            assert day3["least2"].to_numpy() == pytest.approx((own["rash@day3"] >= 2).mean(), rel=1e-12)
            assert last.loc["rash", "at_risk"] == len(own)
            assert np.isnan(last.loc["bleed", "least1"])


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("rash, as: incidence, at_least: 2", "rash, as: incidence, at_least: 3", "endpoints.bad.at_least"),
        ("endpoints:\n", "dropout: {while: {bleed: {1: 0.1 1/d}}}\nendpoints:\n", "dropout.while.bleed"),
        ("endpoints:\n", "dropout: {while: {rash: {7: 0.1 1/d}}}\nendpoints:\n", "dropout.while.rash"),
        ("endpoints:\n", "intercurrent: {s: {after: grade 2, of: rush}}\nendpoints:\n", "intercurrent.s.of"),
        ("endpoints:\n", "intercurrent: {s: {after: grade 2, probability: 0}}\nendpoints:\n", "intercurrent.s.probab"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, field: str) -> None:
    """Every error names its field."""
    text = PROTOCOL.replace(old, new, 1)
    if "intercurrent" in new:
        text = text.replace("_difference}", "_difference, strategies: {s: treatment_policy}}")
        text = text.replace("rate_ratio}", "rate_ratio, strategies: {s: treatment_policy}}")
    with pytest.raises(InputError) as caught:
        simulated(tmp_path, text)
    assert str(caught.value.field).startswith(field)


def test_keys_that_say_nothing_are_no_part_of_the_protocol() -> None:
    """The plain form, and so the key of a run, of a protocol without the younger keys is as it was."""
    text = PROTOCOL.replace("endpoints:\n", "intercurrent: {s: {after: grade 2}}\nendpoints:\n", 1)
    text = text.replace("_difference}", "_difference, strategies: {s: treatment_policy}}")
    plain = Protocol.parse(
        text.replace("rate_ratio}", "rate_ratio, strategies: {s: treatment_policy}}"), complete=False
    )
    told = plain.to_dict()
    assert set(told["intercurrent"]["s"]) == {"after", "from", "switch", "rescue"}
    assert "while" not in told["dropout"]
