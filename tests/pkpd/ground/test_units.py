"""Units. Witness: pint's registry for every atom of our table; SI prefixes for the rest."""

from __future__ import annotations

import math
from contextlib import suppress

import pint
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkpd.ground import units
from pkpd.ground.errors import InputError

PINT_NAMES = {"d": "day", "IU": None, "y": "year", "h": "hour", "m": "meter", "min": "minute", "mcg": "microgram"}


@pytest.fixture(scope="module")
def registry() -> pint.UnitRegistry:
    return pint.UnitRegistry()


@pytest.mark.parametrize("atom", [a for a in sorted(units.ATOMS) if not a.endswith("IU") and a != "1"])
def test_the_table_agrees_with_pint(atom: str, registry: pint.UnitRegistry) -> None:
    base = {"mass": "gram", "length": "decimeter", "time": "hour", "amount": "mole"}
    size, dimension = units.parsed(atom)
    target = "*".join(f"{base[name]}**{power}" for name, power in dimension) or "dimensionless"
    quantity = registry.Quantity(1.0, PINT_NAMES.get(atom, atom)).to(target)
    assert math.isclose(size, quantity.magnitude, rel_tol=1e-12)


@pytest.mark.parametrize(
    ("quantity", "unit", "value"),
    [
        ("84 d", "h", 2016.0),
        ("0.25 1/h", "1/h", 0.25),
        ("8 1/week", "1/d", 8 / 7),
        ("0.0015 1/d", "1/h", 0.0015 / 24),
        ("46.1 mL/min", "L/h", 2.766),
        ("1 mg/L", "ug/mL", 1.0),
        ("25 percent", "1", 0.25),
        ("0.05 1/percent", "1", 5.0),
        ("5 mg/kg/d", "mg/kg/h", 5 / 24),
        ("1.73 m^2", "cm^2", 17300.0),
        ("100 IU/L", "mIU/mL", 100.0),
        ("2 mmol", "umol", 2000.0),
        ("0.128", "1", 0.128),
        ("120 mmHg", "mmHg", 120.0),
        ("-0.8 1", "1", -0.8),
    ],
)
def test_conversion(quantity: str, unit: str, value: float) -> None:
    assert math.isclose(units.number(quantity, unit), value, rel_tol=1e-12)


def test_powers_of_ten_are_exact() -> None:
    assert units.number("0.2 g", "mg") == 200.0
    assert units.factor("mg/L", "ng/mL") == 1000.0


@pytest.mark.parametrize(
    "wrong",
    ["NaN h", "inf h", "1_000 h", "12 h h", "12", "12h", "h", "", "12 foo", "12 h/", "12 /h", "0x10 h", "1e400 h",
     "1e-400 h", "١٢ h", "1,5 h", "12 mg", "21 dd", "2 kh", "12 h^", "12 (h)", "12 h; import os", "--1 h",
     "12 " + "h*" * 40 + "h"],
)  # fmt: skip
def test_what_is_no_time_is_refused(wrong: str) -> None:
    with pytest.raises(InputError) as caught:
        units.number(wrong, "h")
    assert caught.value.value == wrong


@pytest.mark.parametrize("slip", ["100 Mg", "2 ML", "3 GL", "7 md"])
def test_a_slip_of_the_shift_key_is_no_dose(slip: str) -> None:
    with pytest.raises(InputError, match="unknown unit"):
        units.split(slip)


def test_a_wrong_dimension_names_both_units() -> None:
    with pytest.raises(InputError, match=r"mg/L.*L/h"):
        units.number("3 mg/L", "L/h")


def test_percent_is_not_silently_a_bare_number() -> None:
    with pytest.raises(InputError, match="needs a unit"):
        units.number("25", "percent")


def test_international_units_are_neither_mass_nor_amount() -> None:
    assert not units.same_dimension("IU", "mg")
    assert not units.same_dimension("IU", "mol")


def test_a_quantity_is_its_number_and_its_text() -> None:
    dose = units.Quantity(0.2, "g")
    assert (float(dose), dose.to("mg"), str(dose)) == (0.2, 200.0, "0.2 g")
    assert units.split(str(dose)) == (0.2, "g")


@given(st.text(max_size=25))
def test_no_text_does_more_than_an_input_error(source: str) -> None:
    with suppress(InputError):
        assert math.isfinite(units.split(source)[0])
