"""The size gate: files <= 600 lines, functions <= 60 code lines, <= 4 positional arguments besides self.

`python tools/sizes.py [PATH ...]`, exit 1 with one line for each breach, or where it saw no file.
Kernels (any file in a folder named `kernels`) are exempt from the argument count: they take arrays, many of them;
so are test functions, which pytest calls by name.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["breaches", "main"]

ROOT = Path(__file__).resolve().parents[1]
PLACES = ("pkpd", "populations", "trials", "reports", "tools", "tests")
FILE_LINES = 600
FUNCTION_LINES = 60
POSITIONAL = 4
SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the given files and folders, by default the four rooms, tools and tests."""
    given = sys.argv[1:] if arguments is None else arguments
    files = list(_python([Path(place) for place in given] or [ROOT / place for place in PLACES]))
    found = [breach for path in files for breach in breaches(path)]
    print("\n".join(found) if found else f"size gate: {len(files)} files within their limits")
    if not files:
        print("size gate: saw no Python file: a gate that looks at nothing is broken", file=sys.stderr)
    return 1 if found or not files else 0


def breaches(path: Path) -> Iterator[str]:
    """One line of text for each limit that the file at `path` breaks."""
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    if lines > FILE_LINES:
        yield f"{path}: {lines} lines, limit {FILE_LINES}"
    tree, code = ast.parse(text, filename=str(path)), _code_lines(text)
    methods = {id(item) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for item in node.body}
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield from _function(path, node, code, method=id(node) in methods)


def _function(path: Path, node: Function, code: set[int], *, method: bool) -> Iterator[str]:
    where = f"{path}:{node.lineno} {node.name}"
    size = len(code.intersection(range(node.lineno, (node.end_lineno or node.lineno) + 1)) - _docstring(node))
    if size > FUNCTION_LINES:
        yield f"{where}: {size} code lines, limit {FUNCTION_LINES}"
    count = len(node.args.posonlyargs) + len(node.args.args) - (1 if method and not _static(node) else 0)
    if count > POSITIONAL and "kernels" not in path.parts and not _by_name(path, node):
        yield f"{where}: {count} positional arguments, limit {POSITIONAL}"


def _by_name(path: Path, node: Function) -> bool:
    """pytest passes a test its fixtures and parameters by name."""
    return path.name.startswith(("test_", "conftest")) and node.name.startswith("test_")


def _code_lines(text: str) -> set[int]:
    """Numbers of the lines that hold code: neither blank nor comment alone."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    spans = (range(t.start[0], t.end[0] + 1) for t in tokens if t.type not in SILENT)
    return {line for span in spans for line in span}


def _docstring(node: Function) -> set[int]:
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return set()


def _static(node: Function) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in node.decorator_list)


def _python(places: Sequence[Path]) -> Iterator[Path]:
    for place in places:
        yield from [place] if place.is_file() else sorted(place.rglob("*.py"))


if __name__ == "__main__":
    sys.exit(main())
