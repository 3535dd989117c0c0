"""A posterior read back is the posterior that was written, the order of states and parameters included."""

from pathlib import Path

import numpy as np

from pkpd import posterior
from pkpd.model.library import load
from pkpd.model.variability import published


def test_reading_keeps_the_order_of_states_and_parameters(tmp_path: Path):
    """Identity: dicts of a model are the order of arrays (docs/architecture.md); sorted names would turn an oral dose
    into a bolus (state 0) and clearance into absorption (column 0)."""
    model = load("theophylline")
    made = posterior.Posterior(draws=published(model, 3, 1), model=model)
    found = posterior.read(posterior.write(made, tmp_path / "p.parquet"))
    assert list(found.model.states) == list(model.states) == ["depot", "central"]
    assert tuple(found.model.parameters) == found.draws.names == ("KA", "CL", "V")
    assert found.digest == made.digest
    np.testing.assert_array_equal(found.draws.typical, made.draws.typical)
