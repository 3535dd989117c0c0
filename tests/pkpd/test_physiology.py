"""Physiology: published formulas against ../shared/reference/physiology.csv and values worked from the papers."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pkpd import physiology

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "physiology.csv"
NAMES = {
    "scr_mg_dl": "creatinine", "weight_kg": "weight", "height_cm": "height", "reference_kg": "reference",
    "pma_weeks": "postmenstrual_weeks", "L": "skew", "M": "median", "S": "variation",
}  # fmt: skip


def rows() -> list[dict[str, str]]:
    if not REFERENCE.exists():
        return []
    with REFERENCE.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def inputs(text: str) -> dict[str, float]:
    pairs = (item.split("=") for item in text.split())
    codes = {"male": 1.0, "female": 0.0}
    return {NAMES.get(name, name): codes[value] if value in codes else float(value) for name, value in pairs}


@pytest.mark.witness
@pytest.mark.skipif(not REFERENCE.exists(), reason="../shared/reference/physiology.csv is not here")
@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row['formula']} {row['inputs']}")
def test_reference_rows(row: dict[str, str]) -> None:
    digits = len(row["expected"].partition(".")[2])
    got = float(getattr(physiology, row["formula"])(**inputs(row["inputs"])))
    assert got == pytest.approx(float(row["expected"]), abs=0.5000001 * 10.0**-digits)


@pytest.mark.witness
@pytest.mark.skipif(not REFERENCE.exists(), reason="../shared/reference/physiology.csv is not here")
def test_every_formula_has_a_row() -> None:
    assert {row["formula"] for row in rows()} == set(physiology.__all__) - {"bmi"}


@pytest.mark.parametrize(
    ("got", "expected", "tolerance"),
    [
        # Inker 2021, NEJM 385:1737: 142 x (0.8/0.7)^-1.2 x 0.9938^60 x 1.012 = 84.298
        (lambda: physiology.ckd_epi_2021(0, 60, 0.8), 142 * (0.8 / 0.7) ** -1.2 * 0.9938**60 * 1.012, 1e-11),
        # CKD-EPI 2021 below the knot: 142 x (0.5/0.9)^-0.302 x 0.9938^30
        (lambda: physiology.ckd_epi_2021(1, 30, 0.5), 142 * (0.5 / 0.9) ** -0.302 * 0.9938**30, 1e-11),
        # Cockcroft & Gault 1976: (140-60) 65/(72 0.8) 0.85
        (lambda: physiology.cockcroft_gault(0, 60, 65, 0.8), 80 * 65 / 57.6 * 0.85, 1e-12),
        # James 1976, man of 80 kg and 180 cm
        (lambda: physiology.lbm_james(1, 80, 180), 62.716, 1e-5),
        # Janmahasatian 2005, man of 80 kg and 180 cm
        (lambda: physiology.ffm_janmahasatian(1, 80, 180), 61.731, 1e-5),
        # Rhodin 2009: half of the adult GFR at 47.7 weeks
        (lambda: physiology.gfr_maturation(47.7), 0.5, 1e-12),
        # CDC 2000, boy of 9.5 months, about the 5th percentile of weight
        (lambda: physiology.lms_value(-0.1600954, 9.476500305, 0.11218624, -1.645), 7.90063, 1e-6),
        # Cole & Green 1992: the limit L -> 0
        (lambda: physiology.lms_value(0.0, 10.0, 0.1, 2.0), 10 * np.exp(0.2), 1e-13),
        # Anderson & Holford 2008: 12 kg child
        (lambda: physiology.allometry_clearance(12), (12 / 70) ** 0.75, 1e-12),
    ],
)
def test_embedded_values(got: Callable[[], np.ndarray], expected: float, tolerance: float) -> None:
    assert float(got()) == pytest.approx(expected, rel=tolerance)


def test_lms_inverts() -> None:
    """Identity of Cole & Green 1992: z = ((X/M)^L - 1)/(L S)."""
    skew, z = np.array([-0.6, -0.1, 0.3, 1.0]), np.array([[-2.0], [0.0], [1.5]])
    value = physiology.lms_value(skew, 20.0, 0.12, z)
    np.testing.assert_allclose(((value / 20.0) ** skew - 1) / (skew * 0.12), np.broadcast_to(z, (3, 4)), atol=1e-12)


@pytest.mark.parametrize("sex", [np.nan, 2.0, -1.0])
def test_unknown_sex_is_missing(sex: float) -> None:
    assert np.isnan(physiology.ckd_epi_2021(sex, 40, 1.0))
    assert np.isnan(physiology.ffm_janmahasatian(sex, 70, 170))


def test_missing_and_impossible_inputs_are_missing() -> None:
    assert np.isnan(physiology.ckd_epi_2021(1, [np.nan, 40, 40, 40, 12], [1, np.nan, 0, -1, 1])).all()
    assert np.isnan(physiology.cockcroft_gault(1, [40, 141, 17], [0, 70, 70], 1.0)).all()
    assert np.isnan(physiology.bmi([70, -1], [0, 170])).all()
    assert np.isnan(physiology.lms_value(1.0, 10.0, 0.5, -3.0))  # 1 + L S z below 0: no such value


def test_a_value_does_not_depend_on_its_batch() -> None:
    scr = np.linspace(0.3, 9.0, 1001)
    whole = physiology.ckd_epi_2021(1.0, 55.0, scr)
    alone = np.array([float(physiology.ckd_epi_2021(1.0, 55.0, x)) for x in scr[::50]])
    assert (whole[::50] == alone).all()
    assert (physiology.ckd_epi_2021(1.0, 55.0, scr[::-1])[::-1] == whole).all()
