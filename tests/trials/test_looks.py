"""Interim looks at patient level. Witnesses: the exact recursion of `trials.designs` (rpact's numbers witness it in
tests/trials/designs), identities (the last look is the final analysis, what comes later changes nothing), cases by hand.
"""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from trials import design
from trials.data_cut import INSTANT, as_of, end_of_follow_up
from trials.designs.characteristics import passage
from trials.designs.inference import drift_at, exceedance, ordering
from trials.designs.sequential import boundaries
from trials.endpoints import analyse
from trials.enrolment import entries
from trials.looks import closing, conducted, hours_of
from trials.observed import Observed
from trials.protocol import Protocol
from trials.selecting import redealt
from trials.setting import opened
from trials.stopping import Statistic, adapted, exact, plan_of
from trials.trial import outcome_columns, simulate_trial

HEAD = """
vtrial: protocol/1
name: looks
model: {file: model.yaml}
seed: 3
replicates: 3
population: {law: nhanes_adults}
subjects: 120
arms: {none: {regimen: []}, drug: {regimen: []}, more: {regimen: []}}
allocation: {method: permuted_block, size: 6}
visits: {start: {day: 0}, last: {day: 28}}
endpoints:
  y: {output: Y, at: last, as: value}
  os: {event: death, as: time_to_event}
  seen: {event: death, as: incidence}
estimands:
  means: {endpoint: y, compare: drug, against: none, summary: mean_difference}
  arms: {endpoint: y, compare: [drug, more], against: none, summary: mean_difference}
  times: {endpoint: os, compare: drug, against: none, summary: hazard_ratio}
  risk: {endpoint: seen, compare: drug, against: none, summary: risk_difference}
analyses:
  means: {method: ancova, alpha: 0.025, side: greater, multiplicity: none}
  arms: {method: ancova, alpha: 0.025, side: greater, multiplicity: none}
  times: {method: logrank, alpha: 0.025, side: less}
  risk: {method: miettinen_nurminen}
enrolment: {sites: 8, rate: 0.1 1/d, cv: 0.5}
"""
MEANS = """interims:
  analysis: means
  looks: [0.5, 1]
  efficacy: {family: pocock}
"""
EVENTS = """interims:
  analysis: times
  of: events
  looks: [20, 40]
  efficacy: {spending: lan_demets_obrien_fleming}
"""
ARMS = """interims:
  analysis: arms
  looks: [0.5, 1]
  efficacy: {family: pocock}
  select: {choice: best, threshold: 0, success: any}
"""


def parsed(text: str) -> Protocol:
    return Protocol.parse(text, complete=False)


def trial(protocol: Protocol, count: int, effect: float = 0.0, *, arms: int = 2) -> Observed:
    """Outcomes of stated laws: Y normal with `effect` per arm code at the last visit, deaths with hazard 1/40 d."""
    shape, rng = (count, protocol.subjects), np.random.default_rng(5)
    names = np.arange(count, dtype=np.uint32)
    found = entries(protocol.enrolment, shape[1], seed=protocol.seed, replicate=names)
    ratios, none = [1] * arms + [0] * (3 - arms), np.full(shape, np.inf)
    arm = design.permuted_blocks(np.zeros(shape, int), ratios, size=6, seed=3, replicate=names).astype(np.int64)
    y, death = rng.normal(size=(*shape, 2)), rng.exponential(40 * 24.0, shape)
    y[:, :, 1] += effect * arm
    ended = np.where(death <= 28 * 24, death, np.inf)
    return Observed(
        replicate=names, arm=arm, stratum=np.zeros(shape, np.int64), outputs={"Y": y}, onset={"death": ended},
        times=np.broadcast_to(np.array([0.0, 28 * 24]), (*shape, 2)).copy(), stop=none, leave=none, ended=ended,
        grade={"death": np.isfinite(ended).astype(np.int8)}, failed=np.zeros(shape, np.bool_), number={},
        entry=found.time, site=found.site, region=found.region,
    )  # fmt: skip


