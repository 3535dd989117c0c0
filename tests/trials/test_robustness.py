"""What the decision hangs on. Witnesses: runs of each model alone, a run with wider uncertainty, the normal distribution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals, slots
from pkpd.model.spec import Model
from pkpd.model.variability import published
from reports.html import write
from trials.operating import proportion
from trials.protocol import Protocol
from trials.robustness import averaged, powered, robustness, standardised
from trials.run import run

MODEL = """
vtrial: model/1
name: gain
states: {A: mg}
parameters:
  E0: {typical: 100 L, scale: identity, se: 2, iiv: 10, status: assumed}
  GAIN: {typical: 9 L/mg, scale: identity, se: 3, status: assumed}
  KE: {typical: 1e-9 1/h, status: assumed}
equations: |
  d/dt(A) = -KE*A
  Y = E0 + GAIN*A
outputs: {Y: {is: Y, error: {additive: 6 L}}}
"""
OTHER = MODEL.replace("typical: 9 L/mg", "typical: 3 L/mg").replace("name: gain", "name: small_gain")
PROTOCOL = """
vtrial: protocol/1
name: hangs
model: {file: model.yaml, draws: 400, weight: 0.7}
seed: 3
replicates: 150
population: {law: nhanes_adults}
subjects: 40
arms:
  control: {regimen: []}
  drug: {regimen: [{amount: 1 mg, into: A}]}
visits: {start: {day: 0}, end: {day: 10}}
endpoints: {y: {output: Y, at: end, as: value}}
estimands:
  primary: {endpoint: y, compare: [drug], against: control, summary: mean_difference}
analyses:
  primary: {method: ancova}
decide: {go: drug.primary.lower > 0}
truth: {replicates: 0}
sensitivity:
  small: {model: {file: other.yaml, weight: 0.3}}
