"""Pickled tables of plain values and arrays, read as data: nothing that a file names is ever called.

A pickle is a program for a small stack machine. Here the program is split into its instructions by the
standard library's ``pickletools``, which runs nothing, and of its instructions only those are carried
out that build dictionaries, lists, strings, numbers, and byte arrays of numpy. Every other one, and
every other name, is refused.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epigram.errors import DataError

_VALUES = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"}
    | {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE"}
)
_SINGLES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NAMES = frozenset(
    f"{module} {name}"
    for module, name in (
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    )
)
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class _Name:
    """What a file calls by name; here no more than the name."""

    text: str


@dataclass(eq=False)
class _Made:
    """What a name was called with, and the state given to the result afterwards."""

    name: str
    arguments: tuple[Any, ...]
    state: Any = None


class _Mark:
    """Where a list of arguments begins on the stack."""


def read_pickled_table(path: Path | str) -> dict[str, Any]:
    """The dictionary in a pickle: text, numbers, lists of them, and uint8 arrays.

    Byte strings used as text (Python 2 wrote those) come as Latin-1 text.

    Raises:
        DataError: the file cannot be read, is damaged, is not a dictionary, or asks for anything else
            than these values; nothing is run.
    """
    path = Path(path)
    try:
        table = _Machine(path).run(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path}: is damaged, expected a pickled table of arrays ({error}); "
            "copy or download it again"
        ) from error
    if not isinstance(table, dict):
        raise DataError(f"{path}: holds a {type(table).__name__}, expected a dictionary of arrays")
    return {_text(key): _plain(value, path) for key, value in table.items()}


class _Machine:
    """The stack and the memo; one method per kind of instruction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stack: list[Any] = []
        self.memo: dict[Any, Any] = {}

    def run(self, program: bytes) -> Any:
        """What is on the stack at the end."""
        for opcode, argument, _ in pickletools.genops(program):
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _SINGLES:
                self.stack.append(_SINGLES[name])
            elif name in ("PROTO", "FRAME"):
                continue
            elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
                self.memo[argument] = self.stack[-1]
            elif name == "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            elif name in ("BINGET", "LONG_BINGET", "GET"):
                self.stack.append(self.memo[argument])
            else:
                self._build(name, argument)
        raise DataError(f"{self.path}: the pickle has no end; copy or download it again")

    def _build(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name == "MARK":
            stack.append(_Mark)
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({} if name == "EMPTY_DICT" else [] if name == "EMPTY_LIST" else ())
        elif name in ("TUPLE", "LIST", "DICT"):
            items = self._since_mark()
            stack.append(
                tuple(items) if name == "TUPLE" else items if name == "LIST" else _pairs(items)
            )
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else self._since_mark()
            self._top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            value = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else self._since_mark()
            self._top(dict).update(_pairs(value))
        else:
            self._call(name, argument)

    def _call(self, instruction: str, argument: Any) -> None:
        stack = self.stack
        if instruction in ("GLOBAL", "STACK_GLOBAL"):
            module_and_name = argument
            if instruction == "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                module_and_name = f"{module} {name}"
            if module_and_name not in _NAMES:
                raise DataError(
                    f"{self.path}: asks for {module_and_name.replace(' ', '.')!r}, expected nothing "
                    "but arrays, text and numbers; the file was not run. Do not load it with pickle"
                )
            stack.append(_Name(module_and_name))
        elif instruction == "REDUCE":
            arguments = stack.pop()
            made = _Made(self._top(_Name).text, arguments)
            stack[-1] = _encoded(made) if made.name == "_codecs encode" else made
        elif instruction == "BUILD":
            state = stack.pop()
            self._top(_Made).state = state
        else:
            raise DataError(
                f"{self.path}: holds the pickle instruction {instruction}, which tables of arrays do "
                "not need; the file was not run"
            )

    def _top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise DataError(f"{self.path}: the pickle is damaged; copy or download it again")
        return self.stack[-1]

    def _since_mark(self) -> list[Any]:
        items = []
        while (item := self.stack.pop()) is not _Mark:
            items.append(item)
        return items[::-1]


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _encoded(made: _Made) -> bytes:
    """Python 3 writes bytes as ``_codecs.encode(text, "latin1")`` where Python 2 shall read them."""
    text, encoding = made.arguments
    if encoding != "latin1":
        raise ValueError(f"encoding {encoding!r}")
    return bytes(text, "latin-1")


def _text(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _plain(value: Any, path: Path) -> Any:
    if isinstance(value, list):
        return [_text(item) for item in value]
    return _array(value, path) if isinstance(value, _Made) else _text(value)


def _array(made: _Made, path: Path) -> NDArray[np.uint8]:
    """The uint8 array in ``(version, shape, dtype, is_fortran, data)``."""
    try:
        _, shape, dtype, fortran, data = made.state
        raw = data.encode("latin-1") if isinstance(data, str) else data
        if not made.name.endswith("_reconstruct") or dtype.name != "numpy dtype":
            raise ValueError(made.name)
        if dtype.arguments[0] not in ("u1", b"u1"):
            raise ValueError(f"dtype {dtype.arguments[0]!r}")
        flat = np.frombuffer(raw, np.uint8)  # refuses what is not bytes
        return flat.reshape(tuple(shape), order="F" if fortran else "C").copy()
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{path}: holds an array that is not one of uint8 ({error})") from error
