"""One batch of trials against identities of pharmacokinetics and of trial conduct."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from pkpd.ground.units import Quantity
from pkpd.model.spec import Model
from trials.protocol import Adherence, Dropout, Protocol
from trials.quantification import Quantification, described, limit_of
from trials.rules import _observing
from trials.run import prepare
from trials.setting import Setting, opened
from trials.subject import dosing, follow
from trials.trial import curves, outcome_columns, potential, simulate_trial


def setting_of(path, **changes) -> Setting:
    """A study opened with some fields of its protocol changed."""
    payload = prepare(path).variants["main"].payload
    protocol = dataclasses.replace(payload.protocol, **changes)
    return opened(dataclasses.replace(payload, protocol=protocol, key=f"{payload.key}-{sorted(changes)}"))


@pytest.fixture(scope="module")
def trial(setting: Setting):
    return simulate_trial(setting, range(12))


def test_average_concentration_is_dose_over_clearance_and_interval(study, write_study):
    """Identity at steady state: C_av = dose/(CL tau); 14 d is 30 half-lives of the slowest subject here."""
    setting = setting_of(study, adherence=Adherence(), intercurrent={})
    trial = simulate_trial(setting, range(4))
    clearance = trial.people.parameters[:, list(setting.model.parameters).index("CL")]
    for arm, dose in ((0, 0.0), (1, 200.0), (2, 500.0)):
        rows = trial.people.arm == arm
        expected = dose / (clearance[rows] * 12)
        assert trial.course.values["CAV"][rows, 2] == pytest.approx(expected, rel=2e-3)


def test_response_is_the_models_equation(setting: Setting, trial):
    """FEV1 = BASE + SLOPE x CAV, computed by hand from the parameters."""
    names = list(setting.model.parameters)
    base, slope = (trial.people.parameters[:, [names.index(name)]] for name in ("BASE", "SLOPE"))
    assert trial.course.values["FEV1"] == pytest.approx(base + slope * trial.course.values["CAV"], rel=1e-14)


def test_a_grade_3_event_ends_treatment(setting: Setting, trial):
    """Nobody stops without one, everyone stops at the first; no dose is given from then on."""
    course = trial.course
    onsets = np.stack([np.where(course.grade[n] >= 3, course.onset[n], np.inf) for n in course.onset])
    assert np.isfinite(course.stop).sum() > 20
    assert (course.stop == onsets.min(axis=0)).all()
    stopped = np.flatnonzero(np.isfinite(course.stop) & (trial.people.arm == 2))
    events = dosing(setting, trial.people, (stopped, course.stop[stopped]))
    assert all(
        (events.time[a:b] < stop).all() for a, b, stop in zip(events.offsets, events.offsets[1:], course.stop[stopped])
    )
    early = stopped[course.stop[stopped] < 200]  # half-life about 8 h: nothing is left of the drug five days later
    assert early.size
    assert (course.values["CAV"][early, 2] < 0.05).all()


def test_nobody_else_is_touched_by_a_replay(setting: Setting, trial):
    """Subjects who never stop have the values of a world without stopping, bit by bit."""
    free = dataclasses.replace(setting, protocol=dataclasses.replace(setting.protocol, intercurrent={}))
    same = follow(free, trial.people)
    going = ~np.isfinite(trial.course.stop)
    for name, value in trial.course.values.items():
        assert np.array_equal(value[going], same.values[name][going])
        assert np.array_equal(trial.course.onset["ache"][going], same.onset["ache"][going])


def test_the_database_ends_when_the_subject_leaves(setting: Setting, trial):
    seen = trial.observed
    after = seen.times > seen.leave[:, :, None]
    assert after.any()
    assert np.isnan(seen.outputs["FEV1"][after]).all()
    assert not np.isnan(seen.outputs["FEV1"][:, :, [0, 2]][~after[:, :, [0, 2]]]).any()
    for name, onset in seen.onset.items():
        assert (onset[np.isfinite(onset)] <= seen.leave[np.isfinite(onset)]).all()
        assert ((seen.grade[name] > 0) == np.isfinite(onset)).all()


def test_residual_error_is_the_models(setting: Setting, trial):
    """FEV1: additive 0.1; CP: sqrt(0.3^2 + (0.1 f)^2); standardised residuals have mean 0 and variance 1 within 4 se."""
    for name, equation, sd in (("FEV1", "FEV1", lambda f: 0.1), ("CP", "C", lambda f: np.hypot(0.3, 0.1 * f))):
        seen = trial.observed.outputs[name].reshape(-1)
        true = trial.course.values[equation].reshape(-1)
        z = ((seen - true) / sd(true))[~np.isnan(seen)]
        assert abs(z.mean()) < 4 / np.sqrt(z.size)
        assert abs(z.var() - 1) < 4 * np.sqrt(2 / z.size)


def test_each_subject_is_enrolled_once_in_one_arm(setting: Setting, trial):
    columns = outcome_columns(setting, trial)
    pairs = set(zip(columns["replicate"].tolist(), columns["subject"].tolist(), strict=True))
    assert len(pairs) == 12 * 24 == columns["arm"].size
    assert (np.bincount(columns["arm"]) > 0).all()


def test_what_happened_is_one_of_the_potential_outcomes(setting: Setting, trial):
    """Identity: a subject's course in the arm it was allocated to is its potential outcome under that arm."""
    for code in range(3):
        course = follow(setting, trial.people.in_arm(code))
        rows = trial.people.arm == code
        for name, value in course.values.items():
            assert np.array_equal(value[rows], trial.course.values[name][rows])
        assert np.array_equal(course.stop[rows], trial.course.stop[rows])


