"""Arrays as kernels take them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["F64", "owned"]

F64 = NDArray[np.float64]


def owned(array: Any, kind: Any) -> Any:
    """The array as kernels take it: C-ordered and writeable (read-only is another type to numba), else a copy."""
    return np.require(array, kind, ("C", "A", "W"))
