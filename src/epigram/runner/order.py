"""What a supervisor is told to do, as it travels from the driver to it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Containment: TypeAlias = Literal["cgroup", "namespace", "subreaper", "session"]
"""How the processes of a trial are kept together, best first; each also does what the next one does.

* ``cgroup``: a control group of its own, killed in one write;
* ``namespace``: a PID namespace of its own, which the kernel empties when its first process dies;
* ``subreaper``: whatever is orphaned becomes a child of the supervisor (or of the root reaper);
* ``session``: process groups, what ``ps`` says of parents, and nothing better. Not Linux.
"""


@dataclass(frozen=True)
class Order:
    """One trial, for its supervisor. Paths are strings: it is sent as JSON.

    Args:
        run_id, attempt, argv, cwd, grace_s, wall_s: of the job.
        env: the complete environment of the trial.
        folder: of the attempt; ``exit.json`` is written there.
        containment: one of ``Containment``.
        cgroup: the group's folder; "" without.
        kill_s: seconds after which what has been killed and still lives is given up.
        watch_s: seconds between two looks at the limits.
        max_processes: how many processes it may have at a time.
        max_bytes: how many bytes the run's folder may hold.
    """

    run_id: str
    attempt: int
    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]
    folder: str
    grace_s: float
    wall_s: float | None
    containment: Containment
    cgroup: str
    kill_s: float
    watch_s: float
    max_processes: int
    max_bytes: int

    def to_bytes(self) -> bytes:
        """As JSON; bytes that are not UTF-8 (in an environment, say) come through."""
        return json.dumps(dataclasses.asdict(self)).encode("ascii")

    @classmethod
    def from_bytes(cls, text: bytes) -> Order:
        """What ``to_bytes`` was given."""
        fields = json.loads(text)
        return cls(**(fields | {"argv": tuple(fields["argv"])}))