def test_a_look_after_the_last_day_is_the_final_analysis() -> None:
    """Identity, bit for bit, of every analysis; and as of the first entry there is one subject."""
    protocol = parsed(HEAD)
    seen = trial(protocol, 20, 0.3)
    whole, late = analyse(protocol, seen), analyse(protocol, as_of(seen, end_of_follow_up(seen)))
    assert all(np.array_equal(whole[name], late[name], equal_nan=whole[name].dtype.kind == "f")
               for name in whole if isinstance(whole[name], np.ndarray))  # fmt: skip
    assert ((as_of(seen, seen.entry[:, 0]).arm >= 0).sum(axis=1) == 1).all()


@pytest.mark.parametrize("text", [MEANS, EVENTS, ARMS])
def test_a_look_sees_nothing_of_what_comes_later(text: str) -> None:
    """Identity: other values, events and leavings after the first look's hour leave its row as it is, bit for bit."""
    protocol = parsed(HEAD + text)
    seen = trial(protocol, 20, 0.3, arms=3 if text == ARMS else 2)
    hours, _, _ = hours_of(protocol, protocol.interims, seen)
    cut = hours[:, :1] - seen.entry
    later = seen.times > cut[:, :, None]
    moved = {"Y": np.where(later, seen.outputs["Y"] + 100 * seen.arm[:, :, None], seen.outputs["Y"])}
    known = (seen.ended <= cut) | (cut > 28 * 24 - 2.0)
    dies = np.where(known, seen.ended, np.maximum(cut, 0) + 2.0)
    other = replace(seen, outputs=moved, onset={"death": dies}, grade={"death": np.ones(dies.shape, np.int8)})
    first, second = (conducted(protocol, each, lambda arm, e=each: replace(e, arm=arm)).looks for each in (seen, other))
    row = first["look"] == 1
    assert row.any()
    assert all(np.array_equal(first[name][row], second[name][row], equal_nan=True)
               for name in ("day", "enrolled", "information", "z", "estimate"))  # fmt: skip
    assert not np.array_equal(first["z"][~row], second["z"][~row], equal_nan=True)


def test_a_visit_not_yet_due_is_neither_a_response_nor_a_failure() -> None:
    """Half way, an incidence counts those whose follow-up is complete, with or without the event."""
    protocol = parsed(HEAD)
    seen = trial(protocol, 5)
    hour = np.sort(seen.entry, axis=1)[:, 60] + 28 * 24 + INSTANT
    table = analyse(protocol, as_of(seen, hour))
    rows = np.array(table["analysis"]) == "risk"
    assert (table["n_control"][rows] + table["n_treated"][rows] == 61).all()


def test_looks_at_events_come_with_the_event() -> None:
    """The 20th and the 40th death, no more and no fewer; the data cut comes first where it is earlier."""
    protocol = parsed(HEAD + EVENTS)
    seen = trial(protocol, 30)
    looks = conducted(protocol, seen, lambda arm: seen).looks
    for number, events in ((1, 20), (2, 40)):
        assert (looks["information"][looks["look"] == number] == events).all()
    cut = parsed(HEAD + "data_cut: {day: 60}\n")
    assert (closing(cut, seen) == np.minimum(60 * 24, end_of_follow_up(seen))).all()
    by_events = parsed(HEAD + "data_cut: {events: 20, analysis: times}\n")
    assert (closing(by_events, seen) / 24 == looks["day"][looks["look"] == 1]).all()


@pytest.mark.parametrize("effect", [0.0, 0.4])
def test_stop_probabilities_are_those_of_the_recursion(effect: float) -> None:
    """600 trials within 3.5 standard errors of the exact law (z known; t statistics are turned into z by their p)."""
    check(parsed(HEAD + MEANS + "  futility: {z: [0]}\n"), 600, effect)


