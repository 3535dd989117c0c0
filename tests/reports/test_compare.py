"""`vtrial compare`: posterior files in, differences with their errors out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pkpd.bayes.loo import Loo
from pkpd.model.library import load
from pkpd.model.variability import published
from pkpd.posterior import Posterior, write
from reports.cli import main

RNG = np.random.default_rng(3)
BASE = RNG.normal(-12.0, 4.0, 30)


def fit_file(path: Path, elpd: np.ndarray, k: float = 0.2, data: str = "d") -> Path:
    model = load("theophylline")
    ids = tuple(str(i) for i in range(len(elpd)))
    loo = Loo(ids=ids, elpd=elpd, lpd=elpd + 0.1, k=np.full(len(elpd), k), noise=np.zeros(len(elpd)), data=data)
    diagnostics = {"ok": True, "checks": {"loo": loo.to_dict()}}
    return write(Posterior(draws=published(model, 5, 1), model=model, diagnostics=diagnostics), path)


def test_the_better_fit_is_named_with_its_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worse = fit_file(tmp_path / "worse.parquet", BASE - 0.5 + 0.2 * RNG.normal(size=30))
    better = fit_file(tmp_path / "better.parquet", BASE)
    assert main(["compare", str(worse), str(better)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["better", "worse"]
    assert f"{BASE.sum():.1f}" in lines[1]
    assert lines[3].startswith("better predicts a new subject better than worse by 1")
    assert main(["compare", str(worse), str(better), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["fits"][0]["weight"] > 0.9
    assert told["trusted"] is True


def test_what_cannot_be_told_apart_or_trusted_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = fit_file(tmp_path / "a.parquet", BASE), fit_file(tmp_path / "b.parquet", BASE + RNG.normal(size=30))
    assert main(["compare", str(a), str(b)]) == 0
    assert "The data do not tell" in capsys.readouterr().out
    shaky = fit_file(tmp_path / "c.parquet", BASE, k=0.9)
    assert main(["compare", str(a), str(shaky)]) == 3
    assert "Not to be trusted: subjects of c have a Pareto k above 0.7" in capsys.readouterr().out


def test_what_cannot_be_compared_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, other = fit_file(tmp_path / "a.parquet", BASE), fit_file(tmp_path / "b.parquet", BASE, data="e")
    assert main(["compare", str(a), str(other)]) == 2
    assert "was fitted to other data than the first" in capsys.readouterr().err
    assert main(["compare", str(a)]) == 2
    model = load("theophylline")
    bare = write(Posterior(draws=published(model, 5, 1), model=model), tmp_path / "bare.parquet")
    assert main(["compare", str(a), str(bare)]) == 2
    assert "bare.parquet checks.loo: holds no leave-one-out values" in capsys.readouterr().err
