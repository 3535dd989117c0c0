"""What a report costs: CPU seconds of a fresh process that writes the report of the demonstration's 60,000 subjects."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from tests.bench.harness import Measured, row

ROOT = Path(__file__).parents[2]
PROTOCOL = ROOT / "examples" / "theophylline_copd" / "protocol.yaml"
RUN = "import sys\nfrom trials.run import run\nrun(sys.argv[1], sys.argv[2], command='vtrial demo')"
WRITE = """
import sys, time
from trials.record import RunRecord
from reports.html import write
path = write(RunRecord.read(sys.argv[1]), sys.argv[1])
print(time.process_time(), path.stat().st_size)
"""


@cache
def _written() -> tuple[float, float, int]:
    """CPU seconds of the first and of a second report of one run, each in its own process, and the bytes of the page."""
    with tempfile.TemporaryDirectory(prefix="vtrial-bench-") as folder:
        subprocess.run([sys.executable, "-c", RUN, str(PROTOCOL), folder], cwd=ROOT, check=True, capture_output=True)
        said = [
            subprocess.run([sys.executable, "-c", WRITE, folder], cwd=ROOT, check=True, capture_output=True, text=True)
            for _ in range(2)
        ]
    (first, _), (second, size) = (one.stdout.split() for one in said)
    return float(first), float(second), int(size)


@row("report_cpu", unit="s", bar="<= 6", command="reports.html.write of the demonstration, warm, imports included")
def report_cpu() -> Measured:
    first, second, size = _written()
    return Measured(second, f"first time {first:.1f} s; {size / 1e6:.2f} MB")


@row("report_size", unit="MB", bar="<= 2", command="reports.html.write of the demonstration")
def report_size() -> Measured:
    return Measured(_written()[2] / 1e6)
