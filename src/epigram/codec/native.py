"""The codec's inner loops, compiled where numba is, and the same functions in plain Python where it is not.

A *kernel* is a function of integers, lists or arrays of integers and other kernels. A ``Kit`` holds all of
them in one of two forms: as they are written, on lists (``plain``), or compiled, on arrays of int64
(``compiled``). Both give the same bytes: kernels keep every integer within 63 bits, and where 64 are
needed they say ``u64``.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Lock
from types import FunctionType
from typing import Any, TypeVar, cast
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

_WORD = (1 << 64) - 1
_MODULES = ("range_coder", "escapes", "tables", "bodies", "contexts", "masks")
_LOCK = Lock()
log2 = math.log2
WARM, COLD = 1 << 15, 1 << 19
"""Work (see ``fit_for``) after which what is compiled is loaded, and is made where there is nothing to load."""
_WORK = [0]
_SHORT = 256

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])
_KERNELS: dict[str, FunctionType] = {}
_OPTIONS: dict[str, dict[str, Any]] = {}


def kernel(function: AnyFunction) -> AnyFunction:
    """Make a function part of every kit; it stays what it is."""
    _KERNELS[function.__name__] = cast("FunctionType", inspect.unwrap(function))
    return function


def inlined(function: AnyFunction) -> AnyFunction:
    """A kernel that is put into those that call it."""
    _OPTIONS[function.__name__] = {"inline": "always"}
    return kernel(function)


def lean(function: AnyFunction) -> AnyFunction:
    """A kernel that makes no arrays: numba need not count the references to those it, and what is put into it, is given."""
    _OPTIONS[function.__name__] = {"_nrt": False}
    return kernel(function)


def u64(value: int) -> int:
    """An integer modulo 2**64."""
    return int(value) & _WORD


def i64(value: int) -> int:
    """A word below 2**63 as an integer with a sign."""
    return int(value)


def new(size: int) -> Any:
    """So many zeros."""
    return [0] * size


class Kit:
    """All kernels in one form, as attributes, and the arrays they work on.

    Args:
        build: what is done to each function, with numba's options for it, before it is called.
        given: names that the kernels see beside, or instead of, those of their modules.
        is_compiled: do kernels take arrays of int64 rather than lists?
    """

    def __init__(
        self,
        build: Callable[[FunctionType, dict[str, Any]], Callable[..., Any]],
        given: dict[str, Any],
        *,
        is_compiled: bool,
    ) -> None:
        for module in _MODULES:
            import_module(f"epigram.codec.{module}")
        self.is_compiled = is_compiled
        scopes, built = [], {}
        for name, function in _KERNELS.items():
            scope = dict(function.__globals__)
            if is_compiled:
                scope |= {k: _table(v) for k, v in scope.items() if _is_table(v)}
            copy = FunctionType(function.__code__, scope, name, function.__defaults__)
            copy.__module__, copy.__qualname__ = function.__module__, f"{name}_{_stamp()}"
            built[name] = build(copy, _OPTIONS.get(name, {}))
            scopes.append(scope)
        for scope in scopes:
            scope.update(built | given)
        vars(self).update(built | given)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no kernel is called {name!r}")

    def array(self, values: NDArray[Any] | Sequence[int]) -> Any:
        """Integers as the kernels take them, always a copy."""
        out = np.array(values, dtype=np.int64).ravel()
        return out if self.is_compiled else out.tolist()

    def octets(self, values: NDArray[Any]) -> Any:
        """Integers below 256, in the least memory."""
        out = values.astype(np.uint8).ravel()
        return out if self.is_compiled else out.tolist()

    def zeros(self, count: int) -> Any:
        """So many zeros."""
        return np.zeros(count, dtype=np.int64) if self.is_compiled else [0] * count

    def state(self, values: NDArray[Any] | Sequence[int]) -> Any:
        """Integers of up to 64 bits; those of the other form too."""
        out = np.array([int(value) & _WORD for value in values], dtype=np.uint64)
        return out.view(np.int64) if self.is_compiled else out.tolist()

    def floats(self, *values: float) -> Any:
        """The same of floats."""
        return np.array(values, dtype=np.float64) if self.is_compiled else list(values)


@cache
def plain() -> Kit:
    """Everything in Python."""
    given = {each.__name__: inspect.unwrap(each) for each in (u64, i64, new)}
    return Kit(lambda function, _: function, given, is_compiled=False)


def compiled() -> Kit | None:
    """Everything compiled; None without numba, or where what it compiles cannot be kept."""
    with _LOCK:
        return _compiled()


def fit_for(work: int) -> Kit:
    """Python until a process has done as much in it as it takes to load, or to make, what is compiled.

    Args:
        work: about the symbols to be coded; in Python some 5 to 10 microseconds each.
    """
    with _LOCK:
        _WORK[0] += work
        if _WORK[0] <= WARM:
            return plain()
        kit = _compiled()
        return kit if kit and (_WORK[0] > COLD or _is_kept(kit)) else plain()


def _is_kept(kit: Kit) -> bool:
    folder = Path(kit.code_flag.stats.cache_path)
    return any(folder.glob(f"*code_flag_{_stamp()}*.nbi"))


@cache
def _compiled() -> Kit | None:
    try:
        numba = _numba()

        def build(function: FunctionType, options: dict[str, Any]) -> Any:
            return numba.njit(cache=True, nogil=True, error_model="numpy", **options)(function)

        zeros = build(cast("FunctionType", inspect.unwrap(_zeros)), {"inline": "always"})
        return Kit(build, {"u64": np.uint64, "i64": np.int64, "new": zeros}, is_compiled=True)
    except (ImportError, RuntimeError):  # the second: no folder for the cache can be written
        return None


def _numba() -> Any:
    """It asks for coverage, and fails on another module of that name, as the folder of a script may hold one."""
    held = sys.modules.get("coverage")
    try:
        if not hasattr(held, "types"):
            sys.modules["coverage"] = cast("Any", None)
        return import_module("numba")
    finally:
        if held is None:
            sys.modules.pop("coverage", None)
        else:
            sys.modules["coverage"] = held


def _zeros(size: int) -> Any:
    return np.zeros(size, np.int64)


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], int)


def _table(values: list[int]) -> NDArray[np.signedinteger[Any]]:
    """Long tables in the shortest kind of integer, so that they stay in the processor's cache together."""
    kinds = (np.int16, np.int32) if len(values) > _SHORT else ()
    for kind in kinds:
        if np.iinfo(kind).min <= min(values) and max(values) <= np.iinfo(kind).max:
            return np.array(values, dtype=kind)
    return np.array(values, dtype=np.int64)


@cache
def _stamp() -> str:
    """Of all kernels' sources: what was compiled from others is not taken from the cache."""
    folder = Path(__file__).parent
    names = ("native", *_MODULES, "logits")
    texts = [(folder / f"{name}.py").read_bytes() for name in names]
    return f"{crc32(b''.join(texts)):08x}"
