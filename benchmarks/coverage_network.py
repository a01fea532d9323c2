"""One network of coverage.py, in a process of its own: every step, and a note after each."""

from __future__ import annotations

import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from coverage_models import Case
from coverage_outputs import Heard, change, doubled, same_outputs, tensors
from torch import Tensor, nn

from epigram import atomic
from epigram.convert import bayesianize
from epigram.errors import EpigramError, RemovalError, UnsupportedModelError
from epigram.objective import ELBO
from epigram.structure import analyse, mask_units, remove_units, slice_plan, verify_removal

STEPS = ("build", "analyse", "convert", "elbo_step", "remove", "verify", "train_on", "onnx")
SHARE = 0.3
MEMORY = 14 << 30


def blank(case: Case) -> dict[str, Any]:
    """What is known before anything has run."""
    return {
        "suite": case.suite,
        "name": case.name,
        "reduced": case.reduced,
        "outcome": "started",
        "at": "build",
        "seconds": {},
    }


class Note:
    """What the child leaves on the disk after every step."""

    def __init__(self, case: Case, path: Path) -> None:
        self.path, self.data = path, blank(case)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step, and say where we are."""
        self.data["at"] = name
        self.write()
        begin = time.process_time()
        yield
        self.data["seconds"][name] = round(time.process_time() - begin, 3)

    def write(self) -> None:
        """Put it on the disk."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        atomic.write_json(self.path, {**self.data, "peak_rss_bytes": peak})


def child(case: Case, path: Path, log: Path, limit: float, *, export: bool) -> None:
    """Run one network through all steps."""
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    used = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (used + int(limit), used + int(limit) + 5))
    note = Note(case, path)
    torch.manual_seed(0)
    try:
        run(case, note, export=export)
        note.data["outcome"] = "ok"
    except RemovalError as error:
        note.data |= {"outcome": "wrong", "failed_in": note.data["at"], "reason": str(error)[:500]}
    except Exception as error:  # noqa: BLE001  (a network may fail in any way)
        traceback.print_exc()
        kind = "" if isinstance(error, EpigramError) else f"{type(error).__name__}: "
        reason = f"{kind}{error}"[:500]
        note.data |= {"outcome": "failed", "failed_in": note.data["at"], "reason": reason}
    note.write()


def run(case: Case, note: Note, *, export: bool = True) -> None:
    """Every step; the first that fails ends it."""
    generator = torch.Generator().manual_seed(1)
    with note.step("build"):
        model = case.build().eval()
        stir_(model, generator)
        inputs = case.inputs(generator)
    note.data["parameters"] = parameters(model)
    with note.step("analyse"):
        structure = analyse(model, inputs, on_failure="leave")
    units = {g.name: g.units for g in structure.groups}
    note.data["units"] = {"groups": len(units), "units": sum(units.values())}
    note.data["left_whole"] = sorted(
        {f"{x.operation}: {x.reason}"[:160] for x in structure.left_whole}
    )
    if not units and not structure.left_whole:
        raise UnsupportedModelError("nothing can be removed, and the analysis does not say why")
    if not units:
        raise UnsupportedModelError("all of it is left whole")
    with note.step("convert"):
        twin = bayesianize(model, inputs, structure=structure)
        twin.eval()
        inside = [f"network.{name}" for name in case.heard]
        same_outputs(Heard(twin, inside), Heard(model, case.heard), inputs)
    note.data["scales"] = len(twin.names)
    with note.step("elbo_step"):
        one_step(twin, case, generator, ELBO(twin, num_train_examples=50_000))
    del twin
    keep = random_masks(units)
    with note.step("remove"):
        small = remove_units(model, slice_plan(structure, keep))
    note.data["removed_share"] = round(1 - parameters(small) / note.data["parameters"], 4)
    with note.step("verify"):
        masked = mask_units(model, structure, keep)
        fresh = case.inputs(generator)
        note.data["change"] = change(Heard(model, case.heard), Heard(masked, case.heard), fresh)
        pair = [Heard(network.double(), case.heard) for network in (small, masked)]
        note.data["difference"] = verify_removal(pair[0], pair[1], doubled(fresh))
        del masked, pair
    small.float()
    with note.step("train_on"):
        one_step(small, case, generator)
    if not export:
        return
    with note.step("onnx"):
        note.data["onnx"] = onnx(small.eval(), inputs)
        note.data["onnx_of_original"] = "ok" if note.data["onnx"] == "ok" else onnx(model, inputs)


def stir_(model: nn.Module, generator: torch.Generator) -> None:
    """Add noise to what starts as a constant: at zero, a branch would not be heard at all."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(torch.randn(buffer.shape, generator=generator), alpha=0.1)
            if name.endswith("running_var"):
                buffer.mul_(0.75 + 0.5 * torch.rand(buffer.shape, generator=generator))


def random_masks(units: Mapping[str, int]) -> dict[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    """About 30 % of each group's units go, at least one stays."""
    random = np.random.default_rng(0)
    keep = {}
    for name, count in units.items():
        mask = np.ones(count, bool)
        mask[random.permutation(count)[: min(count - 1, round(SHARE * count))]] = False
        keep[name] = mask
    return keep


def parameters(model: nn.Module) -> int:
    """Number of parameters, shared ones once."""
    return sum(p.numel() for p in model.parameters())


def one_step(
    model: nn.Module,
    case: Case,
    generator: torch.Generator,
    elbo: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """One step of SGD on a made-up loss, in train() where batch statistics allow it.

    Raises:
        FloatingPointError: the loss or a gradient is not finite.
    """
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    outputs = tensors(model(*(case.training or case.inputs)(generator)))
    loss = torch.stack([x.float().square().mean() for x in outputs]).mean()
    loss = loss if elbo is None else elbo(loss)
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if not gradients or not all(bool(torch.isfinite(x).all()) for x in [loss, *gradients]):
        raise FloatingPointError("the loss or a gradient is not finite")
    optimizer.step()
    model.eval()


def onnx(model: nn.Module, inputs: tuple[Any, ...]) -> str:
    """``ok``, or why the export failed."""
    try:
        program = torch.onnx.export(model, inputs, dynamo=True, verbose=False, optimize=False)
    except Exception as error:  # noqa: BLE001  (a network may fail in any way)
        return f"{type(error).__name__}: {error}"[:200]
    return "ok" if program is not None else "nothing was exported"
