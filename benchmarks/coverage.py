"""Which networks can be compressed: convert, train a step, remove units, verify, train on, export.

    python benchmarks/coverage.py [--suite classification timm ...] [--only GLOB] [--limit SECONDS]

Every network runs in a process of its own (a fork of one that has imported everything) with a time
limit. Per network: weights that start as constants (a normalisation's, a layer scale's) are drawn at
random, so that every branch is heard; the structure is analysed; the network is converted to its twin,
whose eval() must equal it; one ELBO step; about 30 % of the units of every group are removed; the small
plain network must equal the masked one on fresh inputs, in double precision, and both must differ from
the network as it was; one training step of the small network; export to ONNX, where the export of the
original works. Noted are the processor seconds of each step, peak memory, what was left whole and why.
``ok`` needs every step but the export, and something removed; ``wrong`` means that a small network
computes something else than the masked one and nobody said so: there must be none.

The same command goes on where it stopped: finished networks are read from <out>/coverage/. --fresh runs
them again. Results: results/coverage.json, of all networks that have been run, whatever was asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import record
import torch
from coverage_models import SUITES, Case, cases
from preparing import add_fresh, common_flags, guarded, prepare
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from epigram import atomic
from epigram.convert import bayesianize
from epigram.errors import EpigramError, RemovalError, UnsupportedModelError
from epigram.objective import ELBO
from epigram.structure import analyse, mask_units, remove_units, slice_plan, verify_removal

SHARE = 0.3
STEPS = ("build", "analyse", "convert", "elbo_step", "remove", "verify", "train_on", "onnx")
NEEDED = STEPS[:-1]
MEMORY = 14 << 30
PATIENCE = 20
PACKAGES = ("torchvision", "timm", "transformers", "onnx", "onnxscript")
LIBRARIES = ("torchvision", "timm", "transformers", "onnxscript", "torch.onnx", "torch.export")


def main() -> int:
    """Run what is missing, collect, print; 1 if anything was wrong."""
    arguments = parser().parse_args()
    folders = prepare(arguments)
    about = record.origin(seeds=arguments.seeds, packages=PACKAGES)
    chosen = in_order(cases(arguments.suite), arguments.only)
    chosen = chosen[:3] if arguments.quick else chosen
    notes = folders.runs / "coverage"
    missing = [c for c in chosen if arguments.fresh or not (notes / f"{c.key}.json").exists()]
    if missing:
        warm_up()
    for number, case in enumerate(missing):
        print(f"{number + 1}/{len(missing)} {case.key}", end=" ", file=sys.stderr, flush=True)
        path = notes / f"{case.key}.json"
        run_child(case, path, arguments)
        print(verdict(read(path)), file=sys.stderr, flush=True)
    paths = [notes / f"{c.key}.json" for c in cases(list(SUITES))]
    found = [read(path) for path in paths if path.exists()]
    figures = {"suites": summaries(found), "networks": found}
    record.write_result("coverage", about, figures, folder=folders.results)
    print(table(figures["suites"]))
    return 1 if any(n["outcome"] == "wrong" for n in found) else 0


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = common_flags(__doc__ or "", out="runs/bench-coverage")
    flags.add_argument("--suite", nargs="+", default=list(SUITES), choices=list(SUITES))
    flags.add_argument(
        "--only", nargs="+", default=["*"], help="globs over suite/name; run in this order"
    )
    flags.add_argument(
        "--without-onnx", action="store_true", help="leave out the export, half of the time"
    )
    flags.add_argument(
        "--limit", type=float, default=300.0, help="processor seconds for one network"
    )
    add_fresh(flags)
    return flags


def in_order(found: Sequence[Case], globs: Sequence[str]) -> list[Case]:
    """The cases that any of the globs fits, those of the first glob first."""
    fitting = {c.key: c for g in globs for c in found if fnmatchcase(c.key, g)}
    return list(fitting.values())


# --- the driver -------------------------------------------------------------------------------


def warm_up() -> None:
    """Import everything and use it once; the children are forks of this process.

    No gradients: autograd's threads do not survive a fork.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):  # its suite says so
            importlib.import_module(library)
    model, image = _tiny().eval(), torch.randn(2, 3, 8, 8)
    bayesianize(model, image)
    onnx(model, (image,))
    gc.freeze()


def _tiny() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
    )


def run_child(case: Case, path: Path, arguments: argparse.Namespace) -> None:
    """One network in a process of its own; its note says how far it came, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    log, limit = path.with_suffix(".log"), arguments.limit
    begin = time.monotonic()
    for method in ("fork", "spawn"):  # some of torch's threads do not survive a fork: then afresh
        process = multiprocessing.get_context(method).Process(
            target=child,
            args=(case, path, log, limit),
            kwargs={"export": not arguments.without_onnx},
        )
        process.start()
        try:
            process.join(PATIENCE * limit)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            process.kill()
            process.join()
        if process.exitcode != -signal.SIGABRT:
            break
    note = read(path) if path.exists() else blank(case)
    if process.exitcode:
        late = process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL)
        said = last_line(log.read_bytes()) if log.exists() else ""
        reason = f"longer than {limit:g} s" if late else f"exit code {process.exitcode}: {said}"
        note |= {"outcome": "failed", "reason": reason, "failed_in": note["at"]}
    note["wall_seconds"] = round(time.monotonic() - begin, 2)
    atomic.write_json(path, {**note, **record.code_version()})


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


def last_line(text: bytes) -> str:
    """The last line that says something."""
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else ""


def read(path: Path) -> dict[str, Any]:
    """A network's note."""
    note: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return note


