"""Who: a population's covariates, eligibility and enrolment, individual parameters, adherence."""

from populations.adherence import Adherence, taken
from populations.cohort import Cohort, Screening, enrol
from populations.covariates import PopulationLaw, laws
from populations.eligibility import Criteria, Screened, screen
from populations.patients import Patients, patients

__all__ = [
    "Adherence",
    "Cohort",
    "Criteria",
    "Patients",
    "PopulationLaw",
    "Screened",
    "Screening",
    "enrol",
    "laws",
    "patients",
    "screen",
    "taken",
]
