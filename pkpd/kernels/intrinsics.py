"""Bit casts and fused multiply-add as LLVM instructions, so that loops that use them still vectorise.

The contraction a*b+c happens only where :func:`fma` is written: no fast-math anywhere, hence the same bits
in scalar, AVX2 and AVX-512 code.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

# fastmath is said aloud: left out, numba inherits it from whoever compiles first (PyTensor has it on), and the
# tainted machine code would go to the disk cache under our name
OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True, "fastmath": False}


_HERE = Path(__file__).parent
_X86 = platform.machine().lower() in {"x86_64", "amd64"}


def kernel[F: Callable[..., Any]](function: F) -> F:
    """Compile `function` with the one set of options every kernel of the project uses.

    numba's disk cache looks only at the file of the function itself; here its stamp also covers the files of this
    folder and of its own room's kernels, which are inlined, so that a changed `exp` never leaves stale machine code
    behind.
    """
    compiled: Any = njit(**OPTIONS, cache=True)(function)
    cache, package = compiled._cache._cache_file, function.__module__.rpartition(".")[0]
    own = Path(function.__code__.co_filename).parent if package.endswith(".kernels") else _HERE
    cache._source_stamp = (cache._source_stamp, _digest(_HERE), _digest(own))
    plain = compiled.compile
    compiled.compile = lambda signature: _alone(plain, signature, Path(compiled._cache.cache_path), function)
    result: F = compiled
    return result


def _alone(compile_: Callable[[Any], Any], signature: Any, folder: Path, function: Callable[..., Any]) -> Any:
    """Compile, or load from the cache, under a lock: of processes that start together one compiles, the others load."""
    from filelock import FileLock, Timeout

    name = f"{function.__module__}.{function.__qualname__}.lock"
    lock = FileLock(folder / name, timeout=600.0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, Timeout):  # nowhere to write: each process compiles for itself
        return compile_(signature)
    try:
        return compile_(signature)
    finally:
        lock.release()


@lru_cache(maxsize=8)
def _digest(folder: Path) -> str:
    """Hash of the kernels' sources in a folder."""
    files = sorted(folder.glob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def inlined[F: Callable[..., Any]](function: F) -> F:
    """Like :func:`kernel` for small helpers: LLVM inlines them into the calling loop."""
    compiled: F = njit(**OPTIONS)(function)
    return compiled


def forced[F: Callable[..., Any]](function: F) -> F:
    """Like :func:`inlined` for large helpers with one caller: a call with arrays costs more than their work."""
    compiled: F = njit(**OPTIONS, forceinline=True)(function)
    return compiled


@intrinsic
def _fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a*b + c with one rounding."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), codegen


@intrinsic
def _bits_of(typingctx: Any, x: Any) -> Any:
    """The 64 bits of a float64 as int64."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), codegen


@intrinsic
def _float_of(typingctx: Any, bits: Any) -> Any:
    """The float64 with the given 64 bits."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), codegen


_FLUSH = 0x8040  # MXCSR: denormal results (bit 15) and operands (bit 6) are zero


def _mxcsr(builder: ir.IRBuilder, what: str, cell: Any) -> None:
    pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer])
    name = f"llvm.x86.sse.{what}mxcsr"
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    builder.call(function, [builder.bitcast(cell, pointer)])


@intrinsic
def _flushed(typingctx: Any) -> Any:
    """From here on, in this thread, what is smaller than 2^-1022 is zero; returns what to give :func:`unflushed`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        if not _X86:
            return ir.Constant(word, 0)
        cell = builder.alloca(word)
        _mxcsr(builder, "st", cell)
        before = builder.load(cell)
        builder.store(builder.or_(before, ir.Constant(word, _FLUSH)), cell)
        _mxcsr(builder, "ld", cell)
        return before

    return types.int32(), codegen


@intrinsic
def _unflushed(typingctx: Any, before: Any) -> Any:
    """Back to what :func:`flushed` found."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        if _X86:
            cell = builder.alloca(ir.IntType(32))
            builder.store(args[0], cell)
            _mxcsr(builder, "ld", cell)
        return context.get_dummy_value()

    return types.void(types.int32), codegen


@intrinsic
def _first_bit(typingctx: Any, mask: Any) -> Any:
    """Number of the lowest bit that is set; mask must not be 0."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


@intrinsic
def wide(typingctx: Any) -> Any:
    """Ask LLVM for 512-bit vectors in the loops of the function that says so, where the machine has them.

    By itself it takes 256 on some processors that have more. The bits of the results are the same.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def apart(typingctx: Any) -> Any:
    """Ask LLVM not to inline the function that says so: it is called rarely, from several places, and takes long to
    compile.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        set.add(builder.function.attributes, "noinline")
        set.add(builder.function.attributes, "optsize")
        return context.get_dummy_value()

    return types.void(), codegen


# the names kernels use, with the types of what they compute
fma: Callable[[float, float, float], float] = _fma
bits_of: Callable[[float], int] = _bits_of
float_of: Callable[[int], float] = _float_of
first_bit: Callable[[int], int] = _first_bit
flushed: Callable[[], int] = _flushed
unflushed: Callable[[int], None] = _unflushed
