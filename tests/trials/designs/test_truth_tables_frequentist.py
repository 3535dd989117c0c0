"""Witnesses: ../shared/reference/trials (rpact 3.3.4 / 4.5.0; sources and tolerances in its README).

Each test covers every row of one file and prints file, rows, worst error.
"""

from __future__ import annotations

import csv
import itertools
import re
from pathlib import Path

import pytest

from trials.designs.characteristics import characteristics
from trials.designs.sequential import Efficacy, Futility, Plan, boundaries, evenly

FOLDER = Path(__file__).parents[4] / "shared" / "reference" / "trials"
FAMILY = {"OF": "obrien_fleming", "P": "pocock", "HP": "haybittle_peto", "WT": "wang_tsiatis"}
SPENDING = {"OF": "lan_demets_obrien_fleming", "P": "lan_demets_pocock", "KD": "kim_demets", "HSD": "hwang_shih_decani"}

pytestmark = pytest.mark.witness


def table(name: str) -> list[dict[str, str]]:
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"witness numbers are not here: {path}")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def told(capsys: pytest.CaptureFixture[str], name: str, rows: int, worst: float) -> None:
    with capsys.disabled():
        print(f"\n{name}: {rows} rows, worst error {worst:.2e}")


def number(text: str) -> float | None:
    return None if text in ("NA", "") else float(text)


def efficacy(design: str) -> Efficacy:
    """`OF_K3`, `WT0.25_K3`, `asHSD-4_K5` ..."""
    found = re.match(r"(as)?(OF|P|HP|WT|KD|HSD)_?(-?\d*\.?\d*)?(?=_|$)", design)
    assert found, design
    shape = float(found[3]) if found[3] else 0.0
    if found[1]:
        return Efficacy(spending=SPENDING[found[2]], shape=shape)
    return Efficacy(family=FAMILY[found[2]], shape=shape)


def futility(design: str, looks: int, *, given: tuple[float, ...] = ()) -> Futility | None:
    binding = "_bind" in design
    found = re.search(r"_bs(OF|P|KD|HSD)(-?\d*\.?\d*)", design)
    if found:
        return Futility(spending=SPENDING[found[1]], shape=float(found[2] or 0), binding=binding)
    return Futility(z=given, binding=binding) if given else None


def plan_of(design: str, rows: list[dict[str, str]]) -> Plan:
    """A plan from the rows of one design of gs_boundaries.csv."""
    first, looks = rows[0], len(rows)
    information = tuple(float(row["info_rate"]) for row in rows)
    even = max(abs(a - b) for a, b in zip(information, evenly(looks))) < 1e-6  # the file keeps 8 digits
    spends = number(first["beta_spent"]) is not None
    given = () if spends else tuple(z for row in rows[:-1] if (z := number(row["futility_z"])) is not None)
    return Plan(
        information=evenly(looks) if even else information,
        alpha=float(first["alpha"]), sides=int(first["sided"]), power=1 - float(first["beta"]),
        efficacy=efficacy(design), futility=futility(design, looks, given=given),
    )  # fmt: skip


def test_boundaries(capsys: pytest.CaptureFixture[str]) -> None:
    """rpact getDesignGroupSequential: 1e-4 on z."""
    rows, worst = table("gs_boundaries.csv"), 0.0
    columns = {"crit_z": "upper", "stage_level_p": "stage_level", "alpha_spent": "alpha_spent", "futility_z": "lower", "beta_spent": "beta_spent"}  # fmt: skip
    for design, group in itertools.groupby(rows, key=lambda row: row["design_id"]):
        of_design = list(group)
        found = boundaries(plan_of(design, of_design))
        for k, row in enumerate(of_design):
            for column, name in columns.items():
                if (expected := number(row[column])) is not None:
                    worst = max(worst, abs(float(getattr(found, name)[k]) - expected))
                    assert getattr(found, name)[k] == pytest.approx(expected, abs=1e-6), (design, k, column)
    told(capsys, "gs_boundaries.csv", len(rows), worst)


def test_inflation_and_expected_information(capsys: pytest.CaptureFixture[str]) -> None:
    """rpact getDesignCharacteristics: 1e-3 relative."""
    rows, worst = table("gs_inflation_asn.csv"), 0.0
    for row in rows:
        design, looks = row["design"], int(row["K"])
        found = characteristics(boundaries(Plan(
            information=evenly(looks), alpha=float(row["alpha"]), sides=int(row["sided"]), power=float(row["power"]),
            efficacy=efficacy(design), futility=futility(design, looks),
        )))  # fmt: skip
        got = {
            "fixed_info": found.fixed_information, "max_info": found.maximum_information, "inflation_factor": found.inflation,
            "asn_ratio_H1": found.expected_effect, "asn_ratio_H01": found.expected_half, "asn_ratio_H0": found.expected_null,
            "power_stage1": float(found.under_effect.reject[0]), "power_stage_K": found.under_effect.power,
        }  # fmt: skip
        for column, value in got.items():
            worst = max(worst, abs(value / float(row[column]) - 1))
            assert value == pytest.approx(float(row[column]), rel=1e-5), (design, column)
    told(capsys, "gs_inflation_asn.csv", len(rows), worst)
