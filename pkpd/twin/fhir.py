"""A patient's records from a FHIR R4 bundle: MedicationAdministration, Observation, Patient. Strict: what is not
understood is an error that names the resource.

An Observation is a level when a code of it, or its text, is the name of an output (or `VANCOMYCIN`-like LOINC codes in
`LEVELS`), a covariate when it is the name of a covariate of the model or a code in `COVARIATES`. Resources that were
entered in error, cancelled or not done are passed over; preliminary ones are refused. Times are hours since the first
administration or observation.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from pkpd.ground import text as ground_text
from pkpd.ground import units
from pkpd.ground.errors import InputError
from pkpd.model.records import Records
from pkpd.model.spec import Model

__all__ = ["read", "records_text"]

MAX_BYTES: Final = 20_000_000
LEVELS: Final = {"20578-1": "vancomycin", "4090-7": "vancomycin", "4092-3": "vancomycin"}
"""LOINC code of a drug level -> a word of the model's name."""
COVARIATES: Final = {"29463-7": ("WT", "kg"), "8302-2": ("HT", "cm"), "2160-0": ("SCR", "mg/dL")}
"""LOINC code -> covariate and its unit here."""
KEEP: Final = "keep Patient, MedicationAdministration and Observation"
PASSED: Final = frozenset({"entered-in-error", "cancelled", "not-done", "unknown"})
TAKEN: Final = {"Observation": ("final", "amended", "corrected"), "MedicationAdministration": ("completed",)}


@dataclass(slots=True)
class _Found:
    """What the bundle says: rows (moment, cells), constants by name with the moment they were measured."""

    rows: list[tuple[datetime, dict[str, str]]] = field(default_factory=list)
    told: dict[str, list[tuple[datetime, float]]] = field(default_factory=dict)
    patient: dict[str, Any] = field(default_factory=dict)


def read(path: str | Path, model: Model, *, drug: str = "") -> Records:
    """The records of a bundle in a file. drug: a word of the medication's name (default: words of the model's name).

    Errors: InputError naming the resource and the field.
    """
    return Records.parse(records_text(path, model, drug=drug), file=str(path), model=model)


def records_text(path: str | Path, model: Model, *, drug: str = "") -> str:
    """The bundle as the CSV that `Records` reads: what was understood, for the eye."""
    source = ground_text.read_text(path, MAX_BYTES)
    try:
        bundle = json.loads(source)
    except ValueError as error:
        raise InputError(f"is not JSON: {error}", file=path, remedy="export the bundle again") from None
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise InputError("is not a FHIR bundle", file=path, field="resourceType", remedy="export a Bundle")
    return _Reader(str(path), model, drug).csv(bundle)


