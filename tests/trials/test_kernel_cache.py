"""The disk cache of compiled kernels."""

from __future__ import annotations

from pathlib import Path

from pkpd.kernels import intrinsics
from trials.kernels import mmrm_fit


def test_the_cache_covers_all_that_is_inlined() -> None:
    """The stamp of a kernel's cached machine code holds the sources of this folder and of the kernel's own room."""
    stamp = mmrm_fit.prepared._cache._cache_file._source_stamp  # type: ignore[attr-defined]
    assert stamp[1] == intrinsics._digest(Path(intrinsics.__file__).parent)
    assert stamp[2] == intrinsics._digest(Path(mmrm_fit.__file__).parent) != stamp[1]
