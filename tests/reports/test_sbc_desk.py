"""`vtrial sbc`: files, going on, refusals, the page. The fits themselves are replaced: those are in tests/pkpd/bayes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pkpd.bayes import sbc
from pkpd.bayes.sbc import JOINT, Outcome, Study
from reports import page as reports_page
from reports import sbc_page
from reports.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples" / "sbc"
MODEL, DESIGN = str(EXAMPLES / "oral.yaml"), EXAMPLES / "oral_design.yaml"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the fits asked for; ranks run through the bins in turn."""
    asked: list[int] = []

    def fitted(study: Study, number: int, *, cores: int = 2) -> Outcome:
        asked.append(number)
        names = [*study.truth, JOINT]
        rank = (number * 5 + 2) % 100
        return Outcome(
            fit=number, draws=800, rhat=1.0, seconds=0.5, rank=dict.fromkeys(names, rank), pit=dict.fromkeys(names, (rank + 0.5) / 100),
            truth=dict.fromkeys(names, 0.0), mean=dict.fromkeys(names, 0.1), sd=dict.fromkeys(names, 0.1), ess=dict.fromkeys(names, 300.0),
        )  # fmt: skip

    monkeypatch.setattr(sbc, "fitted", fitted)
    return asked


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is not drawn: its figures take seconds."""
    monkeypatch.setattr(sbc_page, "page", lambda *args: None)
    monkeypatch.setattr(reports_page, "render", lambda page: "")


def run(out: Path, *more: str) -> int:
    return main(["sbc", MODEL, str(DESIGN), "--out", str(out), *more])


def test_a_study_goes_on_where_it_stopped(
    made: list[int], unseen: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    assert run(out, "--fits", "20") == 0
    assert made == list(range(20))
    printed = capsys.readouterr()
    assert "Calibrated as far as 20 fits can tell" in printed.out
    assert "calibrate: 20 of 20 fits in" in printed.err
    found = json.loads((out / "sbc.json").read_text())
    assert (found["ok"], found["fits"], found["counted"]) == (True, 20, 20)
    assert found["quantities"][0]["counts"] == [1] * 20
    assert run(out, "--fits", "40", "--resume") == 0
    assert made == list(range(40))
    assert json.loads((out / "sbc.json").read_text())["counted"] == 40
    torn = (out / "fits.jsonl").read_text().splitlines()
    (out / "fits.jsonl").write_text("\n".join(torn[:-1]) + "\n" + torn[-1][:50])  # a crash in the middle of a line
    assert run(out, "--fits", "40", "--resume") == 0
    assert made == [*range(40), 39]


def test_the_page_has_every_quantity_and_no_script(made: list[int], tmp_path: Path) -> None:
    assert run(tmp_path / "study", "--fits", "20", "--json") == 0
    page = (tmp_path / "study" / "sbc.html").read_text()
    assert page.count('aria-label="Rank histogram of') == 11
    assert "<script" not in page
    for name in ("log_KA_above", "corr_CL_V", "joint_log_density"):
        assert f"Rank histogram of {name}" in page
    assert "Coverage of central intervals" in page
    assert "z-score against contraction of omega_CL" in page


def test_what_is_there_is_not_overwritten(
    made: list[int], unseen: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    assert run(out, "--fits", "2") in (0, 3)
    assert run(out, "--fits", "2") == 2
    assert "holds a study already" in capsys.readouterr().err
    other = tmp_path / "other.yaml"
    other.write_text(DESIGN.read_text().replace("320 mg", "640 mg"))
    assert main(["sbc", MODEL, str(other), "--out", str(out), "--resume"]) == 2
    assert "holds another study (model, design or program changed)" in capsys.readouterr().err
    assert main(["sbc", MODEL, str(other), "--out", str(out), "--force", "--fits", "3"]) in (0, 3)
    assert len((out / "fits.jsonl").read_text().splitlines()) == 4


def test_ranks_that_pile_up_end_with_3(
    made: list[int], unseen: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = sbc.fitted

    def piled(study: Study, number: int, *, cores: int = 2) -> Outcome:
        return whole(study, number % 5, cores=cores)

    monkeypatch.setattr(sbc, "fitted", piled)
    assert run(tmp_path / "study", "--fits", "60") == 3
    assert "Not calibrated: the least p of 11 quantities" in capsys.readouterr().out


def test_a_wrong_name_is_told_before_any_fit(
    made: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(DESIGN.read_text().replace("{CP: [", "{CQ: ["))
    assert main(["sbc", MODEL, str(bad), "--out", str(tmp_path / "study")]) == 2
    assert "bad.yaml groups[0].samples: the model has no such output, got 'CQ'" in capsys.readouterr().err
    assert made == []
    assert main(["check", str(DESIGN)]) == 0
    assert "fits         300" in capsys.readouterr().out


def test_too_few_fits_say_nothing(
    made: list[int], unseen: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "study", "--fits", "1") == 3
    assert "1 of 1 fits count: too few to say anything" in capsys.readouterr().out
