"""The reference models can be said. Witness: `../shared/reference/models.md`, equations and values as given there; golden
numbers that need no integration are computed from the text.
"""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.model.equations import evaluate
from pkpd.model.spec import Model

HEAD = "vtrial: model/1\ncite: {ref: reference models}\n"


def said(name: str, body: str) -> Model:
    return Model.parse(f"{HEAD}name: {name}\n{body}")


def p(text: str) -> str:
    """`CL 3 L/h iiv: 0.2` lines as the parameters of a text."""
    lines = [line.split(None, 3) for line in text.strip().splitlines()]
    rows = [f"  {n}: {{typical: {v} {u}, {rest[0] + ', ' if rest else ''}status: assumed}}" for n, v, u, *rest in lines]
    return "parameters:\n" + "\n".join(rows) + "\n"


WARFARIN_INR = (
    "covariates: {AGE: {unit: year, reference: 71}, CYP: {labels: {0: s11, 1: s12, 2: s13}}, VK: {labels: {0: GG, 1: AG}}}\n"
    "states: {depot: mg, central: mg, periph: mg, A1: 1, A2: 1, A3: 1, A4: 1, A5: 1, A6: 1, A7: 1}\n"
    + p("""
CL 0.314 L/h iiv: 0.31, effects: {CYP: {1: 0.685, 2: 0.547}}
BAGE 0.0091 1/year in: 1/year
V1 13.8 L iiv: 0.262
Q 0.131 L/h
V2 6.59 L iiv: 0.991
KA 2 1/h
EC50 4.61 mg/L iiv: 0.409, effects: {VK: {1: 0.655}}
G 0.424 1
MTT1 11.6 h iiv: 0.141
MTT2 120 h iiv: 1.02
BASE 1 1""")
    + """equations: |
  CLI = CL*(1 - BAGE*(AGE - 71))
  C = central/V1
  INH = C^G/(EC50^G + C^G)
  A1(0) = 1
  A2(0) = 1
  A3(0) = 1
  A4(0) = 1
  A5(0) = 1
  A6(0) = 1
  A7(0) = 1
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - CLI*C - Q*(C - periph/V2)
  d/dt(periph) = Q*(C - periph/V2)
  d/dt(A1) = (1 - INH - A1)/MTT1
  d/dt(A2) = (A1 - A2)/MTT1
  d/dt(A3) = (A2 - A3)/MTT1
  d/dt(A4) = (A3 - A4)/MTT1
  d/dt(A5) = (A4 - A5)/MTT1
  d/dt(A6) = (A5 - A6)/MTT1
  d/dt(A7) = (1 - INH - A7)/MTT2
  INR = BASE + 20*(1 - A6*A7)^3.61
outputs: {CP: {is: C, error: {log: 0.0908}}, INR: {is: INR, error: {log: 0.0325}}}
"""
)

TMDD_QSS = (
    "covariates: {WT: {unit: kg, reference: 85}, STATIN: {labels: {0: no, 1: yes}}}\n"
    "states: {depot: nmol, A: nmol, AP: nmol, R: nmol/L}\n"
    + p("""
CL 0.176 L/d iiv: 0.44, effects: {WT: power 0.75 fixed, STATIN: {1: 1.27}}
VC 4.67 L effects: {WT: power 1 fixed}
Q 0.343 L/d effects: {WT: power 0.75 fixed}
VP 2.61 L
KA 0.307 1/d
F1 0.556 1 scale: logit, iiv: 0.66
LAG 0.0535 d
KDEG 1.10 1/d
KINT 0.112 1/d
KSS 0.58 nmol/L
R0 9.14 nmol/L
MW 0.1441 mg/nmol""")
    + """equations: |
  CT = A/VC
  CPLX = ((CT + R + KSS) - sqrt((CT - R)^2 + 2*(CT + R)*KSS + KSS^2))/2
  CF = CT - CPLX
  R(0) = R0
  d/dt(depot) = -KA*depot
  d/dt(A) = KA*depot - (CL + Q)*CF + Q*AP/VP - KINT*CPLX*VC
  d/dt(AP) = Q*CF - Q*AP/VP
  d/dt(R) = KDEG*R0 - KDEG*(R - CPLX) - KINT*CPLX
  MGL = CT*MW
doses: {depot: {bioavailability: F1, lag: LAG, scale: 1/MW, unit: mg}}
outputs: {CT: {is: CT, error: {additive: 10.4 nmol/L, proportional: 0.152}}}
"""
)

