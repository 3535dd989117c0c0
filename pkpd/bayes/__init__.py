"""Bayesian inference: model text and data in, a posterior with its diagnostics out. The second door of `pkpd`."""

from pkpd.bayes.diagnostics import Diagnostics, Limits
from pkpd.bayes.fit import Fit, fit

__all__ = ["Diagnostics", "Fit", "Limits", "fit"]
