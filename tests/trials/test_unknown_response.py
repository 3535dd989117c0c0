"""A response or a risk that is not a number makes the subject a counted failure, never a missing value or no risk."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.engine.status import SolveStatus
from trials.run import prepare
from trials.setting import opened
from trials.trial import outcome_columns, simulate_trial


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("P_SICK = P0 + (1 - P0)*(1 - exp(-PC*CMAX))", "P_SICK = P0 + (1 - P0)*(1 - exp(-PC*CMAX)) + 0*CMAX/CAV"),
        ("FEV1 = BASE + SLOPE*CAV", "FEV1 = BASE + SLOPE*if(TIME > 300, CAV*CAV/CAV, CAV)"),
    ],
)
def test_not_a_number_is_a_failure(write_study, model_text, old, new):
    """0/0 at exposure 0: the whole placebo arm, and no one on drug; before, the risk was 0 and the value imputed."""
    assert old in model_text
    path = write_study(model=model_text.replace(old, new))
    setting = opened(prepare(path).variants["main"].payload)
    trial = simulate_trial(setting, range(3))
    columns = outcome_columns(setting, trial)
    placebo, failed = columns["arm"] == 0, columns["status"] == SolveStatus.NOT_FINITE
    assert failed[placebo].all()
    assert not failed[~placebo & (columns["CAV@day14"] > 0)].any()
    assert np.isnan(columns["FEV1@baseline"][placebo]).all()
    primary = np.array([name == "primary" for name in trial.analyses["analysis"]])
    assert (np.asarray(trial.analyses["status"])[primary] != 0).all()  # nothing to compare with: said, not made up
    safety = np.array([name == "safety" for name in trial.analyses["analysis"]])
    control, missing = np.asarray(trial.analyses["n_control"])[safety], np.asarray(trial.analyses["missing"])[safety]
    assert (control == 0).all()
    assert (missing > 0).all()  # neither event-free nor in the denominator
    assert np.isnan(np.asarray(trial.analyses["estimate"])[safety]).all()
