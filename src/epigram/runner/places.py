"""Slots of this machine: shares of the processor, or one graphics card each."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from epigram.errors import ConfigError, StorageError
from epigram.runner.cards import CardProbe, visible

_TRIES, _PAUSE_S = 3, 0.005
_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True)
class LocalSlot:
    """A place on this machine.

    Args:
        id: the same in every driver.
        device_env: what is set before the trial's program starts.
        card: the UUID of its card; "" = it has none.
    """

    id: str
    device_env: Mapping[str, str] = field(default_factory=dict)
    card: str = ""


def processor_slots(count: int, *, threads: int | None = None) -> list[LocalSlot]:
    """``count`` shares of the processors that this process may use; no card is visible in them.

    Args:
        count: how many.
        threads: of each trial's numerical libraries; None = an equal share, at least one.

    Raises:
        ConfigError: ``count`` or ``threads`` is less than one.
    """
    if count < 1 or (threads is not None and threads < 1):
        raise ConfigError(f"slots: got count {count}, threads {threads}; expected 1 or more")
    each = threads or max(1, _usable_processors() // count)
    env = {"CUDA_VISIBLE_DEVICES": "", **dict.fromkeys(_THREADS, str(each))}
    return [LocalSlot(f"cpu-{index}", env) for index in range(count)]


def card_slots(
    probe: CardProbe, *, count: int | None = None, threads: int | None = None
) -> list[LocalSlot]:
    """A slot for each graphics card that this process may use, itself masked or not.

    Cards are named by UUID: numbers mean something else in every mask. In the trial the card is
    ``cuda:0``, and no other is there.

    Args:
        probe: knows the cards.
        count: no more than so many, the first of them; None = all.
        threads: as for ``processor_slots``.

    Raises:
        ConfigError: there are fewer than ``count``, or the mask is ambiguous.
        ExecutorError: the probe does not answer.
    """
    mask, order = (os.environ.get(f"CUDA_{name}") for name in ("VISIBLE_DEVICES", "DEVICE_ORDER"))
    uuids = visible(probe.cards(), mask, order)
    if count is not None and len(uuids) < count:
        raise ConfigError(
            f"slots: {count} graphics cards were asked for, {len(uuids)} can be used "
            f"(CUDA_VISIBLE_DEVICES={'not set' if mask is None else repr(mask)})"
        )
    chosen = uuids[:count]
    each = threads or max(1, _usable_processors() // max(len(chosen), 1))
    caps = dict.fromkeys(_THREADS, str(each))
    return [
        LocalSlot(
            uuid,
            {"CUDA_VISIBLE_DEVICES": uuid, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", **caps},
            card=uuid,
        )
        for uuid in chosen
    ]


def local_slots(probe: CardProbe, count: int | None = None) -> Sequence[LocalSlot]:
    """Cards where there are any (and as many as asked for), else shares of the processor (one, or ``count``)."""
    cards = card_slots(probe)
    if cards and (count is None or count <= len(cards)):
        return cards[:count]
    if cards:
        raise ConfigError(f"slots: {count} were asked for, there are {len(cards)} graphics cards")
    return processor_slots(count or 1)


def lock(slot: LocalSlot) -> int | None:
    """A descriptor whose holders own the slot's card among all drivers of this user; None = taken.

    Raises:
        StorageError: the lock cannot be made.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = cache / "epigram" / "slots" / re.sub(r"[^\w.-]", "_", slot.id)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StorageError(error.errno, f"{path}: {error.strerror}") from error
    for _ in range(_TRIES):  # another driver may only be looking whether it is free
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(_PAUSE_S)
        else:
            return descriptor
    os.close(descriptor)
    return None


def free(slot: LocalSlot) -> bool:
    """Has no other driver its card at the moment?"""
    if not slot.card:
        return True
    descriptor = lock(slot)
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


def _usable_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
