"""Chance by address. Witness: a pure-Python Philox4x32-10 (Salmon et al. 2011), scipy's normal quantile."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from scipy.special import ndtri

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, key, normals, uniforms

LOW = 0xFFFFFFFF


def philox(counter: list[int], k0: int, k1: int) -> list[int]:
    c0, c1, c2, c3 = counter
    for _ in range(10):
        first, second = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (second >> 32) ^ c1 ^ k0, second & LOW, (first >> 32) ^ c3 ^ k1, first & LOW
        k0, k1 = (k0 + 0x9E3779B9) & LOW, (k1 + 0xBB67AE85) & LOW
    return [c0, c1, c2, c3]


def test_the_reference_generator_gives_the_published_zero_vector() -> None:
    assert philox([0, 0, 0, 0], 0, 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@pytest.mark.parametrize("address", [(0, 0, 0, 0), (5, 3, 2, 1), (2**32 - 1, 7, 0, 2**31)])
def test_a_uniform_is_what_the_design_says(address: tuple[int, int, int, int]) -> None:
    digest = hashlib.blake2b(b"vtrial/1\x0020261121\x00iiv", digest_size=8).digest()
    k0, k1 = int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")
    words = philox(list(address), k0, k1)
    expected = ((words[0] >> 6) * 2**26 + (words[1] >> 6) + 0.5) * 2.0**-52
    subject, replicate, index, slot = address
    got = uniforms(20261121, Purpose.IIV, subject=subject, replicate=replicate, index=index, slot=slot)
    assert float(got) == expected


def test_no_purpose_is_used_twice() -> None:
    assert len({p.value for p in Purpose}) == len(Purpose.__members__)
    assert len({tuple(map(int, key(1, p))) for p in Purpose}) == len(Purpose)


def test_a_number_depends_on_its_address_alone() -> None:
    whole = normals(1, Purpose.RESIDUAL, subject=np.arange(1000)[:, None], replicate=4, index=np.arange(3))
    part = normals(1, Purpose.RESIDUAL, subject=np.arange(777, 779)[:, None], replicate=4, index=np.arange(3))
    assert whole.shape == (1000, 3)
    assert np.array_equal(whole[777:779], part)


def test_every_part_of_the_address_counts() -> None:
    here = {"subject": 1, "replicate": 2, "index": 3, "slot": 4}
    base = float(uniforms(1, Purpose.EVENT, **here))
    others = [float(uniforms(1, Purpose.EVENT, **{**here, part: 9})) for part in here]
    others += [float(uniforms(2, Purpose.EVENT, **here)), float(uniforms(1, Purpose.EVENT_TIME, **here))]
    assert len({base, *others}) == 7


def test_normals_are_quantiles_of_the_same_uniforms() -> None:
    n = np.arange(20_000)
    u = uniforms(7, Purpose.BOOTSTRAP, subject=n, replicate=0)
    z = normals(7, Purpose.BOOTSTRAP, subject=n, replicate=0)
    assert np.allclose(z, ndtri(u), rtol=1e-13, atol=1e-13)
    assert abs(z.mean()) < 4 / np.sqrt(n.size)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / n.size)


@pytest.mark.parametrize("seed", [-1, 2**63, True, 1.5, "7"])
def test_a_seed_is_a_whole_number(seed: object) -> None:
    with pytest.raises(InputError, match="whole number"):
        key(seed, Purpose.IIV)  # type: ignore[arg-type]


@pytest.mark.parametrize("part", [-1, 2**32, 0.5])
def test_an_address_fits_32_bits(part: float) -> None:
    with pytest.raises(ValueError, match="address"):
        uniforms(1, Purpose.IIV, subject=part, replicate=0)
