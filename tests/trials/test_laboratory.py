"""Laboratory grades of a trial against samples worked out by hand: superposition, error by address, CTCAE's text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals, slots
from trials import dose_course, toxicity
from trials.analysis import grading
from trials.analysis.liver import liver
from trials.laboratory import Laboratory, Opened
from trials.protocol import Protocol, json_schema
from trials.run import prepare
from trials.sampling import Samples
from trials.setting import opened
from trials.subject import dosing, follow
from trials.trial import outcome_columns, potential, simulate_trial

ARMS = "  high:\n    regimen:\n"
LAB = """\
laboratory:
  hot: {measure: CP, term: ALT, uln: {SEX: {0: 1.5, 1: 2}}, at: every 3.5 d, cycles: every 7 d, lasting: grade 3}
  bare: {true: C, term: ALT, uln: 4}
allocation:"""
TEST = ("allocation:", LAB)
RULE = "{at: every 7 d, laboratory: hot, grade: grade 3, do: {levels: [0.75, 0.5]}}"


def of(path):
    return opened(prepare(path).variants["main"].payload)


def ruled(text: str, arm: str = "high") -> tuple[str, str]:
    return (f"  {arm}:\n    regimen:\n", f"  {arm}:\n    rules: [{text}]\n    regimen:\n")


def by_text(value: float, uln: float, baseline: float) -> int:
    """CTCAE v5.0, alanine aminotransferase increased, as written."""
    if baseline > uln:
        return sum([value >= 1.5 * baseline, value > 3 * baseline, value > 5 * baseline, value > 20 * baseline])
    return sum([value > uln, value > 3 * uln, value > 5 * uln, value > 20 * uln])


def level(setting, people, i: int, when) -> float:
    """One compartment by superposition; when = (time, doses given)."""
    (at, given), names = when, list(setting.model.parameters)
    ka, cl, v = (people.parameters[i, names.index(n)] for n in ("KA", "CL", "V"))
    s = at - given.time
    one = given.amount * ka / (ka - cl / v) * (np.exp(-cl / v * s) - np.exp(-ka * s))
    return float(one[s > 0].sum() / v)


def test_every_sample_grade_and_column_is_what_a_hand_finds(write_study):
    """True level by superposition of the doses really given, error at the sample's own address, grade by the text."""
    setting = of(write_study(TEST, ruled(RULE)))
    trial = simulate_trial(setting, range(2))
    people, course, columns = trial.people, trial.course, outcome_columns(setting, trial)
    table = toxicity.samples_table(setting, trial, trial.samples)
    seen = 0
    for i in np.flatnonzero(people.arm > 0)[:30]:
        mine = (table["replicate"] == people.replicate[i]) & (table["subject"] == people.subject[i])
        hot = mine & (table["test"] == "hot")
        given = dosing(setting, people, (np.array([i]), course.stop[i : i + 1]), course.plans)
        uln = 2.0 if people.covariates["SEX"][i] == 1 else 1.5
        base = columns["CP@baseline"][i]
        grades = []
        for day, value, grade in zip(*(table[c][hot] for c in ("day", "value", "grade")), strict=True):
            true = level(setting, people, i, (day * 24, given))
            purpose, index = (Purpose.LABORATORY, round(day * 1440)) if day else (Purpose.RESIDUAL, 0)
            z = normals(11, purpose, subject=people.subject[i], replicate=people.replicate[i], index=index,
                        slot=slots(["CP"]))  # fmt: skip
            assert value == pytest.approx(true + np.sqrt(0.3**2 + (0.1 * true) ** 2) * float(z[0]), rel=1e-7, abs=1e-9)
            assert grade == by_text(value, uln, base)
            grades.append(int(grade))
            seen += 1
        values, days = table["value"][hot], table["day"][hot]
        if len(values) > 1:
            assert columns["lab.hot.worst"][i] == max(grades[1:])
            assert columns["lab.hot.extreme"][i] == values[1:].max()
            assert columns["lab.hot.day"][i] == days[1:][values[1:].argmax()]
            week = [g for g, day in zip(grades, days, strict=True) if 0 < day <= 7]
            assert columns["lab.hot.cycle1"][i] == max(week, default=-1)
        bare = mine & (table["test"] == "bare")
        assert set(table["day"][bare]) <= set((people.times[i] / 24).tolist())
        assert columns["lab.bare.baseline"][i] == 0.0
    assert seen > 90
    # after leaving nothing is seen
    leave = np.where(np.isnan(columns["dropout.day"]), np.inf, columns["dropout.day"])
    key = {(r, s): t for r, s, t in zip(columns["replicate"], columns["subject"], leave, strict=True)}
    assert all(d <= key[r, s] for r, s, d in zip(table["replicate"], table["subject"], table["day"], strict=True))