def check(protocol: Protocol, count: int, effect: float) -> None:
    seen = trial(protocol, count, effect)
    looks = conducted(protocol, seen, lambda arm: seen).looks
    end, plan = looks["ended"], plan_of(protocol.interims, protocol.analyses["means"])
    exact = passage(boundaries(plan), effect * np.sqrt(protocol.subjects / 4))
    for k in range(len(plan.information)):
        here = looks["look"][end] == k + 1
        for probability, flags in (
            (exact.reject[k], here & (looks["decision"][end] == 1)),
            (exact.futile[k], here & (looks["decision"][end] > 1)),
        ):
            error = np.sqrt(probability * (1 - probability) / count)
            assert abs(flags.mean() - probability) < 3.5 * error, (k, flags.mean(), probability)
    assert np.isfinite(looks["unbiased"][end]).all()
    assert ((looks["p"][end] <= 0.025) == (looks["decision"][end] == 1)).all()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["{family: pocock}", "{spending: lan_demets_obrien_fleming}"])
def test_type_one_error_at_20000_null_trials(family: str) -> None:
    """Type I error within 3 MCSE of 0.025; median-unbiased, and exact limits that cover, within 3.5 MCSE."""
    protocol = parsed(HEAD + MEANS.replace("{family: pocock}", family).replace("[0.5, 1]", "[0.4, 0.7, 1]"))
    for effect in (0.0, 0.35):
        looks = conducted(protocol, trial(protocol, 20_000, effect), lambda arm: pytest.fail("nobody is dropped")).looks
        end = looks["ended"]
        if effect == 0:
            assert abs((looks["decision"][end] == 1).mean() - 0.025) < 3 * np.sqrt(0.025 * 0.975 / 20_000)
        assert abs((looks["unbiased"][end] > effect).mean() - 0.5) < 3.5 * 0.5 / np.sqrt(20_000)
        inside = (looks["lower"][end] <= effect) & (effect <= looks["upper"][end])
        assert abs(inside.mean() - 0.95) < 3.5 * np.sqrt(0.95 * 0.05 / 20_000) + 0.002  # t, not z


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["{choice: best, threshold: 0}", "{choice: all}", "{choice: within, epsilon: 0.1}"])
def test_family_wise_error_of_selection(choice: str) -> None:
    """No arm differs: at least one rejection in 0.025 + 3 MCSE of 10,000 trials at most, whatever is selected."""
    protocol = parsed(HEAD + ARMS.replace("{choice: best, threshold: 0, success: any}", choice))
    seen = trial(protocol, 10_000, arms=3)
    looks = conducted(protocol, seen, lambda arm: replace(seen, arm=arm)).looks
    reject = looks["reject"].reshape(-1, 2, 2)[:, 0].any(axis=1)
    assert reject.mean() < 0.025 + 3 * np.sqrt(0.025 * 0.975 / 10_000)


def test_bounds_for_other_counts_spend_alpha_once() -> None:
    """By the recursion: whatever the counts, the error under no effect is alpha; equal counts keep the plan's bounds."""
    plan = plan_of(parsed(HEAD + EVENTS).interims, parsed(HEAD + EVENTS).analyses["times"])
    whole = boundaries(plan)
    assert (adapted(plan, (20, 40), (20, 40)).upper == whole.upper).all()
    for counts in ((20, 33), (12, 40), (25, 41)):
        found = adapted(plan, counts, (20, 40))
        seen = replace(found, information=np.array(counts) / counts[-1])
        assert passage(seen, 0.0).power == pytest.approx(0.025, abs=1e-9)
    one = adapted(plan, (0, 17), (20, 40))  # the first look was not held
    assert one.upper[0] == np.inf
    assert one.upper[1] == pytest.approx(1.959964, abs=1e-6)


@pytest.mark.parametrize(("events", "z"), [(0, None), (1, 1.0)])
@pytest.mark.parametrize("futility", ["", "  futility: {z: 0, binding: yes}\n"])
def test_a_trial_with_hardly_an_event_ends_without_a_result(events: int, z: float | None, futility: str) -> None:
    """By hand: no event, no statistic and nothing rejected; one event among equals at risk, |z| = 1 at 1.96. The other
    trials of the batch are as they were.
    """
    protocol = parsed(HEAD + EVENTS + futility)
    seen = trial(protocol, 3)
    quiet = seen.ended.copy()
    quiet[0, np.flatnonzero(np.isfinite(quiet[0]))[events:]] = np.inf
    few = replace(seen, ended=quiet, onset={"death": quiet}, grade={"death": np.isfinite(quiet).astype(np.int8)})
    found, whole = (conducted(protocol, each, lambda arm, e=each: e) for each in (few, seen))
    last = np.flatnonzero(found.looks["replicate"] == 0)[-1]
    assert found.looks["information"][last] == events
    assert found.looks["decision"][last] == 4  # not shown
    assert abs(found.looks["z"][last]) == pytest.approx(1.0, abs=0.02) if z else np.isnan(found.looks["z"][last])
    assert found.looks["upper_bound"][last] == (pytest.approx(1.959964) if z else np.inf)
    assert not found.analyses["reject"][np.array(found.analyses["analysis"]) == "times"][0]
    rest = found.looks["replicate"] > 0
    assert np.array_equal(found.looks["p"][rest], whole.looks["p"][rest], equal_nan=True)