class _Reader:
    def __init__(self, file: str, model: Model, drug: str) -> None:
        from pkpd.model.dimensions import units_of

        self.file, self.model, self.found = file, model, _Found()
        self.units = units_of(model)
        words = [drug] if drug else [word for word in model.name.split("_") if len(word) > 4]
        self.drugs, self.subject = [word.lower() for word in words], ""

    def fail(self, resource: Mapping[str, Any], where: str, problem: str, remedy: str) -> NoReturn:
        name = f"{resource.get('resourceType', 'resource')}/{resource.get('id', '?')}.{where}"
        raise InputError(problem, file=self.file, field=name, remedy=remedy)

    def csv(self, bundle: Mapping[str, Any]) -> str:
        for resource in self._resources(bundle):
            kind = resource.get("resourceType")
            self._same_person(resource)
            if kind == "Patient":
                self._patient(resource)
            elif kind == "MedicationAdministration":
                self._dose(resource)
            elif kind == "Observation":
                self._observation(resource)
            else:
                self.fail(
                    resource, "resourceType", "is not read", "keep Patient, MedicationAdministration, Observation"
                )
        return self._written()

    def _resources(self, bundle: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        entries = bundle.get("entry")
        if not isinstance(entries, list) or not entries:
            self.fail(bundle, "entry", "has no resources", "export the patient's resources")
        found = [entry.get("resource") if isinstance(entry, dict) else None for entry in entries]
        if not all(isinstance(resource, dict) for resource in found):
            self.fail(bundle, "entry", "holds an entry without a resource", "export full resources, not references")
        return [resource for resource in found if isinstance(resource, dict)]

    # resources ------------------------------------------------------------------------------------------------------

    def _patient(self, resource: Mapping[str, Any]) -> None:
        if self.found.patient:
            self.fail(resource, "id", "is a second patient", "one bundle a patient")
        self.found.patient = dict(resource)

    def _same_person(self, resource: Mapping[str, Any]) -> None:
        """Every resource must be of one patient."""
        subject = resource.get("subject")
        told = str(subject.get("reference", "")) if isinstance(subject, dict) else ""
        told = f"Patient/{resource.get('id', '')}" if resource.get("resourceType") == "Patient" else told
        told = told.rsplit("Patient/", 1)[-1]
        if told and self.subject and told != self.subject:
            self.fail(resource, "subject", f"is {told}, others are {self.subject}", "one bundle a patient")
        self.subject = self.subject or told

    def _right_drug(self, resource: Mapping[str, Any]) -> None:
        """A dose of another drug would be taken for one of this: the name must say it."""
        concept = resource.get("medicationCodeableConcept")
        codings = concept.get("coding", []) if isinstance(concept, dict) else []
        told = [str(c.get("display", "")) for c in codings if isinstance(c, dict)] if isinstance(codings, list) else []
        told += [str(concept["text"])] if isinstance(concept, dict) and "text" in concept else []
        if not any(word in name.lower() for word in self.drugs for name in told):
            problem = f"{' / '.join(told) or 'nothing'} is not the drug of the model ({' or '.join(self.drugs)})"
            self.fail(resource, "medicationCodeableConcept", problem, "leave other drugs out, or name it with --drug")

    def _status(self, resource: Mapping[str, Any], kind: str) -> bool:
        """Whether the resource counts."""
        status = resource.get("status")
        if status in PASSED:
            return False
        if status not in TAKEN[kind]:
            self.fail(resource, "status", f"is {status!r}", f"wait until it is {' or '.join(TAKEN[kind])}")
        return True

    def _dose(self, resource: Mapping[str, Any]) -> None:
        if not self._status(resource, "MedicationAdministration"):
            return
        self._right_drug(resource)
        period = resource.get("effectivePeriod")
        start = self._moment(resource, "effectivePeriod.start", period.get("start")) if isinstance(period, dict) else (
            self._moment(resource, "effectiveDateTime", resource.get("effectiveDateTime")))  # fmt: skip
        dosage = resource.get("dosage")
        dose = dosage.get("dose") if isinstance(dosage, dict) else None
        state = self._state()
        amount = self._quantity(resource, "dosage.dose", dose, self.model.dose_units[state])
        if not amount > 0:
            self.fail(resource, "dosage.dose", "must be > 0", "mark a dose that was not given as not-done")
        cells = {"EVID": "1", "AMT": repr(amount), "CMT": state}
        if isinstance(period, dict) and period.get("end") is not None:
            hours = (self._moment(resource, "effectivePeriod.end", period["end"]) - start).total_seconds() / 3600.0
            if hours < 0:
                self.fail(resource, "effectivePeriod", "ends before it starts", "correct the period")
            cells["DUR"] = repr(hours)
        elif isinstance(dosage, dict) and ("rateQuantity" in dosage or "rateRatio" in dosage):
            self.fail(resource, "dosage", "has a rate and no end", "give effectivePeriod with start and end")
        self.found.rows.append((start, cells))

    def _state(self) -> str:
        """Where doses go: the one state the model describes doses of, else its first."""
        named = list(self.model.doses)
        return named[0] if named else next(iter(self.model.states))

    def _observation(self, resource: Mapping[str, Any]) -> None:
        if not self._status(resource, "Observation"):
            return
        kind, name, unit = self._meaning(resource)
        moment = self._moment(resource, "effectiveDateTime", resource.get("effectiveDateTime"))
        value = resource.get("valueQuantity")
        amount = self._quantity(resource, "valueQuantity", value, unit)
        if kind == "covariate":
            self.found.told.setdefault(name, []).append((moment, amount))
            return
        sign = value.get("comparator") if isinstance(value, dict) else None
        if sign not in (None, "<"):
            self.fail(resource, "valueQuantity.comparator", f"{sign!r} is not read", "give a value, or < and the limit")
        cells = {"EVID": "0", "DV": repr(amount), "DVID": name, "CENS": "1" if sign == "<" else "0"}
        self.found.rows.append((moment, cells))

    def _meaning(self, resource: Mapping[str, Any]) -> tuple[str, str, str]:
        """(level or covariate, name, unit here)."""
        code = resource.get("code")
        codings = code.get("coding", []) if isinstance(code, dict) else []
        told = [str(c.get("code", "")) for c in codings if isinstance(c, dict)] if isinstance(codings, list) else []
        told += [str(code["text"])] if isinstance(code, dict) and "text" in code else []
        for word in told:
            for name, output in self.model.outputs.items():
                if word.upper() == name.upper() or (word in LEVELS and LEVELS[word] in self.model.name):
                    return "level", name, self.units.get(str(output.is_), "1")
            for name, spec in self.model.covariates.items():
                if word.upper() == name.upper():
                    return "covariate", name, spec.unit
            if word in COVARIATES:
                name, unit = COVARIATES[word]
                return "covariate", name, self.model.covariates[name].unit if name in self.model.covariates else unit
        names = ", ".join([*self.model.outputs, *self.model.covariates])
        problem = f"{' / '.join(told) or 'nothing'} is not known to the model"
        return self.fail(resource, "code", problem, f"use one of: {names}")

    # values ---------------------------------------------------------------------------------------------------------

    def _moment(self, resource: Mapping[str, Any], where: str, value: Any) -> datetime:
        try:
            found = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(resource, where, f"{value!r} is not a time", "write it as 2026-11-21T08:00:00+00:00")
        if found.tzinfo is None:
            self.fail(resource, where, "has no time zone", "write it as 2026-11-21T08:00:00+00:00")
        return found

    def _quantity(self, resource: Mapping[str, Any], where: str, value: Any, unit: str) -> float:
        number = value.get("value") if isinstance(value, dict) else None
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
            self.fail(resource, where, "has no number", "give value and unit")
        written = str(value.get("code") or value.get("unit") or "1")
        written = "1" if unit == "1" and written in ("{score}", "") else written
        try:
            return float(number) * units.factor(written, unit)
        except InputError:
            return self.fail(resource, where, f"{written} cannot be turned into {unit}", f"give it in {unit}")

    # the CSV --------------------------------------------------------------------------------------------------------

    def _written(self) -> str:
        if not self.found.rows:
            raise InputError("holds no administration and no level", file=self.file, remedy="export both")
        start = min(moment for moment, _ in self.found.rows)
        constants = self._constants(start)
        header = ["ID", "TIME", "AMT", "DUR", "DV", "EVID", "CMT", "DVID", "CENS", *constants]
        lines = [",".join(header)]
        name = (
            "".join(c for c in str(self.found.patient.get("id", "patient")) if c.isalnum() or c in "-_.") or "patient"
        )
        rows = sorted(self.found.rows, key=lambda row: (row[0], row[1]["EVID"] == "1"))
        for moment, cells in rows:
            hours = (moment - start).total_seconds() / 3600.0
            full = {**dict.fromkeys(header, "."), **constants, **cells, "ID": name, "TIME": repr(hours)}
            lines.append(",".join(full[column] for column in header))
        return "\n".join(lines) + "\n"

    def _constants(self, start: datetime) -> dict[str, str]:
        """Covariates of the model: told, or worked out from the patient (SEX, AGE, CRCL by Cockcroft and Gault)."""
        needed = {*self.model.covariates, *(("SCR", "WT") if "CRCL" in self.model.covariates else ())}
        needed -= {"SCR"} if "CRCL" in self.found.told else set()
        known = {name: self._one(name, values) for name, values in self.found.told.items() if name in needed}
        known |= {k: v for k, v in self._person(start).items() if k not in known}
        if "CRCL" in self.model.covariates and "CRCL" not in known and {"SEX", "AGE", "WT", "SCR"} <= known.keys():
            from pkpd.physiology import cockcroft_gault

            known["CRCL"] = float(cockcroft_gault(known["SEX"], known["AGE"], known["WT"], known["SCR"]))
        missing = [name for name in self.model.covariates if name not in known]
        if missing:
            remedy = "add an Observation (or, for SEX and AGE, the Patient)"
            raise InputError("the bundle does not say it", file=self.file, field=missing[0], remedy=remedy)
        return {name: repr(known[name]) for name in self.model.covariates}

    def _one(self, name: str, values: Sequence[tuple[datetime, float]]) -> float:
        if len({value for _, value in values}) > 1:
            remedy = "keep one, or write a CSV with `between:` in the model for one that changes"
            raise InputError("has several values", file=self.file, field=name, remedy=remedy)
        return values[0][1]

    def _person(self, start: datetime) -> dict[str, float]:
        patient = self.found.patient
        found: dict[str, float] = {}
        if patient.get("gender") in ("male", "female"):
            found["SEX"] = 1.0 if patient["gender"] == "male" else 0.0
        if patient.get("birthDate") is not None:
            try:
                born = date.fromisoformat(str(patient["birthDate"]))
            except ValueError:
                self.fail(patient, "birthDate", "is not a date", "write it as 1958-03-21")
            found["AGE"] = (start.date() - born).days / 365.25
        return found
