"""Static models of drug-drug interactions: the guidelines' basic ratios and the mechanistic net effect.

Sources: ICH M12 (final, May 2024), sections 2.1 and 2.2 and appendix; FDA, In Vitro Drug Interaction Studies (January
2020);
EMA, Guideline on the investigation of drug interactions (2012). The net effect is Fahmi et al., Drug Metab Dispos
2009;37:1658. Concentrations in uM, doses in mg, times in h; every input may be an array and arrays broadcast.
Interaction constants are unbound. No inhibition is Ki = inf; no inactivation kinact = 0; no induction Emax = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "FLOW_ENTEROCYTE", "FLOW_LIVER", "GUIDELINES", "Action", "Exposure", "Guideline", "Ratio", "basic", "induction",
    "net_effect", "reversible", "time_dependent", "transporter",
]  # fmt: skip

Floats = NDArray[np.float64]
Version = Literal["ICH M12 2024", "FDA 2020", "EMA 2012"]
FLOW_LIVER: Final = 97.0  # L/h: hepatic blood flow of 70 kg, ICH M12
FLOW_ENTEROCYTE: Final = 18.0  # L/h: ICH M12
GLASS: Final = 0.25  # L: what the dose is dissolved in


def _array(value: object) -> Floats:
    return np.asarray(value, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """Where a drug meets enzymes and transporters.

    dose: mg; molar_mass: g/mol; cmax: uM total in plasma at steady state; fu: unbound share; ka: 1/h; fa, fg: shares
    absorbed and
    escaping the gut wall; blood_plasma: ratio R_B.
    """

    dose: ArrayLike
    molar_mass: ArrayLike
    cmax: ArrayLike
    fu: ArrayLike
    ka: ArrayLike = 6.0
    fa: ArrayLike = 1.0
    fg: ArrayLike = 1.0
    blood_plasma: ArrayLike = 1.0
    oral: bool = True

    @property
    def unbound(self) -> Floats:
        """Cmax,u [uM]."""
        return _array(self.cmax) * _array(self.fu)

    @property
    def absorbed(self) -> Floats:
        """ka Fa Dose [umol/h]: the largest rate of absorption; 0 unless oral."""
        dose = _array(self.dose) * 1000.0 / _array(self.molar_mass)
        return dose * _array(self.ka) * _array(self.fa) * float(self.oral)

    @property
    def lumen(self) -> Floats:
        """Dose / 250 mL [uM]; 0 unless oral."""
        dose = _array(self.dose) * 1000.0 / _array(self.molar_mass)
        return dose / GLASS * float(self.oral)

    @property
    def enterocyte(self) -> Floats:
        """[I]g = Fa ka Dose / Qen [uM]."""
        return self.absorbed / FLOW_ENTEROCYTE

    @property
    def inlet(self) -> Floats:
        """[I]h = fu (Cmax + Fa Fg ka Dose / (Qh R_B)) [uM]."""
        portal = self.absorbed * _array(self.fg) / (FLOW_LIVER * np.asarray(self.blood_plasma))
        return _array(self.fu) * (_array(self.cmax) + portal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What a drug does to an enzyme: Ki, KI, EC50 [uM, unbound], kinact [1/h], Emax (fold - 1), d (scaling of
    induction)."""

    ki: ArrayLike = np.inf
    kinact: ArrayLike = 0.0
    ki_inactivation: ArrayLike = np.inf
    emax: ArrayLike = 0.0
    ec50: ArrayLike = np.inf
    scale: ArrayLike = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Guideline:
    """Cut-offs of one version. A transporter's entry: (which concentration, cut-off of concentration / IC50)."""

    reversible: float = 1.02
    gut: float = 11.0
    time_dependent: float = 1.25
    inactivation_multiple: float
    induction: float = 0.8
    induction_multiple: float = 10.0
    net_upper: float = 1.25
    net_lower: float = 0.8
    least_fu: float = 0.01
    transporters: dict[str, tuple[str, float]]


def _transporters(efflux: float, uptake: float, kidney: float, mate: float) -> dict[str, tuple[str, float]]:
    gut = dict.fromkeys(("P-gp", "BCRP"), ("lumen", 10.0))
    systemic = {f"{name} systemic": ("unbound", efflux) for name in ("P-gp", "BCRP")}
    liver = dict.fromkeys(("OATP1B1", "OATP1B3"), ("inlet", uptake))
    renal = {"OAT1": ("unbound", kidney), "OAT3": ("unbound", kidney)}
    return gut | systemic | liver | renal | dict.fromkeys(("MATE1", "MATE2-K"), ("unbound", mate))


