"""Schedule codes, windows and folds. Witness: the rows of ../shared/data/ddi, read by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pkpd.interactions.library import drugs
from pkpd.interactions.observed import fold, read_studies, times_and_doses

TABLE = Path(__file__).resolve().parents[4] / "shared" / "data" / "ddi" / "observed_auc_ratios.csv"


@pytest.mark.parametrize(
    ("code", "dose", "expected"),
    [
        ("(S-0,T-12-R-3)", "250", [(0, 250), (12, 250), (24, 250)]),
        ("400mg: 0-12, 200mg: 24-36", "400/200", [(0, 400), (12, 400), (24, 200), (36, 200)]),
        ("S0-T24-R2 (10 mg), S432-T24-R1 (75 mg)", "first 10, then 75", [(0, 10), (24, 10), (432, 75)]),
        ("(S0-T8-R2)-126", "500", [(0, 500), (8, 500), (126, 500)]),
        ("48 + 72", "100", [(48, 100), (72, 100)]),
        ("(200mg): (S0-T5-R2)-(S24-T5-R1); (400mg): S15-T24-R1", "200/400", [(0, 200), (5, 200), (15, 400), (24, 200)]),
        ("S0-T48-R3", "100/200", [(0, 100), (48, 100), (96, 200)]),
    ],
)
def test_schedule_codes(code: str, dose: str, expected: list[tuple[float, float]]) -> None:
    """Codes as they stand in the table, shortened."""
    assert times_and_doses(code, dose) == expected


@pytest.mark.witness
def test_all_rows_are_read() -> None:
    """179 rows, 59 pairs, none dropped; Yu 2004 (row 200) is divided by its dose correction of 2; PM is activity 0."""
    if not TABLE.is_file():
        pytest.skip("../shared/data/ddi is not here")
    studies, without = read_studies(TABLE, drugs())
    found = {s.key: s for s in studies}
    assert len(studies) == 179
    assert without == []
    assert len({s.pair for s in studies}) == 59
    assert found["200"].ratio == pytest.approx(0.98522 / 2)
    assert found["17136"].course.activity == {"CYP2D6": 0.0}
    assert found["57"].course.window == (185.0, math.inf)
    assert found["56"].course.perpetrators[0].times == (0.0, 24.0, 48.0, 72.0, 96.0)
    assert sum(bool(s.assumed) for s in studies) == 19
    sizes = [sum(fold(s.pair) == k for s in studies) for k in range(5)]
    assert sizes == [20, 21, 35, 41, 62]
