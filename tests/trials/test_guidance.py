"""Doses guided by levels (`tdm:`). Witnesses: superposition, MAP by SciPy, quadrature of the posterior, dose = target x CL."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals
from pkpd.twin import guided
from trials.protocol import Protocol
from trials.run import prepare, run
from trials.setting import opened
from trials.trial import outcome_columns, potential, simulate_trial
from trials.verify import verify

MODEL = """
vtrial: model/1
name: one
states: {A: mg}
parameters:
  CL: {typical: 4 L/h, iiv: 0.4, status: assumed}
  V: {typical: 50 L, iiv: 0.3, status: assumed}
equations: |
  C = A/V
  d/dt(A) = -CL*C
  AUC24 = 24*CAV
summaries: {CAV: {of: C, as: average, window: 24 h}}
outputs:
  CP: {is: C, error: {additive: 0.8 mg/L, proportional: 0.15}}
  AUC: {is: AUC24}
"""
PROTOCOL = """
vtrial: protocol/1
name: guided
model: {file: model.yaml, draws: 1}
seed: 5
replicates: 3
population: {law: nhanes_adults}
subjects: 16
arms:
  fixed: {regimen: [{amount: 1000 mg, into: A, every: 12 h, for: 4 d}]}
  guided:
    regimen: [{amount: 1000 mg, into: A, every: 12 h, for: 4 d}]
    tdm:
      measure: CP
      levels: [2 h, 11 h, 35 h]
      decide: [20 h, 36 h]
      target: AUC24 400..600
      doses: {from: 200 mg, to: 2400 mg, step: 200 mg}
      horizon: 48 h
visits: {start: {day: 0}, day1: {day: 1}, day4: {day: 4}}
endpoints: {auc: {output: AUC, at: day4, as: value}}
estimands: {primary: {endpoint: auc, compare: [guided], against: fixed, summary: mean_difference}}
analyses: {primary: {method: ancova}}
truth: {replicates: 1}
"""
FINE = ("doses: {from: 200 mg, to: 2400 mg, step: 200 mg}", "doses: {from: 120 mg, to: 3000 mg, step: 16 mg}")
SHARP = ("error: {additive: 0.8 mg/L, proportional: 0.15}", "error: {proportional: 0.002}")
MODE = ("      horizon: 48 h", "      horizon: 48 h\n      by: mode")
ALONE = ("decide: [20 h, 36 h]", "decide: [36 h]")


@pytest.fixture
def write(tmp_path: Path):
    """A function that writes the study with changes to protocol and model and returns its path."""

    def written(*changes: tuple[str, str], files: dict[str, str] | None = None) -> Path:
        texts = {"protocol.yaml": PROTOCOL, "model.yaml": MODEL}
        for old, new in changes:
            assert any(old in text for text in texts.values()), old
            texts = {name: text.replace(old, new) for name, text in texts.items()}
        for name, text in (texts | (files or {})).items():
            (tmp_path / name).write_text(text)
        return tmp_path / "protocol.yaml"

    return written


def simulated(path: Path, replicates=range(3)):
    setting = opened(prepare(path).variants["main"].payload)
    trial = simulate_trial(setting, replicates)
    return setting, trial, pd.DataFrame(outcome_columns(setting, trial))


def test_who_is_known_exactly_gets_the_exposure_that_was_aimed_at(write) -> None:
    """Residual error -> 0: AUC24 over the last day of the horizon is 500, within half a step of the dose."""
    _, trial, table = simulated(write(FINE, SHARP, ("decide: [20 h, 36 h]", "decide: [36 h, 47 h]")))
    mine = trial.people.arm == 1
    step = 16 * 2 / trial.people.parameters[mine, 0]  # of the AUC over 24 h: two doses over CL
    away = np.abs(table["AUC@day4"].to_numpy()[mine] - 500.0)
    inside = (table["tdm.dose"][mine] > 120) & (table["tdm.dose"][mine] < 3000)
    assert inside.mean() > 0.9
    assert (away[inside] <= 0.5 * step[inside] + 2.0).all()
    fixed = np.abs(table["AUC@day4"].to_numpy()[~mine] - 500.0)
    assert np.median(fixed) > 10 * np.median(away)


def test_time_above_gets_the_smallest_dose_that_reaches_it(write) -> None:
    """Residual error -> 0: share of 60 to 84 h above 10 mg/L on a grid of a minute, true parameters: this dose reaches
    half, the next smaller one does not.
    """
    target = ("target: AUC24 400..600", "target: time above 10 >= 0.5")
    _, trial, table = simulated(write(ALONE, SHARP, target), range(1))
    past, coming, at = np.array([0.0, 12.0, 24.0]), 36.0 + 12.0 * np.arange(4), np.arange(60.0, 84.0, 1 / 60) + 1 / 120
    mine = np.flatnonzero(trial.people.arm == 1)
    for i in mine:
        cl, v = trial.people.parameters[i]
        base, unit = _level(cl, v, past, at), _level(cl, v, coming, at) / 1000.0
        share = ((base + DOSES[:, None] * unit) > 10.0).mean(axis=1)
        reached = share >= 0.5
        assert table["tdm.dose"][i] == (DOSES[np.argmax(reached)] if reached.any() else DOSES[np.argmax(share)])
    assert table["tdm.dose"][mine].nunique() > 2


def test_the_example_is_sound() -> None:
    path = Path(__file__).parents[2] / "examples" / "vancomycin_tdm" / "protocol.yaml"
    assert Protocol.read(path).arms["guided"].tdm.amounts("mg")[-1] == 2500.0


@pytest.mark.parametrize("how", [(), (MODE,)])
def test_without_levels_everybody_gets_the_dose_of_the_population(write, how) -> None:
    """Levels come after the decision: the same dose for all; by the mode that of the typical subject in closed form."""
    _, _, table = simulated(write(*how, ALONE, ("[2 h, 11 h, 35 h]", "[40 h]")), range(2))
    doses = table["tdm.dose"][table["arm"] == 1].unique()
    assert len(doses) == 1
    if how:
        past = np.array([0.0, 12.0, 24.0])
        auc = [_auc(4.0, 50.0, past, 1000.0) + _auc(4.0, 50.0, 36.0 + 12.0 * np.arange(4), d) for d in DOSES]
        assert doses[0] == DOSES[int(np.argmin(np.abs(np.array(auc) - 500.0)))]


DOSES = np.arange(200.0, 2401.0, 200.0)


def _level(cl, v, times, at):
    s = np.asarray(at, float)[..., None] - times
    return np.where(s > 0, 1000.0 / v * np.exp(-cl / v * np.maximum(s, 0)), 0.0).sum(axis=-1)


def _auc(cl, v, times, amounts):
    """Area over 60 to 84 h of bolus doses."""
    a, b = np.maximum(60.0 - times, 0.0), np.maximum(84.0 - times, 0.0)
    return (amounts / cl * (np.exp(-cl / v * a) - np.exp(-cl / v * b))).sum(axis=-1)


def _reported(trial, i, times):
    """The subject's levels at 2, 11 and 35 h with their errors, from its true parameters and addresses."""
    cl, v = trial.people.parameters[i]
    true = _level(cl, v, times, np.array([2.0, 11.0, 35.0]))
    z = normals(5, Purpose.RULE, subject=trial.people.subject[i], replicate=trial.people.replicate[i],
                index=np.arange(3), slot=0)  # fmt: skip
    return true + np.sqrt(0.8**2 + (0.15 * true) ** 2) * z


