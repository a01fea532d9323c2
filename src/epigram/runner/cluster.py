"""Trials on a Ray cluster: Ray says which machines there are and carries the calls, our supervisors do the rest.

Ray's own handling of processes is not relied on: when a worker is killed, daemons that it started live on.
Each machine gets one actor (a ``Warden``) that launches the same supervisors as a local executor. The runs'
folders must be on a file system that all machines see.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

from epigram.errors import ConfigError, ExecutorError
from epigram.runner import containment, fence, leftovers
from epigram.runner.limits import Limits
from epigram.runner.machines import ClusterSlot, Machines, Node
from epigram.runner.order import Containment
from epigram.runner.protocol import Exit, Handle, Job, Lease, Slot


@final
class RayExecutor:
    """See :class:`~epigram.runner.protocol.Executor`. Needs the extra ``ray``.

    Args:
        study: as for ``LocalExecutor``.
        address: of the cluster; None = the one this process is connected to, else the one Ray finds.
        threads: processors for each trial.
        with_cards: a graphics card for each trial.
        per_machine: trials at a time on one machine, at most; None = as many as fit.
        containment, limits: as for ``LocalExecutor``, on every machine.
        lost_after_s: a machine that has not answered for so long is lost.
        runtime_env: handed to Ray, for machines on which epigram is not installed.

    Raises:
        ExecutorError: ray is not installed, or no machine of the cluster has room for a trial.
    """

    def __init__(
        self,
        study: str,
        *,
        address: str | None = None,
        threads: int = 1,
        with_cards: bool = False,
        per_machine: int | None = None,
        containment: Containment | None = None,
        limits: Limits | None = None,
        lost_after_s: float = 60.0,
        runtime_env: Mapping[str, Any] | None = None,
    ) -> None:
        self._study = study
        self._limits = limits or Limits()
        self._running: dict[tuple[str, int], ClusterSlot] = {}
        self._quarantined: dict[str, str] = {}
        self._ended: list[Exit] = []
        self._machines = Machines(
            study,
            address=address,
            threads=threads,
            with_cards=with_cards,
            per_machine=per_machine,
            containment=containment,
            limits=self._limits,
            lost_after_s=lost_after_s,
            runtime_env=runtime_env,
        )

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    @property
    def containment(self) -> str:
        """The weakest of all machines'."""
        found = [node.machine.containment for node in self._machines.nodes.values()]
        return max(found, key=containment.LEVELS.index, default="none")

    @property
    def quarantined(self) -> Mapping[str, str]:
        return dict(self._quarantined)

    def slots(self) -> Sequence[Slot]:
        self._machines.look_again()
        taken = {slot.id for slot in self._running.values()} | self._quarantined.keys()
        every = [slot for node in self._machines.nodes.values() for slot in node.slots]
        return [slot for slot in every if slot.id not in taken]

    def start(self, job: Job, slot: Slot) -> Handle:
        """See the protocol.

        Raises:
            ConfigError, StorageError: as a local executor, on the slot's machine.
            ExecutorError: that machine does not answer; its slots are not offered any more.
        """
        mine = next((one for one in self.slots() if one.id == slot.id), None)
        if not isinstance(mine, ClusterSlot):
            raise ConfigError(f"start: slot {slot.id} is not free; take one of slots()")
        if fence.latest(job.cwd) >= job.attempt:
            raise ConfigError(
                f"start: run {job.run_id}: attempt {job.attempt} cannot begin, attempt "
                f"{fence.latest(job.cwd)} has"
            )
        node = self._machines.nodes[mine.node]
        try:
            lease = self._machines.get(node.warden.start.remote(job, mine.local_id))
        except ExecutorError as error:
            self._lose(node, str(error))
            raise ExecutorError(f"{node.machine.host}: {error}") from error
        self._running[job.run_id, job.attempt] = mine
        return Handle(job.run_id, job.attempt, mine.id, lease)

    def stop(self, h: Handle, hard: bool = False) -> None:
        slot = self._running.get((h.run_id, h.attempt))
        node = self._machines.nodes.get(slot.node) if slot is not None else None
        if node is not None:
            node.warden.stop.remote(h.run_id, h.attempt, hard=hard)  # not waited for

    def poll(self, timeout_s: float) -> Sequence[Exit]:
        deadline = time.monotonic() + max(timeout_s, 0.0)
        while True:
            self._ask_all(max(deadline - time.monotonic(), 0.0))
            ended, self._ended = self._ended, []
            if ended or time.monotonic() >= deadline:
                return ended

    def recover(self, leases: Iterable[Lease]) -> Sequence[Exit]:
        """A dead driver's wardens died with it; what may be left is looked for on each machine."""
        known = leftovers.by_run(leases)
        ends: dict[tuple[str, int], Exit] = {}
        for node in self._machines.nodes.values():
            here = [one for one in known if one.host == node.machine.host]
            wait_s = (1.0 + self._limits.kill_s) * (1 + len(here))
            if here:
                settled = self._machines.get(node.warden.settle.remote(here), wait_s=wait_s)
                ends |= {(end.run_id, end.attempt): end for end in settled}
        missing = [one for one in known if (one.run_id, one.attempt) not in ends]
        for one in missing:  # its machine is not there any more: only what it wrote can tell
            end = leftovers.settle(self._study, one, within_s=self._limits.kill_s)
            ends[one.run_id, one.attempt] = end
        return [ends[one.run_id, one.attempt] for one in known]

    def close(self) -> None:
        """End all trials, then the wardens; disconnect if the connection was made here."""
        self._machines.close()
        self._running.clear()

    def _ask_all(self, timeout_s: float) -> None:
        """Take in what the machines say within the time."""
        for node, answer in self._machines.answers(timeout_s):
            if isinstance(answer, ExecutorError):
                self._lose(node, str(answer))
            else:
                self._take_in(node, *answer)

    def _take_in(self, node: Node, ends: Sequence[Exit], quarantined: Mapping[str, str]) -> None:
        for slot in node.slots:
            if slot.local_id in quarantined:
                self._quarantined[slot.id] = quarantined[slot.local_id]
        for end in ends:
            if self._running.pop((end.run_id, end.attempt), None) is not None:
                self._ended.append(end)

    def _lose(self, node: Node, why: str) -> None:
        """A machine is gone: its trials are lost, its slots are not offered any more."""
        self._machines.give_up(node)
        note = f"the machine {node.machine.host} is lost: {why.splitlines()[0][:200]}"
        for slot in node.slots:
            self._quarantined[slot.id] = note
        for key, slot in list(self._running.items()):
            if slot.node == node.name:
                del self._running[key]
                self._ended.append(Exit(*key, "lost", None, None, 0.0, 0, note))
