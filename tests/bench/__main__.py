"""`python -m tests.bench [NAME ...] [--json FILE] [--list]`: measure the project's figures against their bars."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench import harness


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 if every measured row holds, 1 if one does not, 2 for a name nobody defines."""
    options = _options(arguments)
    found = harness.discover()
    try:
        chosen = harness.select(found, options.names)
    except KeyError as error:
        known = ", ".join(row.name for row in found) or "none"
        print(f"no bench row is called {error.args[0]!r}. Known rows: {known}", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(f"{row.name}  [{row.unit}]  {row.bar.text}" for row in chosen))
        return 0
    results = []
    for row in chosen:
        results.append(harness.measure(row))
        print(_line(results[-1]), flush=True)
    print(_versions(harness.versions()))
    if options.json:
        options.json.write_text(json.dumps([_plain(result) for result in results], indent=1) + "\n", encoding="utf-8")
    return 0 if results and all(result.holds for result in results) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="rows to measure (NAME or PREFIX*); default all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    parser.add_argument("--list", action="store_true", help="only list the rows")
    return parser.parse_args(arguments)


def _line(result: harness.Result) -> str:
    verdict = "holds" if result.holds else "FAILS"
    value = f"{result.value:>12.6g} {result.unit:<12} {result.bar:<18}"
    head = f"{result.name:<40} {value} {verdict}  {result.seconds:.1f} s"
    note = f"\n    {result.note}" if result.note else ""
    return f"{head}\n    {result.command}{note}"


def _versions(versions: dict[str, str]) -> str:
    return "versions: " + ", ".join(f"{name} {version}" for name, version in versions.items())


def _plain(result: harness.Result) -> dict[str, object]:
    plain = dataclasses.asdict(result)
    return plain | {"value": result.value if result.value == result.value else None}  # JSON has no NaN


if __name__ == "__main__":
    sys.exit(main())