"""


def written(folder: Path, *changes: tuple[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    text = PROTOCOL
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    for name, content in {"protocol.yaml": text, "model.yaml": MODEL, "other.yaml": OTHER}.items():
        (folder / name).write_text(content)
    return folder / "protocol.yaml"


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("hangs")
    return run(written(folder), folder / "out")


ALONE = (", weight: 0.7", ""), ("sensitivity:\n  small: {model: {file: other.yaml, weight: 0.3}}\n", "")


def test_each_model_says_what_it_says_alone(record, tmp_path) -> None:
    found = robustness(record)
    alone = run(written(tmp_path, *ALONE, ("file: model.yaml", "file: other.yaml")), tmp_path / "out")
    main, small = found.structures
    assert (main.file, small.file, main.weight, small.weight) == ("model.yaml", "other.yaml", 0.7, 0.3)
    assert main.answers["go"] == proportion(record.decisions["go"].to_numpy(bool))
    assert small.answers["go"] == proportion(alone.decisions["go"].to_numpy(bool))
    assert set(main.answers) == {"go", "y, drug: significant"}
    assert main.answers["go"].value > small.answers["go"].value + 0.1
    mean = found.weighted["go"]
    assert mean.value == pytest.approx(0.7 * main.answers["go"].value + 0.3 * small.answers["go"].value)
    # the runs share people and draws: by the replicates' own weighted answers
    each = 0.7 * record.decisions["go"] + 0.3 * alone.decisions["go"]
    assert mean.mcse == pytest.approx(float(each.std(ddof=0)) / np.sqrt(150), rel=1e-6)


def test_runs_of_different_length_and_nothing_in_common() -> None:
    a = pd.Series(np.arange(100) % 3 == 0, index=np.arange(100))
    b = pd.Series(np.arange(40) % 2 == 0, index=np.arange(40) + 1000)
    both = averaged([(0.5, a), (0.5, b)])
    apart = [proportion(s.to_numpy()).mcse for s in (a, b)]
    assert both.mcse == pytest.approx(0.5 * np.hypot(*apart))


def test_powers_of_a_normal_law_are_its_variances() -> None:
    """P(z > 0.5) under N(0, 1)^a is Phi(-0.5 sqrt(a)); the stated error is the spread over 300 repetitions."""
    z = normals(1, Purpose.PARAMETER_UNCERTAINTY, subject=np.arange(400), replicate=np.arange(300)[:, None], slot=1)
    flags = (z > 0.5).astype(np.float64)
    for power in (0.8, 1.25):
        made = [powered(f, s, power)[0] for f, s in zip(flags, z * z, strict=True)]
        values = np.array([m.value for m in made])
        assert values.mean() == pytest.approx(
            stats.norm.cdf(-0.5 * np.sqrt(power)), abs=4 * values.std() / np.sqrt(300)
        )
        assert np.mean([m.mcse for m in made]) == pytest.approx(values.std(), rel=0.15)


def test_published_draws_are_standardised_by_their_own_law() -> None:
    text = MODEL.replace("KE: {typical: 1e-9 1/h,", "KA: {typical: 3 1/h, above: KE, se: 0.2, status: assumed}\n  "
                         "KE: {typical: 0.1 1/h, se: 0.3,").replace("-KE*A", "-KE*A + 0*KA*A")  # fmt: skip
    model = Model.parse(text, "model.yaml")
    found = standardised(model, published(model, 50, 9), known=("E0",))
    assert set(found) == {"GAIN", "KA", "KE"}
    for name, z in found.items():
        own = normals(9, Purpose.PARAMETER_UNCERTAINTY, subject=np.arange(50), replicate=0, slot=slots([name]))
        np.testing.assert_allclose(z, own, atol=1e-9)


def test_scaling_foretells_a_run_with_wider_uncertainty(record, tmp_path) -> None:
    """GAIN's standard error times 1/sqrt(0.8), run again with the same people and addresses."""
    scaled = {(s.answer, s.of): s for s in robustness(record).scaled}
    assert {of for _, of in scaled} == {"all", "E0", "GAIN"}
    path = written(tmp_path, *ALONE)
    (tmp_path / "model.yaml").write_text(MODEL.replace("se: 3", f"se: {3 / np.sqrt(0.8)}"))
    wide = proportion(run(path, tmp_path / "out").decisions["go"].to_numpy(bool))
    one = scaled["go", "GAIN"]
    plain = proportion(record.decisions["go"].to_numpy(bool))
    assert one.wider.value == pytest.approx(wide.value, abs=3 * one.change.mcse)
    assert one.wider.value < plain.value < one.narrower.value  # GAIN likely above what is needed: narrower is better
    assert one.change.value > one.change.mcse
    assert one.change.value == one.narrower.value - one.wider.value
    assert 100 < one.effective < 150
    assert abs(scaled["go", "E0"].change.value) < 3 * scaled["go", "E0"].change.mcse  # it decides nothing


def test_the_report_says_it_with_intervals(record, tmp_path) -> None:
    page = write(record, tmp_path).read_text(encoding="utf-8")
    for words in ("What the decision hangs on", "weighted mean of the models", "Over the models:", "power-scaling"):
        assert words in page


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("weight: 0.3", "weight: 0.4", r"model.weight: weights of the models must sum to 1, got '1.1'"),
        (", weight: 0.3", "", r"sensitivity.small.model.weight: is missing"),
        (", weight: 0.7", "", r"model.weight: is missing"),
        ("weight: 0.3}", "weight: 0.3}, dropout: {hazard: 0.01 1/d}", "only a run that changes nothing else"),
        ("weight: 0.3", "weight: 1.3", "less than or equal to 1"),
    ],
)
def test_wrong_weights_are_refused_at_their_place(tmp_path, old, new, message) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Protocol.read(written(tmp_path, (old, new)))
    assert caught.value.line is not None


def test_what_every_replicate_says_is_certain_whatever_the_weights() -> None:
    square = np.linspace(0.0, 9.0, 12)  # weights whose sum is 1 but for the last bit: the share was 0.9999999999999999
    for said in (0.0, 1.0):
        shares = [powered(np.full(12, said), square, power)[0] for power in (0.8, 0.9, 1.1, 1.25)]
        assert [(x.value, x.mcse) for x in shares] == [(said, 0.0)] * 4
