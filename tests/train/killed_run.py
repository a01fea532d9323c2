"""A short Bayesian run for the kill test, in processes that start quickly.

For every folder named on standard input a child is forked from this process, which has everything
imported and has trained nothing; its process id is printed, and its exit code when it has ended. The
run shrinks after its second epoch, writes a checkpoint after every few steps, is slow enough to be
killed anywhere, adds a byte to a file for every step, and writes the hash of its final weights, both
beside its folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

from epigram.train import BayesianLearner, EpochEnd, TrainSettings, fit


def _fakes():
    spec = importlib.util.spec_from_file_location("fakes", Path(__file__).with_name("conftest.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def train(folder: Path) -> None:
    torch.set_num_threads(1)
    fakes = _fakes()
    torch.manual_seed(0)
    twin = fakes.FakeTwin()

    def on_epoch(end: EpochEnd) -> None:
        learner.kl_multiplier *= 1.1
        if end.epoch == 2:
            least = np.argsort(twin.removability()["first"])[-3:]
            keep = np.ones(8, bool)
            keep[least] = False
            learner.shrink_({"first": keep}, optimizer=end.optimizer)

    steps = folder.with_suffix(".steps").open("ab", buffering=0)

    def one_more_step() -> bool:
        steps.write(b".")
        time.sleep(0.005)
        return False

    learner = BayesianLearner(twin, 200, on_epoch=on_epoch)
    settings = TrainSettings(
        epochs=4,
        batch_size=16,
        learning_rate=0.01,
        kl_warmup_epochs=2,
        logvar_lr_factor=3.0,
        grad_clip=1.0,
        checkpoint_every_seconds=0.01,
        guard_every_steps=5,
        tensorboard=False,
    )
    fit(
        learner,
        fakes._examples(200, 1),
        settings,
        folder=folder,
        stage="structure",
        seed=3,
        control_set=fakes._examples(60, 2),
        progress=None,
        stop=one_more_step,
    )
    digest = hashlib.sha256()
    for name, tensor in twin.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    folder.with_suffix(".sha256").write_text(digest.hexdigest())


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            train(Path(line.strip()))
            os._exit(0)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
