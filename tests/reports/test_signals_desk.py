"""`vtrial signals`: reports in, a table of all pairs and a page of the ranked ones out."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from reports.cli import main
from reports.desk import signals as desk
from reports.signals_page import of_test
from trials.analysis import signals_reports
from trials.analysis.signals_fit import Theta, shrunk
from trials.analysis.signals_ratio import RatioTest, likelihood_ratio_test
from trials.analysis.signals_reports import Columns

THETA = "3.2538,0.3999,2.0261,1.9081,0.0653"


def reports(path: Path) -> Path:
    """20 reports: 8 of a product that a page must not run, 6 of them with an event that a spreadsheet must not run."""
    lines = ["case,drug,reaction,sex"]
    for k in range(20):
        drug = "<script>x</script>" if k < 8 else "plain"
        reaction = "=1+1" if k < 6 or k == 10 else "rash"
        lines.append(f'{k},{drug},"{reaction}",{"F" if k % 2 else "M"}')
    path.write_text("\n".join(lines) + "\n")
    return path


def run(tmp_path: Path, *more: str) -> int:
    names = ["--report", "case", "--product", "drug", "--event", "reaction"]
    return main(["signals", str(reports(tmp_path / "r.csv")), *names, "--out", str(tmp_path / "out"), *more])


def test_table_and_page_with_given_hyperparameters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--theta", THETA, "--strata", "sex") == 0
    assert "20 reports name 2 products and 2 events, 4 pairs" in capsys.readouterr().out
    with (tmp_path / "out" / desk.TABLE).open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == desk.COLUMNS
    assert (rows[0]["product"], rows[0]["event"], rows[0]["n"]) == ("<script>x</script>", "'=1+1", "6")
    # by hand: of 10 women 4 took it and 3 had the event, of 10 men 4 and 4
    assert float(rows[0]["expected"]) == pytest.approx(4 * 3 / 10 + 4 * 4 / 10)
    small = shrunk([6], [2.8], Theta(alpha1=3.2538, beta1=0.3999, alpha2=2.0261, beta2=1.9081, p=0.0653))
    assert float(rows[0]["eb05"]) == pytest.approx(small.eb05[0], rel=1e-9)
    assert [float(r["eb05"]) for r in rows] == sorted((float(r["eb05"]) for r in rows), reverse=True)
    text = (tmp_path / "out" / desk.PAGE).read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "A signal is a hypothesis" in text


def test_without_a_fit_there_is_no_ebgm_and_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--json", "--test", "99", "--seed", "4") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tested"]["replicates"] == 99
    assert told["status"] == "TOO_FEW"
    assert told["theta"] is None
    assert "No EBGM: fewer than 20 different cells" in (tmp_path / "out" / desk.PAGE).read_text()
    with (tmp_path / "out" / desk.TABLE).open() as file:
        rows = list(csv.DictReader(file))
    assert {r["ebgm"] for r in rows} == {""}
    assert all(r["ic025"] and r["ror_lower"] and 0.01 <= float(r["p_log_lr"]) <= 1 for r in rows)
    read = signals_reports.read(tmp_path / "r.csv", Columns(report="case", product="drug", event="reaction"))
    tested = likelihood_ratio_test(read, seed=4, replicates=99)
    places = {name: k for k, name in enumerate(read.products)}
    assert all(float(r["fdr_product"]) == pytest.approx(tested.fdr[places[r["product"]]]) for r in rows)


def test_too_few_draws_are_no_acquittal() -> None:
    """None of 100 products can be found by 19 draws; of 2 products 999 draws could."""
    for products, draws, words in ((100, 19, "too few to test 100 products"), (2, 999, "0 products differ")):
        ones = np.ones(products)
        assert words in of_test(RatioTest(p=ones, p_product=ones, fdr=ones, replicates=draws))[0]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--theta", "1,2,3"), "--theta: are not five numbers"),
        (("--theta", "1,2,3,-4,0.5"), "theta: are not hyperparameters"),
        (("--strata", "age"), "r.csv:1 age: the column is missing"),
    ],
)
def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], words: str) -> None:
    assert run(tmp_path, *more) == 2
    told = capsys.readouterr().err
    assert words in told
    assert "Remedy" in told


def test_two_products_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """12 reports of A and B, 9 with the event; 20 of A, 20 of B, 40 of C, one in ten with it: odds 1/9 do not add up."""
    lines = ["case,drug,reaction"]
    for products, of, every in ((("A", "B"), 12, 0), (("A",), 20, 10), (("B",), 20, 10), (("C",), 40, 10)):
        for k in range(of):
            hit = k < 9 if every == 0 else k % every == 0
            lines += [f"{products}{k}".replace(",", "") + f",{p},{'hit' if hit else 'other'}" for p in products]
    path = tmp_path / "r.csv"
    path.write_text("\n".join(lines) + "\n")
    names = ["--report", "case", "--product", "drug", "--event", "reaction", "--theta", THETA, "--together"]
    assert main(["signals", str(path), *names, "--out", str(tmp_path / "out")]) == 0
    assert (
        "1 of 2 triples of two products and an event (3 reports or more) have omega025 > 0" in capsys.readouterr().out
    )
    with (tmp_path / "out" / desk.TRIPLES).open() as file:
        first = next(csv.DictReader(file))
    assert (first["product"], first["with"], first["event"], first["n"], first["both"]) == ("A", "B", "hit", "9", "12")
    assert float(first["expected"]) == pytest.approx(12 * (1 - 1 / (1 / 9 + 1)))
    assert float(first["omega"]) == pytest.approx(np.log2(9.5 / (1.2 + 0.5)))
    assert "Two products together" in (tmp_path / "out" / desk.PAGE).read_text()


def test_full_bayes_beside_the_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """40 products by 30 events: scores over the posterior in the table, its sound k on the page; a given theta has none."""
    rng = np.random.default_rng(1)
    lines = ["case,drug,reaction"]
    lines += [f"{k},d{int(40 * rng.random() ** 2)},e{int(30 * rng.random() ** 2)}" for k in range(1200)]
    lines += [f"{k},d39,e29" for k in range(1200, 1215)]
    path = tmp_path / "r.csv"
    path.write_text("\n".join(lines) + "\n")
    names = ["signals", str(path), "--report", "case", "--product", "drug", "--event", "reaction", "--full-bayes"]
    assert main([*names, "--out", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["full_bayes"]
    assert told["sound"]
    assert told["pareto_k"] <= 0.7
    assert told["eb05"] >= 1
    with (tmp_path / "out" / desk.TABLE).open() as file:
        first = next(csv.DictReader(file))
    assert (first["product"], first["event"]) == ("d39", "e29")
    assert 2.0 < float(first["eb05_full"]) < float(first["ebgm_full"]) < float(first["eb95_full"])
    assert "Posterior of the hyperparameters" in (tmp_path / "out" / desk.PAGE).read_text()
    assert main([*names, "--theta", THETA, "--out", str(tmp_path / "out")]) == 2
    assert "there is no posterior" in capsys.readouterr().err
