"""A prognostic score. Witnesses: normal theory in closed form, least squares by NumPy, 1 - rho^2, the noncentral t."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pkpd.ground.errors import InputError
from pkpd.model.records import Records
from pkpd.model.regimen import Regimen
from pkpd.model.spec import Model
from pkpd.model.variability import point, published
from pkpd.twin.prognosis import Question, enrolled, prognosis, read, write
from trials import prognosis as scoring
from trials.analysis.continuous import ancova_dunnett
from trials.protocol import Protocol
from trials.run import prepare
from trials.setting import opened
from trials.trial import outcome_columns, simulate_trial

MODEL = """
vtrial: model/1
name: decline
covariates: {AGE: {unit: years, reference: 50}}
states: {A: mg}
parameters:
  E0: {typical: 100 L, scale: identity, iiv: 10, status: assumed}
  LOSS: {typical: 10 L, scale: identity, iiv: 6, effects: {AGE: linear 0.8 fixed}, status: assumed}
  GAIN: {typical: 0 L/mg, scale: identity, status: assumed}
  KE: {typical: 1e-9 1/h, status: assumed}
equations: |
  d/dt(A) = -KE*A
  Y = E0 - LOSS*0.7*WEEKS + GAIN*A
outputs: {Y: {is: Y, error: {additive: 4 L}}}
"""
PROTOCOL = """
vtrial: protocol/1
name: scored
model: {file: model.yaml, draws: 1}
seed: 3
replicates: 4
population: {law: nhanes_adults, eligible: {age: 20 <= AGE <= 79}}
subjects: 50
arms:
  control: {regimen: []}
  drug: {regimen: [{amount: 1 mg, into: A}]}
visits: {start: {day: 0}, end: {day: 10}}
endpoints: {y: {output: Y, at: end, as: value}}
estimands:
  primary: {endpoint: y, compare: [drug], against: control, summary: mean_difference}
prognosis: {endpoint: y, under: control, sees: [Y]}
analyses:
  primary: {method: ancova, adjust: [baseline, prognosis]}
