"""FHIR bundles: what is understood, and that what is not is named. Witness: the same patient written as CSV."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from pkpd.model.library import load
from pkpd.twin.fhir import read

WHO = {"reference": "Patient/P7"}


def _seen(name, code, quantity, when, **more):
    value, unit = quantity
    return {
        "resourceType": "Observation", "id": name, "status": "final", "subject": WHO,
        "code": {"coding": [{"system": "http://loinc.org", "code": code}], "text": code},
        "effectiveDateTime": when, "valueQuantity": {"value": value, "code": unit} | more,
    }  # fmt: skip


def _dose(name, period, value, unit):
    return {
        "resourceType": "MedicationAdministration", "id": name, "status": "completed", "subject": WHO,
        "medicationCodeableConcept": {"text": "Vancomycin infusion"},
        "effectivePeriod": {"start": period[0], "end": period[1]}, "dosage": {"dose": {"value": value, "code": unit}},
    }  # fmt: skip


RESOURCES = [
    {"resourceType": "Patient", "id": "P7", "gender": "female", "birthDate": "1960-05-01"},
    _seen("w", "29463-7", (72, "kg"), "2026-11-20T07:00:00+00:00"),
    _seen("c", "2160-0", (1.4, "mg/dL"), "2026-11-20T07:00:00+00:00"),
    _seen("d", "DIAL", (0, "1"), "2026-11-20T07:00:00+00:00"),
    _dose("m2", ("2026-11-20T20:00:00+00:00", "2026-11-20T21:00:00+00:00"), 1000, "mg"),
    _dose("m1", ("2026-11-20T09:00:00+01:00", "2026-11-20T10:00:00+01:00"), 1, "g"),
    _seen("l1", "20578-1", (28.3, "ug/mL"), "2026-11-20T22:30:00+00:00"),
    _seen("l2", "CP", (2, "mg/L"), "2026-11-21T07:30:00+00:00", comparator="<"),
]


def _read(tmp_path, resources):
    path = tmp_path / "bundle.json"
    path.write_text(json.dumps({"resourceType": "Bundle", "entry": [{"resource": r} for r in resources]}))
    return read(path, load("goti_vancomycin"))


def test_a_bundle_is_the_csv_it_says(tmp_path):
    found = _read(tmp_path, RESOURCES)
    assert found.ids == ("P7",)
    np.testing.assert_allclose(found.doses.time, [0.0, 12.0])  # 09:00+01:00 is 08:00 UTC
    np.testing.assert_allclose(found.doses.amount, [1000.0, 1000.0])
    np.testing.assert_allclose(found.doses.duration, [1.0, 1.0])
    np.testing.assert_allclose(found.time, [14.5, 23.5])
    np.testing.assert_allclose(found.dv, [28.3, 2.0])
    assert found.below.tolist() == [False, True]
    age = 66 + (203 - 0) / 365.25  # 1 May to 20 November
    np.testing.assert_allclose(found.covariates["CRCL"], (140 - age) * 72 / (72 * 1.4) * 0.85, rtol=1e-3)


def _changed(place, **values):
    found = copy.deepcopy(RESOURCES)
    found[place] |= values
    return found


@pytest.mark.parametrize(("resources", "words"), [
    (_changed(4, medicationCodeableConcept={"text": "Gentamicin"}), "m2.medicationCodeableConcept.*not the drug"),
    (_changed(4, status="in-progress"), "m2.status"),
    (_changed(4, dosage={"dose": {"value": 5, "code": "mL"}}), "m2.dosage.dose.*cannot be turned"),
    (_changed(4, subject={"reference": "Patient/P8"}), "m2.subject.*one bundle a patient"),
    (_changed(6, effectiveDateTime="2026-11-20T22:30:00"), "l1.effectiveDateTime.*time zone"),
    (_changed(6, code={"text": "Teicoplanin"}), "l1.code.*not known"),
    (_changed(6, status="preliminary"), "l1.status"),
    (_changed(6, valueQuantity={"value": "28", "code": "mg/L"}), "l1.valueQuantity.*no number"),
    (_changed(7, valueQuantity={"value": 2, "code": "mg/L", "comparator": ">"}), "comparator"),
    ([*RESOURCES, {"resourceType": "Device", "id": "x"}], "Device/x"),
    ([r for r in RESOURCES if r.get("id") != "c"], "CRCL.*does not say"),
    ([*RESOURCES, _seen("w2", "29463-7", (80, "kg"), "2026-11-21T07:00:00+00:00")], "WT.*several values"),
    (_changed(5, effectivePeriod={"start": "2026-11-20T10:00:00+01:00", "end": "2026-11-20T09:00:00+01:00"}), "ends before"),
    ([{**RESOURCES[4], "effectivePeriod": None, "effectiveDateTime": "2026-11-20T20:00:00+00:00",
       "dosage": {"dose": {"value": 1, "code": "g"}, "rateQuantity": {"value": 1, "code": "g/h"}}}, *RESOURCES], "rate"),
])  # fmt: skip
def test_what_is_not_understood_is_named(tmp_path, resources, words):
    with pytest.raises(InputError) as error:
        _read(tmp_path, resources)
    import re

    assert re.search(words, str(error.value)), str(error.value)


def test_what_was_entered_in_error_is_passed_over(tmp_path):
    wrong = {**RESOURCES[4], "id": "m3", "status": "entered-in-error"}
    assert len(_read(tmp_path, [*RESOURCES, wrong]).doses.time) == 2


@pytest.mark.parametrize("text", ["{", "[]", '{"resourceType": "Bundle"}', '{"resourceType": "Bundle", "entry": [1]}'])
def test_no_bundle(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError):
        read(path, load("goti_vancomycin"))