SURVIVAL = (
    "covariates: {ECOG: {labels: {0: zero, 1: more}}, NEWLES: {labels: {0: no, 1: yes}, between: locf}}\n"
    "states: {SLD: mm, TSR: 1}\n"
    + p("""
SLD0 71.3 mm
KG 0.000611 1/d iiv: 1.31
KD0 0.0000497 L/mg/h/d iiv: 1.04
KD1 0.000164 L/mg/h/d iiv: {eta: KD0}
AUC0 5 mg*min/mL in: mg*h/L
AUC1 0 mg*h/L scale: identity
LAM 0.001183 1/d
AL 2.004 1
B1 0.2084 1
S0 70 mm
B2 0.9036 1 scale: identity
B3 1.230 1
B4 0.5162 1""")
    + """equations: |
  GROW = KG - (KD0*AUC0 + KD1*AUC1)
  SLD(0) = SLD0
  d/dt(SLD) = GROW*SLD
  d/dt(TSR) = if(TIME < 2016, GROW*SLD/SLD0, 0)
  RISK = B1*SLD0/S0 + B2*TSR + B3*NEWLES + B4*ECOG
  HZ = LAM*AL*(LAM*TIME)^(AL - 1)*exp(RISK)
outputs: {SLD: {is: SLD, error: {additive: 18.4 mm}}}
events: {death: {hazard: HZ, kind: terminal, term: Death}}
"""
)

ALZHEIMER = (
    "covariates: {AGE: {unit: year, reference: 75}, APOE4: {unit: 1, reference: 0.72}, MALE: {labels: {0: no, 1: yes}}}\n"
    + p("""
BL 22.2 1 iiv: 0.395, effects: {MALE: {1: 0.953}}
BAPO 0.0372 1
R 0.153 1/year scale: identity, iiv: 0.203
RAGE 0.024 1/year in: 1/year
K 6.91 1
TOP 70 1""")
    + """correlations: [[BL, R, 0.28]]
equations: |
  B = BL*(1 + BAPO*(APOE4 - 0.72))
  RI = R*(1 - RAGE*(AGE - 75))
  S = TOP*B/(B^K + (TOP^K - B^K)*exp(-K*RI*TIME))^(1/K)
outputs: {ADAS: {is: S, error: {beta: {precision: 87.5, upper: 70}}}}
"""
)

EPILEPSY = (
    "covariates: {CAV: {unit: mg/L}, TREAT: {labels: {0: no, 1: yes}, between: locf}}\n"
    + p("""
RATE0 0.33622 1/d scale: boxcox(0.442), iiv: 0.869
PLAC -0.16 1 scale: identity, iiv: 0.407
EMAX 3.13 1 iiv: 0.8
EC50 31.5 mg/L
ALPHA 0.10646 1
PR 0.335 1 scale: logit""")
    + """mixture: {responder: PR, other: rest}
equations: |
  DRUG = -responder*EMAX*CAV/(EC50 + CAV)
  RATE = RATE0*exp(TREAT*(PLAC + DRUG))
outputs: {SEIZURES: {is: RATE, kind: count, law: negative_binomial, dispersion: ALPHA, per: 28 d}}
"""
)

VIRUS = (
    "states: {T: 1/mL, E: 1/mL, I: 1/mL, V: 1/mL}\n"
    + p("""
T0 1.33e5 1/mL
V0 0.1 1/mL
R0 8.6 1
D 0.60 1/d
K 3 1/d
P 22.7 1/d
CV 10 1/d""")
    + """equations: |
  B = R0*D*CV/(T0*(P - R0*D))
  T(0) = T0
  V(0) = V0
  d/dt(T) = -B*V*T
  d/dt(E) = B*V*T - K*E
  d/dt(I) = K*E - D*I
  d/dt(V) = P*I - CV*V
  LV = log10(max(V/V0, 1e-9))
outputs: {VL: {is: LV, error: {additive: 0.5 1}}}
"""
)