truth: {replicates: 0}
"""
WITH = "adjust: [baseline, prognosis]"


@pytest.fixture
def write_study(tmp_path: Path):
    def written(*changes: tuple[str, str]) -> Path:
        texts = {"protocol.yaml": PROTOCOL, "model.yaml": MODEL}
        for old, new in changes:
            assert any(old in text for text in texts.values()), old
            texts = {name: text.replace(old, new) for name, text in texts.items()}
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
        return tmp_path / "protocol.yaml"

    return written


def simulated(path: Path, replicates):
    setting = opened(prepare(path).variants["main"].payload)
    trial = simulate_trial(setting, replicates)
    return setting, trial, pd.DataFrame(outcome_columns(setting, trial))


def test_the_score_is_the_posterior_predictive_of_normal_theory(write_study) -> None:
    """E0 given a baseline b: mean 100 + 100/116 (b - 100), variance 100*16/116; the slope from AGE; error 4."""
    _, trial, table = simulated(write_study(("draws: 1}", "draws: 1}\nkeep: {curves: 0}")), [0])
    b, age = table["Y@start"].to_numpy(), table["AGE"].to_numpy()
    mean = 100 + 100 / 116 * (b - 100) - 10 * (1 + 0.08 * (age - 50))
    sd = np.sqrt(100 * 16 / 116 + (10 * 0.6) ** 2 + 4**2)
    score = table["prognosis"].to_numpy()
    assert np.abs(score - mean).max() < 0.25 * sd  # 100 particles
    assert np.sqrt(np.mean((score - mean) ** 2)) < 0.12 * sd
    np.testing.assert_allclose(table["prognosis.sd"], sd, rtol=0.25)
    # equal data, equal score; the arm is not looked at
    part = pd.DataFrame(outcome_columns(opened(prepare(write_study()).variants["main"].payload), trial))
    np.testing.assert_array_equal(part["prognosis"], score)


def test_variance_falls_by_rho_squared_and_the_error_of_the_first_kind_stays(write_study) -> None:
    """160 trials without an effect: residual variance x (1 - rho^2), rejections of 5 %; both analyses see the same data.

    rho: correlation of score and outcome given the baseline, by least squares over all subjects of the control arm.
    """
    _, trial, table = simulated(write_study(), range(160))
    control = table[table["arm"] == 0]
    design = np.column_stack([np.ones(len(control)), control["Y@start"]])
    rest = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (control["Y@end"], control["prognosis"])]
    rho = float(np.corrcoef(rest)[0, 1])
    assert 0.4 < rho**2 < 0.8
    shape = trial.shape
    y, b, s = (table[name].to_numpy().reshape(shape) for name in ("Y@end", "Y@start", "prognosis"))
    arm, strata = table["arm"].to_numpy(np.int64).reshape(shape), np.zeros(shape, np.int64)
    plain, scored = (ancova_dunnett(y, b, arm, strata, arms=2, covariates=c) for c in (None, s))
    np.testing.assert_array_equal(trial.analyses["se"], scored.se[:, 0])
    # by the standard errors the trials report: precise
    ratio = (scored.se[:, 0] / plain.se[:, 0]) ** 2
    error = float(ratio.std(ddof=1) / np.sqrt(160))
    assert ratio.mean() == pytest.approx((1 - rho**2) * 47 / 46, abs=3 * error + 0.01)
    # by what happens over trials: var of the estimates, Monte Carlo error of a ratio of dependent variances
    seen = scored.estimate.var() / plain.estimate.var()
    assert seen == pytest.approx(1 - rho**2, abs=3 * (1 - rho**2) * np.sqrt(2 * 2 / 160))
    low, high = stats.binom.ppf([0.001, 0.999], 160, 0.05)
    assert low <= scored.reject.sum() <= high
    # power against an effect of 4: by the noncentral t with the smaller variance
    moved = ancova_dunnett(y + 4.0 * arm, b, arm, strata, arms=2, covariates=s)
    se = np.sqrt(np.mean(plain.se**2) * (1 - rho**2))
    quantile = stats.t.ppf(0.975, 46)
    power = stats.nct.sf(quantile, 46, 4.0 / se) + stats.nct.cdf(-quantile, 46, 4.0 / se)
    assert moved.reject.mean() == pytest.approx(power, abs=3 * np.sqrt(power * (1 - power) / 160) + 0.02)


def test_a_wrong_score_costs_little_and_stays_valid(write_study) -> None:
    """The slope's dependence on age reversed in the model that foretells: least squares turns the sign; nothing is lost."""
    wrong = MODEL.replace("linear 0.8", "linear -0.2").replace("name: decline", "name: other")
    path = write_study(("sees: [Y]", "sees: [Y], model: other.yaml"))
    (path.parent / "other.yaml").write_text(wrong)
    _, trial, table = simulated(path, range(6))
    right = simulated(write_study(), range(6))[2]
    mine = np.corrcoef(table["prognosis"] - table["Y@start"] * 100 / 116, table["AGE"])[0, 1]
    theirs = np.corrcoef(right["prognosis"] - right["Y@start"] * 100 / 116, right["AGE"])[0, 1]
    assert mine > 0.8
    assert theirs < -0.8
    assert (trial.analyses["status"] == 0).all()


def test_the_ancova_with_covariates_is_least_squares() -> None:
    rng = np.random.default_rng(1)
    y, b, more = rng.normal(size=(2, 30)), rng.normal(size=(2, 30)), rng.normal(size=(2, 30, 2))
    more[0, 3, 1] = np.nan
    arm, strata = np.tile(np.arange(30) % 3, (2, 1)), np.tile(np.arange(30) % 2, (2, 1))
    found = ancova_dunnett(y, b, arm, strata, arms=3, covariates=more)
    for r in range(2):
        x = np.column_stack([np.ones(30), b[r], more[r], strata[r], arm[r] == 1, arm[r] == 2])
        keep = np.isfinite(x).all(axis=1)
        beta, rss, *_ = np.linalg.lstsq(x[keep], y[r, keep], rcond=None)
        np.testing.assert_allclose(found.estimate[r], beta[-2:], rtol=1e-10)
        se = np.sqrt(rss[0] / (keep.sum() - 7) * np.diag(np.linalg.inv(x[keep].T @ x[keep]))[-2:])
        np.testing.assert_allclose(found.se[r], se, rtol=1e-10)
        assert found.missing[r] == 30 - keep.sum()


