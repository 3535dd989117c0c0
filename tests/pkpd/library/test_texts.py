"""What the library's texts must hold beyond their numbers: sources, status, the unit trap, published orderings."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkpd.ground.errors import InputError
from pkpd.model.library import load, model_path, models
from pkpd.model.spec import Model

ROOT = Path(__file__).resolve().parents[3]
OURS = {"grasela_phenobarbital", "theophylline", "w1", "w2", "w3", "w4", "warfarin_pca"}
PUBLISHED = [name for name in models() if name not in OURS]


def test_every_section_of_the_reference_has_its_models() -> None:
    """models.md has 16 sections; 23 published models stand for them, beside the workloads and those that are fitted."""
    assert len(PUBLISHED) == 23
    assert set(models()) >= OURS


@pytest.mark.parametrize("name", PUBLISHED)
def test_values_have_sources(name: str) -> None:
    """A value is assumed or cites a source; every source is used; what is quoted from memory is assumed."""
    model = load(name)
    for parameter in model.parameters.values():
        assert parameter.cite or parameter.status == "assumed"
        if parameter.cite and "from memory" in model.cite[parameter.cite]:
            assert parameter.status == "assumed"
    used = {p.cite for p in model.parameters.values()} | {o.cite for o in model.outputs.values()}
    used |= {r.cite for r in model.reproduces.values()} | {e.cite for e in model.events.values()}
    text = model_path(name).read_text(encoding="utf-8")
    assert all(
        key in used or f"cite {key}" in text or key in ("qss", "goncalves", "memory", "dalla_man") for key in model.cite
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_golden_numbers_are_there(name: str) -> None:
    assert load(name).golden


def test_exposure_in_another_scale_is_refused() -> None:
    """The trap of the ovarian model: mg*min/mL where mg*h/L is meant, a factor 16.67, is an error naming both units."""
    text = model_path("zecchin_ovarian").read_text(encoding="utf-8")
    wrong = text.replace("AUCC: {unit: mg*h/L,", "AUCC: {unit: mg*min/mL,")
    assert wrong != text
    with pytest.raises(InputError) as refused:
        Model.parse(wrong)
    assert "16.6667 1/h and 1/h" in str(refused.value)


def test_a_written_conversion_is_accepted() -> None:
    """1 mg*min/mL is 16.67 mg*h/L: accepted when the factor carries that unit, refused when it carries none."""
    text = model_path("zecchin_ovarian").read_text(encoding="utf-8")
    text = text[: text.index("golden:")] + text[text.index("reproduces:") :]
    text = text.replace("AUCC: {unit: mg*h/L, range: [0, 400]}", "AUCT: {unit: mg*min/mL, range: [0, 25]}")
    text = text.replace("equations: |\n", "equations: |\n  AUCC = AUCT*TURN\n")
    factor = "  TURN: {typical: 16.666666666666668 %s, status: assumed}\n  TEND:"
    converted = Model.parse(text.replace("  TEND:", factor % "h*mL/L/min, in: h*mL/L/min"))
    assert converted.parameters["TURN"].value == pytest.approx(1 / 0.06)
    with pytest.raises(InputError, match="do not go together"):
        Model.parse(text.replace("  TEND:", factor % "1"))


def test_warfarin_doses_in_the_order_of_the_label() -> None:
    """Racemic dose for INR 2.5 at steady state, constant concentration: *1/*1 GG > *1/*1 AA > *3/*3 AA.

    Label (memory): 5-7, 3-4, 0.5-2 mg/d. INR = 1 + 20 (1 - S^2)^3.61, S = 1/(1 + (C/EC50)^0.424), dose = 2 * 24 CL C.
    """
    p = {name: float(q.typical) for name, q in load("hamberg_warfarin").parameters.items()}
    s = (1 - (1.5 / p["INRMAX"]) ** (1 / p["LAMBDA"])) ** 0.5
    share = (1 / s - 1) ** (1 / p["GAMMA"])
    gg, aa = p["EC50GG"] * share * 48 * p["CL"], p["EC50AA"] * share * 48 * p["CL"]
    assert gg > aa > aa * p["F33"]
    assert 5 / 1.3 < gg < 7 * 1.3
    assert 3 < aa < 4
    assert 0.5 < aa * p["F33"] < 2


def test_the_page_tells_of_every_model() -> None:
    """docs/library.md: each model with its number of golden values."""
    page = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    for name in models():
        count = sum(len(g.values) for g in load(name).golden.values())
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        assert row.split("|")[5].strip() == str(count)