def test_a_rule_by_grade_sees_the_samples_of_the_table_and_lowers_the_dose(write_study):
    """Who is lowered at day 7: those whose samples of days 3.5 and 7 were of grade 3; their doses from day 7 on."""
    plain, setting = of(write_study(TEST)), of(write_study(TEST, ruled(RULE)))
    before, trial = simulate_trial(plain, range(4)), simulate_trial(setting, range(4))
    samples, high = before.samples["hot"], np.flatnonzero(trial.people.arm == 2)
    whole = toxicity.sampling.of_course(plain, before.people, before.course)["hot"]
    acts = (whole.grade[high, 1:3] >= 3).any(axis=1)
    assert 5 < acts.sum() < high.size - 5
    for i, acted in zip(high, acts, strict=True):
        given = dosing(setting, trial.people, (np.array([i]), np.array([np.inf])), trial.course.plans)
        planned = dosing(plain, trial.people, (np.array([i]), np.array([np.inf])))
        late = given.time >= 168.0
        stop = trial.course.stop[i]
        share = given.amount / planned.amount[: given.time.size]
        assert (share[~late] == 1.0).all()
        assert np.isin(share[late], (0.75, 0.5) if acted and stop > 168.0 else (1.0, 0.75, 0.5)).all()
    columns = outcome_columns(setting, trial)
    assert (columns["dose.reductions"][high][acts & ~(trial.course.stop[high] < 168.0)] >= 1).mean() > 0.9
    assert np.array_equal(samples.time, trial.samples["hot"].time)


def test_a_rule_that_never_fires_leaves_every_bit(write_study):
    never = RULE.replace("grade 3", "grade 4").replace("every 7 d", "every 1 d")
    plain, setting = of(write_study(TEST)), of(write_study(TEST, ruled(never)))
    a, b = (outcome_columns(s, simulate_trial(s, range(3))) for s in (plain, setting))
    assert np.isnan(b.pop("adjusted.day")).all()
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_protocol_without_tests_has_the_columns_it_had(setting):
    columns = outcome_columns(setting, simulate_trial(setting, range(1)))
    assert not [name for name in columns if name.startswith(("lab.", "dose.", "liver."))]
    assert "laboratory" not in setting.protocol.to_dict()


def test_tests_and_rules_do_not_depend_on_the_batch(write_study):
    setting = of(write_study(TEST, ruled(RULE)))
    whole, part = simulate_trial(setting, range(3)), simulate_trial(setting, [1])
    a, b = outcome_columns(setting, whole), outcome_columns(setting, part)
    mine = a["replicate"] == 1
    for name in a:
        np.testing.assert_array_equal(a[name][mine], b[name], err_msg=name)
    p, q = (toxicity.potential(setting, t) for t in (whole, part))
    same = p["replicate"] == 1
    np.testing.assert_array_equal(p["value"][same], q["value"])