def test_exact_inference() -> None:
    """Identities: p at a critical value is the alpha spent by then; one look is the normal test; a drift is found again."""
    bounds = boundaries(plan_of(parsed(HEAD + EVENTS).interims, parsed(HEAD + EVENTS).analyses["times"]))
    order = ordering((0.5, 1.0), bounds.upper, (-np.inf, -np.inf), sides=1)
    for k in (0, 1):
        at_bound = exceedance(order, k, bounds.upper[[k]], np.zeros(1))
        assert at_bound == pytest.approx(bounds.alpha_spent[[k]], abs=1e-9)
    z = np.array([-1.0, 0.5, 2.7])
    assert drift_at(order, 0, z, 0.025) == pytest.approx(z - 1.959964, abs=1e-6)
    back = drift_at(order, 1, z, 0.3)
    assert exceedance(order, 1, z, back) == pytest.approx(np.full(3, 0.3), abs=1e-9)
    assert (back[2] - z[2]) < drift_at(order, 0, z, 0.3)[2] - z[2]  # it went on: the first look was no success


RPACT = """getAnalysisResults(getDesignGroupSequential(kMax=3, informationRates=c(.5,.75,1), alpha=.025, typeOfDesign="asOF"),
getDataset(cumEvents=EV, cumLogRanks=-Z, cumAllocationRatios=rep(1, stage)), directionUpper=FALSE, stage=STAGE): final p,
final interval, median-unbiased estimate, repeated interval; rpact 3.3.4, R 4.2; EV the first STAGE of 60, 90, 120"""
AFTER = [
    (1, 3.1, 0.0009676032, 0.2707722864, 0.7450111953, 0.4491418314, 0.2090141141, 0.9651424372),
    (2, 2.6, 0.0053790036, 0.3835512022, 0.8810235354, 0.5806775908, 0.3515325735, 0.9504654945),  # z 1.5 before
    (3, 2.2, 0.0180984938, 0.4712863223, 0.9748704314, 0.6763727934, 0.4632988890, 0.9666260968),  # z 1.5, 1.9 before
    (3, 1.2, 0.1153342771, 0.5616999277, 1.1491848250, 0.8034052409, 0.5560990238, 1.1602443910),  # z 0.5, 0.9 before
]


@pytest.mark.parametrize("row", AFTER)
def test_inference_as_rpact(row: tuple[float, ...]) -> None:
    """Stage-wise p, limits and median-unbiased hazard ratio, repeated interval (2e-6: rpact's tolerance is 1e-6)."""
    stage, z, *expected = row
    text = EVENTS.replace("[20, 40]", "[60, 90, 120]")
    bounds = boundaries(plan_of(parsed(HEAD + text).interims, parsed(HEAD + text).analyses["times"]))
    se = 2 / np.sqrt((60, 90, 120)[int(stage) - 1])
    seen = Statistic(z=np.array([[z]]), effect=np.array([[z * se]]), se=np.array([[se]]))
    found = exact(bounds, (60, 90, 120), np.array([int(stage) - 1]), seen)
    ratios = (found.upper, found.lower, found.unbiased, found.repeated_upper, found.repeated_lower)
    assert [found.p[0], *(float(np.exp(-effect[0])) for effect in ratios)] == pytest.approx(expected, abs=2e-6)


