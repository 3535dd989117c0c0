"""Importance weights and moved draws of a calibration. Witness: where the model is linear, Laplace is exact."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pkpd.interactions.calibration import Rows, fit, prepare
from pkpd.interactions.course import Course, Given
from pkpd.interactions.importance import log_ratios, moved, reweighted
from pkpd.interactions.library import TURNOVER, drugs
from pkpd.interactions.model import layout
from pkpd.interactions.observed import Study

LIBRARY = {name: drugs()[name] for name in ("ketoconazole", "fluconazole", "midazolam", "alfentanil")}


def rows(narrow: float) -> Rows:
    """Three studies; prior standard deviations times `narrow`."""
    whole = layout(LIBRARY, {"CYP3A4": TURNOVER["CYP3A4"]})
    made = []
    for perpetrator, victim, ratio in (
        ("ketoconazole", "midazolam", 9.0), ("ketoconazole", "alfentanil", 5.0), ("fluconazole", "midazolam", 3.0),
    ):  # fmt: skip
        given = Given(drug=perpetrator, times=(0.0, 24.0), amounts=(400.0, 400.0))
        course = Course(perpetrators=(given,), victim=victim, doses=(25.0,), window=(25.0, math.inf))
        made.append(Study(key=victim, name="", course=course, ratio=ratio, peer=math.nan))
    return prepare(made, LIBRARY, replace(whole, sd=whole.sd * narrow))


def test_a_nearly_linear_model_needs_no_weights() -> None:
    """With a narrow prior all but the spread's dependence on theta is linear: weights are near even, moves are taken."""
    some = rows(0.05)
    known = fit(some)
    found = reweighted(some, known, draws=400, seed=3)
    assert found.effective > 390
    assert found.weight.sum() == pytest.approx(1.0)
    chains = moved(some, known, chains=50, steps=10, seed=3)
    assert chains.accepted > 0.97
    assert np.abs(chains.log_ratio.mean(axis=0) - found.log_ratio.mean(axis=0)).max() < 0.02


def test_moves_leave_what_they_say() -> None:
    """The log ratios that come back are those of the theta that comes back; the same seed gives the same draws."""
    some = rows(1.0)
    known = fit(some)
    one, two = (moved(some, known, chains=12, steps=8, seed=7, size=0.5) for _ in range(2))
    assert one.log_ratio == pytest.approx(log_ratios(some, one.theta), abs=1e-12)
    assert (one.theta == two.theta).all()
    assert 0.2 < one.accepted < 1.0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Numba will use object mode")  # the op is NumPy by design
def test_the_pymc_model_has_the_stated_density() -> None:
    """log p of the PyMC model at the mode against SciPy's densities of the same parts."""
    from scipy import stats

    from pkpd.bayes.ddi import calibration_model
    from pkpd.interactions.calibration import HYPER_PRIOR, NU, SCALE_PRIOR, SCALED

    some = rows(1.0)
    known = fit(some)
    model = calibration_model(some, known)
    point = model.initial_point()
    point["z"] = np.zeros(known.theta.size)
    value = log_ratios(some, known.theta[None])[0]
    noise, spread, _ = (math.exp(m) for m, _ in HYPER_PRIOR.values())
    expected = stats.norm.logpdf(known.theta, some.layout.mean, some.layout.sd).sum()
    expected += stats.t.logpdf(some.log_ratio, NU, value, np.sqrt(noise**2 + (spread * value) ** 2)).sum()
    expected += sum(stats.norm.logpdf(0, 0, s) for _, s in HYPER_PRIOR.values())  # log scale, at the median
    expected += len(SCALED) * stats.norm.logpdf(0, 0, SCALE_PRIOR) + 3 * stats.norm.logpdf(0)
    at = {"scale": 0.0, **{f"{k}_log__": m for k, (m, _) in HYPER_PRIOR.items()}}
    for name in point:
        if name.startswith("scale_"):
            point[name] = np.array(0.0)
        elif name in at:
            point[name] = np.array(at[name])
        elif name == "pair_effect":
            point[name] = np.zeros(3)
    got = float(model.compile_logp()(point))
    assert got == pytest.approx(expected, rel=1e-6)
