"""Where a function or class comes from, and what was written there."""

from __future__ import annotations

import functools
import hashlib
import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from torch import nn

import epigram

ROUTINES: Final = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
)


@functools.cache
def code() -> str:
    """16 hexadecimal digits of epigram's own sources, as they are when first asked for."""
    return tree_digest(Path(epigram.__file__).parent)


def tree_digest(root: Path) -> str:
    """16 hexadecimal digits of the relative paths and bytes of all ``*.py`` below ``root``."""
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py")}
    digest = hashlib.sha256()
    for name in sorted(files):
        content = files[name].read_bytes()
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def short_digest(content: str | bytes) -> str:
    """16 hexadecimal digits."""
    raw = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(raw).hexdigest()[:16]


def code_of(thing: object, *, carried: str = "") -> str:
    """``module.qualname#digest`` of a function or class, or of an instance's class.

    Without a source (builtins, C functions, what was typed at a prompt) it is the name alone; so it
    is for what is epigram's own, whose sources are all in ``code``.

    Args:
        thing: a function, a class, an instance, a partial, a method.
        carried: further text that the digest is of.

    Example:
        >>> code_of(len), code_of(short_digest)
        ('builtins.len', 'epigram.pipeline.source.short_digest')
    """
    named = _named(thing)
    name = ".".join(filter(None, (getattr(named, "__module__", None), named.__qualname__)))
    text = source_of(named) + carried
    return f"{name}#{short_digest(text)}" if text else name


def source_of(named: Any) -> str:
    """The text of a function, or of a class with the bases it was written with; "" where there is none."""
    if isinstance(named, type):
        known = nn.Module.__mro__
        return "".join(_class_source(base) for base in named.__mro__ if base not in known)
    own = getattr(named, "__code__", None)
    if own is None or _is_ours(named):
        return ""
    try:
        lines, _ = inspect.findsource(own)
    except (OSError, TypeError):
        return ""
    # not inspect.getsource: of a lambda within a longer call that may give the first line only
    ends = [end or start or 0 for part in _codes(own) for start, end, _, _ in part.co_positions()]
    return "".join(lines[own.co_firstlineno - 1 : max(ends)])


def _named(thing: Any) -> Any:
    """The function or class that has the source of ``thing``."""
    if isinstance(thing, functools.partial):
        return _named(thing.func)
    if isinstance(thing, types.MethodType):
        return _named(thing.__func__)
    if isinstance(thing, (type, *ROUTINES)):
        return thing
    return _named(thing.__wrapped__) if hasattr(thing, "__wrapped__") else type(thing)


def _is_ours(named: Any) -> bool:
    return str(getattr(named, "__module__", "")).partition(".")[0] == epigram.__name__


def _codes(own: types.CodeType) -> Iterator[types.CodeType]:
    yield own
    for constant in own.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _class_source(kind: type) -> str:
    """The class as it was written; or, of one made in a notebook or by ``type``, its methods."""
    if _is_ours(kind):
        return ""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        methods = [v for v in vars(kind).values() if isinstance(v, types.FunctionType)]
        return "".join(map(source_of, methods))
