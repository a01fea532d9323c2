"""The machines of a Ray cluster that have room for trials, with a warden on each: found, asked, lost."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

from epigram.errors import ExecutorError
from epigram.runner.bounded import within
from epigram.runner.limits import Limits
from epigram.runner.order import Containment
from epigram.runner.protocol import Exit
from epigram.runner.warden import Machine, Warden

_POLL_S = 0.5  # how long a warden holds a question that it has no answer to
_LOOK_AGAIN_S = 10.0

Answer: TypeAlias = tuple[Sequence[Exit], Mapping[str, str]]
"""Of a warden: what has ended there, and its slots that are quarantined by now."""


@dataclass(frozen=True)
class ClusterSlot:
    """A slot of one machine of the cluster."""

    id: str
    device_env: Mapping[str, str]
    node: str
    local_id: str


@dataclass
class Node:
    """A machine whose warden answers."""

    name: str
    warden: Any
    machine: Machine
    slots: list[ClusterSlot]
    question: Any = None
    asked_at: float = 0.0


@final
class Machines:
    """Connects to the cluster, and keeps a warden on every machine that has room for one.

    Args: as for ``RayExecutor``.

    Raises:
        ExecutorError: ray is not installed, or no machine of the cluster has room for a trial.
    """

    def __init__(
        self,
        study: str,
        *,
        address: str | None,
        threads: int,
        with_cards: bool,
        per_machine: int | None,
        containment: Containment | None,
        limits: Limits,
        lost_after_s: float,
        runtime_env: Mapping[str, Any] | None,
    ) -> None:
        self.nodes: dict[str, Node] = {}
        self._ray = _ray()
        self._study = study
        self._threads, self._with_cards, self._per_machine = threads, with_cards, per_machine
        self._containment, self._limits = containment, limits
        self._lost_after_s = lost_after_s
        self._gone: set[str] = set()
        self._looked_at = -_LOOK_AGAIN_S
        self._closed = False
        self._connected_here = not self._ray.is_initialized()
        if self._connected_here:
            self._ray.init(
                address=address or "auto",
                log_to_driver=False,
                runtime_env=dict(runtime_env) if runtime_env else None,
            )
        self._look()
        if not self.nodes:
            self.close()
            raise ExecutorError(
                f"no machine of the Ray cluster has {threads} processors"
                f"{' and a graphics card' if with_cards else ''} to spare; see `ray status`"
            )

    def look_again(self) -> None:
        """Take in machines that are new, if it is some time since that was last done."""
        if time.monotonic() > self._looked_at + _LOOK_AGAIN_S and not self._closed:
            self._look()

    def answers(self, timeout_s: float) -> Iterator[tuple[Node, Answer | ExecutorError]]:
        """Keep one question open at every warden; what is answered within the time.

        An error stands for the answer of a machine that is gone, or has said nothing for too long.
        """
        now = time.monotonic()
        for node in self.nodes.values():
            if node.question is None:
                node.question, node.asked_at = node.warden.poll.remote(_POLL_S), now
        questions = [node.question for node in self.nodes.values()]
        if not questions:
            time.sleep(min(timeout_s, _POLL_S))
            return
        self._ray.wait(questions, num_returns=1, timeout=min(timeout_s, _POLL_S))
        answered = self._ray.wait(questions, num_returns=len(questions), timeout=0)[0]
        for node in list(self.nodes.values()):
            if node.question in answered:
                yield node, self._answer(node)
            elif time.monotonic() > node.asked_at + _POLL_S + self._lost_after_s:
                yield node, ExecutorError(f"no answer for {self._lost_after_s:g} s")

    def get(self, reference: Any, wait_s: float | None = None) -> Any:
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

    def give_up(self, node: Node) -> None:
        """A machine is gone; it is not looked for again."""
        self.nodes.pop(node.name, None)
        self._gone.add(node.name)

    def close(self) -> None:
        """End all trials, then the wardens; disconnect if the connection was made here."""
        if self._closed:
            return
        self._closed = True
        closing = [node.warden.close.remote() for node in self.nodes.values()]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=self._limits.kill_s + 5.0)
        for node in self.nodes.values():
            self._ray.kill(node.warden)
        self.nodes.clear()
        if self._connected_here:
            self._ray.shutdown()

    def _look(self) -> None:
        """A warden for each machine that has none yet and has room."""
        self._looked_at = time.monotonic()
        found = within(self._lost_after_s, self._ray.nodes, "the Ray cluster")
        fresh: dict[str, Any] = {}
        for node in found:
            name = node["NodeID"]
            if node["Alive"] and name not in self.nodes and name not in self._gone:
                count = self._room(node["Resources"])
                if count > 0:
                    fresh[name] = self._warden(name, count)
        for name, warden in fresh.items():
            try:
                machine: Machine = self.get(warden.describe.remote())
            except ExecutorError:  # busy with somebody else's work, or gone again; ask later
                self._ray.kill(warden)
                continue
            slots = [
                ClusterSlot(f"{name[:12]}/{slot.id}", slot.device_env, name, slot.id)
                for slot in machine.slots
            ]
            self.nodes[name] = Node(name, warden, machine, slots)

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

    def _answer(self, node: Node) -> Answer | ExecutorError:
        try:
            answer: Answer = self.get(node.question)
        except ExecutorError as error:
            return error
        node.question = None
        return answer


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise ExecutorError("ray is not installed: pip install 'epigram[ray]'") from None
