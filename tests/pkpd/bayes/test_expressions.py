"""A model text's expressions mean the same in PyTensor as in NumPy (witness: the NumPy evaluation)."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pytensor.tensor as pt

from pkpd.bayes.expressions import graph
from pkpd.ground.errors import InputError
from pkpd.model.equations import evaluate, expression

TEXTS = [
    "CL/V + X^2 - 3*V",
    "-X^2 + abs(X) + exp(-V)*log(CL) + log10(CL) + sqrt(V) + tanh(X)",
    "if(X > 0 and V < 30 or not CL == 3, expit(X), 1 - logit(expit(X)))",
    "max(X, V, CL) - min(X, 0) + floor(V) + ceil(CL) + pow(V, 0.75)",
    "if(0 < X <= 1, 1, 2)",
]


@pytest.mark.parametrize("text", TEXTS)
def test_equals_the_numpy_evaluation(text):
    values = {"CL": np.array([2.5, 3.0, 3.0]), "V": np.array([31.0, 29.0, 35.5]), "X": np.array([-0.5, 0.25, 1.5])}
    expr = expression(text)
    symbols = {name: pt.as_tensor(x) for name, x in values.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = graph(expr, symbols).eval(mode="FAST_COMPILE")
    np.testing.assert_allclose(got, evaluate(expr, values), rtol=1e-13)


def test_unknown_name_is_named():
    with pytest.raises(InputError, match="'VV'"):
        graph(expression("CL/VV"), {"CL": 1.0, "V": 1.0})
