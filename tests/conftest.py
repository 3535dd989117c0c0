"""Shared by all tests: a witness that lies beside the repository may not be skipped in silence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"
_skipped_witnesses: list[str] = []

os.environ.setdefault("MPLBACKEND", "agg")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember every witness test that was skipped, also where another process ran it."""
    if report.skipped and not hasattr(report, "wasxfail") and "witness" in report.keywords:
        _skipped_witnesses.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With the witnesses at hand (`../shared`), a skipped witness test fails the whole run."""
    if _skipped_witnesses and SHARED.is_dir() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which witness tests were skipped although their numbers are there."""
    if _skipped_witnesses and SHARED.is_dir():
        terminalreporter.section("witness tests skipped although ../shared exists: the run fails")
        for name in _skipped_witnesses:
            terminalreporter.line(name)