WEIGHT = (
    "states: {W: kg, T1: percent, T2: percent, T3: percent}\n"
    + p("""
W0 104 kg iiv: 0.146
THALF 96.9 d
DE 0.0408 1
DT 0.0228 1
UP 0.0299 1/year
SCALE 0.0514 1/kg
LIS -1.1 1 scale: identity, iiv: 0.305
LB 0.446 1 scale: identity, iiv: 1.4
RB 0.209 1/year
MTT 38.9 d
K1 0.0129 percent*L/mmol/d
K2 0.06828 percent/d
F0 3.5 mmol/L
FPG0 7.46109 mmol/L
FG 7.8 uIU/mL/mmol*L
FS 35.1 uIU/mL*mmol/L""")
    + """equations: |
  EFW = (1 + UP*TIME)*(1 - DE - if(TIME >= 1008, DT, 0))
  IS = expit(LIS)*(1 - SCALE*(W - W0))
  B = expit(LB - RB*TIME)
  FPG = (F0 + sqrt(F0^2 + 4*FS/(FG*IS*B)))/2
  FSI = FG*B*(FPG - F0)
  KOUT = 3/MTT
  W(0) = W0
  T1(0) = (K1*FPG0 + K2)/KOUT
  d/dt(W) = log(2)/THALF*(EFW*W0 - W)
  d/dt(T1) = K1*FPG + K2 - KOUT*T1
  d/dt(T2) = KOUT*(T1 - T2)
  d/dt(T3) = KOUT*(T2 - T3)
  A1C = T1 + T2 + T3
outputs: {W: {is: W, error: {proportional: 0.0959}}, A1C: {is: A1C, error: {proportional: 0.155}}, FSI: {is: FSI}}
"""
)

PAIN = (
    "covariates: {AGE: {unit: year}}\n"
    + p("""
BASE 6.20667 1 iiv: 0.3
PMAX 0.18986 1 scale: identity, iiv: 0.2
TH 27.7045 d
STAY 0.5546 1 scale: logit""")
    + "equations: |\n  MEAN = BASE*(1 - PMAX*(1 - exp(-log(2)*TIME/TH)))*if(AGE > 0, 1, 1)\n"
    + "".join(f"  P{k} = STAY*if(LAST >= {k}, 1, 0) + (1 - STAY)*expit({5.5 - k} + (MEAN - 5))\n" for k in range(1, 11))
    + "outputs: {PAIN: {kind: ordered, at_least: {"
    + ", ".join(f"{k}: P{k}" for k in range(1, 11))
    + "}, previous: {name: LAST, first: 6}}}\n"
)

MODELS = {
    "warfarin_inr": WARFARIN_INR, "alirocumab": TMDD_QSS, "ovarian": SURVIVAL, "alzheimer": ALZHEIMER,
    "epilepsy": EPILEPSY, "virus": VIRUS, "whig": WEIGHT, "pain": PAIN,
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_model_can_be_said(name: str) -> None:
    model = said(name, MODELS[name])
    assert Model.from_dict(model.to_dict()) == model


def at(model: Model, **known: float) -> dict[str, float]:
    """Typical subject: parameters, what is given, then every equation."""
    values = {n: q.value for n, q in model.parameters.items()} | known
    for name, expr in {**model.integrated, **model.response}.items():
        values[name] = float(evaluate(expr, values))
    return values


def test_golden_numbers_that_need_no_integration() -> None:
    whig = at(said("whig", WEIGHT), TIME=0.0, W=104.0, T1=0.0, T2=0.0, T3=0.0)
    np.testing.assert_allclose(
        [whig[n] for n in ("IS", "B", "FPG", "FSI")], [0.249740, 0.609688, 7.46109, 18.8372], rtol=5e-6
    )
    score = said("alzheimer", ALZHEIMER)
    golden = {0.0: 22.2, 0.5: 23.9641, 1.0: 25.8677, 1.5: 27.9213, 2.0: 30.1359}
    for years, expected in golden.items():
        found = at(score, TIME=years * 8766.0, AGE=75.0, APOE4=0.72, MALE=0.0)["S"]
        assert found == pytest.approx(expected, rel=5e-6)
    rate = said("epilepsy", EPILEPSY)
    off = at(rate, CAV=0.0, TREAT=0.0, responder=1.0, other=0.0)["RATE"]
    assert off * 24 * 28 == pytest.approx(9.41406, rel=2e-5)
    for level, ratio in {0.0: 0.852144, 10.0: 0.400833, 31.5: 0.178175, 60.0: 0.109432}.items():
        found = at(rate, CAV=level, TREAT=1.0, responder=1.0, other=0.0)["RATE"]
        assert found / off == pytest.approx(ratio, rel=5e-5)
    virus = at(said("virus", VIRUS), T=1.33e5, E=0.0, I=0.0, V=0.1)
    assert virus["B"] * 24 == pytest.approx(2.21192e-5, rel=5e-6)
    ovarian = at(said("ovarian", SURVIVAL), AUC0=83.3, TIME=0.0, SLD=71.3, TSR=0.0, ECOG=0.0, NEWLES=0.0)
    assert 71.3 * np.exp(ovarian["GROW"] * 2016) == pytest.approx(53.0089, rel=2e-6)  # at 83.3, as there
