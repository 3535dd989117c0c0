"""`vtrial ae`: events and subjects in, a table of every term and a page out; numbers by hand, CDISC pilot as a whole."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from reports.cli import main
from reports.desk import ae as desk
from trials.analysis import binary

TERM = "<script>x</script>"


def files(folder: Path) -> list[str]:
    """20 on placebo, 20 on drug for 100 days; 8 on drug itch on day 10, 1 on placebo has a serious =rash on day 50."""
    people = ["USUBJID,ARM,DAYS"] + [f"{k},{'drug' if k < 20 else 'placebo'},100" for k in range(40)]
    (folder / "s.csv").write_text("\n".join(people) + "\n")
    events = ["USUBJID,AEBODSYS,AEDECOD,ASTDY,AESEV,AESER"]
    events += [f"{k},Skin,{TERM},10,{'SEVERE' if k == 0 else 'MILD'},N" for k in range(8)]
    events += ["39,Skin,=rash,50,MODERATE,Y", "0,Skin,=rash,-3,MILD,N"]
    (folder / "e.csv").write_text("\n".join(events) + "\n")
    return [str(folder / "e.csv"), "--subjects", str(folder / "s.csv"), "--column", "arm=ARM", "--column",
            "duration=DAYS", "--out", str(folder / "out")]  # fmt: skip


def rows(folder: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    with (folder / "out" / desk.TABLE).open() as file:
        return {(r["level"], r["term"], r["arm"]): r for r in csv.DictReader(file)}


def test_table_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Person-years by hand: 12 x 100 + 8 x 10 days; the interval is that of Miettinen and Nurminen."""
    assert main(["ae", *files(tmp_path), "--model", "none"]) == 0
    told = capsys.readouterr().out
    assert "1 of 20 subjects (5.0 %) on placebo had at least one" in told
    found = rows(tmp_path)
    itch = found["term", TERM, "drug"]
    assert (itch["subjects"], itch["n"], itch["events"], itch["posterior_or"]) == ("8", "20", "8", "")
    assert float(itch["person_years"]) == pytest.approx(1280 / 365.25)
    assert float(itch["incidence_100py"]) == pytest.approx(100 * 8 * 365.25 / 1280)
    risk = binary.miettinen_nurminen(8, 20, 0, 20)
    assert float(itch["difference_lower"]) == pytest.approx(float(risk.lower))
    assert found["term", "'=rash", "placebo"]["events"] == "1"
    assert found["any", "", "placebo"]["difference"] == ""
    text = (tmp_path / "out" / desk.PAGE).read_text()
    assert "<script>" not in text
    assert "1 lines left out: not treatment-emergent" in text
    whole = binary.miettinen_nurminen(8, 20, 1, 20)  # of any event: (8 - 1)/20
    limits = f"{1 / float(whole.upper):.1f} to {1 / float(whole.lower):.0f}"
    assert f"NNTH 2.9 (NNTH {limits})" in text
    assert (itch["with_several"], itch["mean_undated"], itch["lwyy"]) == ("0", "0", "")  # no event on placebo
    both = found["any", "", "drug"]  # 8 events to 1 with equal exposure
    assert float(both["lwyy"]) == pytest.approx(8.0, rel=0.3)
    assert float(both["lwyy_lower"]) < 8.0 < float(both["lwyy_upper"])
    assert float(both["negative_binomial"]) == pytest.approx(8.0, rel=1e-6)
    assert "Events that come again" in text
    assert "Subjects with an event of a grade or worse" in text


def test_choices_and_model(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Serious events alone; the model's columns, and JSON for machines; few draws are told on the page."""
    from functools import partial

    from trials.analysis import ae_hierarchy

    short = partial(ae_hierarchy.hierarchy, chains=2, draws=40, warmup=20)
    monkeypatch.setattr(ae_hierarchy, "hierarchy", short)
    assert main(["ae", *files(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["left_out"] == {"not treatment-emergent": 1}
    assert told["arms"][1] == {"arm": "drug", "n": 20, "with_event": 8}
    assert told["sound"] == [False]
    itch = rows(tmp_path)["term", TERM, "drug"]
    assert float(itch["posterior_or_lower"]) <= float(itch["posterior_or"]) <= float(itch["posterior_or_upper"])
    assert "has not converged" in (tmp_path / "out" / desk.PAGE).read_text()
    assert main(["ae", *files(tmp_path), "--json", "--model", "none", "--only", "serious"]) == 0
    assert json.loads(capsys.readouterr().out)["arms"][1]["with_event"] == 0


def test_no_events_and_one_arm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A trial in which nothing happened has a page of nothing; one arm is refused, it is compared with nothing."""
    (tmp_path / "a.csv").write_text("USUBJID,AEBODSYS,AEDECOD\n")
    (tmp_path / "s.csv").write_text("USUBJID,TRT01A,TRTDURD\na,placebo,10\nb,drug,10\nc,drug,10\n")
    call = ["ae", str(tmp_path / "a.csv"), "--subjects", str(tmp_path / "s.csv"), "--out", str(tmp_path / "out")]
    assert main(call) == 0
    assert rows(tmp_path)["any", "", "drug"]["events"] == "0"
    (tmp_path / "s.csv").write_text("USUBJID,TRT01A,TRTDURD\na,placebo,10\n")
    assert main(call) == 2
    assert "TRT01A: has one arm alone, got 'placebo'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--control", "plazebo"), "control: is no arm"), (("--column", "arms=ARM"), "--column: must be WHAT=NAME"),
        (("--column", "arm=TRT"), "s.csv:1 TRT: the column is missing"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], words: str) -> None:
    assert main(["ae", *files(tmp_path), "--model", "none", *more]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert "Remedy" in told