def test_the_same_people_under_every_arm(write_study):
    """Arms of one regimen, one with a rule: before the rule can act they are the same people to the last bit, and the
    shares of the table are those of the samples of everybody in that arm."""
    low = "  low: {regimen: [{amount: 200 mg, into: depot, every: 12 h, for: 14 d}]}"
    twin = "  low:\n    rules: [%s]\n    regimen:\n"
    high = low.replace("low", "free").replace("200", "500")
    made = (low, high + "\n" + (twin % RULE) + "      - {amount: 500 mg, into: depot, every: 12 h, for: 14 d}")
    path = write_study(TEST, made, ("size: 6", "size: 4"), ("[low, high]", "[low, free, high]"))
    setting = of(path)
    trial = simulate_trial(setting, range(3))
    table = toxicity.potential(setting, trial)
    arms = list(setting.protocol.arms)

    def value(arm: str, measure: str, test: str = "hot") -> np.ndarray:
        rows = (table["arm"] == arms.index(arm)) & (table["measure"] == measure) & (table["test"] == test)
        return table["value"][rows]

    np.testing.assert_array_equal(value("free", "cycle1 3"), value("low", "cycle1 3"))
    assert (value("low", "cycle2 3") <= value("free", "cycle2 3")).all()
    assert value("low", "cycle2 3").sum() < value("free", "cycle2 3").sum()
    assert (value("low", "intensity", "") < 1).all()


def test_a_grade_is_an_endpoint(write_study):
    """Counts of the analysis are those of the samples, the time is that of the first such sample, the true mean is that
    of everybody under the arm."""
    endpoints = (
        "  any: {event: [sick, ache], as: incidence}",
        "  any: {event: [sick, ache], as: incidence}\n  hot3: {event: hot, as: incidence, at_least: 3}\n"
        "  when3: {event: hot, as: time_to_event, at_least: 3}",
    )
    estimand = (
        "analyses:\n",
        "  lab: {endpoint: hot3, compare: [high], against: low, summary: risk_difference, strategies: {stopped: "
        "treatment_policy}}\n  time: {endpoint: when3, compare: [high], against: low, summary: hazard_ratio, "
        "strategies: {stopped: treatment_policy}}\nanalyses:\n  lab: {method: newcombe}\n  time: {method: cox}\n",
    )
    setting = of(write_study(TEST, ruled(RULE), endpoints, estimand))
    trial = simulate_trial(setting, range(3))
    columns, table = outcome_columns(setting, trial), trial.analyses
    rows = np.array(table["analysis"]) == "lab"
    for code, name in ((2, "treated"), (1, "control")):
        count = [((columns["lab.hot.worst"] >= 3) & (columns["arm"] == code) & (columns["replicate"] == r)).sum()
                 for r in range(3)]  # fmt: skip
        assert table[f"x_{name}"][rows].tolist() == count
        assert sum(count) > 0
    hit = columns["lab.hot.worst"] >= 3
    sample = trial.samples["hot"]
    first = np.where(sample.grade[:, 1:] >= 3, sample.time[:, 1:], np.inf).min(axis=1) / 24
    np.testing.assert_allclose(columns["time.when3.time"][hit], first[hit])
    assert (columns["time.when3.cause"][hit] == 1).all()
    truth, alike = potential(setting, trial), toxicity.potential(setting, trial)
    mean = truth["mean"][(np.array(truth["analysis"]) == "lab") & (np.array(truth["arm"]) == "high")]
    share = alike["value"][(alike["arm"] == 2) & (alike["measure"] == "worst 3") & (alike["test"] == "hot")]
    np.testing.assert_allclose(mean, share)


