"""Philox4x32-10 against the Random123 known answers; normals against independent quantiles; addresses, not order."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy.special import ndtri

from pkpd.kernels import philox

FULL = 0xFFFFFFFF
# Random123 1.14, tests/kat_vectors, lines "philox4x32 10": counter, key, answer
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((FULL,) * 4, (FULL, FULL), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter, key, answer):
    out = np.empty((1, 4), np.uint32)
    philox.fill_words(np.asarray(key, np.uint32), np.asarray([counter], np.uint32), out)
    assert tuple(int(w) for w in out[0]) == answer


def _uniform(n, key=(7, 9)):
    zero = np.uint32(0)
    return philox.uniform_array(key, subject=np.arange(n, dtype=np.uint32), replicate=zero, index=zero, slot=zero)


def test_uniform_is_the_documented_function_of_the_words():
    counter, key, answer = KNOWN[2]
    subject, replicate, index, slot = (np.uint32(c) for c in counter)
    u = philox.uniform_array(key, subject=subject, replicate=replicate, index=index, slot=slot)
    # identity: ((w0>>6) 2^26 + (w1>>6) + 1/2) 2^-52, in exact integers
    assert float(u) == ((answer[0] >> 6) * 2**26 + (answer[1] >> 6) + 0.5) * 2.0**-52


def test_uniform_extremes_stay_inside_and_mirror():
    low, high = philox.uniform.py_func(*(np.uint64(0),) * 2), philox.uniform.py_func(*(np.uint64(FULL),) * 2)
    assert 0.0 < low == 2.0**-53
    assert high == 1.0 - 2.0**-53


def test_any_split_and_order_gives_the_same_bits():
    whole = _uniform(1000)
    order = np.random.default_rng(0).permutation(1000).astype(np.uint32)
    zero = np.uint32(0)
    mixed = philox.uniform_array((7, 9), subject=order, replicate=zero, index=zero, slot=zero)
    assert (mixed == whole[order]).all()
    parts = [philox.uniform_array((7, 9), subject=order[a:b], replicate=zero, index=zero, slot=zero) for a, b in
             ((0, 1), (1, 777), (777, 1000))]  # fmt: skip
    assert (np.concatenate(parts) == mixed).all()


def test_every_word_of_the_address_matters():
    base = {"subject": 1, "replicate": 2, "index": 3, "slot": 4}
    seen = {float(philox.uniform_array((5, 6), **{k: np.uint32(v) for k, v in base.items()}))}
    for name in base:
        changed = {**base, name: 99}
        seen.add(float(philox.uniform_array((5, 6), **{k: np.uint32(v) for k, v in changed.items()})))
    seen.add(float(philox.uniform_array((5, 7), **{k: np.uint32(v) for k, v in base.items()})))
    assert len(seen) == 6


def test_quantiles_against_scipy_and_python():
    # witnesses: scipy.special.ndtri (Cephes) and statistics.NormalDist (AS 241 of the standard library)
    u = np.concatenate([_uniform(20000), 10.0 ** -np.linspace(0.5, 15.9, 200), [0.5, 0.075, 0.925, 2.0**-53]])
    z = philox.quantile_array(u)
    reference = ndtri(u)
    far = reference != 0.0
    assert np.max(np.abs(z[far] / reference[far] - 1.0)) < 3e-15
    assert z[u == 0.5] == 0.0
    assert math.isclose(float(philox.quantile_array(np.array([0.975]))[0]), NormalDist().inv_cdf(0.975), rel_tol=4e-16)


def test_moments_of_normals():
    # 200,000 draws: standard errors 0.0022 (mean), 0.0032 (variance), 0.022 (fourth moment); 4 standard errors
    zero = np.uint32(0)
    z = philox.normal_array((1, 2), subject=np.arange(200_000, dtype=np.uint32), replicate=zero, index=zero, slot=zero)
    assert abs(z.mean()) < 0.009
    assert abs(z.var() - 1.0) < 0.013
    assert abs((z**4).mean() - 3.0) < 0.09
    assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < 0.009
