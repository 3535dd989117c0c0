"""Observed AUC ratios of clinical studies: the table of the Open Systems Pharmacology database, read as courses.

Columns as in its `DDI.csv` with times on the perpetrator's clock [h]: `osp_id, study, perpetrator, victim,
victim_route, perp_route,
perp_dose, perp_times_h, victim_time_h, auc_from_h, auc_to_h, victim_auc_end_h, aucr_obs, dose_correction_factor,
genotype, enzyme`.
Schedule codes: `S0-T24-R8` (start, interval, number), `0-24-48`, several of them with doses in front, behind or in
`perp_dose`. What the table does not say is assumed and said (`Study.assumed`), nothing is dropped silently.
"""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pkpd.ground.errors import InputError
from pkpd.interactions.course import Course, Given
from pkpd.interactions.drug import Drug

__all__ = ["Study", "fold", "read_studies", "times_and_doses"]

ACTIVITY: Final = {"PM": 0.0, "EM": 1.0, "NM": 1.0, "IM": 0.5}
TYPICAL_SCORE: Final = (
    1.6  # mean CYP2D6 activity score of a mostly European population: what `fm` of the library holds for
)
ENDLESS: Final = 9000.0  # the table writes 9999 for infinity


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One observed ratio (dose-normalised); published: a peer's prediction, NaN if none; assumed: what the table
    leaves open."""

    key: str
    name: str
    course: Course
    ratio: float
    peer: float
    assumed: tuple[str, ...] = ()

    @property
    def pair(self) -> tuple[str, str]:
        """(perpetrator, victim)."""
        return self.course.perpetrators[0].drug, self.course.victim


def fold(pair: tuple[str, str], folds: int = 5) -> int:
    """The fold of a pair: the first 8 hexadecimal digits of SHA-256 of `perpetrator|victim`, modulo the number of
    folds.

    >>> fold(("rifampicin", "midazolam"))
    4
    """
    return int(hashlib.sha256("|".join(pair).encode()).hexdigest()[:8], 16) % folds


def read_studies(path: Path, drugs: Mapping[str, Drug]) -> tuple[list[Study], list[tuple[str, str]]]:
    """Studies, and rows without them as (key, why): drugs that the library lacks. Errors: InputError, a file without
    the columns."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    needed = {"osp_id", "perpetrator", "victim", "perp_dose", "perp_times_h", "victim_time_h", "aucr_obs"}
    if not rows or needed - set(rows[0]):
        raise InputError(
            "lacks columns", file=str(path), value=", ".join(sorted(needed - set(rows[0] if rows else {})))
        )
    studies, without = [], []
    for row in rows:
        missing = _missing(row, drugs)
        if missing:
            without.append((row["osp_id"], missing))
        else:
            studies.append(_study(row, drugs))
    return studies, without


def _missing(row: Mapping[str, str], drugs: Mapping[str, Drug]) -> str:
    perpetrator, victim = row["perpetrator"].lower(), row["victim"].lower()
    if perpetrator not in drugs or drugs[perpetrator].perpetrator is None:
        return f"{perpetrator} is not in the library as perpetrator"
    if victim not in drugs or drugs[victim].victim is None:
        return f"{victim} is not in the library as victim"
    return ""


def _study(row: Mapping[str, str], drugs: Mapping[str, Drug]) -> Study:
    perpetrator, victim = drugs[row["perpetrator"].lower()], drugs[row["victim"].lower()]
    assumed: list[str] = []
    when = _number(row["victim_time_h"], math.nan)
    times, doses = _given(row, perpetrator, when, assumed)
    if math.isnan(when):
        when = times[-1] + 1.0
        assumed.append("victim 1 h after the last dose")
    assert victim.victim is not None
    course = Course(
        perpetrators=(Given(drug=perpetrator.name, times=times, amounts=doses, intravenous=row["perp_route"] == "IV"),),
        victim=victim.name, oral=row["victim_route"] != "IV", activity=_activity(row),
        **_windows(row, when, victim.victim.half_life.value, assumed),
    )  # fmt: skip
    ratio = float(row["aucr_obs"]) / _number(row.get("dose_correction_factor", ""), 1.0)
    return Study(
        key=row["osp_id"], name=row.get("study", ""), course=course, ratio=ratio,
        peer=_number(row.get("pksim_pred_aucr", ""), math.nan), assumed=tuple(assumed),
    )  # fmt: skip