def test_relative_dose_intensity_by_hand(write_study):
    """No missed dose; everybody three quarters from day 4, half a week later from day 8: 200 mg twice daily for 14 days
    is 5600 mg over 14 days. Given before the last visit, on day 14: 8 doses of 200, 8 of 150 to day 7.5, 5 from day 11.5
    to 13.5. In a trial of which day 4.1 is the last day, 9 planned doses: 8 of 200, 1 of 150."""
    rules = "{at: [4 d], do: {levels: [0.75]}}, {at: [8 d], do: {delay: 3.5 d}}"
    low = "  low: {regimen: [{amount: 200 mg, into: depot, every: 12 h, for: 14 d}]}"
    made = low.replace("{regimen", f"{{rules: [{rules}], regimen")
    path = write_study(
        TEST, (low, made), ("adherence: {kind: markov, miss_after_taken: 0.05, miss_after_missed: 0.4}\n", ""),
        ("after: grade 3", "after: grade 5"), ("hazard: 0.01 1/d", "hazard: 0 1/d"),
    )  # fmt: skip
    setting = of(path)
    columns = outcome_columns(setting, simulate_trial(setting, range(2)))
    low_arm = columns["arm"] == 1
    given = 8 * 200 + 13 * 150
    np.testing.assert_allclose(columns["dose.share"][low_arm], given / 5600)
    np.testing.assert_allclose(columns["dose.intensity"][low_arm], (given / 14) / (5600 / 14))
    assert (columns["dose.reductions"][low_arm] == 1).all()
    assert (columns["dose.delays"][low_arm] == 1).all()
    assert (columns["dose.intensity"][columns["arm"] == 2] == 1).all()
    assert np.isnan(columns["dose.intensity"][columns["arm"] == 0]).all()
    people = simulate_trial(setting, range(1)).people
    brief = replace(people, times=people.times * (4.1 / 14))
    found = dose_course.dose_course(setting, brief, follow(setting, people), np.full(people.arm.size, np.inf))
    np.testing.assert_allclose(found.share[people.arm == 1], (8 * 200 + 150) / (9 * 200))
    np.testing.assert_allclose(found.intensity[people.arm == 1], (8 * 200 + 150) / (9 * 200))


def test_rescue_and_another_treatment_are_no_doses_of_the_plan(write_study):
    """All doses taken: low goes over to high when sick, everybody is rescued; of its 28 doses each counts that comes
    before the switch, and nothing that was added."""
    over = "over: {switch: {from: [low], to: high, after: sick}}"
    more = "more: {rescue: {measure: FEV1, below: 9 L, at: day7, regimen: [{amount: 400 mg, into: depot, every: 12 h, for: 5 d}]}}"
    setting = of(write_study(
        TEST, ("adherence: {kind: markov, miss_after_taken: 0.05, miss_after_missed: 0.4}\n", ""),
        ("stopped: {after: grade 3}", f"stopped: {{after: grade 5}}, {over}, {more}"), ("hazard: 0.01 1/d", "hazard: 0 1/d"),
        ("stopped: treatment_policy", "stopped: treatment_policy, over: treatment_policy, more: treatment_policy"),
        ("stopped: while_on_treatment", "stopped: while_on_treatment, over: treatment_policy, more: treatment_policy"),
    ))  # fmt: skip
    trial = simulate_trial(setting, range(3))
    columns, low = outcome_columns(setting, trial), trial.people.arm == 1
    over_at = trial.course.changed["over"][low]
    assert 0 < np.isfinite(over_at).sum() < low.sum()
    assert np.isfinite(trial.course.changed["more"][low]).any()
    given = np.minimum(np.ceil(over_at / 12), 28)
    np.testing.assert_allclose(columns["dose.share"][low], given / 28)
    np.testing.assert_allclose(columns["dose.intensity"][low], 1.0)


def test_lasting_is_longer_than_between_straight_lines(write_study):
    """Of samples at days 0, 3.5, 7: time above 5 x ULN by straight lines, worked out segment by segment."""
    setting = of(write_study(TEST))
    trial = simulate_trial(setting, range(2))
    samples = trial.samples["hot"]
    rows = np.flatnonzero(~np.isnan(samples.value[:, :3]).any(axis=1))
    hours = np.zeros(rows.size)
    for k, i in enumerate(rows):
        edge = 5 * samples.uln[i]
        x = samples.value[i, :3] - edge
        for a, b in ((0, 1), (1, 2)):
            up = max(x[a], 0.0) + max(x[b], 0.0)
            hours[k] += 84.0 * up / (abs(x[a]) + abs(x[b]))
    window = np.zeros(rows.size), np.full(rows.size, 168.0)
    limit = float(np.median(hours[hours > 0]))
    hit, _ = toxicity.sampling.met(samples, (3, "worst", limit), rows, window)
    np.testing.assert_array_equal(hit, hours > limit)
    assert 0 < hit.sum() < rows.size