GUIDELINES: Final[dict[Version, Guideline]] = {
    "ICH M12 2024": Guideline(
        inactivation_multiple=5.0, transporters=_transporters(0.02, 0.1, 0.1, 0.02) | {"OCT2": ("unbound", 0.1)}
    ),
    "FDA 2020": Guideline(
        inactivation_multiple=50.0, transporters=_transporters(0.1, 0.1, 0.1, 0.1) | {"OCT2": ("unbound", 0.1)}
    ),
    "EMA 2012": Guideline(
        inactivation_multiple=1.0,
        transporters=_transporters(0.02, 0.04, 0.04, 0.02)
        | {"OCT1": ("inlet", 0.04), "OCT2": ("unbound", 0.02), "BSEP": ("unbound", 0.02)},
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A ratio, its cut-off, and whether it asks for a study (`risk`)."""

    value: Floats
    cutoff: float
    risk: NDArray[np.bool_]


def reversible(concentration: ArrayLike, ki: ArrayLike) -> Floats:
    """R1 = 1 + [I]/Ki (ICH M12 2.1.2.1; [I] = Cmax,u, or Dose/250 mL in the gut).

    >>> round(float(reversible(0.1648, 12.5)), 3)
    1.013
    """
    return 1.0 + _array(concentration) / _array(ki)


def time_dependent(concentration: ArrayLike, action: Action, kdeg: ArrayLike) -> Floats:
    """R2 = (kobs + kdeg)/kdeg, kobs = kinact [I]/(KI + [I]) (ICH M12 2.1.2.2; [I] = 5 Cmax,u; FDA 2020: 50, EMA 2012:
    1)."""
    seen = _array(concentration)
    kobs = _array(action.kinact) * seen / (_array(action.ki_inactivation) + seen)
    return (kobs + _array(kdeg)) / _array(kdeg)


def induction(concentration: ArrayLike, action: Action) -> Floats:
    """R3 = 1/(1 + d Emax [I]/(EC50 + [I])), [I] = 10 Cmax,u (ICH M12 2.1.4.2)."""
    seen = _array(concentration)
    return 1.0 / (1.0 + _array(action.scale) * _array(action.emax) * seen / (_array(action.ec50) + seen))


def basic(
    exposure: Exposure, action: Action, kdeg: ArrayLike, version: Version = "ICH M12 2024"
) -> dict[Literal["R1", "R1,gut", "R2", "R3"], Ratio]:
    """The basic models of one enzyme (R1,gut is meant for CYP3A). kdeg: 1/h, liver."""
    rule, free = GUIDELINES[version], exposure.unbound
    found = {
        "R1": (reversible(free, action.ki), rule.reversible),
        "R1,gut": (reversible(exposure.lumen, action.ki), rule.gut),
        "R2": (time_dependent(rule.inactivation_multiple * free, action, kdeg), rule.time_dependent),
    }
    made = {name: Ratio(value=r, cutoff=cut, risk=np.asarray(r >= cut)) for name, (r, cut) in found.items()}
    r3 = induction(rule.induction_multiple * free, action)
    made["R3"] = Ratio(value=r3, cutoff=rule.induction, risk=np.asarray(r3 <= rule.induction))
    return made  # type: ignore[return-value]


def transporter(exposure: Exposure, name: str, ic50: ArrayLike, version: Version = "ICH M12 2024") -> Ratio:
    """[I]/IC50 of a transporter against its cut-off (ICH M12 2.2.2). Errors: KeyError, a transporter without
    cut-off."""
    place, cutoff = GUIDELINES[version].transporters[name]
    value = np.asarray(getattr(exposure, place), dtype=float) / _array(ic50)
    return Ratio(value=value, cutoff=cutoff, risk=np.asarray(value >= cutoff))


def site(concentration: ArrayLike, action: Action, kdeg: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """A (reversible), B (inactivation), C (induction) of one site: shares of the activity without the drug."""
    seen, rate = _array(concentration), _array(kdeg)
    inactivated = _array(action.kinact) * seen / (_array(action.ki_inactivation) + seen)
    return 1.0 / reversible(seen, action.ki), rate / (rate + inactivated), 1.0 / induction(seen, action)


def net_effect(
    exposure: Exposure, action: Action, *, fm: ArrayLike, fg: ArrayLike = 1.0,
    kdeg: tuple[ArrayLike, ArrayLike], oral: bool = True,
) -> Floats:  # fmt: skip
    """AUC ratio of a victim by the mechanistic static model (ICH M12, appendix; Fahmi 2009).

    AUCR = 1/(Ag Bg Cg (1 - Fg) + Fg) x 1/(Ah Bh Ch fm + 1 - fm). fm, fg: of the victim; kdeg: (liver, gut) [1/h];
    oral: the
    victim passes the gut. Identity: Ki = inf, kinact = 0, Emax = 0, or fm = 0 and fg = 1, give exactly 1.
    """
    liver, gut = (np.prod(site(i, action, k), axis=0) for i, k in zip((exposure.inlet, exposure.enterocyte), kdeg))
    part, escape = _array(fm), _array(fg)
    wall = 1.0 + (1.0 - escape) * (gut - 1.0) if oral else np.asarray(1.0)
    return np.asarray(1.0 / wall / (1.0 + part * (liver - 1.0)))
