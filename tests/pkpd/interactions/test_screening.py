"""The matrix of pairs. Witnesses are identities; sizes of known interactions are those of the reference data."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pkpd.ground.errors import InputError
from pkpd.interactions.drug import read
from pkpd.interactions.screening import Question, read_question, screen

TEXT = """vtrial: ddi/1
name: a few
victims: [midazolam, desipramine]
perpetrators:
  - itraconazole
  - drug: paroxetine
    regimens: [{name: 20 mg, dose: 20, interval: 24, doses: 14}]
genotypes:
  - {name: poor, activity: {CYP2D6: 0}}
draws: 200
"""


def test_a_small_matrix(tmp_path: Path) -> None:
    """Probabilities add to 1, medians lie in their intervals; with no CYP2D6 paroxetine does nothing to desipramine."""
    path = tmp_path / "q.yaml"
    path.write_text(TEXT)
    found = screen(read_question(path))
    cells = {(c.perpetrator, c.regimen, c.victim, c.genotype): c for c in found.cells}
    assert len(cells) == 9
    assert all(sum(c.classes) == pytest.approx(1.0) for c in found.cells)
    assert all(c.auc[1] <= c.auc[0] <= c.auc[2] for c in found.cells)
    poor = cells["paroxetine", "20 mg", "desipramine", "poor"]
    assert poor.auc == (1.0, 1.0, 1.0)
    assert poor.cmax == (1.0, 1.0, 1.0)
    assert poor.classes == (1.0, 0.0, 0.0, 0.0)
    assert poor.driver == "none"
    normal = cells["paroxetine", "20 mg", "desipramine", ""]
    assert poor.alone > 2.0
    assert normal.alone == pytest.approx(1.0)
    assert normal.classes[0] < 0.1
    assert normal.driver == "inactivation, liver"
    strong = cells["itraconazole", "200 mg once daily", "midazolam", ""]
    assert strong.rows == 7
    assert strong.driver == "reversible inhibition, gut and liver"
    assert strong.auc[0] > cells["itraconazole", "100 mg once daily", "midazolam", ""].auc[0] > 2.0
    assert (
        found.cells[0].classes[2] + found.cells[0].classes[3] >= found.cells[-1].classes[2] + found.cells[-1].classes[3]
    )


def test_an_effect_goes_when_the_perpetrator_is_stopped() -> None:
    """Rifampicin: most at 12 h, less after a week, gone (within 3 %) after eight weeks."""
    after = [
        screen(Question(perpetrators=["rifampicin"], victims=["midazolam"], victim_after=h, draws=100)).cells[0].auc[0]
        for h in (12.0, 168.0, 1344.0)
    ]
    assert after[0] < 0.2 < after[1] < after[2]
    assert after[2] == pytest.approx(1.0, abs=0.03)


def test_what_is_not_in_the_library_is_named(tmp_path: Path) -> None:
    """InputError with the nearest name, and with the line of a wrong field."""
    with pytest.raises(InputError, match="simvastatin"):
        screen(Question(victims=["simvastatine"]))
    path = tmp_path / "q.yaml"
    path.write_text(TEXT.replace("draws: 200", "draw: 200"))
    with pytest.raises(InputError, match="draw"):
        read_question(path)


@pytest.mark.parametrize(("old", "new", "field"), [
    ("CYP2D6: 0", "CYP2D6: -3", "genotypes[0].activity.CYP2D6"), ("CYP2D6: 0", "CYP2D7: 0", "genotypes[0].activity"),
    ("desipramine]", "desipramin]", "victims"), ("- itraconazole", "- itraconazol", "perpetrators"),
])  # fmt: skip
def test_a_question_that_means_nothing_is_refused_with_its_field(
    tmp_path: Path, old: str, new: str, field: str
) -> None:
    """A negative activity gave ratios without a number, an unknown enzyme the normal genotype's."""
    path = tmp_path / "q.yaml"
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(InputError) as error:
        screen(read_question(path))
    assert error.value.field == field
    assert error.value.remedy


@pytest.mark.parametrize(("name", "value", "field"), [
    ("fm", "1.3", "victim.pathways[0].fm"), ("extraction", "1", "victim.extraction"),
    ("renal", "1", "victim.renal"), ("fu", "5", "perpetrator.entities[0].fu"),
    ("half_life", "-10", "perpetrator.entities[0].half_life"), ("clearance", "0", "perpetrator.clearance"),
])  # fmt: skip
def test_a_drug_that_cannot_be_is_refused_with_its_field(tmp_path: Path, name: str, value: str, field: str) -> None:
    """The first value of that name in a file of the library, changed."""
    text = (Path(__file__).resolve().parents[3] / "pkpd/interactions/library/mexiletine.yaml").read_text()
    changed, count = re.subn(rf"({name}: {{value: )[0-9.]+", rf"\g<1>{value}", text, count=1)
    assert count == 1
    path = tmp_path / "drug.yaml"
    path.write_text(changed)
    with pytest.raises(InputError) as error:
        read(path)
    assert error.value.field == field


def test_a_drug_of_ones_own(tmp_path: Path) -> None:
    """A file besides the library: midazolam's copy behaves as midazolam does without the fitted parameters' knowledge."""
    text = (Path(__file__).resolve().parents[3] / "pkpd/interactions/library/midazolam.yaml").read_text()
    (tmp_path / "own.yaml").write_text(text.replace("name: midazolam", "name: own", 1))
    question = Question(drugs=["own.yaml"], victims=["own", "midazolam"], perpetrators=["ketoconazole"], draws=200)
    cells = {(c.regimen, c.victim): c for c in screen(question, folder=tmp_path).cells}
    own, known = cells["400 mg once daily", "own"], cells["400 mg once daily", "midazolam"]
    assert own.status == "one drug studied with others"
    assert own.rows == 0
    assert known.rows == 5
    assert 0.4 < own.auc[0] / known.auc[0] < 2.5
    assert own.auc != known.auc