def test_lasting_counts_the_time_between_a_decision_and_the_next_sample():
    """Samples at days 0, 3, 7, 10, some missing, decisions at days 5 and 9: the time between them at grade 4, by the
    course on a fine grid, which ends with the last sample; the last sample before day 5 belongs to the first line."""
    text = Laboratory(measure="ANC", term="Neutrophil count decreased", unit="10^9/L", lln=2.0)
    test = Opened(name="anc", text=text, column="ANC", factor=1.0, term=text.term, soc="", low=True, times=None,
                  visits=(1, 2, 3))  # fmt: skip
    n, days = 200, np.array([0.0, 3.0, 7.0, 10.0])
    value = 0.5 + 0.4 * normals(3, Purpose.LABORATORY, subject=np.arange(n)[:, None], replicate=np.arange(4))
    value[:30, 1], value[30:60, 2] = np.nan, np.nan
    samples = Samples(
        test=test, time=np.tile(days * 24, (n, 1)), value=value, grade=np.where(np.isnan(value), -1, 0).astype(np.int8),
        lln=np.full(n, 2.0), uln=np.full(n, np.nan),
    )  # fmt: skip
    grid = np.arange(5.0, 7.0, 1e-3) + 5e-4
    known = ~np.isnan(value[:, :3])
    hours = np.array(
        [(np.interp(grid, days[:3][k], x[:3][k]) < 0.5).mean() * 48 for x, k in zip(value, known, strict=True)]
    )
    hours[~known[:, 2]] = 0.0  # no sample since day 5: no line
    window = np.full(n, 120.0), np.full(n, 216.0)
    for limit in (1.0, 12.0, 36.0):
        hit, _ = toxicity.sampling.met(samples, (4, "worst", limit), np.arange(n), window)
        clear = np.abs(hours - limit) > 0.2
        np.testing.assert_array_equal(hit[clear], hours[clear] > limit)
        assert 20 < hit.sum() < n - 20


def test_liver_columns_are_those_of_the_liver_module():
    """300 subjects of random courses with gaps: every column against `liver.liver` called on all visits."""
    rng = np.random.default_rng(8)
    n, s = 300, 9
    time = np.broadcast_to(np.arange(s) * 336.0, (n, s))
    tests, seen = {}, {}
    for name, term, top in (("a", "alt", 1.0), ("b", "bilirubin", 0.4), ("p", "alp", 0.3)):
        full = {"alt": "Alanine aminotransferase increased", "bilirubin": "Blood bilirubin increased",
                "alp": "Alkaline phosphatase increased"}[term]  # fmt: skip
        text = Laboratory(measure="X", term=full, uln=2.0)
        tests[name] = Opened(name=name, text=text, column="X", factor=1.0, term=full, soc="", low=False, times=None,
                             visits=tuple(range(1, s)))  # fmt: skip
        value = 2.0 * np.exp(rng.normal(0.0, 1.0, (n, s)) * top + rng.normal(0.4, 0.6, (n, 1)))
        value[rng.random((n, s)) < 0.2] = np.nan
        seen[name] = Samples(test=tests[name], time=time, value=value, grade=np.zeros((n, s), np.int8),
                             lln=np.full(n, np.nan), uln=np.full(n, 2.0))  # fmt: skip
    found = toxicity._liver(tests, seen)
    who = np.repeat([f"{k:04d}" for k in range(n)], s - 1)
    flat = {k: seen[k].value[:, 1:].reshape(-1) / 2.0 for k in seen}
    want = liver(who, (time[:, 1:] / 24).reshape(-1), alt=flat["a"], bilirubin=flat["b"], alp=flat["p"])
    assert {-1, 0, 1} <= set(want.hy.tolist())
    np.testing.assert_array_equal(found["hy"], want.hy)
    np.testing.assert_array_equal(found["quadrant"], want.quadrant)
    np.testing.assert_array_equal(found["hy_day"], want.day)


