"""Generated source -> a compiled solver, through a private cache directory shared by all processes of the user.

The file is named by the hash of its text, the generator's version, numba's version, the CPU and the kernels it inlines;
it is written once, atomically (numba stamps its cache with the file's time and size), and compiled under a lock, so
that processes that start together compile once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from pkpd.engine.template import VERSION
from pkpd.ground.store import cache_dir, locked, write_atomic

__all__ = ["key", "module", "solver"]

_INLINED = ("elementary.py", "intrinsics.py", "fixed_point.py", "lanes.py", "special.py", "statistics.py")


@lru_cache(maxsize=1)
def _surroundings() -> bytes:
    """What besides the text decides the machine code."""
    import llvmlite.binding as llvm  # type: ignore[import-untyped]
    import numba

    folder = Path(__file__).parent.parent / "kernels"
    inlined = b"".join((folder / name).read_bytes() for name in _INLINED)
    features = llvm.get_host_cpu_features().flatten()
    return "\n".join((VERSION, numba.__version__, llvm.get_host_cpu_name(), features)).encode() + inlined


def key(text: str) -> str:
    """Hash of a text and of what besides it decides the machine code."""
    return hashlib.sha256(text.encode() + b"\0" + _surroundings()).hexdigest()[:24]


def solver(text: str) -> Callable[..., None]:
    """The `solve` function of the generated module with this text; compiled now, or taken from the cache."""
    function: Callable[..., None] = module(text).solve
    return function


@lru_cache(maxsize=64)
def module(text: str) -> ModuleType:
    """The generated module with this text."""
    name = f"vtrial_generated_{key(text)}"
    path = cache_dir("kernels") / f"{name}.py"
    with locked(path):
        if not path.exists():
            write_atomic(path, text.encode())
        return _imported(name, path)


def _imported(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}")
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    found: ModuleType = module
    return found
