"""``epigram doctor``: is everything there that a run needs?"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from epigram.cli import output
from epigram.cli.parser import Parser, add_output_flags

_NEEDED = ("torch", "numpy", "rich", "matplotlib", "pillow", "tensorboard")
_OPTIONAL = (
    "numba",
    "torchvision",
    "optuna",
    "scikit-learn",
    "pyarrow",
    "onnx",
    "ray",
    "datasets",
    "submitit",
    "nvidia-ml-py",
)
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_LITTLE_DISK = 2**30


def run(argv: Sequence[str]) -> int:
    """Print what was found; 0 unless something needed is missing (2)."""
    parser = Parser("doctor", "Versions, devices, containment, data found, disk, browser.")
    add_output_flags(parser)
    options = parser.parse(argv)
    found = examine()
    if options.json:
        output.print_json(found)
    else:
        _print(found)
    return 2 if found["problems"] else 0


def examine() -> dict[str, Any]:
    """Everything the command reports, as plain data; ``problems`` are sentences."""
    from epigram import __version__

    versions = {name: version(name) for name in _NEEDED + _OPTIONAL}
    problems = [
        f"{name} is not installed: pip install {name}" for name in _NEEDED if not versions[name]
    ]
    disk = shutil.disk_usage(Path.cwd())
    if disk.free < _LITTLE_DISK:
        problems.append(f"only {disk.free // 2**20} MiB free in {Path.cwd()}; runs need room")
    return {
        "epigram": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "devices": devices() if versions["torch"] else {},
        "data": data() if versions["torch"] else {},
        "containment": containment(),
        "disk_free_bytes": disk.free,
        "browser": next(filter(None, map(shutil.which, _BROWSERS)), None),
        "terminal": sys.stdout.isatty(),
        "problems": problems,
    }


def version(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def devices() -> dict[str, Any]:
    """Processors, threads, and the graphics cards torch can use."""
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processors": usable,
        "torch_threads": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "mps": torch.backends.mps.is_available(),
    }


def containment() -> dict[str, Any]:
    """How well trials' processes can be kept together here, and what stands in the way of better."""
    from epigram.runner.containment import probe

    found = probe()
    return {"level": found.level, "refused": dict(found.refused)}


def data() -> dict[str, Any]:
    """Where data sets are looked for, and where each of them lies; nothing is downloaded."""
    from epigram.data import cifar, mnist
    from epigram.data.places import folders

    sets = {"mnist": mnist} | {
        one.name: one for one in (cifar.CIFAR10, cifar.CIFAR10_JPEG, cifar.CIFAR100)
    }
    found = {name: one.find() for name, one in sets.items()}
    return {
        "EPIGRAM_DATA": os.environ.get("EPIGRAM_DATA"),
        "looked_in": [str(folder) for folder in folders()],
        **{name: None if place is None else str(place) for name, place in found.items()},
    }


def _print(found: dict[str, Any]) -> None:
    print(f"epigram {found['epigram']}, Python {found['python']}, {found['platform']}")
    for name, installed in found["versions"].items():
        print(f"  {name:<14}{installed or 'not installed'}")
    if found["devices"]:
        cards = ", ".join(found["devices"]["cuda"]) or "none"
        print(
            f"processors {found['devices']['processors']}, "
            f"torch threads {found['devices']['torch_threads']}, graphics cards: {cards}"
        )
    if found["data"]:
        _print_data(found["data"])
    _print_containment(found["containment"])
    print(f"disk: {found['disk_free_bytes'] / 2**30:.1f} GiB free in {Path.cwd()}")
    print(f"browser for the report's tests: {found['browser'] or 'none'}")
    for problem in found["problems"]:
        output.warn(problem)
    if not found["problems"]:
        print("nothing is missing")


def _print_containment(found: dict[str, Any]) -> None:
    weak = " (a daemon may outlive its trial)" if found["level"] == "session" else ""
    print(f"trials are contained by: {found['level']}{weak}")
    for level, reason in found["refused"].items():
        print(f"  not by {level}: {reason}")


def _print_data(found: dict[str, Any]) -> None:
    print(f"data sets, looked for in {', '.join(found['looked_in'])}:")
    for name in (key for key in found if key not in ("EPIGRAM_DATA", "looked_in")):
        print(f"  {name:<14}{found[name] or 'not found'}")
    print("  what is not found is downloaded by the run that needs it, where that is possible")