def test_bounds_begin_the_grades_of_every_term():
    """For every term, unit and grade: just beyond the bound the grade is reached, on the other side it is not."""
    checked = 0
    for version in ("5.0", "4.03"):
        for row in grading.lab_terms(version):
            for base in {"normal": (1.0,), "abnormal": (9.0,)}.get(row.baseline, (1.0,)):
                low = row.direction == "low"
                limits = {"lln": 1.0, "uln": 4.0, "baseline": base if not low or row.baseline == "any" else 1.0 / base}
                options = {**limits, "unit": None if row.unit == "x" else row.unit, "version": version}
                for level in (1, 2, 3, 4):
                    if not row.grades[level - 1]:
                        continue
                    edge = float(grading.bound(row.term, level, **options))
                    inside, outside = (
                        (edge * (1 - 1e-6), edge * (1 + 1e-6)) if low else (edge * (1 + 1e-6), edge * (1 - 1e-6))
                    )
                    assert grading.grade(row.term, inside, **options) >= level, (row.term, level)
                    assert grading.grade(row.term, outside, **options) < level, (row.term, level)
                    checked += 1
    assert checked > 180


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("term: ALT, uln: {SEX", "term: ALTT, uln: {SEX", r"laboratory.*term: has no numeric criteria"),
        ("measure: CP", "measure: CQ", r"laboratory.hot.measure: unknown output of the model"),
        ("uln: 4}", "uln: 4, lln: 4}", r"laboratory.bare.uln: must lie above lln.*a number above 4"),
        ("at: every 3.5 d", "at: every 30 s", r"laboratory.hot.at: are 40320 samples, more than 5000"),
        ("at: every 3.5 d", "at: [3 d, 3 d]", r"laboratory.hot.at: samples are at least a minute apart"),
        ("cycles: every 7 d", "cycles: [0 d, 5 d]", r"laboratory.hot.cycles: begin after the first, each once"),
        ("cycles: every 7 d", "cycles: [50 d]", r"laboratory.hot.cycles: begin after .* before the last visit"),
        ("true: C,", "true: D,", r"laboratory.bare.true: unknown output"),
        ("true: C,", "true: central,", r"laboratory.bare.true: is integrated but no output is of it"),
        ("uln: 4}", "version: '5.0'}", r"laboratory.bare.uln: is missing"),
        ("{0: 1.5, 1: 2}", "{0: 1.5}", r"laboratory.hot.uln.SEX: has no limit for a category"),
        ("uln: {SEX", "uln: {SEY", r"unknown categorical covariate"),
        ("at: every 3.5 d", "at: dose", r"laboratory.hot.at: samples are at a period"),
        ("at: every 3.5 d", "at: [day8]", r"laboratory.hot.at"),
        ("cycles: every 7 d", "cycles: [day7]", r"laboratory.hot.cycles: cycles begin with doses"),
        ("measure: CP, term: ALT, uln: {SEX", "measure: CP, term: Hypokalemia, lln: {SEX", r"graded in mmol/L"),
        ("measure: CP,", "measure: CP, true: C,", r"needs either measure or true"),
        ("laboratory: hot", "laboratory: cold", r"rules.*laboratory: unknown laboratory test, got 'cold'"),
        ("lasting: grade 3", "lating: grade 3", r"lating"),
        (
            "event: sick, as: incidence",
            "event: hot, as: incidence, at_least: 5",
            r"endpoints.sick.at_least: no number gives",
        ),
    ],
)
def test_wrong_tests_are_refused_at_their_place(write_study, old, new, message):
    path = write_study(TEST, ruled(RULE))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=message) as caught:
        Protocol.read(path)
    assert caught.value.line is not None


def test_the_schema_knows_the_block():
    schema = json_schema()
    names = schema["$defs"]["Laboratory"]["properties"]
    assert {"measure", "true", "term", "uln", "lln", "at", "cycles", "lasting"} <= set(names)
    assert {"levels", "lowest", "resume", "longest"} <= set(schema["$defs"]["Action"]["properties"])
