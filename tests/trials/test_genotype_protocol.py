"""Genotypes in a protocol: the text of `examples/warfarin_genotype`, read, checked, drawn; nothing is simulated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from pkpd.ground.validation import adapter
from pkpd.model.library import model_path
from populations import Criteria, enrol
from reports.gather import _genotype
from trials.protocol import Protocol

FOLDER = Path(__file__).parents[2] / "examples" / "warfarin_genotype"
TEXT = (FOLDER / "protocol.yaml").read_text(encoding="utf-8")


def read(*changes: tuple[str, str]) -> Protocol:
    """The example with some words changed, all checks run."""
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return Protocol.parse(text, file=str(FOLDER / "protocol.yaml"))


def test_the_example_draws_genotypes_by_ancestry() -> None:
    """VKORC1 AA by hand: 0.388^2 in Europeans, 0.885^2 in East Asians (the shipped frequencies): within 4 errors."""
    protocol = read()
    cohort = enrol(protocol.population.people(), Criteria.parse(protocol.population.eligible), seed=1,
                   replicates=np.arange(4), subjects=500)  # fmt: skip
    people = {name: values.reshape(-1) for name, values in cohort.covariates.items()}
    for code, p in ((0.0, 0.388), (1.0, 0.885)):
        here = people["ANCESTRY"] == code
        assert abs((people["VKORC1"][here] == 2).mean() - p * p) < 4 * np.sqrt(p * p * (1 - p * p) / here.sum())
    assert people["AGE"].min() >= 50


def test_the_report_says_where_the_frequencies_are_from() -> None:
    words = _genotype(read())
    assert "European 0.6, East Asian 0.4" in words
    assert "Shendre" in words
    assert _genotype(read(("genes: [CYP2C9, VKORC1]", "genes: [VKORC1, CYP2C9]"))) != words


@pytest.mark.parametrize(("old", "new", "said"), [
    ("genes: [CYP2C9, VKORC1]", "genes: [VKORC1]", "CYP2C9"),
    ("East Asian: 0.4", "East Asian: 0.5", "sum to 1"),
    ("East Asian: 0.4", "East Asia: 0.4", "has no frequencies"),
    ("genes: [CYP2C9, VKORC1]", "genes: [CYP2C9, VKORC2]", "not a gene we know"),
    ("VKORC1, ANCESTRY]", "CYP2C9_AS]", "no categories"),
    ("law: nhanes_adults", "law: nhanes_adults\n  set: {VKORC1: {0: 1}}", "drawn with the genotype"),
])  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(old: str, new: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        read((old, new))
    assert error.value.line is not None


def test_codes_that_mean_something_else_are_refused(tmp_path: Path) -> None:
    """A model that codes VKORC1 the other way round would be dosed the wrong way round."""
    text = model_path("hamberg_warfarin").read_text(encoding="utf-8")
    (tmp_path / "m.yaml").write_text(text.replace("{0: GG, 1: AG, 2: AA}", "{0: AA, 1: AG, 2: GG}"))
    protocol = TEXT.replace("../../pkpd/library/hamberg_warfarin.yaml", "m.yaml")
    with pytest.raises(InputError, match="codes VKORC1 otherwise"):
        Protocol.parse(protocol, file=str(tmp_path / "p.yaml"))
    (tmp_path / "m.yaml").write_text(text)
    assert Protocol.parse(protocol, file=str(tmp_path / "p.yaml")).population.genotype is not None


def test_the_choice_survives_plain_values() -> None:
    """Identity: from_plain(to_plain(p)) = p, the law's digest too."""
    protocol = read(("genes: [CYP2C9, VKORC1] ", "genes: [CYP2C9, VKORC1]\n    activity: {CYP2C9: {no: 0.1}}"))
    again = adapter(Protocol).validate_python(json.loads(json.dumps(protocol.to_dict())))
    assert again == protocol
    assert again.population.people().digest == protocol.population.people().digest
    assert again.population.people().digest != read().population.people().digest
