"""`vtrial doctor`: is this installation sound, and what will runs find here?"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from reports.desk import guard, say

__all__ = ["Finding", "doctor", "examine"]

ROOMS = ("pkpd", "populations", "trials", "reports")
LEAST_MEMORY = 2.0  # GB, peak of the demo


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at: `ok` False means that runs would fail or mislead; `remedy` then says what to do."""

    name: str
    found: str
    ok: bool = True
    remedy: str = ""


def doctor(*, machine: bool) -> int:
    """Print all findings; exit 3 where one is not in order."""
    findings = examine()
    if machine:
        say.machine({"ok": all(finding.ok for finding in findings), "findings": [asdict(f) for f in findings]})
    else:
        rows = [
            ("ok " if f.ok else "BAD", f.name, f.found + (f"  Remedy: {f.remedy}" if f.remedy else ""))
            for f in findings
        ]
        say.result(*say.table(rows))
    return guard.OK if all(finding.ok for finding in findings) else guard.FAILED


def examine() -> tuple[Finding, ...]:
    """All findings, in a fixed order; loads no room but the ground floor."""
    rooms = [_room(name) for name in ROOMS]
    if not all(room.ok for room in rooms):
        return (_python(), *rooms, _script())  # what is not ours cannot be asked
    return (_python(), *rooms, _script(), *_packages(), _cores(), _memory(), _cache(), _cluster())


def _python() -> Finding:
    found = f"{platform.python_version()} ({platform.machine()}, {platform.system()})"
    remedy = "" if sys.version_info >= (3, 12) else "use Python 3.12 or newer"
    return Finding(name="python", found=found, ok=not remedy, remedy=remedy)


def _room(name: str) -> Finding:
    """Four generic names: another distribution may have taken one."""
    home = Path(__file__).resolve().parents[2]
    spec = importlib.util.find_spec(name)
    place = Path(spec.origin).resolve().parent if spec and spec.origin else None
    ours = place == home / name
    remedy = "" if ours else "another package took this name: install vtrial in an environment of its own"
    return Finding(name=f"room {name}", found=str(place or "missing"), ok=ours, remedy=remedy)


def _script() -> Finding:
    points = [point.value for point in metadata.entry_points(group="console_scripts") if point.name == "vtrial"]
    ok = points == ["reports.cli:main"]
    remedy = "" if ok else "reinstall vtrial: its console script is missing or another package's"
    return Finding(name="command vtrial", found=", ".join(points) or "missing", ok=ok, remedy=remedy)


def _packages() -> list[Finding]:
    from packaging.requirements import Requirement

    try:
        needed = [Requirement(text) for text in metadata.requires("vtrial") or []]
    except metadata.PackageNotFoundError:
        return [Finding(name="vtrial", found="not installed", ok=False, remedy="pip install, or uv run vtrial")]
    vtrial = Finding(name="vtrial", found=metadata.version("vtrial"))
    return [vtrial, *(_package(item.name, str(item.specifier)) for item in needed if not item.marker)]


def _package(name: str, wanted: str) -> Finding:
    from packaging.specifiers import SpecifierSet

    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name=name, found="missing", ok=False, remedy=f"install {name}{wanted}")
    ok = SpecifierSet(wanted).contains(version, prereleases=True)
    return Finding(name=name, found=version, ok=ok, remedy="" if ok else f"install {name}{wanted}")


def _cores() -> Finding:
    count = os.process_cpu_count() if hasattr(os, "process_cpu_count") else len(os.sched_getaffinity(0))
    return Finding(name="cores", found=f"{count} usable")


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    free, total = memory.available / 1e9, memory.total / 1e9
    ok = free >= LEAST_MEMORY
    remedy = "" if ok else f"the demo takes up to {LEAST_MEMORY:g} GB: close something, or use smaller blocks"
    return Finding(name="memory", found=f"{free:.1f} of {total:.1f} GB free", ok=ok, remedy=remedy)


def _cache() -> Finding:
    from pkpd.ground.errors import InputError
    from pkpd.ground.store import cache_dir

    try:
        return Finding(name="cache", found=str(cache_dir("kernels").parent))
    except InputError as error:
        return Finding(name="cache", found=error.problem, ok=False, remedy=error.remedy or "")


def _cluster() -> Finding:
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    return Finding(name="scheduler", found=address or "none set (blocks run in this process)")
