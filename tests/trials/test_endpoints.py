"""The analysis table against hand counts, and decisions against their rule."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from trials.analysis.binary import miettinen_nurminen
from trials.endpoints import decide
from trials.trial import simulate_trial


@pytest.fixture(scope="module")
def trial(setting):
    return simulate_trial(setting, range(6))


def test_risk_differences_are_those_of_counts_by_hand(trial):
    """Events counted with plain loops; the interval is Miettinen-Nurminen of those counts at the protocol's level."""
    table = pd.DataFrame(trial.analyses)
    row = table[(table.replicate == 4) & (table.endpoint == "sick") & (table.contrast == "high")].iloc[0]
    seen = trial.observed
    counts = {"placebo": [0, 0], "high": [0, 0]}
    for subject in range(24):
        arm = {0: "placebo", 2: "high"}.get(int(seen.arm[4, subject]))
        if arm:
            counts[arm][1] += 1
            happened = seen.grade["sick"][4, subject] >= 1
            counts[arm][0] += int(happened and seen.onset["sick"][4, subject] <= seen.stop[4, subject])
    assert [row.x_control, row.n_control] == counts["placebo"]
    assert [row.x_treated, row.n_treated] == counts["high"]
    found = miettinen_nurminen(row.x_treated, row.n_treated, row.x_control, row.n_control, level=0.9)
    assert (row.lower, row.upper) == (float(found.lower), float(found.upper))
    assert row.reject == (found.lower > 0 or found.upper < 0)


def test_table_has_one_row_per_replicate_endpoint_and_contrast(trial):
    table = pd.DataFrame(trial.analyses)
    assert len(table) == 6 * 3 * 2
    assert not table.duplicated(["replicate", "analysis", "endpoint", "contrast"]).any()
    assert (table["status"] == 0).all()
    primary = table[table.analysis == "primary"]
    sizes = np.stack([(trial.observed.arm == code).sum(axis=1) for code in range(3)], axis=1)
    assert np.array_equal(primary.n_control.to_numpy(), np.repeat(sizes[:, 0], 2))
    assert np.array_equal(primary.n_treated.to_numpy(), sizes[:, 1:].reshape(-1))
    assert (primary.x_treated == -1).all()


def test_decisions_follow_their_rule(setting, trial):
    """`high.primary.reject and high.any.upper < 0.8`, recomputed from the table."""
    table = pd.DataFrame(trial.analyses)
    found = decide(setting.protocol, table)
    high = table[table.contrast == "high"]
    rejected = high[high.analysis == "primary"].sort_values("replicate")["reject"].to_numpy()
    upper = high[high.endpoint == "any"].sort_values("replicate")["upper"].to_numpy()
    assert found["go"].tolist() == (rejected & (upper < 0.8)).tolist()
    assert found["replicate"].tolist() == list(range(6))


def test_codes_of_other_arms_stay_out(setting, trial):
    """A contrast of one arm against control counts only those two arms' subjects."""
    table = pd.DataFrame(trial.analyses)
    sizes = [(trial.observed.arm == code).sum(axis=1) for code in range(3)]
    low = table[(table.analysis == "safety") & (table.contrast == "low") & (table.endpoint == "any")]
    assert np.array_equal(low.n_control, sizes[0])
    assert np.array_equal(low.n_treated, sizes[1])