def verdict(note: Mapping[str, Any]) -> str:
    """One network in a line."""
    where = f" in {note['failed_in']}: {note['reason']}" if note.get("failed_in") else ""
    units = note.get("units", {})
    return f"{note['outcome']}{where} {units} {sum(note['seconds'].values()):.0f} s"


def summaries(found: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per suite: how many came through, how many shrank, how many were wrong."""
    out: dict[str, dict[str, Any]] = {}
    for suite in dict.fromkeys(note["suite"] for note in found):
        notes = [note for note in found if note["suite"] == suite]
        good = [n for n in notes if n["outcome"] == "ok"]
        out[suite] = {
            "networks": len(notes),
            "ok": len(good),
            "ok_share": round(len(good) / len(notes), 4),
            "listed": len(cases([suite])) if suite in SUITES else len(notes),
            "wrong": sum(n["outcome"] == "wrong" for n in notes),
            "onnx": sum(n.get("onnx") == "ok" for n in notes),
            "onnx_of_original": sum(n.get("onnx_of_original") == "ok" for n in notes),
            "onnx_not_tried": sum(n["outcome"] == "ok" and "onnx" not in n for n in notes),
            "parameters_removed": record.summary([n["removed_share"] for n in good])
            if good
            else None,
            "peak_rss_gigabytes": record.summary([n["peak_rss_bytes"] / 1e9 for n in good])
            if good
            else None,
            "analyse_seconds": record.summary([n["seconds"]["analyse"] for n in good])
            if good
            else None,
            "not_ok": [
                f"{n['name']}: {n.get('failed_in')}: {n.get('reason')}"
                for n in notes
                if n not in good
            ],
        }
    return out


def table(suites: Mapping[str, Mapping[str, Any]]) -> str:
    """A line per suite."""
    lines = [
        f"{'':<18}{'networks':>10}{'ok':>6}{'wrong':>8}{'ONNX':>12}{'removed':>10}{'analyse':>12}"
    ]
    for name, s in suites.items():
        removed = s["parameters_removed"]["median"] if s["ok"] else 0.0
        seconds = s["analyse_seconds"]["median"] if s["ok"] else 0.0
        lines.append(
            f"{name:<18}{s['networks']:>10}{s['ok']:>6}{s['wrong']:>8}"
            f"{s['onnx']:>6} of {s['onnx_of_original']:<3}{removed:>8.0%}{seconds:>10.1f} s"
        )
    return "\n".join(lines)


# --- one network, in the child ----------------------------------------------------------------


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


class Heard(nn.Module):
    """A network that returns what some of its modules put out; its own output if there are none."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *inputs: Any) -> Any:
        """What these modules put out in one call."""
        if not self.names:
            return self.network(*inputs)
        found: list[Any] = []
        with contextlib.ExitStack() as stack:
            for name in self.names:
                module = self.network.get_submodule(name)
                hook = module.register_forward_hook(lambda *call: found.append(call[-1]))
                stack.callback(hook.remove)
            self.network(*inputs)
        return found


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


def change(model: nn.Module, masked: nn.Module, inputs: tuple[Any, ...]) -> float:
    """How much the removal changes the outputs, relative to the largest; 1 if it changes their number.

    Raises:
        FloatingPointError: it changes nothing, or leaves nothing to compare (a detector that finds no
            box), so that equality would prove nothing.
    """
    with torch.no_grad():
        pairs = list(zip(tensors(masked(*inputs)), tensors(model(*inputs)), strict=True))
    if not any(a.numel() for a, _ in pairs):
        raise FloatingPointError("all outputs are empty: the comparison would be empty")
    if any(a.shape != b.shape for a, b in pairs):  # boxes found by other numbers
        return 1.0
    largest = max(
        (float((a - b).abs().max() / b.abs().max()) for a, b in pairs if b.numel()), default=0.0
    )
    if not largest > 1e-7:
        raise FloatingPointError("the removal changes nothing: the comparison would be empty")
    return float(f"{largest:.3g}")


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


def doubled(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Floating-point tensors in double precision."""
    return pytree.tree_map(
        lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x, inputs
    )


def tensors(outputs: Any) -> list[Tensor]:
    """Floating-point tensors of an output, however it is packed."""
    leaves = pytree.tree_leaves(outputs)
    return [x for x in leaves if isinstance(x, Tensor) and x.is_floating_point()]


def same_outputs(twin: nn.Module, model: nn.Module, inputs: tuple[Any, ...]) -> None:
    """The twin's mean output is the original's.

    Raises:
        RemovalError: it is not.
    """
    with torch.no_grad():
        ours, theirs = tensors(twin(*inputs)), tensors(model(*inputs))
    for a, b in zip(ours, theirs, strict=True):
        if a.shape == b.shape and not b.numel():
            continue
        if a.shape != b.shape or not torch.allclose(
            a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max().clamp_min(1))
        ):
            raise RemovalError(
                f"the twin's eval() differs from the network by {float((a - b).abs().max()):.3g}"
            )


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


if __name__ == "__main__":
    sys.exit(guarded(main))
