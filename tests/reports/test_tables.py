"""Tables refuse ragged rows, and their CSV runs nothing. Witness: OWASP's list of formula starts."""

import csv
import io

import pytest

from reports.tables import Table, columns, sentence, to_csv


def test_rows_must_fit_the_columns() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        Table(caption="c", columns=columns("A", "B"), rows=(("1",),))
    with pytest.raises(ValueError, match="mark"):
        Table(caption="c", columns=columns("A"), rows=(("1",), ("2",)), marks=("",))


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1"])
def test_cells_that_a_spreadsheet_would_run_are_neutralised(cell: str) -> None:
    written = list(
        csv.reader(io.StringIO(to_csv(Table(caption="c", columns=columns("A"), rows=((cell,),))), newline=""))
    )
    assert written[1][0].startswith("'")
    assert written[1][0][1:] == cell


def test_ordinary_cells_are_left_alone() -> None:
    table = Table(caption="c", columns=columns("Arm", "Mean|L"), rows=(('200 mg, "slow"', "0.05 to 0.10"),))
    assert list(csv.reader(io.StringIO(to_csv(table)))) == [["Arm", "Mean (L)"], ['200 mg, "slow"', "0.05 to 0.10"]]


def test_sentence() -> None:
    assert [sentence(x) for x in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