def test_truth_is_the_mean_over_everyone(setting: Setting, trial):
    """The truth table recomputed from the courses under each arm, and none of dropout in it."""
    truth = potential(setting, trial)
    course = follow(setting, trial.people.in_arm(2))
    change = (course.values["FEV1"][:, 2] - course.values["FEV1"][:, 0]).reshape(12, 24)
    rows = [n for n, (e, a) in enumerate(zip(truth["endpoint"], truth["arm"])) if (e, a) == ("fev1", "high")]
    assert truth["mean"][rows] == pytest.approx(change.mean(axis=1), rel=1e-13)
    any_event = np.isfinite(np.minimum(course.onset["sick"], course.onset["ache"]))
    on_treatment = np.minimum(course.onset["sick"], course.onset["ache"]) <= course.stop
    rows = [n for n, (e, a) in enumerate(zip(truth["endpoint"], truth["arm"])) if (e, a) == ("any", "high")]
    assert truth["mean"][rows] == pytest.approx((any_event & on_treatment).reshape(12, 24).mean(axis=1), rel=1e-13)


@pytest.mark.parametrize("split", [[range(12)], [range(5), range(5, 12)], [[n] for n in range(12)]])
def test_a_replicate_does_not_depend_on_its_batch(setting: Setting, trial, split):
    """Bits of outcomes and analyses, for one batch, two, and twelve."""
    parts = [simulate_trial(setting, part) for part in split]
    for name, whole in outcome_columns(setting, trial).items():
        joined = np.concatenate([outcome_columns(setting, part)[name] for part in parts])
        assert np.array_equal(joined, whole, equal_nan=joined.dtype.kind == "f"), name
    for name, whole in trial.analyses.items():
        joined = np.concatenate([np.asarray(part.analyses[name]) for part in parts])
        assert np.array_equal(joined, np.asarray(whole), equal_nan=joined.dtype.kind == "f"), name


def test_kept_curves_pass_through_the_visits(setting: Setting, trial):
    """A curve at day 14 is the subject's concentration at that visit, and at most `bands` per arm are kept."""
    kept = curves(setting, trial)
    assert kept is not None
    whole = {n: int((kept["arm"] == n).sum() / np.unique(kept["time"]).size) for n in range(3)}
    assert whole == {0: 6, 1: 6, 2: 6}
    assert kept["shown"].sum() == 3 * 2 * np.unique(kept["time"]).size
    last = kept["time"] == 336.0
    row = kept["replicate"][last].astype(int) * 24 + kept["subject"][last]
    assert np.array_equal(kept["CP"][last], trial.course.values["C"][row, 2])


def test_null_rejection_rate_is_nominal(write_study):
    """Two arms given the same: the test rejects 5 % of trials (3 MCSE), although replicates of every design see the
    same people; the paired potential outcomes of those trials do not differ at all (which is why none is analysed).
    """
    path = write_study(
        ("amount: 500 mg, into: depot, every: 12 h, from: 2 d, for: 12 d", "amount: 200 mg, into: depot, every: 12 h, from: 2 d, for: 12 d"),
        ("placebo: {regimen: []}", "placebo: {regimen: [{amount: 200 mg, into: depot, every: 12 h, for: 14 d}]}"),
        ("compare: [low, high]\n    against: placebo\n    summary: mean", "compare: [high]\n    against: low\n    summary: mean"),
        ("missing: {method: multiple_imputation, imputations: 3}", "missing: {method: complete_case}"),
        ("replicates: 12", "replicates: 1000"),
    )  # fmt: skip
    setting = setting_of(path)
    trial = simulate_trial(setting, range(1000))
    primary = np.array([name == "primary" for name in trial.analyses["analysis"]])
    rate = np.asarray(trial.analyses["reject"])[primary].mean()
    assert abs(rate - 0.05) <= 3 * np.sqrt(0.05 * 0.95 / 1000)
    few = simulate_trial(setting, range(5))
    truth = potential(setting, few)
    means = {
        a: truth["mean"][[n for n, x in enumerate(truth["arm"]) if x == a and truth["endpoint"][n] == "fev1"]]
        for a in ("low", "high")
    }
    assert np.array_equal(means["low"], means["high"])


