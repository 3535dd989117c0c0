"""What a user writes wrong is said in one message (file, field, value, remedy), exit 2, within 2 s, and never a traceback.

Witness: each case is the sound text of `good/` (a test shows that it is sound) with one thing made wrong.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from reports.cli import main

GOOD = Path(__file__).parent / "good"
LIMIT = 2.0  # s


@dataclass(frozen=True)
class Bad:
    """The sound text `file` with `old` replaced by `new`; the message must hold all of `said`: field, value."""

    name: str
    file: str
    old: str
    new: str
    said: tuple[str, ...]


def protocol(name: str, old: str, new: str, *said: str) -> Bad:
    return Bad(name, "protocol.yaml", old, new, said)


def model(name: str, old: str, new: str, *said: str) -> Bad:
    return Bad(name, "model.yaml", old, new, said)


def data(name: str, old: str, new: str, *said: str) -> Bad:
    return Bad(name, "data.csv", old, new, said)


EDITS = [
    protocol("unknown key", "subjects: 24", "subjcts: 24", "subjcts", "subjects"),
    protocol("unknown key inside", "ratio: 1, regimen: []", "ratoi: 1, regimen: []", "arms.placebo.ratoi", "ratio"),
    protocol("duplicate key", "seed: 7", "seed: 7\nseed: 8", "seed", "line 5"),
    protocol("arm named twice", "  high: {", "  low: {", "low", "low"),
    protocol("negative dose", "amount: 200 mg", "amount: -200 mg", "arms.low.regimen", "-200"),
    protocol("dose in hours", "amount: 200 mg", "amount: 200 h", "arms.low.regimen", "200 h"),
    protocol("dose without unit", "amount: 200 mg", "amount: 200", "arms.low.regimen", "200"),
    protocol("unknown unit", "amount: 200 mg", "amount: 200 mgs", "arms.low.regimen", "mgs"),
    protocol("interval zero", "every: 12 h, for: 28 d}]}\n  high", "every: 0 h, for: 28 d}]}\n  high", "every", "0 h"),
    protocol("interval negative", "400 mg, into: depot, every: 12 h", "400 mg, into: depot, every: -12 h", "every", "-12 h"),
    protocol("dose into nowhere", "into: depot, every: 12 h, for: 28 d}]}\n  high", "into: depo, every: 12 h, for: 28 d}]}\n  high", "into", "depo"),
    protocol("dose after the last visit", "400 mg, into: depot, every: 12 h, for: 28 d", "400 mg, into: depot, every: 12 h, for: 60 d", "arms.high.regimen[0]", "59.5 d"),
    protocol("allocation zero", "low: {ratio: 1", "low: {ratio: 0", "arms.low.ratio", "0"),
    protocol("allocation negative", "low: {ratio: 1", "low: {ratio: -1", "arms.low.ratio", "-1"),
    protocol("allocation a fraction", "low: {ratio: 1", "low: {ratio: 0.5", "arms.low.ratio", "0.5"),
    protocol("block size no multiple", "size: 6", "size: 7", "allocation.size", "7"),
    protocol("unknown stratum", "strata: [SMOKING]", "strata: [SMOKER]", "analyses.primary.adjust", "SMOKER"),
    protocol("alpha 1.5", "alpha: 0.05", "alpha: 1.5", "analyses.primary.alpha", "1.5"),
    protocol("level in percent", "level: 0.95", "level: 95", "analyses.safety.level", "95"),
    protocol("no subjects", "subjects: 24", "subjects: 0", "subjects", "0"),
    protocol("subjects a word", "subjects: 24", "subjects: many", "subjects", "many"),
    protocol("subjects a fraction", "subjects: 24", "subjects: 24.5", "subjects", "24.5"),
    protocol("replicates zero", "replicates: 4", "replicates: 0", "replicates", "0"),
    protocol("seed negative", "seed: 7", "seed: -7", "seed", "-7"),
    protocol("seed not a number", "seed: 7", "seed: .nan", "seed", "nan"),
    protocol("model missing", "file: model.yaml", "file: modle.yaml", "model.file", "modle.yaml"),
    protocol("model key missing", "model: {file: model.yaml, parameters: published}\n", "", "model", "is missing"),
    protocol("unknown law", "law: nhanes_adults", "law: martians", "population.law", "martians"),
    protocol("unknown covariate in a criterion", "50 <= WT <= 120", "50 <= WEIGTH <= 120", "population.eligible.weight", "WEIGTH"),
    protocol("criterion that is no condition", "50 <= WT <= 120", "50 <= WT <=", "population.eligible.weight", "a value is missing"),
    protocol("code in a criterion", "50 <= WT <= 120", "__import__('os').system('true')", "population.eligible.weight", "not part of an expression"),
    protocol("prevalence does not add up", "2: 0.4}", "2: 0.6}", "population.set", "1.2"),
    protocol("prevalence negative", "0: 0.2", "0: -0.2", "population.set", "-0.2"),
    protocol("visit before the first dose", "week2: {day: 14}", "week2: {day: -14}", "visits.week2.day", "-14"),
    protocol("two visits on a day", "week2: {day: 14}", "week2: {day: 28}", "visits", "28"),
    protocol("probability above one", "miss_after_taken: 0.05", "miss_after_taken: 5", "adherence.miss_after_taken", "5"),
    protocol("unknown kind of adherence", "kind: markov", "kind: markow", "adherence.kind", "markow"),
    protocol("hazard in milligrams", "hazard: 0.001 1/d", "hazard: 0.001 mg", "dropout.hazard", "0.001 mg"),
    protocol("hazard negative", "hazard: 0.001 1/d", "hazard: -0.001 1/d", "dropout.hazard", "-0.00"),
    protocol("endpoint of no output", "output: FEV1", "output: FEV2", "endpoints.fev1.output", "FEV2"),
    protocol("endpoint at no visit", "at: week4", "at: week5", "endpoints.fev1.at", "week5"),
    protocol("endpoint of no event", "event: nausea", "event: nausae", "endpoints.nausea.event", "nausae"),
    protocol("estimand of no endpoint", "endpoint: fev1", "endpoint: fev2", "estimands.primary.endpoint", "fev2"),
    protocol("comparison with no arm", "compare: [low, high], against: placebo, summary: mean", "compare: [low, hihg], against: placebo, summary: mean", "estimands.primary.compare", "hihg"),
    protocol("control is no arm", "against: placebo, summary: mean", "against: plasebo, summary: mean", "estimands.primary.against", "plasebo"),
    protocol("strategy of no event", "summary: mean_difference, strategies: {stopped:", "summary: mean_difference, strategies: {stoped:", "estimands.primary.strategies", "stoped"),
    protocol("unknown method", "method: ancova", "method: anova", "analyses.primary.method", "anova"),
    protocol("adjusted for nothing known", "adjust: [baseline, SMOKING]", "adjust: [baseline, SMOKES]", "analyses.primary.adjust", "SMOKES"),
    protocol("analysis of no estimand", "  safety: {method", "  safty: {method", "analyses", "safety"),
    protocol("decision on nothing known", "high.nausea.upper", "high.nausae.upper", "decide.go", "nausae"),
    protocol("grade 9", "after: grade 3", "after: grade 9", "intercurrent.stopped.after", "9"),
    protocol("wrong version", "vtrial: protocol/1", "vtrial: protocol/2", "vtrial", "protocol/2"),
    protocol("wrong kind", "vtrial: protocol/1", "vtrial: potocol/1", "vtrial", "potocol/1"),
    protocol("kind missing", "vtrial: protocol/1\n", "", "vtrial", "missing"),
    protocol("a model read as protocol", "vtrial: protocol/1", "vtrial: model/1", "question", "unknown key"),
    protocol("YAML tag", "seed: 7", "seed: !!python/object/apply:os.system [true]", "protocol.yaml", "tag"),
    protocol("anchor", "seed: 7", "seed: &s 7", "protocol.yaml", "anchor"),
    protocol("alias", "seed: 7", "seed: *s", "protocol.yaml", "alias"),
    protocol("tab as indentation", "  law: nhanes_adults", "\tlaw: nhanes_adults", "protocol.yaml", "tab"),
    protocol("bracket left open", "visits: {baseline: {day: 0},", "visits: {baseline: {day: 0,", "protocol.yaml", ""),
    protocol("a list for a mapping", "visits: {baseline: {day: 0}, week2: {day: 14}, week4: {day: 28}}", "visits: [0, 14, 28]", "visits", ""),
    protocol("arms missing", "arms:", "notes:", "notes", ""),
    model("unknown key", "iiv: 0.3,", "iv: 0.3,", "parameters.BASE.iv"),
    model("unknown name in an equation", "CL*C\n", "CL*CC\n", "equations", "CC"),
    model("unknown function", "expit((", "expti((", "equations", "expti"),
    model("call of the system", "C = central/V", "C = open(1)", "equations", "open"),
    model("unbalanced bracket", "(EC50 + CAV)", "(EC50 + CAV", "equations", "expected )", "P_NAUSEA"),
    model("state without equation", "  d/dt(depot)   = -KA*depot\n", "", "depot", "depot"),
    model("equation of no state", "d/dt(depot)", "d/dt(dpot)", "equations", "dpot"),
    model("name given twice", "  FEV1 = BASE", "  C = BASE", "equations", "C"),
    model("correlation above one", "[CL, V, 0.5]", "[CL, V, 1.5]", "correlations", "1.5"),
    model("correlation of no parameter", "[CL, V, 0.5]", "[CL, VV, 0.5]", "correlations", "VV"),
    model("clearance negative", "typical: 2.8 L/h", "typical: -2.8 L/h", "parameters.CL.typical", "-2.8"),
    model("uncertainty negative", "se: 0.09", "se: -0.09", "parameters.CL.se", "-0.09"),
    model("variability negative", "iiv: 0.29", "iiv: -0.29", "parameters.CL.iiv", "-0.29"),
    model("probability above one", "typical: 0.05 1", "typical: 5 1", "parameters.P0.typical", "5"),
    model("unknown scale", "scale: logit", "scale: logti", "parameters.P0.scale", "logti"),
    model("unknown status", "iiv: 0.2, cite: own, status: assumed", "iiv: 0.2, cite: own, status: guessed", "parameters.KA.status", "guessed"),
    model("unknown source", "iiv: 0.2, cite: own", "iiv: 0.2, cite: them", "parameters.KA.cite", "them"),
    model("effect of no covariate", "effects: {WT: power 1 fixed}", "effects: {WTT: power 1 fixed}", "parameters.V.effects", "WTT"),
    model("error in another unit", "additive: 0.3 mg/L", "additive: 0.3 h", "outputs.CP.error.additive", "0.3 h"),
    model("output of nothing", "CP: {is: C,", "CP: {is: CCC,", "outputs.CP.is", "CCC"),
    model("window in milligrams", "as: average, window: 7 d", "as: average, window: 7 mg", "summaries.CAV.window", "7 mg"),
    model("summary of nothing", "CAV: {of: C,", "CAV: {of: CC,", "summaries.CAV.of", "CC"),
    model("unknown statistic", "as: maximum", "as: maximun", "summaries.CMAX.as", "maximun"),
    model("risk of nothing", "risk: P_NAUSEA", "risk: P_NAUSAE", "events.nausea.risk", "P_NAUSAE"),
    model("lag in litres", "lag: 0 h", "lag: 0 L", "doses.depot.lag", "0 L"),
    model("doses into no state", "doses: {depot:", "doses: {dept:", "doses", "dept"),
    data("dose negative", "1,0,320", "1,0,-320", "AMT", "-320"),
    data("concentration a word", "1,1,0,", "1,1,0,low", "DV", "low"),
    data("time backwards", "1,24,0,", "1,-24,0,", "TIME", "-24"),
    data("time missing", "1,24,0,", "1,,0,", "TIME", ""),
    data("unknown event code", ",0,1,1,1,79.6", ",0,7,1,1,79.6", "EVID", "7"),
    data("column missing", "ID,TIME,AMT,DV", "ID,TIME,AMT,CONC", "DV", "is missing"),
    data("column twice", "CMT,WT", "CMT,CMT", "CMT", "CMT"),
    data("a cell too many", "1,0,320,0,1,1,1,79.6", "1,0,320,0,1,1,1,79.6,9", "data.csv", "9"),
    data("infinite weight", "1,0,320,0,1,1,1,79.6", "1,0,320,0,1,1,1,inf", "WT", "inf"),
]  # fmt: skip


def _written(bad: Bad, folder: Path) -> Path:
    """A copy of the sound texts in `folder` with one thing wrong; the wrong file's path."""
    for source in GOOD.iterdir():
        (folder / source.name).write_bytes(source.read_bytes())
    text = (GOOD / bad.file).read_text(encoding="utf-8")
    assert text.count(bad.old) >= 1, f"{bad.old!r} is not in the sound text"
    (folder / bad.file).write_text(text.replace(bad.old, bad.new, 1), encoding="utf-8")
    return folder / bad.file


