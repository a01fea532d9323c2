"""Trials on a Ray cluster: Ray says which machines there are and carries the calls, our supervisors do the rest.

Ray's own handling of processes is not relied on: when a worker is killed, daemons that it started live on.
Each machine gets one actor (a ``Warden``) that launches the same supervisors as a local executor. The runs'
folders must be on a file system that all machines see.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from epigram.errors import ConfigError, ExecutorError
from epigram.runner import containment, fence, leftovers
from epigram.runner.bounded import within
from epigram.runner.limits import Limits
from epigram.runner.order import Containment
from epigram.runner.protocol import Exit, Handle, Job, Lease, Slot
from epigram.runner.warden import Machine, Warden

_POLL_S = 0.5  # how long a warden holds a question that it has no answer to
_LOOK_FOR_MACHINES_S = 10.0


@dataclass(frozen=True)
class ClusterSlot:
    """A slot of one machine of the cluster."""

    id: str
    device_env: Mapping[str, str]
    node: str
    local_id: str


@dataclass
class _Node:
    """A machine whose warden answers."""

    warden: Any
    machine: Machine
    slots: list[ClusterSlot]
    question: Any = None
    asked_at: float = 0.0


@dataclass
class _Running:
    job: Job
    slot: ClusterSlot
    begun: float = field(default_factory=time.monotonic)


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
        self._ray = _ray()
        self._study = study
        self._threads, self._with_cards, self._per_machine = threads, with_cards, per_machine
        self._containment = containment
        self._limits = limits or Limits()
        self._lost_after_s = lost_after_s
        self._nodes: dict[str, _Node] = {}
        self._gone: set[str] = set()
        self._running: dict[tuple[str, int], _Running] = {}
        self._quarantined: dict[str, str] = {}
        self._ended: list[Exit] = []
        self._looked_at = -_LOOK_FOR_MACHINES_S
        self._closed = False
        self._connected_here = not self._ray.is_initialized()
        if self._connected_here:
            self._ray.init(
                address=address or "auto",
                log_to_driver=False,
                runtime_env=dict(runtime_env) if runtime_env else None,
            )
        self._look_for_machines()
        if not self._nodes:
            self.close()
            raise ExecutorError(
                f"no machine of the Ray cluster has {threads} processors"
                f"{' and a graphics card' if with_cards else ''} to spare; see `ray status`"
            )

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    @property
    def containment(self) -> str:
        """The weakest of all machines'."""
        found = [node.machine.containment for node in self._nodes.values()]
        return max(found, key=containment.LEVELS.index, default="none")

    @property
    def quarantined(self) -> Mapping[str, str]:
        return dict(self._quarantined)

    def slots(self) -> Sequence[Slot]:
        if time.monotonic() > self._looked_at + _LOOK_FOR_MACHINES_S and not self._closed:
            self._look_for_machines()
        taken = {one.slot.id for one in self._running.values()} | self._quarantined.keys()
        every = [slot for node in self._nodes.values() for slot in node.slots]
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
        node = self._nodes[mine.node]
        try:
            lease = self._get(node.warden.start.remote(job, mine.local_id))
        except ExecutorError as error:
            self._lose(mine.node, str(error))
            raise ExecutorError(f"{node.machine.host}: {error}") from error
        self._running[job.run_id, job.attempt] = _Running(job, mine)
        return Handle(job.run_id, job.attempt, mine.id, lease)

    def stop(self, h: Handle, hard: bool = False) -> None:
        one = self._running.get((h.run_id, h.attempt))
        node = self._nodes.get(one.slot.node) if one is not None else None
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
        for node in self._nodes.values():
            here = [one for one in known if one.host == node.machine.host]
            wait_s = (1.0 + self._limits.kill_s) * (1 + len(here))
            if here:
                settled = self._get(node.warden.settle.remote(here), wait_s=wait_s)
                ends |= {(end.run_id, end.attempt): end for end in settled}
        missing = [one for one in known if (one.run_id, one.attempt) not in ends]
        for one in missing:  # its machine is not there any more: only what it wrote can tell
            end = leftovers.settle(self._study, one, within_s=self._limits.kill_s)
            ends[one.run_id, one.attempt] = end
        return [ends[one.run_id, one.attempt] for one in known]

    def close(self) -> None:
        """End all trials, then the wardens; disconnect if the connection was made here."""
        if self._closed:
            return
        self._closed = True
        closing = [node.warden.close.remote() for node in self._nodes.values()]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=self._limits.kill_s + 5.0)
        for node in self._nodes.values():
            self._ray.kill(node.warden)
        self._nodes.clear()
        self._running.clear()
        if self._connected_here:
            self._ray.shutdown()

    # machines

    def _look_for_machines(self) -> None:
        """A warden for each machine that has none yet and has room."""
        self._looked_at = time.monotonic()
        found = within(self._lost_after_s, self._ray.nodes, "the Ray cluster")
        fresh: dict[str, Any] = {}
        for node in found:
            name = node["NodeID"]
            if node["Alive"] and name not in self._nodes and name not in self._gone:
                count = self._room(node["Resources"])
                if count > 0:
                    fresh[name] = self._warden(name, count)
        for name, warden in fresh.items():
            try:
                machine: Machine = self._get(warden.describe.remote())
            except ExecutorError:  # busy with somebody else's work, or gone again; ask later
                self._ray.kill(warden)
                continue
            slots = [
                ClusterSlot(f"{name[:12]}/{slot.id}", slot.device_env, name, slot.id)
                for slot in machine.slots
            ]
            self._nodes[name] = _Node(warden, machine, slots)

    def _room(self, resources: Mapping[str, float]) -> int:
        fits = int(resources.get("CPU", 0)) // self._threads
        if self._with_cards:
            fits = min(fits, int(resources.get("GPU", 0)))
        return fits if self._per_machine is None else min(fits, self._per_machine)

    def _warden(self, name: str, count: int) -> Any:
        affinity = importlib.import_module("ray.util.scheduling_strategies")
        actor = self._ray.remote(Warden).options(
            num_cpus=count * self._threads,
            num_gpus=count if self._with_cards else 0,
            max_concurrency=4,
            max_restarts=0,
            scheduling_strategy=affinity.NodeAffinitySchedulingStrategy(name, soft=False),
        )
        return actor.remote(
            self._study,
            count,
            threads=self._threads,
            with_cards=self._with_cards,
            containment=self._containment,
            limits=self._limits,
            with_parent=True,
        )

    def _ask_all(self, timeout_s: float) -> None:
        """Keep one question open at every warden; take in what is answered within the time."""
        now = time.monotonic()
        for node in self._nodes.values():
            if node.question is None:
                node.question, node.asked_at = node.warden.poll.remote(_POLL_S), now
        questions = [node.question for node in self._nodes.values()]
        if not questions:
            time.sleep(min(timeout_s, _POLL_S))
            return
        self._ray.wait(questions, num_returns=1, timeout=min(timeout_s, _POLL_S))
        answered = self._ray.wait(questions, num_returns=len(questions), timeout=0)[0]
        for name, node in list(self._nodes.items()):
            if node.question in answered:
                self._take_in(name, node)
            elif time.monotonic() > node.asked_at + _POLL_S + self._lost_after_s:
                self._lose(name, f"no answer for {self._lost_after_s:g} s")

    def _take_in(self, name: str, node: _Node) -> None:
        try:
            ends, quarantined = self._get(node.question)
        except ExecutorError as error:
            self._lose(name, str(error))
            return
        node.question = None
        for slot in node.slots:
            if slot.local_id in quarantined:
                self._quarantined[slot.id] = quarantined[slot.local_id]
        for end in ends:
            if self._running.pop((end.run_id, end.attempt), None) is not None:
                self._ended.append(end)

    def _lose(self, name: str, why: str) -> None:
        """A machine is gone: its trials are lost, its slots are not offered any more."""
        node = self._nodes.pop(name, None)
        if node is None:
            return
        self._gone.add(name)
        note = f"the machine {node.machine.host} is lost: {why.splitlines()[0][:200]}"
        for slot in node.slots:
            self._quarantined[slot.id] = note
        for key, one in list(self._running.items()):
            if one.slot.node == name:
                del self._running[key]
                self._ended.append(Exit(*key, "lost", None, None, 0.0, 0, note))

    def _get(self, reference: Any, wait_s: float | None = None) -> Any:
        """An answer within a time, and our own errors as themselves.

        Raises:
            ExecutorError: no answer, or the machine is gone.
        """
        errors = importlib.import_module("ray.exceptions")
        try:
            return self._ray.get(reference, timeout=wait_s or self._lost_after_s)
        except errors.RayTaskError as error:
            raise error.cause from error
        except errors.RayError as error:
            raise ExecutorError(f"{type(error).__name__}: {error}") from error


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise ExecutorError("ray is not installed: pip install 'epigram[ray]'") from None