def test_the_score_does_not_depend_on_the_batch(write_study) -> None:
    setting, trial, _ = simulated(write_study(), [1])
    covariates = {k: v.copy() for k, v in trial.cohort.covariates.items()}
    baseline = {"Y": trial.observed.outputs["Y"][:, :, 0]}
    whole = scoring.scores(setting.score, covariates, baseline)
    some = scoring.scores(setting.score, {k: v[:, 7:9] for k, v in covariates.items()}, {"Y": baseline["Y"][:, 7:9]})
    for a, b in zip(whole, some, strict=True):
        np.testing.assert_array_equal(a[:, 7:9], b)


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A score of three subjects, one with a run-in value, on disk."""
    model = Model.parse(MODEL, "model.yaml")
    text = "ID,TIME,AMT,DV,EVID,AGE\nA,0,.,120,0,30\nB,0,.,90,0,50\nC,0,.,90,0,75"
    records, draws = Records.parse(text, model=model), published(model, 5, 1)
    made = prognosis(model, records, draws, Question(output="Y", at=240.0, control=_none(model)))
    return write(made, tmp_path_factory.mktemp("score") / "score.csv"), (records, model, draws), made


def test_a_locked_table_reads_back(locked) -> None:
    path, (records, model, draws), made = locked
    again = read(path, records=records, model=model, draws=draws)
    assert again.ids == ("A", "B", "C")
    np.testing.assert_array_equal(again.point, made.point)
    np.testing.assert_array_equal(again.sd, made.sd)
    assert made.point[0] > made.point[1] > made.point[2]  # a high baseline is good, age is not
    first = prognosis(model, records, draws, Question(output="Y", at=240.0, control=_none(model)))
    assert first.lock == made.lock
    alone = prognosis(model, enrolled({"AGE": [30.0]}, ids=("A",)), point(model),
                      Question(output="Y", at=240.0, control=_none(model)))  # fmt: skip
    assert alone.point[0] == pytest.approx(100 + 10 * 0.6, abs=2.0)


def _none(model):
    return Regimen(()).schedule(model.dose_units)


def test_a_changed_table_lock_or_input_is_refused(locked, tmp_path) -> None:
    path, (_, model, _), _ = locked
    text, lock = path.read_text(), json.loads(path.with_name("score.csv.lock.json").read_text())

    def put(table: str, body: object) -> Path:
        (tmp_path / "score.csv").write_text(table)
        (tmp_path / "score.csv.lock.json").write_text(json.dumps(body))
        return tmp_path / "score.csv"

    assert read(put(text, lock)).ids == ("A", "B", "C")
    with pytest.raises(
        InputError, match=r"score.csv table: the table is not the one that was locked.*compute the score"
    ):
        read(put(text.replace("A,", "B,", 1), lock))
    with pytest.raises(InputError, match="lock was changed"):
        read(put(text, lock | {"inputs": lock["inputs"] | {"data": "0"}}))
    with pytest.raises(InputError, match="lock was changed, or is none"):
        read(put(text, []))
    with pytest.raises(InputError, match="made with other model"):
        read(put(text, lock), model=Model.parse(MODEL.replace("0.8 fixed", "0.9 fixed"), "m.yaml"))
    with pytest.raises(InputError, match="made with other draws"):
        read(put(text, lock), draws=point(model))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("prognosis: {endpoint: y, under: control, sees: [Y]}\n", "", "no prognosis to adjust for"),
        ("endpoint: y, under: control", "endpoint: z, under: control", r"prognosis.endpoint: unknown endpoint"),
        ("under: control", "under: nobody", r"prognosis.under: unknown arm"),
        ("sees: [Y]", "sees: [Z]", r"prognosis.sees: unknown continuous output"),
        ("sees: [Y]", "model: none.yaml", r"prognosis.model: no such file"),
        (WITH, WITH + ", missing: {method: multiple_imputation}", "complete cases only"),
        (WITH, "adjust: [prognosis]", "must be the baseline"),
    ],
)
def test_what_is_wrong_is_refused_at_its_place(write_study, old, new, message) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Protocol.read(write_study((old, new)))
    assert caught.value.line is not None
