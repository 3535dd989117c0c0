"""Units, at the door only: the engine is unit-blind.

A unit is a product or quotient of atoms: `mg/L`, `L/h`, `1/percent`, `mg/kg/d`, `m^2`. The atoms of
pharmacometrics are a table here (a test compares it with pint); any other atom is asked of pint, then imported.
`percent` is 0.01 and `1` is dimensionless; `IU` has a dimension of its own.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from pkpd.ground.errors import InputError, Where

__all__ = ["Dimension", "Quantity", "describe", "factor", "number", "parsed", "same_dimension", "split"]

_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_ATOM: Final = re.compile(r"([A-Za-z]+|1)(?:\^(-?[0-9]{1,2}))?")
_DAY: Final = 24.0

Dimension = tuple[tuple[str, float], ...]
"""Base quantity and its power (a whole number in every unit; a fraction only inside an expression)."""


class Quantity(float):
    """A number that remembers the unit it was given in; `str()` writes text that reads back the same.

    >>> dose = Quantity(200.0, "mg"); str(dose), dose.to("g")
    ('200 mg', 0.2)
    """

    __slots__ = ("unit",)
    unit: str

    def __new__(cls, value: float, unit: str) -> Quantity:
        made = super().__new__(cls, value)
        made.unit = unit
        return made

    def __reduce__(self) -> tuple[type[Quantity], tuple[float, str]]:
        return Quantity, (float(self), self.unit)

    def __str__(self) -> str:
        value = float(self)
        return f"{int(value) if value == int(value) and abs(value) < 1e15 else value!r} {self.unit}"

    def __repr__(self) -> str:
        return str(self)

    def to(self, unit: str) -> float:
        """The number in another unit; InputError on another dimension."""
        return float(self) if unit == self.unit else float(self) * factor(self.unit, unit)


@dataclass(frozen=True, slots=True)
class _Unit:
    factor: float
    dimension: Dimension


def _atoms() -> dict[str, _Unit]:
    """Base units: g, L for volume kept as length^3 in dm, h, mol, IU."""
    table: dict[str, _Unit] = {"1": _Unit(1.0, ()), "percent": _Unit(0.01, ())}
    for prefix, size in (("", 1.0), ("m", 1e-3), ("u", 1e-6), ("n", 1e-9), ("p", 1e-12)):
        table[prefix + "g"] = _Unit(size, (("mass", 1),))
        table[prefix + "mol"] = _Unit(size, (("amount", 1),))
        table[prefix + "L"] = _Unit(size, (("length", 3),))
        table[prefix + "IU"] = _Unit(size, (("activity", 1),))
    table |= {"kg": _Unit(1e3, (("mass", 1),)), "mcg": table["ug"], "dL": _Unit(0.1, (("length", 3),))}
    table |= {"kIU": _Unit(1e3, (("activity", 1),)), "MIU": _Unit(1e6, (("activity", 1),))}
    for name, decimetres in (("m", 10.0), ("cm", 0.1), ("mm", 0.01), ("dm", 1.0), ("km", 1e4)):
        table[name] = _Unit(decimetres, (("length", 1),))
    hours = {"h": 1.0, "min": 1 / 60, "s": 1 / 3600, "ms": 1 / 3.6e6, "d": _DAY, "day": _DAY, "week": 7 * _DAY}
    hours |= {"year": 365.25 * _DAY, "y": 365.25 * _DAY, "month": 365.25 * _DAY / 12, "hour": 1.0}
    hours |= {"days": _DAY, "weeks": 7 * _DAY, "hours": 1.0, "years": 365.25 * _DAY, "months": 365.25 * _DAY / 12}
    return table | {name: _Unit(value, (("time", 1),)) for name, value in hours.items()}


ATOMS: Final = _atoms()


def split(text: str, *, field: str | None = None, like: str = "mg") -> tuple[float, str]:
    """Number and unit of a quantity such as `12 h` or `0.25 1/h`; both are needed.

    >>> split("0.05 1/percent")
    (0.05, '1/percent')
    """
    parts = text.split()
    where = getattr(text, "where", None)
    if len(parts) == 1 and _NUMBER.fullmatch(parts[0]):
        remedy = f"write for example {parts[0]} {like}" + (f", or {parts[0]} 1 when it has no unit" * (like == "mg"))
        raise InputError("needs a unit", field=field, value=text, where=where, remedy=remedy)
    if len(parts) != 2 or not _NUMBER.fullmatch(parts[0]):
        remedy = "write number, space, unit: 12 h"
        raise InputError("is not a quantity", field=field, value=text, where=where, remedy=remedy)
    _known(parts[1], text, where, field)
    return _finite(parts[0], text, where, field), parts[1]


def number(text: str, unit: str, *, field: str | None = None) -> float:
    """A quantity in the wanted unit; when `unit` is `1` a bare number will do.

    >>> number("84 d", "h")
    2016.0
    """
    where = getattr(text, "where", None)
    if same_dimension(unit, "1") and _NUMBER.fullmatch(text.strip()):
        if unit != "1":
            raise InputError("needs a unit", field=field, value=text, where=where, remedy=f"write {text} {unit}")
        return _finite(text.strip(), text, where, field)
    value, given = split(text, field=field, like="mg" if unit == "1" else unit)
    if not same_dimension(given, unit):
        problem = f"is in {given}, which cannot be turned into {unit}"
        raise InputError(problem, field=field, value=text, where=where, remedy=f"give it in {unit} or the like")
    return value if given == unit else value * factor(given, unit)


def same_dimension(a: str, b: str) -> bool:
    """Whether one unit can be turned into the other."""
    return _parsed(a).dimension == _parsed(b).dimension


def factor(a: str, b: str) -> float:
    """What a number in unit `a` is multiplied by to be in unit `b`.

    >>> factor("mg/L", "ug/mL")
    1.0
    """
    given, wanted = _parsed(a), _parsed(b)
    if given.dimension != wanted.dimension:
        raise InputError(f"{a} cannot be turned into {b}", remedy=f"give it in {b} or the like")
    ratio = given.factor / wanted.factor
    near = float(f"{ratio:.12g}")  # decimal factors are exact: 1e-3/1e-6 is 1000, not 1000.0000000000001
    return near if math.isclose(near, ratio, rel_tol=4e-15) else ratio


def parsed(unit: str) -> tuple[float, Dimension]:
    """Factor to the base units (g, dm, h, mol, IU) and dimension of a unit."""
    known = _parsed(unit)
    return known.factor, known.dimension


_SPOKEN: Final = (
    "1", "percent", "mg", "g", "ug", "ng", "mg/L", "ug/L", "ng/L", "g/L", "mg/h", "g/h", "mg/L/h", "mg/kg", "L", "mL",
    "L/h", "mL/h", "1/h", "h", "L/mg", "kg", "kg/h", "kg/L", "mmol", "umol", "nmol", "mmol/L", "umol/L", "nmol/L",
    "nmol/h", "umol/h", "nmol/L/h", "IU", "IU/L", "IU/h", "percent/h", "1/percent", "cm", "L/kg", "L/h/kg", "1/L",
    "mg*h/L", "mg/dL", "g/dL", "pmol/L", "pmol/kg", "mIU/L", "mm", "1/mL", "mL/min", "L/min",
)  # fmt: skip


def describe(size: float, dimension: Dimension) -> str:
    """A readable unit of a factor and dimension: `mg/L` where we have a word, else base units with the factor.

    >>> describe(*parsed("mg/L")), describe(3.0, (("time", 2),))
    ('mg/L', '3 h^2')
    """
    for unit in _SPOKEN:
        known = _parsed(unit)
        if known.dimension == dimension and math.isclose(known.factor, size, rel_tol=1e-9):
            return unit
    symbols = {"mass": "g", "length": "dm", "time": "h", "amount": "mol", "activity": "IU"}
    litres = {name: p // 3 for name, p in dimension if name == "length" and p % 3 == 0}
    powers = [("L", litres[name]) if name in litres else (symbols.get(name, name), p) for name, p in dimension]
    body = "*".join(name + (f"^{p}" if p != 1 else "") for name, p in powers if p > 0) or "1"
    body += "".join(f"/{name}" + (f"^{-p}" if p != -1 else "") for name, p in powers if p < 0)
    return body if size == 1 else f"{size:.6g} {body}"


def _known(unit: str, text: str, where: Where | None, field: str | None) -> None:
    try:
        _parsed(unit)
    except InputError as error:
        raise InputError(error.problem, field=field, value=text, where=where, remedy=error.remedy) from None


def _finite(digits: str, text: str, where: Where | None, field: str | None) -> float:
    value = float(digits)
    if not math.isfinite(value) or (value == 0 and re.search(r"[1-9]", re.split("[eE]", digits)[0])):
        raise InputError("is beyond what a number can hold", field=field, value=text, where=where)
    return value


@lru_cache(maxsize=512)
def _parsed(unit: str) -> _Unit:
    """Factor to the base units and dimension of a unit string."""
    if len(unit) > 60:
        raise InputError("the unit is too long", value=unit)
    size, powers = 1.0, dict[str, float]()
    for sign, atom in _factors(unit):
        found = _ATOM.fullmatch(atom)
        if not found:
            raise InputError(f"unknown unit {unit!r}", remedy="write for example mg/L, L/h, 1/h, percent")
        power = sign * int(found[2] or 1)
        known = ATOMS.get(found[1]) or _pint_unit(found[1], unit)
        size *= known.factor**power
        for name, exponent in known.dimension:
            powers[name] = powers.get(name, 0) + exponent * power
    return _Unit(size, tuple(sorted((name, p) for name, p in powers.items() if p)))


def _factors(unit: str) -> list[tuple[int, str]]:
    """(+1 or -1, atom) from left to right; `mg/kg/d` divides twice."""
    pieces = re.split(r"([*/])", unit)
    signs = [1, *(1 if mark == "*" else -1 for mark in pieces[1::2])]
    return list(zip(signs, pieces[0::2], strict=True))


def _pint_unit(atom: str, unit: str) -> _Unit:
    """One typed seam to pint for atoms outside the table."""
    remedy = "write for example mg/L, L/h, 1/h, percent"
    try:
        base = _registry_quantity(atom)
    except Exception:  # pint raises many kinds; to the user all mean one thing
        raise InputError(f"unknown unit {unit!r}", remedy=remedy) from None
    size, dimension = base
    if any(p != int(p) for _, p in dimension):
        raise InputError(f"unknown unit {unit!r}", remedy=remedy)
    return _Unit(size, tuple((name, int(p)) for name, p in dimension))


def _registry_quantity(atom: str) -> tuple[float, list[tuple[str, float]]]:
    """A pint unit in our base units (g, dm, h, mol)."""
    ours = {"[mass]": ("mass", "g"), "[length]": ("length", "dm"), "[time]": ("time", "hour")}
    ours |= {"[substance]": ("amount", "mol"), "[temperature]": ("temperature", "kelvin")}
    ours |= {"[current]": ("current", "ampere"), "[luminosity]": ("luminosity", "candela")}
    registry = _registry()
    _refuse_prefix(registry, atom)
    quantity = registry.Quantity(1.0, registry.parse_units(atom))
    powers = dict(quantity.dimensionality)
    target = registry.Unit("dimensionless")
    for name, power in powers.items():
        target = target * registry.Unit(ours[name][1]) ** power
    return float(quantity.to(target).magnitude), sorted((ours[n][0], float(p)) for n, p in powers.items())


_LARGE: Final = frozenset({"mega", "giga", "tera", "peta", "exa", "zetta", "yotta", "ronna", "quetta"})


def _refuse_prefix(registry: Any, atom: str) -> None:
    """`dd` is a tenth of a day and `Mg` a tonne: nobody doses so, a slip of the finger does."""
    prefix, name, _ = registry.parse_unit_name(atom)[0]
    if prefix in _LARGE or (prefix and name != "second" and registry.Quantity(1.0, name).check("[time]")):
        raise InputError(f"unknown unit {atom!r}", remedy="write for example mg/L, L/h, 1/h, percent")


@lru_cache(maxsize=1)
def _registry() -> Any:
    import pint

    return pint.UnitRegistry(cache_folder=None)
