"""Exact pins of every transitive package, kept in `pyproject.toml` under `[tool.uv]`.

    python tools/pins.py             pin what the present resolution needs (after adding a dependency)
    python tools/pins.py --upgrade   forget the pins, resolve anew, pin the newest
    python tools/pins.py --check     exit 1 unless the pins are complete and are what uv.lock resolved

`uv.lock` is not kept in the repository because it records where packages were fetched from; the pins name
packages, versions and platforms only, and any index that has them gives the same environment.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

__all__ = ["difference", "main", "pins_of", "with_pins"]

ROOT = Path(__file__).resolve().parents[1]
PROJECT = ROOT / "pyproject.toml"
BEGIN, END = "# pins: written by tools/pins.py", "# pins: end"
PIN = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;]+)(?P<marker>\s*;.*)?$")
EXPORT = [
    "export", "--frozen", "--all-groups", "--all-extras", "--no-emit-project", "--no-hashes", "--no-header",
    "--no-annotate", "--no-emit-index-url", "--quiet",
]  # fmt: skip
COMPILE = ["pip", "compile", "-", "--universal", "--no-header", "--no-annotate", "--no-emit-index-url", "--quiet"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the pins; exit 0 when they are complete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upgrade", action="store_true", help="resolve anew without the present pins")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 unless the pins are complete")
    options = parser.parse_args(arguments)
    return _check() if options.check else _write(upgrade=options.upgrade)


def _check() -> int:
    pinned = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["tool"]["uv"]["constraint-dependencies"]
    found = difference(pinned, pins_of(_uv(EXPORT)))
    print("\n".join(found) if found else f"pins: {len(pinned)} packages, all exact, none missing")
    return 1 if found else 0


def _write(*, upgrade: bool) -> int:
    if upgrade:
        PROJECT.write_text(with_pins(PROJECT.read_text(encoding="utf-8"), {}), encoding="utf-8")
    _uv(["lock", "--upgrade"] if upgrade else ["lock"])
    text = PROJECT.read_text(encoding="utf-8")
    build = "\n".join(tomllib.loads(text)["build-system"]["requires"])
    lists = {
        "constraint-dependencies": pins_of(_uv(EXPORT)),
        "build-constraint-dependencies": pins_of(_uv(COMPILE, given=build)),
    }
    PROJECT.write_text(with_pins(text, lists), encoding="utf-8")
    _uv(["lock"])
    return _check()


def pins_of(exported: str) -> list[str]:
    """The `name==version ; marker` lines of an export; ValueError on a line that pins nothing.

    >>> pins_of("numpy==2.5.0\\ncolorama==0.4.6 ; sys_platform == 'win32'\\n")
    ['numpy==2.5.0', "colorama==0.4.6 ; sys_platform == 'win32'"]
    """
    lines = [line.strip() for line in exported.splitlines() if line.strip() and not line.startswith("#")]
    for line in lines:
        if not PIN.match(line):
            raise ValueError(f"not an exact pin: {line!r}")
    return lines


def difference(pinned: Sequence[str], needed: Sequence[str]) -> list[str]:
    """What is wrong with `pinned`: packages needed but not pinned so, pins that nothing needs.

    >>> difference(["a==1"], ["a==2", "b==1"])
    ['a==2 is needed but not pinned', 'b==1 is needed but not pinned', 'a==1 is pinned but not needed']
    """
    have, want = set(pins_of("\n".join(pinned))), set(needed)
    missing = [f"{pin} is needed but not pinned" for pin in sorted(want - have)]
    return missing + [f"{pin} is pinned but not needed" for pin in sorted(have - want)]


def with_pins(text: str, lists: dict[str, list[str]]) -> str:
    """The project file `text` with the part between the two pin marks replaced by `lists`."""
    head, _, rest = text.partition(BEGIN)
    _, mark, tail = rest.partition(END)
    if not mark:
        raise ValueError(f"pyproject.toml lacks the lines {BEGIN!r} and {END!r}")
    blocks = (f"{name} = [\n" + "".join(f'  "{pin}",\n' for pin in pins) + "]\n" for name, pins in lists.items())
    return f"{head}{BEGIN}\n{''.join(blocks)}{END}{tail}"


def _uv(arguments: Sequence[str], given: str | None = None) -> str:
    command = os.environ.get("UV", "uv")  # uv names itself to what it runs
    done = subprocess.run([command, *arguments], cwd=ROOT, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"uv {arguments[0]} failed:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
