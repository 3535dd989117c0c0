"""From a real run to a page, with published parameters (nothing is sampled). Witness: identities of the model text."""

from pathlib import Path

import numpy as np
import pytest

from reports import fitted, gather, html
from trials.dispatch import Mode
from trials.record import RunRecord
from trials.run import run

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "theophylline_copd"


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """The demo's protocol with published parameters, few replicates, no sensitivity run."""
    folder = tmp_path_factory.mktemp("demo")
    text = (EXAMPLE / "protocol.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.strip().startswith(("michaelis_menten", "sensitivity:"))]
    text = "\n".join("  parameters: published" if line.startswith("  parameters:") else line for line in lines)
    (folder / "protocol.yaml").write_text(text.replace("imputations: 20", "imputations: 2"))
    (folder / "model.yaml").write_text((EXAMPLE / "model.yaml").read_text())
    return run(folder / "protocol.yaml", folder / "out", mode=Mode(kind="serial"), replicates=4, command="vtrial run")


def test_the_report_of_a_real_run(record: RunRecord) -> None:
    path = html.write(record, record.directory)
    assert path == record.directory / "report.html"
    text = path.read_text(encoding="utf-8")
    assert record.digest in text
    assert record.manifest.key in text
    assert "vtrial run" in text
    assert "Assurance" in text
    assert "Replicates finished" in text


def test_a_study_says_what_the_protocol_says(record: RunRecord) -> None:
    study = gather.study(record)
    assert [arm.label for arm in study.arms] == ["Placebo", "200 mg", "300 mg", "400 mg", "600 mg"]
    assert [d.amount for d in study.arms[4].dosing] == [200, 300, 600]
    assert [(d.start, d.end) for d in study.arms[4].dosing] == [(0, 3), (3, 6), (6, 84)]
    assert study.control.key == "placebo"
    assert (study.main.output, study.main.unit, study.main.visit) == ("FEV1", "L", "week12")
    assert (study.average, study.peak, study.exposure_unit) == ("CAV", "CMAX", "mg/L")
    assert study.most_risk == 0.25
    assert study.parameters[0].name == "EC50"  # the assumption that heads the list
    assert study.fit is None


def test_screening_adds_up(record: RunRecord) -> None:
    study = gather.study(record)
    assert study.screened == len(study.outcomes) + sum(s.lost + s.missing for s in study.screening)


def test_the_response_curve_is_that_of_the_model_text(record: RunRecord) -> None:
    """FEV1 change = PLAC + EMAX c/(EC50 + c) with EMAX 0.2 L, EC50 11 mg/L, PLAC 0: 0.10 L at c = 11 mg/L, up to the
    spread of EC50; nausea at its C50 of 25 mg/L is about one half, 0.03 without drug."""
    curves = gather.study(record).responses
    fev1, nausea = curves["FEV1"], curves["nausea"]
    assert np.interp(11.0, fev1.exposure, fev1.mean) == pytest.approx(0.10, abs=0.015)
    assert fev1.mean[0] == pytest.approx(0.0, abs=0.01)
    assert np.all(fev1.low <= fev1.mean)
    assert np.all(fev1.mean <= fev1.high)
    assert nausea.mean[0] == pytest.approx(0.035, abs=0.01)
    assert np.interp(25.0, nausea.exposure, nausea.mean) == pytest.approx(0.5, abs=0.06)
    assert np.all(curves["any"].mean >= np.maximum(nausea.mean, curves["vomiting"].mean))


def test_levels_against_theo_dur(record: RunRecord) -> None:
    """docs/theophylline_demo.md, superposition in NumPy for a typical person: 11.0, 15.2, 11.0 mg/L at 0, 6, 12 h; means
    of people who differ (clearance sd 0.29, and its uncertainty) lie a little above."""
    found = gather.study(record).levels
    middle = [found["theodur", time].median for time in (0.0, 6.0, 12.0)]
    np.testing.assert_allclose(middle, [11.0, 15.2, 11.0], rtol=0.08)
    assert middle[0] == pytest.approx(middle[2], rel=0.02)
    assert all(level.low < level.median < level.high for level in found.values())


def test_density_of_a_prior_integrates_to_one() -> None:
    """Identity, for each family and scale; draws wide enough that the grid holds all the mass."""
    cases = (
        ({"family": "normal", "location": 0.0, "scale": 1.0}, "identity", np.array([-4.0, 4.0])),
        ({"family": "normal", "location": 0.0, "scale": 0.3}, "log", np.array([0.2, 4.0])),
        ({"family": "normal", "location": 0.0, "scale": 0.5}, "logit", np.array([0.01, 0.99])),
        ({"family": "half_normal", "scale": 1.0}, "identity", np.array([0.01, 4.0])),
        ({"family": "lkj", "scale": 2.5}, "identity", np.array([-0.9, 0.9])),
    )
    for prior, scale, draws in cases:
        found = fitted.density(prior, scale, draws)
        assert found is not None
        assert np.trapezoid(found.density, found.x) == pytest.approx(1.0, abs=0.01)