def _log_posterior(eta, level, past):
    cl, v = 4.0 * np.exp(eta[..., 0, None, None]), 50.0 * np.exp(eta[..., 1, None, None])
    s = np.array([2.0, 11.0, 35.0])[: len(level), None] - past
    f = np.where(s > 0, 1000.0 / v * np.exp(-cl / v * np.maximum(s, 0)), 0.0).sum(axis=-1)
    sd = np.sqrt(0.8**2 + (0.15 * f) ** 2)
    fit = (-0.5 * ((level - f) / sd) ** 2 - np.log(sd)).sum(axis=-1)
    return fit - 0.5 * (eta[..., 0] / 0.4) ** 2 - 0.5 * (eta[..., 1] / 0.3) ** 2


def test_five_subjects_one_by_one_get_the_same_doses(write) -> None:
    """An event-by-event loop: levels by superposition, MAP by SciPy's Nelder-Mead, the dose nearest to 500."""
    _, trial, table = simulated(write(MODE, ALONE))
    past, coming = np.array([0.0, 12.0, 24.0]), 36.0 + 12.0 * np.arange(4)
    for i in np.flatnonzero(trial.people.arm == 1)[:5]:
        level = _reported(trial, i, past)
        top = optimize.minimize(lambda eta, y=level: -float(_log_posterior(eta, y, past)), np.zeros(2),
                                method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12})  # fmt: skip
        cl, v = 4.0 * np.exp(top.x[0]), 50.0 * np.exp(top.x[1])
        auc = np.array([_auc(cl, v, past, 1000.0) + _auc(cl, v, coming, d) for d in DOSES])
        assert table["tdm.dose"][i] == DOSES[int(np.argmin(np.abs(auc - 500.0)))]
    assert table["tdm.dose"][trial.people.arm == 1].nunique() > 3