def test_a_look_stays_where_it_was_when_arms_are_dropped() -> None:
    """With an arm that is not compared, who comes later changes the number of subjects compared; the first look was
    held before, and every subject counts in one stage.
    """
    four = HEAD.replace("more: {regimen: []}", "more: {regimen: []}, other: {regimen: []}").replace(
        "size: 6", "size: 8"
    )
    protocol = parsed(four + ARMS)
    seen = trial(parsed(HEAD), 20, 0.2, arms=3)
    seen = replace(seen, arm=np.argsort(np.random.default_rng(1).random(seen.arm.shape), axis=1) % 4)
    hours, _, wanted = hours_of(protocol, protocol.interims, seen)
    looks = conducted(protocol, seen, lambda arm: replace(seen, arm=arm)).looks
    first = looks["look"] == 1
    assert np.array_equal(looks["day"][first], np.repeat(hours[:, 0] / 24.0, 2))
    assert np.array_equal(looks["information"][first], np.repeat(wanted[:, 0], 2))


def test_dropped_arms_get_nobody_else() -> None:
    """Earlier entrants keep their arms, later ones are dealt in balanced blocks to what is left."""
    protocol = parsed(HEAD + ARMS)
    seen = trial(protocol, 4, arms=3)
    arms = np.array([[True, True, False], [True, True, True], [True, False, True], [True, True, False]])
    later = seen.entry > np.sort(seen.entry, axis=1)[:, 59, None]
    found = redealt(protocol, seen, (arms, later, 0))
    assert (found[~later] == seen.arm[~later]).all()
    assert (found[1] == seen.arm[1]).all()
    counts = np.stack([(found[[0, 2, 3]] == a) & later[[0, 2, 3]] for a in range(3)]).sum(axis=2)
    assert counts.T.tolist() == [[30, 30, 0], [30, 0, 30], [30, 30, 0]]


