"""Graphics cards: masks, locks and memory that does not come back. No card is needed: NVML is pretended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.runner.hostile import LISTENS, end_of, job, python, start, wait_for

from epigram.errors import ConfigError, ExecutorError
from epigram.runner import Limits, LocalExecutor, card_slots, local_slots
from epigram.runner.cards import BoundedProbe, Card, NoCards, Nvml, visible

A100 = tuple(Card(f"GPU-{i}aaa-{i}", "A100") for i in range(4))
MIXED = (Card("GPU-0aaa", "T4"), Card("GPU-1aaa", "A100"))
MIG = (Card("GPU-0aaa", "A100", ("MIG-0x", "MIG-0y")), Card("GPU-1aaa", "A100"))
PRINT_MASK = python(
    "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['CUDA_DEVICE_ORDER'])"
)


@dataclass
class PretendedCards:
    """Cards whose used memory a test sets; those in ``gone`` have fallen off the bus."""

    found: Sequence[Card] = A100
    used: dict[str, int] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    hang_s: float = 0.0

    def cards(self) -> Sequence[Card]:
        return self.found

    def used_bytes(self, uuid: str) -> int:
        time.sleep(self.hang_s)
        if uuid in self.gone:
            raise ExecutorError(f"{uuid}: GPU is lost")
        return self.used.get(uuid, 0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (None, [0, 1, 2, 3]),
        ("", []),
        ("3,1", [3, 1]),
        (" 3 , 1 ", [3, 1]),
        ("GPU-2aaa-2,0", [2, 0]),
        ("GPU-1", [1]),
        ("GPU-", []),
        ("1,-1,2", [1]),
        ("1,9,2", [1]),
        ("NoDevFiles", []),
    ],
)
def test_a_mask_is_read_as_cuda_reads_it(mask: str | None, expected: list[int]) -> None:
    assert visible(A100, mask, None) == [A100[i].uuid for i in expected]


def test_a_mask_of_numbers_needs_an_order_where_cards_differ() -> None:
    with pytest.raises(ConfigError, match="CUDA_DEVICE_ORDER=PCI_BUS_ID"):
        visible(MIXED, "1", None)
    assert visible(MIXED, "1", "PCI_BUS_ID") == ["GPU-1aaa"]
    assert visible(MIXED, "GPU-1", None) == ["GPU-1aaa"]


def test_a_card_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="twice"):
        visible(A100, "1,GPU-1aaa", None)


def test_a_divided_card_is_its_parts() -> None:
    assert visible(MIG, None, None) == ["MIG-0x", "MIG-0y", "GPU-1aaa"]
    assert visible(MIG, "MIG-0y,1", None) == ["MIG-0y", "GPU-1aaa"]


def test_slots_are_a_subset_of_the_inherited_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    slots = card_slots(PretendedCards())
    assert [slot.device_env["CUDA_VISIBLE_DEVICES"] for slot in slots] == [
        A100[3].uuid,
        A100[1].uuid,
    ]
    assert [slot.id for slot in slots] == [slot.id for slot in card_slots(PretendedCards())]
    with pytest.raises(ConfigError, match="3 graphics cards were asked for, 2 can be used"):
        card_slots(PretendedCards(), count=3)
    assert len(local_slots(PretendedCards(), 1)) == 1


def test_without_cards_slots_are_shares_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [slot.id for slot in local_slots(NoCards(), 3)] == ["cpu-0", "cpu-1", "cpu-2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert [slot.id for slot in local_slots(PretendedCards(), 1)] == ["cpu-0"]


def test_a_trial_sees_its_card_only(study: str, tmp_path: Path) -> None:
    cards = PretendedCards()
    with LocalExecutor(study, slots=card_slots(cards), probe=cards) as executor:
        for slot in executor.slots():
            one = job(tmp_path, PRINT_MASK, slot.id)
            executor.start(one, slot)
            assert end_of(executor).ok
            assert (one.folder / "stdout").read_text() == f"{slot.id} PCI_BUS_ID\n"


def test_memory_that_does_not_come_back_costs_the_slot(study: str, tmp_path: Path) -> None:
    cards = PretendedCards(used={A100[0].uuid: 10 << 30})
    limits = Limits(memory_s=0.3)
    with LocalExecutor(
        study, slots=card_slots(cards, count=2), probe=cards, limits=limits
    ) as executor:
        handle = start(executor, job(tmp_path, LISTENS), ready=True)
        cards.used[A100[0].uuid] = (10 << 30) + (65 << 20)
        executor.stop(handle)
        begun = time.monotonic()
        end = end_of(executor)
        assert time.monotonic() - begun >= 0.3
        assert (end.reason, end.code) == ("stopped", 0)
        assert "65 MiB of its card's memory did not come back" in end.note
        assert list(executor.quarantined) == [A100[0].uuid]
        assert [slot.id for slot in executor.slots()] == [A100[1].uuid]


def test_memory_is_waited_for(study: str, tmp_path: Path) -> None:
    cards = PretendedCards()
    with LocalExecutor(study, slots=card_slots(cards, count=1), probe=cards) as executor:
        handle = start(executor, job(tmp_path, LISTENS), ready=True)
        cards.used[A100[0].uuid] = 5 << 30
        executor.stop(handle)
        assert not executor.poll(1.5), "the process is gone, its memory is not"
        assert not executor.slots()
        cards.used[A100[0].uuid] = 60 << 20
        assert end_of(executor).code == 0
        assert len(executor.slots()) == 1


def test_a_card_that_disappears_costs_its_slot(study: str, tmp_path: Path) -> None:
    cards = PretendedCards()
    with LocalExecutor(study, slots=card_slots(cards, count=2), probe=cards) as executor:
        start(executor, job(tmp_path, ("sh", "-c", "sleep 0.2; exit 1")))
        cards.gone.add(A100[0].uuid)
        end = end_of(executor)
        assert (end.reason, end.code) == ("exit", 1)
        assert "GPU is lost" in end.note
        assert [slot.id for slot in executor.slots()] == [A100[1].uuid]
        cards.gone.add(A100[1].uuid)
        with pytest.raises(ConfigError, match="does not answer"):
            start(executor, job(tmp_path, ("true",), "b"))
        assert not executor.slots()


def test_a_card_driver_that_hangs_does_not_hang_us() -> None:
    probe = BoundedProbe(PretendedCards(hang_s=30.0), within_s=0.1)
    for _ in range(2):
        begun = time.monotonic()
        with pytest.raises(ExecutorError, match=r"no answer|stopped answering"):
            probe.used_bytes(A100[0].uuid)
        assert time.monotonic() - begun < 5.0


def test_two_drivers_do_not_share_a_card(study: str, tmp_path: Path) -> None:
    """The lock is held by the trial's supervisor too, so it outlives a driver for as long as it must."""
    cards = PretendedCards()
    with (
        LocalExecutor(study, slots=card_slots(cards, count=1), probe=cards) as first,
        LocalExecutor(f"{study}/b", slots=card_slots(cards, count=1), probe=cards) as second,
    ):
        (slot,) = second.slots()
        handle = start(first, job(tmp_path, LISTENS), ready=True)
        assert not second.slots()
        with pytest.raises(ConfigError, match="not free"):
            second.start(job(tmp_path, ("true",), "b"), slot)
        first.stop(handle)
        assert end_of(first).code == 0
        assert len(second.slots()) == 1
        start(second, job(tmp_path, ("true",), "b"))
        assert end_of(second).ok


