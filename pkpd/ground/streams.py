"""Chance has an address: Philox4x32-10, key from (seed, purpose), counter (subject, replicate, index, slot).

No state, no generator passed around. The same address gives the same number whatever the block, worker or design; no
arm is in it, so subject s of replicate r is the same person under every arm. Salmon et al., SC11 (2011).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum, unique

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = ["Purpose", "key", "normals", "slots", "uniforms"]

Floats = NDArray[np.float64]


@unique
class Purpose(StrEnum):
    """Every use of chance. Two uses never share a purpose; what slot and index mean is said beside each."""

    POPULATION_DRAW = "population_draw"  # which posterior draw a replicate takes
    PARAMETER_UNCERTAINTY = "parameter_uncertainty"  # published values; subject = draw, slot of the name
    COVARIATES = "covariates"  # index = attempt at enrolment, slot = covariate
    OVERRIDE = "override"  # covariates set by the protocol; index = attempt
    GENOTYPE = "genotype"
    IIV = "iiv"  # slot of the random effect's name
    IOV = "iov"  # index = occasion, slot of the random effect's name
    RESIDUAL = "residual"  # index = visit, slot of the output's name
    RULE = "rule"  # residual error of what a dosing rule measures; index = decision of the rule, slot = rule
    LABORATORY = "laboratory"  # residual error of samples outside visits; index = minute, slot of the output's name
    ADHERENCE = "adherence"  # index = dose
    ALLOCATION = "allocation"  # slot = stratum, index = block
    DROPOUT = "dropout"  # index = visit; slot of the cause's name
    SWITCHING = "switching"  # whether a subject goes over; slot of the intercurrent event's name
    EVENT = "event"  # index = visit, slot of the event's name
    EVENT_GRADE = "event_grade"
    EVENT_TIME = "event_time"
    HAZARD = "hazard"  # thresholds of cumulative hazards; index = occurrence, slot of the event's name
    OUTCOME = "outcome"  # counts, categories; index = observation, slot of the output's name
    MIXTURE = "mixture"  # class of a subject
    MISSED_VISIT = "missed_visit"  # index = visit
    VISIT_TIME = "visit_time"
    ENROLMENT = "enrolment"
    IMPUTATION = "imputation"  # slot = imputation
    BOOTSTRAP = "bootstrap"
    KEPT_CURVES = "kept_curves"
    PREDICTIVE_DRAW = "predictive_draw"  # VPC: which posterior draw a simulated data set takes
    PREDICTIVE_IIV = "predictive_iiv"  # VPC: replicate = simulated data set
    PREDICTIVE_RESIDUAL = "predictive_residual"
    PREDICTIVE_CENSORED = "predictive_censored"  # NPDE of values below a limit; replicate 0 = the data, index = row
    CALIBRATION_PRIOR = "calibration_prior"  # SBC: subject = fit, slot of the quantity's name
    CALIBRATION_FIT = "calibration_fit"  # SBC: seeds of the samplers; subject = fit, index = attempt
    MARGINAL = "marginal"  # shift of the points that sum out a subject's effects; subject = subject, slot = effect
    EXTERNAL_CHECK = "external_check"  # replicate = study; index 0 effects by slot, then error by time
    PRIOR_CHECK = "prior_check"  # prior predictive; subject = place in the vector, with index 1 row of the data
    FIT = "fit"  # seeds of the sampler's chains
    PARAMETER_MAPPING = "parameter_mapping"  # which row of a fit joins which row of published values
    TWIN_START = "twin_start"  # of every TWIN_ purpose: subject = particle, replicate = the patient's address
    TWIN_DRAW = "twin_draw"  # which population draw; index = round
    TWIN_PROPOSAL = "twin_proposal"  # slot of the coordinate's name; index = round
    TWIN_SCALE = "twin_scale"  # of the t proposal; index = round
    TWIN_RESAMPLE = "twin_resample"  # index = level or update
    TWIN_MOVE = "twin_move"  # index = move, slot of the coordinate's name
    TWIN_MOVE_SCALE = "twin_move_scale"
    TWIN_MOVE_DRAW = "twin_move_draw"
    TWIN_ACCEPT = "twin_accept"
    TWIN_OCCASION = "twin_occasion"  # effects of occasions the data do not see; slot of the effect's name
    TWIN_MEASURED = "twin_measured"  # residual error of what is forecast; index = place in time, slot of the output
    DOSE_ESCALATION = "dose_escalation"  # subject in order of entry; slot 0 tolerance, 1 time of toxicity, 2 arrival
    TWO_STAGE = "two_stage"  # response of the subject, in order of entry
    ADAPTIVE_RANDOMISATION = "adaptive_randomisation"  # subject in order of entry; slot 0 allocation, 1 outcome
    RECRUITMENT = "recruitment"  # subject = site; slot 0 its rate, 1 its number of subjects, 2 and 3 times (index)
    BASKET = "basket"  # subject in order of entry; slot = basket
    SUMMARY_TRIAL = "summary_trial"  # summary-level replicates of the bench
    SUMMARY_OUTCOME = "summary_outcome"  # outcomes of stated distributions; slot 0 outcome, 1 loss, 2 entry
    SUMMARY_STAGE = "summary_stage"  # subject = arm or subset, index = stage; slot 0 statistic, 1 its sd, 2 lots
    SPONTANEOUS = "spontaneous"  # reports after approval; subject = period, slot of the cell
    SURVEILLANCE = "surveillance"  # index 0 quantities (subject = draw, slot: name), 1 cohorts (subject = month), 2 end
    SIGNAL_PRIOR = "signal_prior"  # full Bayes: subject = draw, index = round, slot 0 to 4 coordinates, 5 tail, 6 part
    REPORT_ORDER = "report_order"  # signals: random order of reports; subject = report, replicate = draw
    COMEDICATION = "comedication"  # index 0 stated factors (subject = draw, slot of the name), 1 draw, 2 who takes it
    IMPAIRMENT = "impairment"  # class of a subject; slot of the covariate's name
    INTERACTION = "interaction"  # subject = draw; replicate 0 theta, 1 pair (slots of names), 2 study (index)
    QT_POSTERIOR = "qt_posterior"  # concentration-QTc: subject = draw; slots 0 to 3 variances, the rest the tail
    AE_MODEL = "ae_model"  # Bayesian AE model; subject = term or SOC, replicate = chain, index = sweep, slot = use
    SWING_WEIGHTS = "swing_weights"  # weights of criteria, even on the simplex; subject = draw, slot = criterion
    SMC_START = "smc_start"  # of every SMC_ purpose: subject = particle, replicate = run; index = attempt
    SMC_MOVE = "smc_move"  # index = move, slot = coordinate
    SMC_ACCEPT = "smc_accept"  # index = move; slot 0 step, 1 acceptance, 2 length
    SMC_RESAMPLE = "smc_resample"  # index = level
    QUICK_LOOK = "quick_look"  # Laplace, Pathfinder: subject = draw, replicate = path, index = use, slot = coordinate


def key(seed: int, purpose: Purpose) -> tuple[np.uint32, np.uint32]:
    """The 64-bit Philox key: BLAKE2b-64 of 'vtrial/1', seed, purpose as two little-endian words."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= int(seed) < 2**63:
        raise InputError("must be a whole number from 0 to 2^63 - 1", field="seed", value=seed)
    text = b"vtrial/1\x00%d\x00%s" % (int(seed), Purpose(purpose).value.encode())
    words = np.frombuffer(hashlib.blake2b(text, digest_size=8).digest(), "<u4")
    return np.uint32(words[0]), np.uint32(words[1])


