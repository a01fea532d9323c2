"""Graphics cards: which of them this process may use, and how much of their memory is taken.

Asked through NVML, which makes no context on any card; nothing here imports torch.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, final

from epigram.errors import ConfigError, ExecutorError
from epigram.runner.bounded import within

T = TypeVar("T")


@dataclass(frozen=True)
class Card:
    """A card as NVML lists them, which is in the order of ``CUDA_DEVICE_ORDER=PCI_BUS_ID``.

    Args:
        uuid: ``GPU-…``, or ``MIG-…`` for a part of one.
        name: of the product.
        parts: the MIG devices it is divided into; a divided card cannot be used as a whole.
    """

    uuid: str
    name: str = ""
    parts: tuple[str, ...] = ()


class CardProbe(Protocol):
    """Answers about cards. Every answer may be an exception: cards do disappear."""

    def cards(self) -> Sequence[Card]:
        """All of the machine, whatever is masked."""
        ...

    def used_bytes(self, uuid: str) -> int:
        """Of this card's (or part's) memory, by everybody."""
        ...


@final
class NoCards:
    """A machine without graphics cards."""

    def cards(self) -> Sequence[Card]:
        return ()

    def used_bytes(self, uuid: str) -> int:
        raise ExecutorError(f"{uuid}: this machine has no graphics cards")


@final
class Nvml:
    """The driver's own library, through ``nvidia-ml-py``.

    Raises:
        ExecutorError: the package or the driver is not there.
    """

    def __init__(self) -> None:
        try:
            import pynvml  # noqa: PLC0415 (an optional extra)
        except ImportError:
            raise ExecutorError(
                "nvidia-ml-py is not installed: pip install 'epigram[gpu]'"
            ) from None
        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise ExecutorError(f"NVML: {error}") from None

    def cards(self) -> Sequence[Card]:
        nvml = self._nvml
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        return [
            Card(
                _text(nvml.nvmlDeviceGetUUID(one)),
                _text(nvml.nvmlDeviceGetName(one)),
                self._parts(one),
            )
            for one in handles
        ]

    def used_bytes(self, uuid: str) -> int:
        try:
            handle = self._nvml.nvmlDeviceGetHandleByUUID(uuid)
            return int(self._nvml.nvmlDeviceGetMemoryInfo(handle).used)
        except self._nvml.NVMLError as error:
            raise ExecutorError(f"{uuid}: {error}") from None

    def _parts(self, handle: Any) -> tuple[str, ...]:
        nvml = self._nvml
        try:
            if nvml.nvmlDeviceGetMigMode(handle)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
                return ()
            most = nvml.nvmlDeviceGetMaxMigDeviceCount(handle)
        except nvml.NVMLError:  # a card that cannot be divided
            return ()
        found = []
        for index in range(most):
            try:
                part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
                found.append(_text(nvml.nvmlDeviceGetUUID(part)))
            except nvml.NVMLError:  # no part at this place
                continue
        return tuple(found)


def find_probe() -> CardProbe:
    """NVML where it works, else a machine without cards."""
    try:
        return Nvml()
    except ExecutorError:
        return NoCards()


def visible(cards: Sequence[Card], mask: str | None, order: str | None) -> list[str]:
    """The UUIDs that a mask leaves, as CUDA reads it.

    Args:
        cards: of the machine, in NVML's order.
        mask: ``CUDA_VISIBLE_DEVICES``; None = not set: all. Entries are numbers, or UUIDs that may be
            cut short; the first that names nothing hides all that follow.
        order: ``CUDA_DEVICE_ORDER``, which says what the numbers mean.

    Raises:
        ConfigError: a number that could mean two cards, or a card named twice.
    """
    if mask is None:
        return [uuid for card in cards for uuid in (card.parts or (card.uuid,))]
    found: list[str] = []
    for entry in (word.strip() for word in mask.split(",")):
        uuid = _numbered(cards, int(entry), order) if entry.isdigit() else _named(cards, entry)
        if uuid is None:
            break
        found.append(uuid)
    if len(set(found)) < len(found):
        raise ConfigError(f"CUDA_VISIBLE_DEVICES: {mask!r} names a card twice")
    return found


def _numbered(cards: Sequence[Card], index: int, order: str | None) -> str | None:
    if order != "PCI_BUS_ID" and len({card.name for card in cards}) > 1:
        raise ConfigError(
            f"CUDA_VISIBLE_DEVICES: number {index} means the {index}th fastest card, and this machine "
            "has several kinds; set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name cards by UUID (nvidia-smi -L)"
        )
    if index >= len(cards):
        return None
    return cards[index].parts[0] if cards[index].parts else cards[index].uuid


def _named(cards: Sequence[Card], entry: str) -> str | None:
    if not re.match(r"(GPU|MIG)-", entry):
        return None
    every = [uuid for card in cards for uuid in (card.uuid, *card.parts)]
    fitting = [uuid for uuid in every if uuid.startswith(entry)]
    return fitting[0] if len(fitting) == 1 else None


@final
class BoundedProbe:
    """Another probe, asked in a thread of its own, so that a driver that hangs does not hang us.

    After a question that was not answered in time every further one is refused.

    Raises:
        ExecutorError: no answer within ``within_s``, or the probe's own exception.
    """

    def __init__(self, probe: CardProbe, *, within_s: float = 5.0) -> None:
        self._probe = probe
        self._within_s = within_s
        self._hangs = False

    def cards(self) -> Sequence[Card]:
        return self._ask(self._probe.cards)

    def used_bytes(self, uuid: str) -> int:
        return self._ask(lambda: self._probe.used_bytes(uuid))

    def _ask(self, question: Callable[[], T]) -> T:
        if self._hangs:
            raise ExecutorError("NVML has stopped answering")
        begun = time.monotonic()
        try:
            return within(self._within_s, question, "NVML")
        finally:
            self._hangs = time.monotonic() - begun >= self._within_s


def _text(words: str | bytes) -> str:
    return words.decode("ascii", "replace") if isinstance(words, bytes) else words