def _spent() -> float:
    """CPU seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one message of a command that must end with 2 within the limit."""
    start = time.process_time()
    code = main(arguments)
    seconds = time.process_time() - start
    said = capsys.readouterr()
    assert code == 2, f"exit {code}: {said.err or said.out}"
    assert "Traceback" not in said.err + said.out
    assert said.err.startswith("error: ")
    assert said.out == ""
    assert len(said.err.splitlines()) == 1, said.err
    assert seconds < LIMIT
    return said.err


@pytest.mark.parametrize("name", ["model.yaml", "protocol.yaml", "data.csv"])
def test_the_sound_texts_are_sound(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The text itself; what the solver makes of it is examined in tests/pkpd/test_conformance.py."""
    assert main(["check", str(GOOD / name), "--quick"]) == 0
    assert capsys.readouterr().err == ""


def test_there_are_enough_cases_with_names_of_their_own() -> None:
    assert len({(bad.file, bad.name) for bad in EDITS}) == len(EDITS) >= 40


@pytest.mark.parametrize("bad", EDITS, ids=lambda bad: f"{bad.file.partition('.')[0]}-{bad.name}".replace(" ", "_"))
def test_one_wrong_thing(bad: Bad, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _written(bad, tmp_path)
    message = _refused(["check", str(path)], capsys)
    assert path.name in message
    assert [part for part in bad.said if part not in message] == [], message
    assert "Remedy: " in message


BYTES = {
    "empty.yaml": b"",
    "binary.yaml": bytes(range(256)) * 4,
    "utf16.yaml": "vtrial: protocol/1\n".encode("utf-16"),
    "huge.yaml": b"vtrial: protocol/1\n" + b"# " + b"x" * 1_100_000,
    "deep.yaml": b"vtrial: protocol/1\na: " + b"[" * 60 + b"]" * 60,
    "scalar.yaml": b"just words",
    "list.yaml": b"- 1\n- 2\n",
    "two.yaml": b"vtrial: protocol/1\n---\nvtrial: protocol/1\n",
    "empty.csv": b"",
    "header.csv": b"ID,TIME,AMT,DV,EVID,MDV,CMT,WT\n",
    "binary.csv": bytes(range(256)) * 4,
}


@pytest.mark.parametrize("name", BYTES)
def test_files_that_are_no_text_of_ours(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_bytes(BYTES[name])
    message = _refused(["check", str(tmp_path / name)], capsys)
    assert name in message
    assert "Remedy: " in message


@pytest.mark.parametrize("command", ["check", "plan", "run"])
@pytest.mark.parametrize("name", ["nowhere.yaml", "."])
def test_what_is_not_there(
    command: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    message = _refused([command, name], capsys)
    assert name in message
    assert "Remedy: " in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "nowhere.yaml", "--data", "data.csv"], "nowhere.yaml"),
        (["fit", "model.yaml", "--data", "nowhere.csv"], "nowhere.csv"),
        (["models", "show", "theophyline"], "theophylline"),
        (["report", "."], "."),
        (["verify", "."], "."),
        (["run", "protocol.yaml", "--workers", "0"], "workers"),
        (["run", "protocol.yaml", "--workers", "2", "--serial"], "serial"),
        (["run", "protocol.yaml", "--scheduler", "tcp://192.0.2.1:8786"], "--insecure"),
        (["run", "protocol.yaml", "--block-size", "0"], "block"),
        (["run", "protocol.yaml", "--resume"], "holds no run"),
    ],
    ids=lambda part: "_".join(part[:2]) if isinstance(part, list) else None,
)
def test_commands_given_something_wrong(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for source in GOOD.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert words in _refused(arguments, capsys)


@pytest.mark.parametrize("command", ["check", "run", "plan"])
def test_a_real_process_ends_with_2_in_time(command: str, tmp_path: Path) -> None:
    path = _written(protocol("negative dose", "amount: 200 mg", "amount: -200 mg"), tmp_path)
    start = time.perf_counter(), _spent()
    done = subprocess.run(
        [sys.executable, "-m", "reports.cli", command, str(path)], capture_output=True, text=True, check=False
    )
    seconds = min(time.perf_counter() - start[0], _spent() - start[1])  # the bound is of the program
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert seconds < LIMIT


def test_machines_get_the_parts_of_the_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _written(protocol("allocation zero", "low: {ratio: 1", "low: {ratio: 0"), tmp_path)
    assert main(["check", str(path), "--json"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert (said["exit_code"], said["field"], said["file"]) == (2, "arms.low.ratio", str(path))
    assert said["line"] == 14