def _number(text: str, default: float) -> float:
    return float(text) if text.strip() else default


def _activity(row: Mapping[str, str]) -> dict[str, float]:
    genotype, enzyme = row.get("genotype", "").strip(), row.get("enzyme", "").split("+")[0]
    if not genotype:
        return {}
    if genotype.startswith("AS"):
        return {"CYP2D6": float(genotype[2:]) / TYPICAL_SCORE}
    return {enzyme: ACTIVITY[genotype]}


def _given(
    row: Mapping[str, str], drug: Drug, when: float, assumed: list[str]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    code, dose = row["perp_times_h"], row["perp_dose"]
    if not dose.strip():
        dose = str(drug.regimens[0].dose)
        assumed.append(f"dose {dose} mg")
    if not code.strip():
        apart = drug.regimens[0].interval if not row["perp_dose"].strip() else 24.0
        many = 1 + (int(when // apart) if when > 0 else 0)
        code = f"S0-T{apart:g}-R{many}"
        assumed.append(f"doses at {code}")
    pairs = times_and_doses(code, dose)
    return tuple(t for t, _ in pairs), tuple(d for _, d in pairs)


def times_and_doses(code: str, dose: str) -> list[tuple[float, float]]:
    """(time [h], dose [mg]) in order of time.

    >>> times_and_doses("400: 0, 200: 24-48", "400/200")
    [(0.0, 400.0), (24.0, 200.0), (48.0, 200.0)]
    >>> times_and_doses("S0-T12-R2/S48-T24-R1", "20/10")
    [(0.0, 20.0), (12.0, 20.0), (48.0, 10.0)]
    """
    said = [float(d) for d in re.findall(r"\d+(?:\.\d+)?", dose.replace("/2010", "/10"))]  # 10/10/10 became a date
    labelled = re.findall(r"\(?(\d+)\s*(?:mg)?\)?:\s*([^:;]+?)(?=[,;]\s*\(?\d+\s*(?:mg)?\)?:|$)", code)
    behind = re.findall(r"(S\S+)\s*\((\d+) mg\)", code)
    if labelled:
        parts = [(float(d), times) for d, times in labelled]
    elif behind:
        parts = [(float(d), times) for times, d in behind]
    else:
        codes = code.split("/") if len(said) > 1 and "/" in code else [code]
        if len(codes) == 1 and len(said) > 1:
            return _escalated(_times(code), said)
        parts = list(zip([*said, *[said[-1]] * len(codes)], codes))
    return sorted((t, d) for d, times in parts for t in _times(times))


def _escalated(times: list[float], doses: list[float]) -> list[tuple[float, float]]:
    """One schedule, several doses: three days at each but the last."""
    return [(t, doses[min(int(t // 72.0), len(doses) - 1)]) for t in times]


def _times(code: str) -> list[float]:
    """Times of one code."""
    repeated = r"\(?S-?(\d+)[-,]\s*T-?(\d+)[-,]\s*R-?(\d+)\)?"
    found = [float(s) + float(t) * k for s, t, r in re.findall(repeated, code) for k in range(int(r))]
    plain = re.sub(repeated, " ", code)
    return sorted({*found, *(float(t) for t in re.findall(r"\d+(?:\.\d+)?", plain))})


def _windows(row: Mapping[str, str], when: float, half_life: float, assumed: list[str]) -> dict[str, Any]:
    """Doses of the victim, its window, and the control's length."""
    begin, end = _number(row.get("auc_from_h", ""), 0.0), _number(row.get("auc_to_h", ""), math.inf)
    stop = _number(row.get("victim_auc_end_h", ""), math.inf)
    if end > ENDLESS:
        return {"doses": (when,), "window": (when, math.inf)}
    control = end - begin
    length = control if stop > ENDLESS or stop <= when else max(stop - when, control)
    if min(control, length) > 200.0 and length > 20.0 * half_life:
        assumed.append("victim once a day in its window")
        doses = tuple(when + 24.0 * k for k in range(int(length // 24.0)))
    elif begin >= 24.0 and begin != when and control <= 24.0 and abs(control - length) < 1.0:
        assumed.append("victim twice a day before its window")
        doses = tuple(when - 12.0 * k for k in range(int(5.0 * half_life // 12.0) + 1, -1, -1))
    else:
        doses = (when,)
    return {"doses": doses, "window": (when, when + length), "control": control}
