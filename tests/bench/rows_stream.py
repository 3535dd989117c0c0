"""Figures of the reduction in the stream: a million subjects of workload W2, summarised."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.bench.harness import Measured, row

SUBJECTS = 1_000_000
_SCRIPT = """
import json, resource, sys, time
import numpy as np
from pkpd.engine.build import compiled
from pkpd.engine.sources import Drawn, subsample
from pkpd.engine.stream import Endpoint, Settings, summarise
from pkpd.model.library import load
from pkpd.model.regimen import Schedule

n, sampled, threads = int(sys.argv[1]), sys.argv[2] == "samples", int(sys.argv[3])
model = load("w2")
z = np.zeros(1)
dose = Schedule(z, z + 100.0, z.astype(np.int32), z, z, z.astype(bool))
endpoints = [
    Endpoint(name=name, of=of, kind=kind, end=144.0, sampled=sampled, threshold=2.0 if kind == "time_above" else np.nan)
    for name, of, kind in (
        ("CMAX", "CP", "maximum"), ("TMAX", "CP", "time_of_maximum"), ("AUC", "CP", "area"), ("TROUGH", "CP", "value"),
        ("NADIR", "RESP", "minimum"), ("TNADIR", "RESP", "time_of_minimum"), ("ABOVE", "CP", "time_above"),
    )
]

def run(n):
    people = Drawn(model=model, subjects=range(n), seed=20261121)
    found = summarise(
        compiled(model), people, dose, np.arange(145.0), outputs={"CP": "C", "RESP": "R"}, endpoints=endpoints,
        keep=subsample(1, people, min(n, 100)), settings=Settings(threads=threads),
    )
    return found, found.percentiles([2.5, 5, 25, 50, 75, 95, 97.5])

run(100)
wall, used = time.perf_counter(), time.process_time()
found, percentiles = run(n)
wall, used = time.perf_counter() - wall, time.process_time() - used
relative = (percentiles.resolution[:, 0, :, 1:] / np.abs(percentiles.value[:, 0, :, 1:])).max()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps({
    "wall": wall, "cpu": used, "peak": peak, "digest": found.digest(), "failed": sum(found.failures("").values()),
    "relative": float(relative),
}))
"""


def _run(endpoints: str, subjects: int = SUBJECTS, threads: int = 1) -> dict[str, float]:
    """A process of its own: peak memory is that of the whole process, wall time without the compilation."""
    command = [sys.executable, "-c", _SCRIPT, str(subjects), endpoints, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise RuntimeError(f"the measurement ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _note(found: dict[str, float]) -> str:
    return (
        f"wall {found['wall']:.1f} s, CPU {found['cpu']:.1f} s, peak {found['peak']:.2f} GB, {found['failed']} failed, "
        f"percentiles to {found['relative']:.1e} relative"
    )


@row("stream.w2_million", unit="s on one core", bar="< 15")
def w2_million() -> Measured:
    """10^6 subjects drawn by address, 145 times x 2 outputs, percentiles, 7 endpoints, from inside the solver."""
    found = _run("solver")
    return Measured(found["cpu"], _note(found))


@row("stream.w2_million_sampled", unit="s on one core", bar="< 15")
def w2_million_sampled() -> Measured:
    """The same with every endpoint from the hourly samples."""
    found = _run("samples")
    return Measured(found["cpu"], _note(found))


@row("stream.w2_million_peak", unit="GB", bar="< 1.5")
def w2_million_peak() -> Measured:
    """Peak memory of the process, imports and compiled code included."""
    found = _run("samples")
    return Measured(found["peak"], _note(found))


@row("stream.w2_digest", unit="digests", bar="== 1")
def w2_digest() -> Measured:
    """Different results of 100,000 subjects on 1 and 2 threads."""
    found = {_run("samples", 100_000, threads)["digest"] for threads in (1, 2)}
    return Measured(len(found), ", ".join(str(d)[:16] for d in found))