def test_a_failed_solve_is_counted_and_missing_not_dropped(setting: Setting, monkeypatch):
    """A solver that gives up on some subjects: their rows stay, with status, NaN values and no events."""
    import pkpd.engine.solve as engine

    real = engine.solve

    def failing(compiled, parameters, events, times, **options):
        found = real(compiled, parameters, events, times, **options)
        bad = parameters[:, 1] > 4.0  # clearance, L/h
        found.values[bad], found.status[bad] = np.nan, 1
        for value in found.summaries.values():
            value[bad] = np.nan
        return found

    monkeypatch.setattr(engine, "solve", failing)
    trial = simulate_trial(setting, range(2))
    columns = outcome_columns(setting, trial)
    failed = columns["status"] == 1
    assert 0 < failed.sum() < 48
    assert columns["status"].size == 48
    assert np.isnan(columns["FEV1@day14"][failed]).all()
    assert (columns["sick.grade"][failed] == 0).all()


def test_protocol_without_chance_of_loss_observes_everything(study):
    setting = setting_of(study, dropout=Dropout(), intercurrent={})
    protocol: Protocol = setting.protocol
    seen = simulate_trial(setting, range(2)).observed
    assert not np.isnan(seen.outputs["FEV1"][:, :, protocol.visit_names.index("day14")]).any()


@pytest.mark.parametrize(("rule", "instead"), [("half", 0.5), ("zero", 0.0), ("missing", np.nan)])
def test_values_below_a_limit_of_quantification(setting: Setting, trial, rule, instead):
    """The data base holds what the rule says below 1 mg/L and bit for bit the same elsewhere; nothing true changes."""
    limit = Quantification(lloq=Quantity(1000.0, "ug/L"), below=rule)
    limited = dataclasses.replace(setting, protocol=dataclasses.replace(setting.protocol, quantification={"CP": limit}))
    made, plain = outcome_columns(limited, simulate_trial(limited, range(12))), outcome_columns(setting, trial)
    low = 0
    for visit in setting.protocol.visit_names:
        value, found = plain[f"CP@{visit}"], made[f"CP@{visit}"]
        below = value < 1.0
        low += int(below.sum())
        assert np.array_equal(made[f"CP.blq@{visit}"], below.astype(np.int8))
        assert np.array_equal(found, np.where(below, instead, value), equal_nan=True)
    assert low > 300
    assert (plain["CP@baseline"] < 0.0).any()  # what an additive error would have reported
    same = [name for name in plain if not name.startswith("CP@")]
    assert all(np.array_equal(made[name], plain[name], equal_nan=plain[name].dtype.kind == "f") for name in same)


def test_a_dosing_rule_sees_what_the_data_base_holds(setting: Setting, trial):
    """Levels of 0.01 and 50 mg/L with a limit of 1: the rule is given half the limit, and the second as it is."""
    limit = Quantification(lloq=Quantity(1.0, "mg/L"), below="half")
    rules = ((SimpleNamespace(measure="CP"),),)
    limited = dataclasses.replace(
        setting, protocol=dataclasses.replace(setting.protocol, quantification={"CP": limit}), rules=rules
    )
    who, values = np.arange(40), np.where(np.arange(40) % 2, 50.0, 0.01)
    plain = dataclasses.replace(setting, rules=rules)
    seen, free = (
        _observing(s, trial.people, 0, np.arange(40))(0, who, np.zeros(40, np.int64), values) for s in (limited, plain)
    )
    assert (free < 1.0).sum() >= 15
    assert np.array_equal(seen, np.where(free < 1.0, 0.5, free))


@pytest.mark.parametrize(
    ("text", "field", "said"),
    [
        ("quantification: {FEV1: {lloq: 1 mg/L, below: half}}", "quantification.FEV1.lloq", "mg/L"),
        ("quantification: {CP: {below: half}}", "quantification.CP", "has no limit"),
        ("quantification: {CP: {lloq: 1 mg/L, below: third}}", "quantification.CP.below", "half"),
        ("quantification: {CAV: {lloq: 1 mg/L, below: half}}", "quantification.CAV", "unknown continuous output"),
    ],
)
def test_a_limit_that_cannot_be_is_named(write_study, text, field, said):
    with pytest.raises(InputError) as caught:
        Protocol.read(write_study(("truth:", f"{text}\ntruth:")))
    assert caught.value.field == field
    assert said in str(caught.value)


def test_a_limit_of_the_model_must_be_answered(write_study, model_text):
    """A model with a limit of its own is not simulated as if it had none; its limit is then the trial's."""
    model = model_text.replace("proportional: 0.1}}", "proportional: 0.1}, lloq: 0.2 mg/L}")
    with pytest.raises(InputError, match="what stands for a value below"):
        Protocol.read(write_study(model=model))
    path = write_study(("truth:", "quantification: {CP: {below: zero}}\ntruth:"), model=model)
    own = Model.read(path.parent / "model.yaml")
    assert limit_of(Protocol.read(path), own, "CP") == pytest.approx(0.2)
    (said,) = described(Protocol.read(path), own)
    assert said == "CP below 0.2 mg/L is reported as below the limit of quantification and analysed as zero."