@pytest.mark.skipif("torch" not in sys.modules, reason="says something only where torch is there")
def test_the_driver_never_touches_cuda() -> None:
    code = (
        "import sys; from epigram.runner import *; import epigram.runner.local; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0


def _no_cards_reason() -> str | None:
    try:
        return None if Nvml().cards() else "no graphics cards"
    except ExecutorError as error:
        return f"no graphics cards: {error}"


@pytest.mark.skipif(_no_cards_reason() is not None, reason=str(_no_cards_reason()))
def test_real_cards_come_back_clean(study: str, tmp_path: Path) -> None:
    """Each trial makes its context on ``cuda:0``, which is its own card; the others stay untouched."""
    probe = Nvml()
    slots = card_slots(probe)
    before = {slot.card: probe.used_bytes(slot.card) for slot in slots}
    code = (
        "import os, pathlib, time, torch; x = torch.zeros(1 << 28, device='cuda:0');"
        "torch.cuda.synchronize(); print(torch.cuda.device_count(), flush=True);"
        "folder = pathlib.Path(os.environ['EPIGRAM_ATTEMPT_DIR']); (folder / 'ready').touch();"
        "[time.sleep(0.05) for _ in range(1200) if not (folder / 'looked').exists()]"
    )
    with LocalExecutor(study, slots=slots, probe=probe) as executor:
        for slot in slots:
            one = job(tmp_path, (sys.executable, "-c", code), slot.id)
            executor.start(one, slot)
            wait_for((one.folder / "ready").exists, "its context is there", 120.0)
            assert probe.used_bytes(slot.card) >= before[slot.card] + (1 << 30)
            for other in before.keys() - {slot.card}:
                assert probe.used_bytes(other) <= before[other] + (64 << 20), "untouched"
            (one.folder / "looked").touch()
            end = end_of(executor, 120.0)
            assert end.ok, end
            assert (one.folder / "stdout").read_text() == "1\n"
    for card, used in before.items():
        assert probe.used_bytes(card) <= used + (64 << 20)