WRONG = [
    ("fractions", MEANS.replace("[0.5, 1]", "[0.5, 0.4, 1]"), "interims.looks", "must increase"),
    ("end", MEANS.replace("[0.5, 1]", "[0.5, 0.9]"), "interims.looks", "must be 1"),
    ("twice", MEANS.replace("{family: pocock}", "{family: pocock, spending: kim_demets}"), "interims.efficacy", "twice"),
    ("given", MEANS.replace("{family: pocock}", "{spending: given, cumulative: [0.01, 0.05]}"),
     "interims.efficacy.cumulative", "must end at 0.025"),
    ("several", MEANS.replace("means", "arms"), "interims.analysis", "alpha would be spent on each"),
    ("arm", ARMS.replace("choice: best", "choice: best, arms: [drug, missing]"), "interims.select.arms", "unknown arm"),
    ("apart", ARMS.replace("choice: best", "choice: best, arms: [none]"), "interims.select.arms", "cannot be dropped"),
    ("early", MEANS.replace("{family: pocock}", "{spending: kim_demets, shape: 2}") + "  days: [20]\n",
     "interims.days", "nobody's y is measured by then"),
    ("cut", "data_cut: {day: 25}\n", "data_cut.day", "nobody's y is measured by then"),
    ("events", EVENTS.replace("times", "means"), "interims.of", "counts no events"),
    ("subjects", EVENTS.replace("of: events", "of: subjects").replace("[20, 40]", "[0.5, 1]"), "interims.of",
     "is not in subjects"),
    ("many", EVENTS.replace("[20, 40]", "[0.5, 1]\n  maximum: 500"), "interims.maximum", "more events than"),
    ("analysis", MEANS.replace("means", "nothing"), "interims.analysis", "unknown analysis"),
    ("caps", "", "enrolment.site_cap", "room for 80 of 120"),
    ("regions", "", "enrolment.regions", "must sum to 1"),
    ("calendar", MEANS, "interims", "needs enrolment"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "field", "problem"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_what_cannot_be_done_is_refused(request: pytest.FixtureRequest, text: str, field: str, problem: str) -> None:
    """One error that names line and field."""
    name = request.node.callspec.id
    head = HEAD.replace(
        "cv: 0.5", {"caps": "site_cap: 10", "regions": "regions: {a: {share: 0.5}}"}.get(name, "cv: 0.5")
    )
    if name == "calendar":
        head = "\n".join(line for line in head.splitlines() if not line.startswith("enrolment")) + "\n"
    with pytest.raises(InputError) as caught:
        parsed(head + text)
    assert caught.value.field == field
    assert problem in caught.value.problem
    assert caught.value.line is not None


def test_entries_have_addresses_and_keep_caps() -> None:
    """Subject s is the s-th to come: more subjects or other replicates change nobody; no cap is passed."""
    plan = dataclasses.replace(
        parsed(HEAD.replace("cv: 0.5", "cv: 1, site_cap: 30, regions: {a: {share: 0.5, cap: 50}, b: {share: 0.5}}")).enrolment,
        ramp_up=240.0,
    )  # fmt: skip
    whole = entries(plan, 120, seed=1, replicate=np.arange(6, dtype=np.uint32))
    part = entries(plan, 40, seed=1, replicate=np.array([4], np.uint32))
    assert (whole.time[4, :40] == part.time[0]).all()
    assert (whole.site[4, :40] == part.site[0]).all()
    assert (np.diff(whole.time, axis=1) >= 0).all()
    assert max(np.bincount(row).max() for row in whole.site) <= 30
    assert (whole.region == 0).sum(axis=1).max() <= 50
    assert (whole.region == (whole.site >= 4)).all()


def test_a_small_study_of_patients_is_the_same_in_any_block(write_study) -> None:
    """Selection of arms, data cut and looks: outcome and look tables of a replicate do not depend on its batch."""
    from trials.run import prepare

    path = write_study(
        ("compare: [low, high]\n    against: placebo\n    summary: mean", "compare: [low, high]\n    against: placebo\n    summary: mean"),
        ("missing: {method: multiple_imputation, imputations: 3}", "multiplicity: none\n    side: greater\n    alpha: 0.2"),
        ("keep:", "enrolment: {sites: 4, rate: 0.2 1/d, cv: 1, opening: [0 d, 10 d]}\ninterims: {analysis: primary, looks: [0.5, 1],"
         " efficacy: {spending: kim_demets, shape: 2}, select: {choice: best}}\nkeep:"),
    )  # fmt: skip
    setting = opened(prepare(path).variants["main"].payload)
    whole = simulate_trial(setting, range(4))
    columns = outcome_columns(setting, whole)
    assert (columns["replicate"] >= 0).all()
    for first, stop in ((0, 1), (1, 4)):
        part = simulate_trial(setting, range(first, stop))
        mine = (columns["replicate"] >= first) & (columns["replicate"] < stop)
        again = outcome_columns(setting, part)
        assert all(np.array_equal(columns[n][mine], again[n], equal_nan=columns[n].dtype.kind == "f") for n in columns)
        rows = (whole.looks["replicate"] >= first) & (whole.looks["replicate"] < stop)
        assert all(np.array_equal(whole.looks[n][rows], part.looks[n], equal_nan=True) for n in whole.looks)
    dropped = whole.looks["active"].reshape(4, 2, 2)[:, 1]
    assert (dropped.sum(axis=1) == 1).all()
    days = whole.looks["day"].reshape(4, 2, 2)[:, 0, 0]
    for r in range(4):
        late = (columns["replicate"] == r) & (columns["entry.day"] > days[r])
        gone = 2 if dropped[r, 0] else 1
        assert not (columns["arm"][late] == gone).any()


@pytest.mark.parametrize("text", [MEANS, ARMS])
def test_an_analysis_with_a_prior_is_not_looked_at(text: str) -> None:
    """z of a posterior is not the z of the bounds: without an effect its mean is not 0 and its sd not 1."""
    name = "arms" if text == ARMS else "means"
    line = f"  {name}: {{method: ancova, alpha: 0.025, side: greater, multiplicity: none"
    with pytest.raises(InputError, match="group-sequential") as caught:
        parsed((HEAD + text).replace(line, f"{line}, prior: {{at: 1, sd: 1}}"))
    assert caught.value.field == f"analyses.{name}.prior"
    assert caught.value.line is not None
    parsed(HEAD.replace(line, f"{line}, prior: {{at: 1, sd: 1}}"))
