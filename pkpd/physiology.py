"""Body size, renal function and growth: published formulas as array functions.

Every function broadcasts its arguments, returns float64 and gives NaN where an input is missing, not positive, or
outside the age the formula was made for: a number that looks right would be worse. `sex`: 1 male, 0 female, else NaN.
Powers come from `pkpd.kernels`, so a value has the same bits in any batch and on any x86-64 machine.
Units: weight kg, height cm, age years, creatinine mg/dL (IDMS-traceable), unless a name says otherwise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "allometry_clearance",
    "bmi",
    "bsa_dubois",
    "bsa_haycock",
    "bsa_mosteller",
    "ckd_epi_2021",
    "cockcroft_gault",
    "ffm_al_sallami",
    "ffm_janmahasatian",
    "gfr_maturation",
    "ibw_child",
    "ibw_devine",
    "lbm_james",
    "lms_value",
    "mdrd4_idms",
    "schwartz_bedside",
    "scr_child",
]

F64 = NDArray[np.float64]
ADULT = 18.0  # years


def ckd_epi_2021(sex: ArrayLike, age: ArrayLike, creatinine: ArrayLike) -> F64:
    """Estimated GFR [mL/min/1.73 m2], adults (age >= 18 y); creatinine mg/dL.

    142 min(Scr/k, 1)^a max(Scr/k, 1)^-1.200 0.9938^age (1.012 if female); k = 0.7, a = -0.241 female; 0.9, -0.302 male.
    Source: Inker LA et al., N Engl J Med 2021;385:1737.

    >>> round(float(ckd_epi_2021(1, 40, 1.0)), 3)
    97.575
    """
    years, scr = _at_least(age, ADULT), _positive(creatinine)
    ratio = scr / _by_sex(sex, 0.9, 0.7)
    low = _power(np.minimum(ratio, 1.0), _by_sex(sex, -0.302, -0.241))
    high = _power(np.maximum(ratio, 1.0), -1.2)
    return 142.0 * low * high * _power(0.9938, years) * _by_sex(sex, 1.0, 1.012)


def mdrd4_idms(sex: ArrayLike, age: ArrayLike, creatinine: ArrayLike) -> F64:
    """Estimated GFR [mL/min/1.73 m2] without the race factor, adults: 175 Scr^-1.154 age^-0.203 (0.742 if female).

    Source: Levey AS et al., Clin Chem 2007;53:766.

    >>> round(float(mdrd4_idms(0, 60, 0.8)), 3)
    73.166
    """
    years, scr = _at_least(age, ADULT), _positive(creatinine)
    return 175.0 * _power(scr, -1.154) * _power(years, -0.203) * _by_sex(sex, 1.0, 0.742)


def cockcroft_gault(sex: ArrayLike, age: ArrayLike, weight: ArrayLike, creatinine: ArrayLike) -> F64:
    """Creatinine clearance [mL/min], adults up to 140 y: (140 - age) W / (72 Scr), 0.85 of it in women.

    Source: Cockcroft DW, Gault MH, Nephron 1976;16:31.

    >>> round(float(cockcroft_gault(1, 40, 80, 1.0)), 3)
    111.111
    """
    years = _at_least(age, ADULT)
    left = np.where(years <= 140.0, 140.0 - years, np.nan)
    return left * _positive(weight) / (72.0 * _positive(creatinine)) * _by_sex(sex, 1.0, 0.85)


def schwartz_bedside(height: ArrayLike, creatinine: ArrayLike) -> F64:
    """Estimated GFR of children [mL/min/1.73 m2]: 0.413 height / Scr.

    Source: Schwartz GJ et al., J Am Soc Nephrol 2009;20:629.

    >>> round(float(schwartz_bedside(120, 0.5)), 2)
    99.12
    """
    return 0.413 * _positive(height) / _positive(creatinine)


def bmi(weight: ArrayLike, height: ArrayLike) -> F64:
    """Body mass index [kg/m2].

    >>> round(float(bmi(80, 180)), 2)
    24.69
    """
    metres = _positive(height) / 100.0
    return _positive(weight) / (metres * metres)


def bsa_dubois(weight: ArrayLike, height: ArrayLike) -> F64:
    """Body surface [m2]: 0.007184 W^0.425 H^0.725. Source: Du Bois D, Du Bois EF, Arch Intern Med 1916;17:863.

    >>> round(float(bsa_dubois(80, 180)), 4)
    1.9964
    """
    return 0.007184 * _power(_positive(weight), 0.425) * _power(_positive(height), 0.725)


def bsa_mosteller(weight: ArrayLike, height: ArrayLike) -> F64:
    """Body surface [m2]: sqrt(W H / 3600). Source: Mosteller RD, N Engl J Med 1987;317:1098.

    >>> float(bsa_mosteller(80, 180))
    2.0
    """
    return np.sqrt(_positive(weight) * _positive(height) / 3600.0)


def bsa_haycock(weight: ArrayLike, height: ArrayLike) -> F64:
    """Body surface [m2]: 0.024265 W^0.5378 H^0.3964. Source: Haycock GB et al., J Pediatr 1978;93:62.

    >>> round(float(bsa_haycock(80, 180)), 3)
    2.007
    """
    return 0.024265 * _power(_positive(weight), 0.5378) * _power(_positive(height), 0.3964)


def lbm_james(sex: ArrayLike, weight: ArrayLike, height: ArrayLike) -> F64:
    """Lean body mass [kg]: 1.10 W - 128 (W/H)^2 male, 1.07 W - 148 (W/H)^2 female; falls again in the very obese.

    Source: James WPT, Research on Obesity (HMSO 1976).

    >>> round(float(lbm_james(1, 80, 180)), 3)
    62.716
    """
    mass = _positive(weight)
    ratio = mass / _positive(height)
    return _by_sex(sex, 1.10, 1.07) * mass - _by_sex(sex, 128.0, 148.0) * ratio * ratio


def ffm_janmahasatian(sex: ArrayLike, weight: ArrayLike, height: ArrayLike) -> F64:
    """Fat-free mass of adults [kg]: 9270 W / (6680 + 216 BMI) male, 9270 W / (8780 + 244 BMI) female.

    Source: Janmahasatian S et al., Clin Pharmacokinet 2005;44:1051.

    >>> round(float(ffm_janmahasatian(0, 65, 165)), 3)
    41.255
    """
    index = bmi(weight, height)
    return 9270.0 * _positive(weight) / (_by_sex(sex, 6680.0, 8780.0) + _by_sex(sex, 216.0, 244.0) * index)


def ffm_al_sallami(sex: ArrayLike, age: ArrayLike, weight: ArrayLike, height: ArrayLike) -> F64:
    """Fat-free mass from 0 y on [kg]: Janmahasatian's times a + (1 - a)/(1 + (age/A)^-g), which matures with age.

    Male a = 0.88, A = 13.4 y, g = 12.7; female a = 1.11, A = 7.1 y, g = 1.1.
    Source: Al-Sallami HS et al., Clin Pharmacokinet 2015;54:1169.

    >>> round(float(ffm_al_sallami(1, 9, 30, 135)), 3)
    23.93
    """
    young = _by_sex(sex, 0.88, 1.11)
    slope = _power(_positive(age) / _by_sex(sex, 13.4, 7.1), _by_sex(sex, -12.7, -1.1))
    return (young + (1.0 - young) / (1.0 + slope)) * ffm_janmahasatian(sex, weight, height)


def ibw_devine(sex: ArrayLike, height: ArrayLike) -> F64:
    """Ideal body weight of adults [kg]: 50 (male) or 45.5 (female) + 2.3 per inch over 60.

    Source: Devine BJ, Drug Intell Clin Pharm 1974;8:650.

    >>> round(float(ibw_devine(1, 180)), 3)
    74.992
    """
    return _by_sex(sex, 50.0, 45.5) + 2.3 * (_positive(height) / 2.54 - 60.0)


def ibw_child(height: ArrayLike) -> F64:
    """Ideal body weight of children [kg]: 1.65 height^2 / 1000.

    >>> round(float(ibw_child(150)), 3)
    37.125
    """
    tall = _positive(height)
    return 1.65 * tall * tall / 1000.0


def allometry_clearance(weight: ArrayLike, exponent: ArrayLike = 0.75, reference: ArrayLike = 70.0) -> F64:
    """Size factor (W / reference)^exponent, no unit. Source: Anderson BJ, Holford NHG, Annu Rev Pharmacol 2008;48:303.

    >>> round(float(allometry_clearance(12)), 4)
    0.2664
    """
    return _power(_positive(weight) / _positive(reference), exponent)


def gfr_maturation(postmenstrual_weeks: ArrayLike) -> F64:
    """Fraction of the adult GFR reached: PMA^3.4 / (47.7^3.4 + PMA^3.4), postmenstrual age in weeks.

    Source: Rhodin MM et al., Pediatr Nephrol 2009;24:67.

    >>> round(float(gfr_maturation(40)), 5)
    0.35467
    """
    return 1.0 / (1.0 + _power(_positive(postmenstrual_weeks) / 47.7, -3.4))


def scr_child(age: ArrayLike) -> F64:
    """Typical serum creatinine of a child [umol/L]: -2.37330 - 12.91367 ln(age) + 23.93581 sqrt(age), up to about 15 y.

    Source: Ceriotti F et al., Clin Chem 2008;54:559. Divide by 88.4 for mg/dL.

    >>> round(float(scr_child(10)), 2)
    43.58
    """
    years = _positive(age)
    return -2.37330 - 12.91367 * _log(years) + 23.93581 * np.sqrt(years)


def lms_value(skew: ArrayLike, median: ArrayLike, variation: ArrayLike, z: ArrayLike) -> F64:
    """Value at z-score z of an LMS growth chart: M (1 + L S z)^(1/L), M exp(S z) where L = 0; unit of M.

    Source: Cole TJ, Green PJ, Stat Med 1992;11:1305.

    >>> round(float(lms_value(-0.1600954, 9.476500305, 0.11218624, -1.645)), 5)
    7.90063
    """
    shape, middle, spread, score = (np.asarray(x, dtype=np.float64) for x in (skew, median, variation, z))
    flat = shape == 0.0
    base = 1.0 + shape * spread * score
    curved = _power(np.where(base > 0.0, base, np.nan), 1.0 / np.where(flat, 1.0, shape))
    return _positive(middle) * np.where(flat, _exp(spread * score), curved)


def _by_sex(sex: ArrayLike, male: float, female: float) -> F64:
    code = np.asarray(sex, dtype=np.float64)
    return np.where(code == 1.0, male, np.where(code == 0.0, female, np.nan))


def _positive(x: ArrayLike) -> F64:
    value = np.asarray(x, dtype=np.float64)
    return np.where(value > 0.0, value, np.nan)


def _at_least(x: ArrayLike, lowest: float) -> F64:
    value = np.asarray(x, dtype=np.float64)
    return np.where(value >= lowest, value, np.nan)


def _power(x: ArrayLike, y: ArrayLike) -> F64:
    from pkpd.kernels.elementary import power_array  # numba is loaded at the first number, not with the room

    return power_array(x, y)


def _exp(x: ArrayLike) -> F64:
    from pkpd.kernels.elementary import exp_array

    return exp_array(x)


def _log(x: ArrayLike) -> F64:
    from pkpd.kernels.elementary import log_array

    return log_array(x)
