"""Bad data are named with line and remedy before anything is sampled. Witness: defects put into sound data by hand."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from pkpd.model.library import data_path, load
from pkpd.model.records import Records
from pkpd.screening import require_sane, screened, typical_predictions

MODEL = load("theophylline")
SOURCE = Path(data_path("theophylline.csv")).read_text()
LINES = SOURCE.splitlines()
COLUMNS = LINES[0].split(",")


def cells(line: int, **changed: object) -> str:
    """Line `line` of the file with some cells changed."""
    found = dict(zip(COLUMNS, LINES[line - 1].split(","), strict=True))
    return ",".join(str(changed.get(name, found[name])) for name in COLUMNS)


def changed(lines: dict[int, str], *, added: tuple[int, str] | None = None) -> Records:
    text = [lines.get(k + 1, line) for k, line in enumerate(LINES)]
    if added is not None:
        text.insert(added[0], added[1])
    return Records.parse("\n".join(text) + "\n", "data.csv", MODEL)


def scaled(lines: range, factor: float) -> dict[int, str]:
    place = COLUMNS.index("DV")
    values = {k: LINES[k - 1].split(",")[place] for k in lines}
    return {k: cells(k, DV=float(value) * factor) for k, value in values.items() if value != "."}


def rows_of(subject: str) -> range:
    mine = [k + 1 for k, line in enumerate(LINES) if line.split(",")[0] == subject]
    return range(mine[0], mine[-1] + 1)


def test_the_published_data_are_sound_and_their_levels_before_the_dose_are_said() -> None:
    """Subjects 1, 3 and 10 had theophylline before the dose: 0.74, 0.24 and 0.15 mg/L in the published table."""
    found = require_sane(MODEL, Records.parse(SOURCE, "data.csv", MODEL))
    assert {(f.value, f.time) for f in found} == {(0.74, 0.0), (0.24, 0.0), (0.15, 0.0)}
    assert all("before any dose" in f.problem and f.line > 1 and not f.stops for f in found)


def test_typical_predictions_are_bateman_s() -> None:
    """Witness: the closed form written out, F = 1."""
    records = Records.parse(SOURCE, "data.csv", MODEL)
    value = {name: float(p.value) for name, p in MODEL.parameters.items()}
    ka, cl, v = value["KA"], value["CL"], value["V"]
    dose = records.doses.amount[records.subject]
    t, ke = records.time, cl / v
    expected = dose * ka / (v * (ka - ke)) * (np.exp(-ke * t) - np.exp(-ka * t))
    assert np.allclose(typical_predictions(MODEL, records), expected, rtol=1e-9, atol=1e-9)


def test_a_study_in_another_unit() -> None:
    with pytest.raises(InputError, match=r"about 1000 times above what the model says: a wrong unit") as caught:
        require_sane(MODEL, changed(scaled(range(2, len(LINES) + 1), 1000.0)))
    assert caught.value.field == "DV"
    assert caught.value.line
    assert "write DV in mg/L" in str(caught.value)


@pytest.mark.parametrize("factor", [1000.0, 0.001])
def test_one_subject_in_another_unit(factor: float) -> None:
    found = [f for f in screened(MODEL, changed(scaled(rows_of("5"), factor))) if f.stops]
    assert [f.subject for f in found] == ["5"]
    assert found[0].line in rows_of("5")
    assert "about 1000 times" in found[0].problem


def test_a_negative_value() -> None:
    with pytest.raises(InputError, match="is below zero, which CP never is") as caught:
        require_sane(MODEL, changed({8: cells(8, DV=-1.5)}))
    assert (caught.value.line, caught.value.value) == (8, -1.5)
    assert "CENS" in str(caught.value)


def test_doses_after_the_last_sample_are_said() -> None:
    last = rows_of("2")[-1]
    line = cells(rows_of("2")[0], TIME=48)
    found = [f for f in screened(MODEL, changed({}, added=(last, line))) if f.field == "AMT"]
    assert [(f.subject, f.time, f.stops) for f in found] == [("2", 48.0, False)]
    assert "after the subject's last observation" in str(found[0])


def test_a_second_value_of_one_time() -> None:
    """The same value twice stops the fit, also where another column makes the lines differ; another value is said."""
    k = rows_of("4")[4]
    same, other = cells(k, CMT=1), cells(k, DV=9.99)
    with pytest.raises(InputError, match="is a second value of one time") as caught:
        require_sane(MODEL, changed({}, added=(k, same)))
    assert caught.value.line == k + 1
    found = [f for f in require_sane(MODEL, changed({}, added=(k, other))) if "second value" in f.problem]
    assert [(f.line, f.value) for f in found] == [(k + 1, 9.99)]


def test_a_repeated_line_and_a_subject_without_data_never_get_here() -> None:
    k = rows_of("4")[4]
    with pytest.raises(InputError, match="repeats an earlier one") as caught:
        changed({}, added=(k, LINES[k - 1]))
    assert caught.value.line == k + 1
    with pytest.raises(InputError, match="the subject has no observation") as caught:
        changed({}, added=(len(LINES), cells(2, ID=99)))
    assert caught.value.line == len(LINES) + 1


def test_it_comes_before_any_sampling() -> None:
    from pkpd.bayes.fit import fit

    start = time.process_time()
    with pytest.raises(InputError, match="is below zero"):
        fit(MODEL, changed({8: cells(8, DV=-1.5)}), seed=1, cache=False)
    assert time.process_time() - start < 20  # a first compilation of the closed form included