def test_the_draws_choose_as_the_whole_posterior_would(write) -> None:
    """P(target) of every dose by quadrature over 81 x 81 effects: the dose of 100 draws loses at most 0.06 of it."""
    _, trial, table = simulated(write(ALONE))
    past, coming = np.array([0.0, 12.0, 24.0]), 36.0 + 12.0 * np.arange(4)
    eta = np.stack(np.meshgrid(np.linspace(-1.6, 1.6, 81), np.linspace(-1.2, 1.2, 81), indexing="ij"), axis=-1)
    cl, v = 4.0 * np.exp(eta[..., 0, None]), 50.0 * np.exp(eta[..., 1, None])
    base, unit = _auc(cl, v, past, 1000.0), _auc(cl, v, coming, 1.0)
    lost = []
    for i in np.flatnonzero(trial.people.arm == 1):
        mass = _log_posterior(eta, _reported(trial, i, past), past)
        mass = np.exp(mass - mass.max())
        auc = base + DOSES[:, None, None] * unit
        reached = (((auc >= 400) & (auc <= 600)) * mass).sum(axis=(1, 2)) / mass.sum()
        lost.append(reached.max() - reached[np.flatnonzero(table["tdm.dose"][i] == DOSES)[0]])
    assert np.max(lost) < 0.06
    assert np.mean(lost) < 0.01


def test_doses_do_not_depend_on_the_batch_nor_on_how_they_are_searched(write, monkeypatch) -> None:
    setting, whole, table = simulated(write(("      horizon", "      change: 1.7\n      lloq: 3 mg/L\n      horizon")))
    part = pd.DataFrame(outcome_columns(setting, simulate_trial(setting, [2])))
    mine = table[table["replicate"] == 2].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, part, check_exact=True)
    assert (table["tdm.unsaid"] == 0).all()
    assert table["tdm.dose"][table["arm"] == 1].between(1000 / 1.7**2 - 1e-6, 1000 * 1.7**2 + 1e-6).all()
    others = table["tdm.dose"][table["arm"] == 0]
    assert others.isna().all()
    assert np.isfinite(potential(setting, whole)["mean"]).all()
    monkeypatch.setattr(guided, "affine", lambda *_: False)
    monkeypatch.setattr(guided, "ROWS", 500)
    again = pd.DataFrame(outcome_columns(setting, simulate_trial(setting, [2])))
    np.testing.assert_array_equal(again["tdm.dose"], part["tdm.dose"])


def test_another_model_may_guide_and_the_run_can_be_verified(write, tmp_path) -> None:
    wrong = MODEL.replace("typical: 4 L/h", "typical: 8 L/h").replace("name: one", "name: other")
    changes = (("[2 h, 11 h, 35 h]", "[40 h]"), ALONE, ("      horizon", "      model: other.yaml\n      horizon"))
    path = write(*changes, ("replicates: 3", "replicates: 2"), files={"other.yaml": wrong})
    record = run(path, tmp_path / "out")
    own = simulated(write(*changes[:2]), range(2))[2]["tdm.dose"].max()
    assert record.outcomes["tdm.dose"].max() >= 1.5 * own  # it believes in twice the clearance
    assert verify(tmp_path / "out").same
    (tmp_path / "out/others/tdm.guided.yaml").write_text(wrong.replace("8 L/h", "7 L/h"))
    assert "others" in verify(tmp_path / "out").inputs


@pytest.mark.parametrize(
    ("old", "new", "field", "message"),
    [
        ("measure: CP", "measure: CQ", "tdm.measure", "unknown level"),
        ("AUC24 400..600", "AUC24 600..400", "tdm.target", "range is empty"),
        ("AUC24 400..600", "area 400..600", "tdm.target", "no such metric"),
        ("step: 200 mg", "step: 1 mg", "tdm.doses", "more than 200 doses"),
        ("to: 2400 mg", "to: 100 mg", "tdm.doses", "0 < from <= to"),
        ("step: 200 mg", "step: 200 mL", "tdm.doses", "of one kind"),
        ("horizon: 48 h", "horizon: 30 h", "tdm.horizon", "whole number of dosing intervals"),
        ("decide: [20 h, 36 h]", "decide: [20 h, 90 h]", "tdm.decide", "no dose follows"),
        ("decide: [20 h, 36 h]", "decide: day1", "tdm", "must be times or a period"),
        ("horizon: 48 h", "model: none.yaml", "tdm.model", "no such file"),
        ("horizon: 48 h", "lloq: 1 mg", "tdm.lloq", "mg"),
        ("horizon: 48 h", "draws: 3", "tdm.draws", "50"),
    ],
)
def test_what_is_wrong_is_refused_at_its_place(write, old, new, field, message) -> None:
    path = write((old, new))
    with pytest.raises(InputError, match=message) as caught:
        Protocol.read(path)
    assert field in str(caught.value)
    assert caught.value.line is not None


def test_rules_beside_it_may_only_stop(write) -> None:
    rule = "    rules: [{at: every 24 h, measure: CP, above: 60 mg/L, do: {scale_dose: 0.5}}]\n    tdm:"
    with pytest.raises(InputError, match="may only stop"):
        Protocol.read(write(("    tdm:", rule)))
    protocol = Protocol.read(write(("    tdm:", rule.replace("scale_dose: 0.5", "stop: true"))))
    assert protocol.arms["guided"].tdm.decide.times == (20.0, 36.0)