def uniforms(
    seed: int, purpose: Purpose, *, subject: ArrayLike, replicate: ArrayLike, index: ArrayLike = 0, slot: ArrayLike = 0
) -> Floats:
    """Uniforms in (0, 1), one per address; the four parts of the address broadcast against each other."""
    from pkpd.kernels.philox import uniform_array  # numba is loaded at the first number, not with the room

    first, second = key(seed, purpose)
    return uniform_array((int(first), int(second)), **_address(subject, replicate, index, slot))


def normals(
    seed: int, purpose: Purpose, *, subject: ArrayLike, replicate: ArrayLike, index: ArrayLike = 0, slot: ArrayLike = 0
) -> Floats:
    """Standard normals (inverse CDF of the uniform at the same address)."""
    from pkpd.kernels.philox import quantile_array

    return quantile_array(uniforms(seed, purpose, subject=subject, replicate=replicate, index=index, slot=slot))


def slots(names: Iterable[str]) -> NDArray[np.uint32]:
    """Slots of things that have names (parameters, effects, events, outputs), one u32 each: BLAKE2b-32 of the name.

    By name and not by place: a model that gains a parameter leaves the chance of all others as it was, so that a
    sensitivity run meets the same people.

    >>> int(slots(["CL"])[0]) == int(slots(["KA", "CL"])[1])
    True
    """
    found = [hashlib.blake2b(name.encode(), digest_size=4).digest() for name in names]
    if len(set(found)) < len(found):
        raise InputError("two names share a slot", field="names", value=", ".join(names), remedy="rename one of them")
    return np.frombuffer(b"".join(found), "<u4")


def _address(
    subject: ArrayLike, replicate: ArrayLike, index: ArrayLike, slot: ArrayLike
) -> dict[str, NDArray[np.uint32]]:
    parts = {"subject": subject, "replicate": replicate, "index": index, "slot": slot}
    return {name: _counter(part) for name, part in parts.items()}


def _counter(part: ArrayLike) -> NDArray[np.uint32]:
    """A part of an address as 32-bit words; ValueError when it is not a whole number that fits."""
    array = np.asarray(part)
    if array.dtype == np.uint32:
        return array
    if array.dtype.kind not in "iu":
        raise ValueError(f"an address is made of whole numbers, not {array.dtype}")
    if array.size and (int(array.min()) < 0 or int(array.max()) >= 2**32):
        raise ValueError("an address must fit 32 bits")
    return array.astype(np.uint32)
