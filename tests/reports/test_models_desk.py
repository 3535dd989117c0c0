"""`vtrial models` and `vtrial models show NAME`: everything the text says, the compartments, the course."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from pkpd.model.library import load, model_path, models
from reports.cli import main
from reports.desk import profile
from reports.desk.diagram import diagram, flows
from reports.desk.models import about


@pytest.mark.parametrize("name", models())
def test_everything_is_told(name: str) -> None:
    """Each parameter with its status and each source is on the page."""
    model = load(name)
    page = "\n".join(about(model))
    told = " ".join(page.split())
    for key, parameter in model.parameters.items():
        row = next(line for line in page.splitlines() if line.split()[:1] == [key] and parameter.status in line)
        assert f"{float(parameter.typical):.6g}" in row
    assert all(f"[{key}] {text.split()[0]}" in told for key, text in model.cite.items())
    assert all(f"d/dt({state})" in page for state in model.states)


def test_what_flows_where() -> None:
    """Friberg's chain: cells pass from each stage to the next, two-way exchange is one line."""
    lines = diagram(load("w4"))
    assert "[central] <--Q*peripheral/VP | Q*central/VC--> [peripheral]" in lines
    assert [line for line in lines if line.startswith("[T")] == [
        "[T1] --KTR*T1--> [T2]", "[T2] --KTR*T2--> [T3]", "[T3] --KTR*T3--> [Circ]",
    ]  # fmt: skip
    assert "[Circ] acts on [Prol]" in lines


def test_flows_are_the_equations() -> None:
    """What enters a state less what leaves it is its derivative: every term of w1 is in exactly one flow."""
    found = flows(load("w1"))
    assert {(f.start, f.end) for f in found} == {
        ("depot", "central"), ("central", "peripheral"), ("peripheral", "central"), ("central", None),
    }  # fmt: skip


def test_a_curve_in_characters() -> None:
    """The largest value stands at the top left label, the end of time at the right of the axis."""
    times = np.linspace(0.0, 240.0, 100)
    curve = profile.Curve(name="CP", unit="mg/L", values=8.0 * np.exp(-times / 50.0))
    lines = profile.drawn(profile.Course(title="x", times=times, curves=(curve,)), curve)
    assert lines[0] == "CP [mg/L]"
    assert lines[1].split("|")[0].strip() == "8"
    assert lines[1].split("|")[1].startswith("*")
    assert lines[-1].rstrip().endswith("10 d")


def test_a_constant_is_said_not_drawn() -> None:
    curve = profile.Curve(name="DIFF", unit="1", values=np.full(3, -2.5))
    assert profile.drawn(profile.Course(title="x", times=np.arange(3.0), curves=(curve,)), curve) == ["DIFF = -2.5"]


def test_show_and_svg(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command tells the model, draws 375 mg of theophylline with its peak of 9.02 mg/L, and writes an SVG."""
    target = tmp_path / "course.svg"
    assert main(["models", "show", "rovei_theophylline", "--svg", str(target)]) == 0
    said = capsys.readouterr().out
    assert "[depot] --KA*depot--> [central]" in said
    assert " 9.02" in said.split("Profile")[1]
    assert ElementTree.parse(target).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_show_text_is_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "li_meropenem", "--text"]) == 0
    assert capsys.readouterr().out.startswith("vtrial: model/1\nname: li_meropenem\n")


def test_a_file_is_told_as_a_library_model_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(model_path("li_meropenem").read_text())
    assert main(["models", "show", str(own)]) == 0
    mine = capsys.readouterr().out
    assert main(["models", "show", "li_meropenem"]) == 0
    assert mine == capsys.readouterr().out
    assert main(["models", "show", str(tmp_path / "none.yaml")]) == 2


def test_a_model_without_states_has_a_course(capsys: pytest.CaptureFixture[str]) -> None:
    """ADAS-cog rises from 22.2 to 30.14 in two years (models.md, section 11)."""
    assert main(["models", "show", "conrado_alzheimer"]) == 0
    drawn = capsys.readouterr().out.split("Profile")[1]
    assert "30.14 |" in drawn
    assert " 22.2 |" in drawn
