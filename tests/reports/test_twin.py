"""`vtrial twin` from files to page and JSON. Witnesses: the library's own numbers, identities, the page's own rules."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

from pkpd.ground import digest
from reports.cli import main

DATA = """ID,TIME,AMT,RATE,DV,EVID,CRCL,WT,DIAL
P1,0,1000,1000,.,1,55,72,0
P1,12,1000,1000,.,1,55,72,0
P1,24,1000,1000,.,1,55,72,0
P1,26.5,.,.,38.2,0,55,72,0
P1,35.5,.,.,24.1,0,55,72,0
P1,36,1000,1000,.,1,55,72,0
"""
AIM = ["--target", "AUC24 400..600", "--toxic", "AUC24 > 650", "--doses", "500,1000", "--every", "12,24"]


def _run(folder: Path, data: str = DATA, *more: str) -> tuple[int, dict, str]:
    path = folder / "patient.csv"
    path.write_text(data)
    code = main(
        ["twin", str(path), "--model", "goti_vancomycin", "--out", str(folder / "out"), "--particles", "1000", *more]
    )
    answer = json.loads((folder / "out" / "twin.json").read_text())
    return code, answer, (folder / "out" / "twin.html").read_text()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return _run(tmp_path_factory.mktemp("twin"), DATA, *AIM)


def test_the_answer_is_hashed_and_says_what_went_in(made):
    code, answer, page = made
    assert code == 0
    assert answer["sound"]
    assert answer["inputs"]["data"] == digest.of_text(DATA)
    told = answer.pop("digest")
    assert told == digest.of_json(answer)
    answer["digest"] = told
    assert told in page


def test_chances_lie_between_0_and_1_and_fall_with_the_dose(made):
    choices = made[1]["doses"]["choices"]
    assert len(choices) == 4
    assert all(0 <= c["reached"] <= 1 and c["reached_mcse"] < 0.03 for c in choices)
    area = {(c["candidate"]["amount"], c["candidate"]["every"]): c["median"] for c in choices}
    assert area[500, 12] == pytest.approx(0.5 * area[1000, 12], rel=0.15)  # linear, but for the doses given before
    assert area[1000, 24] < area[1000, 12]


def test_the_page_is_self_contained_and_named(made):
    page = made[2]
    assert "<script" not in page
    assert not re.search(r"(src|href)=[\"']http", page)
    for words in ("Levels and forecast", "Which dose", "Do the data fit?", "Provenance", "mg/L x h", "Pareto k"):
        assert words in page


def test_the_same_inputs_give_the_same_bytes(made, tmp_path):
    _, answer, page = _run(tmp_path, DATA, *AIM)
    assert answer == made[1]
    assert page == made[2]


def test_a_name_that_is_markup_is_text(tmp_path):
    _, _, page = _run(tmp_path, DATA.replace("P1", "<b onclick=x>&"))
    assert "<b onclick" not in page
    assert "&lt;b onclick=x&gt;&amp;" in page


def test_a_patient_outside_the_domain_is_flagged_and_not_sound(tmp_path):
    code, answer, page = _run(tmp_path, DATA.replace(",55,", ",190,"))
    assert code == 3
    assert not answer["sound"]
    assert "CRCL 190 is outside 1 to 150" in answer["outside_domain"][0]
    assert "Read this first" in page


def test_a_level_off_by_ten_is_not_to_be_used(tmp_path):
    code, answer, page = _run(tmp_path, DATA.replace("24.1", "241"))
    assert code == 3
    assert not answer["sound"]
    assert any(d["unlikely"] for d in answer["data"])
    assert "Read this first" in page
    assert "contradict the model" in answer["verdict"]


def test_a_stream_of_rows_updates_and_chains(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "sys.stdin", io.StringIO("P1,47.5,.,.,22.0,0,55,72,0\nP1,48,1000,1000,.,1,55,72,0\nP1,59,.,.,21,0,55,72,0\n")
    )
    code, answer, _ = _run(tmp_path, DATA, "--stream")
    assert code == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [line["observations"] for line in lines] == [3, 3, 4]
    assert [u["previous"] for u in answer["updates"][1:]] == [u["digest"] for u in answer["updates"][:-1]]
    assert len(answer["data"]) == 4
    assert answer["posterior"]["method"] == "resample-move"


@pytest.mark.parametrize(("more", "words"), [
    (["--target", "AUC24"], "is not a target"), (["--toxic", "AUC24 > 1"], "needed to choose"),
    ([*AIM[:2], "--doses", "500;1000"], "separated by commas"), (["--id", "P9"], "no such patient"),
    ([*AIM[:2], "--horizon", "6"], "shorter than an interval"),
])  # fmt: skip
def test_bad_orders_are_one_line_and_2(tmp_path, capsys, more, words):
    path = tmp_path / "p.csv"
    path.write_text(DATA)
    assert main(["twin", str(path), "--model", "goti_vancomycin", "--out", str(tmp_path / "o"), *more]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_a_fit_s_posterior_is_the_population_and_is_named(tmp_path):
    from pkpd import posterior
    from pkpd.model.library import load
    from pkpd.model.variability import published

    model = load("goti_vancomycin")
    for ok, code in ((True, 0), (False, 3)):
        fit = posterior.Posterior(
            draws=published(model, 50, 1), model=model, diagnostics={"ok": ok, "verdict": "R-hat 2."}
        )
        path = posterior.write(fit, tmp_path / "posterior.parquet")
        if ok:
            _, answer, _ = _run(tmp_path, DATA, "--posterior", str(path))
            assert answer["inputs"]["source"] == f"posterior {fit.digest}"
        else:
            (tmp_path / "p.csv").write_text(DATA)
            order = ["twin", str(tmp_path / "p.csv"), "--model", "goti_vancomycin", "--out", str(tmp_path / "o")]
            assert main([*order, "--posterior", str(path)]) == code
            assert main([*order, "--posterior", str(path), "--force"]) == 0


def test_several_patients_need_a_name(tmp_path, capsys):
    both = DATA + DATA.split("\n", 1)[1].replace("P1", "P2")
    path = tmp_path / "p.csv"
    path.write_text(both)
    assert main(["twin", str(path), "--model", "goti_vancomycin", "--out", str(tmp_path / "o")]) == 2
    assert "--id P1" in capsys.readouterr().err
    assert main(["twin", str(path), "--model", "goti_vancomycin", "--out", str(tmp_path / "o"), "--id", "P2"]) == 0


def test_the_twin_loads_no_sampler(tmp_path):
    import subprocess
    import sys

    code = "import sys, pkpd.twin.twin, pkpd.twin.accounts, reports.twin_page; print([m for m in ('pymc', 'nutpie', 'arviz', 'pytensor') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
