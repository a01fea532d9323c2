"""The executors of one machine keep the promises of all executors, however processes are contained."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import pytest
from tests.contracts.executor import ExecutorContract
from tests.runner.hostile import executor_of, needs

from epigram.runner import FakeExecutor, FakeTrial
from epigram.runner.order import Containment
from epigram.runner.protocol import Executor, Job

PRETENDED = {
    "ends": FakeTrial(0.1),
    "fails": FakeTrial(0.1, code=3),
    "dies": FakeTrial(0.1, signal=9),
    "listens": FakeTrial(math.inf, stop_seconds=0.1),
    "deaf": FakeTrial(math.inf, stop_seconds=None),
}


class TestFakeExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        with FakeExecutor(lambda job: PRETENDED[job.env["KIND"]], slots=2) as executor:
            yield executor

    def seconds(self, executor: Executor) -> float:
        assert isinstance(executor, FakeExecutor)
        return executor.now

    def wait_until_ready(self, executor: Executor, job: Job) -> None:
        executor.poll(0.1)


class LocalContract(ExecutorContract):
    level: ClassVar[Containment]

    @pytest.fixture
    def executor(self, study: str) -> Iterator[Executor]:
        with executor_of(study, level=self.level) as executor:
            yield executor
        assert executor.reaper_pid is None


@needs("cgroup")
class TestLocalCgroup(LocalContract):
    level = "cgroup"


@needs("namespace")
class TestLocalNamespace(LocalContract):
    level = "namespace"


@needs("subreaper")
class TestLocalSubreaper(LocalContract):
    level = "subreaper"


class TestLocalSession(LocalContract):
    level = "session"
