"""The size gate sees what it says it sees (identity: sources written for the purpose)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.sizes import breaches, main


def _written(folder: Path, text: str, name: str = "module.py") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_gate_that_sees_no_file_fails(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 1


def test_the_project_itself_passes() -> None:
    assert main([]) == 0


@pytest.mark.parametrize(("lines", "said"), [(600, 0), (601, 1)])
def test_file_length(tmp_path: Path, lines: int, said: int) -> None:
    assert len(list(breaches(_written(tmp_path, "x = 1\n" * lines)))) == said


@pytest.mark.parametrize(("lines", "said"), [(59, 0), (60, 1)])
def test_function_length_leaves_out_docstring_comments_and_blanks(tmp_path: Path, lines: int, said: int) -> None:
    body = '    """Says.\n\n    More.\n    """\n\n    # why\n' + "    x = 1\n" * lines
    assert len(list(breaches(_written(tmp_path, "def f():\n" + body)))) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def f(a, b, c, d): ...", 0),
        ("def f(a, b, c, d, e): ...", 1),
        ("def f(a, b, c, d, *, e): ...", 0),
        ("class A:\n    def f(self, a, b, c, d): ...", 0),
        ("class A:\n    @staticmethod\n    def f(a, b, c, d, e): ...", 1),
        ("async def f(a, b, /, c, d, e): ...", 1),
    ],
)
def test_positional_arguments(tmp_path: Path, text: str, said: int) -> None:
    assert len(list(breaches(_written(tmp_path, text)))) == said


def test_kernels_take_many_arrays(tmp_path: Path) -> None:
    assert not list(breaches(_written(tmp_path, "def f(a, b, c, d, e, g): ...", "kernels/linear.py")))


def test_pytest_passes_by_name(tmp_path: Path) -> None:
    text = "def test_it(a, b, c, d, e): ...\n\n\ndef helper(a, b, c, d, e): ...\n"
    (breach,) = breaches(_written(tmp_path, text, "test_module.py"))
    assert "helper: 5 positional" in breach
