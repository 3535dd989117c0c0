"""A fit that broke its limits says so in one sentence with the remedy, and a trial refuses it unless it is forced."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

import pkpd.bayes
from pkpd.bayes import checks
from pkpd.ground.errors import RunFailed
from pkpd.model.library import load
from pkpd.model.variability import published
from pkpd.posterior import Posterior
from reports.cli import main
from trials.run import prepare

PROTOCOL = Path(__file__).parents[2] / "examples" / "theophylline_copd" / "protocol.yaml"
VERDICT = "R-hat of log_V is 1.043, above 1.01: chains have not mixed; double tune and draws."


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fit of the session is one over its limits."""
    model = load("theophylline")
    posterior = Posterior(
        draws=published(model, 50, 1), model=model, diagnostics={"ok": False, "verdict": VERDICT, "parameters": []}
    )
    found = SimpleNamespace(posterior=posterior, diagnostics=posterior.diagnostics)
    monkeypatch.setattr(pkpd.bayes, "fit", lambda *args, **kwargs: found)
    monkeypatch.setattr(checks, "checked", lambda *args, **kwargs: SimpleNamespace(to_dict=lambda: {"made": True}))


def test_a_trial_refuses_it_with_the_sentence(broken: None) -> None:
    with pytest.raises(RunFailed) as told:
        prepare(PROTOCOL)
    assert str(told.value) == f"The fit of theophylline is refused. {VERDICT}"


def test_the_command_ends_with_3_and_writes_nothing(
    broken: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(PROTOCOL), "--out", str(tmp_path / "out"), "--serial"]) == 3
    assert f"error: The fit of theophylline is refused. {VERDICT}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_forced_it_is_used_and_the_log_says_so(broken: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = prepare(PROTOCOL, unsound=True)
    assert f"is used by force: {VERDICT}" in caplog.text
    assert found.diagnostics is not None
    assert found.diagnostics["ok"] is False  # the run and its report carry it
    assert json.loads(found.evidence["checks.json"]) == {"made": True}
