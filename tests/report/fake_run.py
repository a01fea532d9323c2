"""Writes run folders that look like real ones, from a seed: for the tests and for looking."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Weights = NDArray[np.float32]


def digits(rng: np.random.Generator, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """``count`` 28 × 28 pictures of digits, a little turned and moved, and their labels."""
    labels = np.arange(count) % 10
    font = ImageFont.load_default(22)
    images = np.zeros((count, 28, 28), dtype=np.uint8)
    for place, label in enumerate(labels):
        picture = Image.new("L", (28, 28), 0)
        shift = rng.uniform(-1, 1, size=2)
        ImageDraw.Draw(picture).text((8 + shift[0], 1 + shift[1]), str(label), font=font, fill=255)
        turned = picture.rotate(float(rng.uniform(-12, 12)), resample=Image.Resampling.BILINEAR)
        images[place] = np.asarray(turned.filter(ImageFilter.GaussianBlur(0.6)))
    return images, labels


class Layer:
    """Weights that drift over the epochs while doomed units shrink, then leave (NaN)."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...], field: Weights) -> None:
        self.rng, self.field = rng, field
        self.noise = rng.normal(0, 0.045, shape).astype(np.float32)
        self.target = (rng.normal(0, 0.16, shape) * field).astype(np.float32)

    def at(self, progress: float, units: Weights, inputs: Weights) -> Weights:
        """The weights after this share of the training; ``units`` and ``inputs`` are scales 0..1."""
        self.noise += self.rng.normal(0, 0.004, self.noise.shape).astype(np.float32)
        tail = (1,) * (self.noise.ndim - 2)
        scale = units.reshape(-1, 1, *tail) * inputs.reshape(1, -1, *tail)
        mixed = (self.noise * (1 - 0.9 * progress) + progress * self.target) * scale
        mixed[units == 0] = np.nan
        mixed[:, inputs == 0] = np.nan
        return np.asarray(mixed, dtype=np.float32)


def _scales(rng: np.random.Generator, units: int, kept: int) -> NDArray[np.float64]:
    """The share of the training after which a unit leaves; 2 for those that stay."""
    leaves = np.full(units, 2.0)
    gone = rng.permutation(units)[kept:]
    leaves[gone] = rng.beta(2.2, 3.0, len(gone)) * 0.85 + 0.08
    return leaves


def _present(leaves: NDArray[np.float64], progress: float) -> Weights:
    """Scale of every unit: one, shrinking before it leaves, zero afterwards."""
    return np.clip((leaves - progress) / 0.25, 0, 1).astype(np.float32)


def _centre_field() -> Weights:
    """Where MNIST has ink: 784 weights, strong in the centre, none in the corners."""
    y, x = np.mgrid[-1:1:28j, -1:1:28j]
    field = np.exp(-(((x / 0.62) ** 2 + (y / 0.72) ** 2) ** 1.4))
    return np.asarray(field.reshape(1, -1), dtype=np.float32)


def write_history(
    path: Path, rng: np.random.Generator, plan: list[tuple[str, int]], shape: dict[str, Any]
) -> None:
    """``metrics.jsonl`` of the stages in ``plan``."""
    step, lines = 0, []
    total = sum(epochs for stage, epochs in plan if stage != "plain")
    done = 0
    for stage, epochs in plan:
        for epoch in range(1, epochs + 1):
            step += 390
            done += stage != "plain"
            lines.append(_line(rng, stage, epoch, step, done / max(total, 1), shape))
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")


def _line(
    rng: np.random.Generator,
    stage: str,
    epoch: int,
    step: int,
    progress: float,
    shape: dict[str, Any],
) -> dict[str, Any]:
    wobble = lambda size: float(rng.normal(0, size))  # noqa: E731
    fall = np.exp(-epoch / 5)
    if stage == "plain":
        train = {"accuracy": 1 - 0.0004 - 0.075 * fall, "nll": 0.0015 + 0.25 * fall}
        control = {
            "accuracy": 0.9822 - 0.045 * fall + wobble(4e-4),
            "nll": 0.062 + 0.12 * fall + 0.0022 * epoch,
        }
        train |= {"loss": train["nll"]}
        return _common(stage, epoch, step) | {"train": train, "control": control}
    dip = 0.012 * np.exp(-(((progress - 0.3) / 0.2) ** 2))
    nll = 0.045 + 1.6 * dip + 0.03 * progress + abs(wobble(1e-3))
    kl = 1.1e6 * np.exp(-5.2 * progress**0.8) + 2.6e4
    train = {
        "accuracy": 0.9935 - 1.1 * dip - 0.006 * progress + wobble(3e-4),
        "nll": nll,
        "kl_nats": float(kl),
        "kl_weight": min(1.0, 4 * progress),
        "loss": nll + min(1.0, 4 * progress) * float(kl) / 50_000,
    }
    control = {"accuracy": 0.9826 - dip + wobble(4e-4), "nll": 0.058 + 1.5 * dip + 0.006 * progress}
    units = {
        g: int((_present(leaves, progress) > 0).sum()) for g, leaves in shape["leaves"].items()
    }
    quantiles = {g: [-6.0, -4.0, -1.0 + 3 * progress, 2.0, 3.5] for g in units}
    extra = {
        "units": units,
        "removability": quantiles,
        "effective_parameters": int(266_610 * np.exp(-2 * progress)),
        "predicted_bytes": int(11_900 + 190_000 * np.exp(-6 * progress))
        if stage == "structure"
        else None,
    }
    return _common(stage, epoch, step) | {"train": train, "control": control} | extra


def _common(stage: str, epoch: int, step: int) -> dict[str, Any]:
    return {
        "stage": stage,
        "epoch": epoch,
        "step": step,
        "seconds": 2.4,
        "step_ms": 6.1,
        "learning_rate": 1e-3,
    }


def config(name: str, *, seed: int, epochs: int, prior: str = "group-jeffreys") -> dict[str, Any]:
    """A complete ``config.json``."""
    settings = {
        "epigram_version": "0.1.0",
        "recipe": name,
        "seed": seed,
        "floor": "accuracy>=0.98",
        "plain": {"epochs": 20, "learning_rate": 1e-3, "optimizer": "adam", "batch_size": 128, "decay": "cosine"},
        "structure": {"epochs": epochs, "prior": prior, "kl_warmup_epochs": 8, "gradient_clip": 1.0,
                      "logvar_min": -12.0, "logvar_max": 2.0, "learning_rate": 2e-3},
        "finetune": {"epochs": 6, "learning_rate": 2e-4},
        "data": {"name": "mnist", "augment": None},
    }  # fmt: skip
    recipe = {key: settings.pop(key) for key in ("recipe", "floor", "epigram_version", "data")}
    return {
        "identity": f"8f3a{seed:04d}" * 8,
        "config": recipe | {"settings": settings},
        "environment": {"python": "3.11.7"},
    }


def _result(
    name: str, units: dict[str, tuple[int, int]], dense: int, breakdown: dict[str, int]
) -> dict[str, Any]:
    size = sum(breakdown.values())
    return {
        "identity": "8f3a00c1" * 8, "recipe": name, "seed": 0, "epigram_version": "0.1.0",
        "environment": {"python": "3.11.7", "torch": "2.15.0+cpu", "platform": "Linux-6.18.44-generic-x86_64-with-glibc2.36", "threads": 2,
                        "commit": "90ee526"},
        "dense_bytes": dense, "file_bytes": size, "ratio": dense / size, "breakdown": breakdown,
        "predicted_bytes": size - 174, "dense_test_error_percent": 1.72, "test_error_percent": 1.81,
        "test_nll": 0.0617, "test_calibration_error": 0.0041,
        "floor": {"metric": "accuracy", "value": 0.98, "validation_value": 0.9814, "met": True},
        "paper_counts": {"architecture": 12.31, "with_uncertainty": 47.9, "test_error_percent": 1.84},
        "class_accuracy_change_percent": [-0.4, 0.1, -1.2, 0.0, 0.3, -0.2, 0.1, -0.6, 0.2, -0.1],
        "units": {g: {"before": b, "after": a} for g, (b, a) in units.items()},
        "macs": {"before": 266_200, "after": 22_871}, "latency_ms": {"before": 0.412, "after": 0.121},
        "load_ms": {"before": 3.1, "after": 4.9},
        "peak_rss_bytes": {"before": 311_000_000, "after": 309_000_000},
        "disagreement_percent": 0.93,
        "seconds": {"plain": 41.2, "structure": 148.9, "finetune": 14.2, "encode": 0.4, "verify": 1.3},
        "splits": {"fit": {"examples": 50_000, "sha256": "c1f9a02e" * 8}, "control": {"examples": 5_000, "sha256": "77be01d4" * 8},
                   "validation": {"examples": 5_000, "sha256": "09aa63f1" * 8}, "test": {"examples": 10_000, "sha256": "e4d2b7c8" * 8}},
        "history": "metrics.jsonl",
    }  # fmt: skip


def _write_frames(
    folder: Path,
    rng: np.random.Generator,
    layers: dict[str, Layer],
    scales: dict[str, Any],
    epochs: int,
) -> None:
    folder.mkdir(parents=True)
    for epoch in range(1, epochs + 1):
        progress = epoch / epochs
        present = {g: _present(leaves, progress) for g, leaves in scales.items()}
        arrays = {
            "first": layers["first"].at(progress, present["first"], present["inputs"]),
            "second": layers["second"].at(progress, present["second"], present["first"]),
        }
        np.savez(folder / f"structure-{epoch:04d}.npz", **arrays)


def _write_data(
    path: Path,
    rng: np.random.Generator,
    scales: dict[str, Any],
    groups: dict[str, str],
    pixels: Weights | None,
) -> None:
    images, labels = digits(rng, 20)
    arrays: dict[str, Any] = {
        "sample_images": images,
        "sample_labels": labels,
        "cut": np.array(0.8),
    }
    for group, key in groups.items():
        stays = scales[key] > 1
        values = np.where(
            stays, rng.normal(-3.2, 1.3, len(stays)), 0.8 + rng.gamma(2.5, 0.7, len(stays))
        )
        arrays[f"removability/{group}"] = np.where(
            stays, np.minimum(values, 0.7), np.where(rng.random(len(stays)) < 0.1, np.nan, values)
        )
    if pixels is not None:
        arrays["pixel_importance"] = pixels
    confidence = np.array([0.27, 0.36, 0.45, 0.55, 0.65, 0.75, 0.85, 0.92, 0.965, 0.995])
    arrays["calibration_confidence"] = confidence
    arrays["calibration_accuracy"] = np.array(
        [0.25, 0.42, 0.4, 0.52, 0.59, 0.71, 0.8, 0.9, 0.955, 0.9975]
    )
    arrays["calibration_count"] = np.array([4, 12, 38, 61, 70, 83, 121, 180, 402, 9029])
    np.savez(path, **arrays)


def write_mlp(
    folder: Path, *, epochs: int = 30, seed: int = 0, prior: str = "group-jeffreys"
) -> Path:
    """A finished ``compress`` run of LeNet-300-100 on MNIST."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    field = _centre_field()
    scales = {
        "first": _scales(rng, 300, 96),
        "second": _scales(rng, 100, 34),
        "inputs": _scales(rng, 784, 784),
    }
    dead = field[0] < 0.04
    scales["inputs"][dead] = 0.1 + 0.5 * rng.random(int(dead.sum()))
    layers = {
        "first": Layer(rng, (300, 784), field),
        "second": Layer(rng, (100, 300), np.ones((1, 300), dtype=np.float32)),
    }
    _write_frames(folder / "frames", rng, layers, scales, epochs)
    groups = {"fc1": scales["first"], "fc2": scales["second"]}
    plan = [("plain", 20), ("structure", epochs), ("finetune", 6)]
    write_history(folder / "metrics.jsonl", rng, plan, {"leaves": groups})
    pixels = np.where(dead, 0, field[0] * rng.uniform(0.75, 1, 784)).astype(np.float32)
    _write_data(
        folder / "report_data.npz",
        rng,
        scales,
        {"fc1": "first", "fc2": "second", "fc1.positions": "inputs"},
        pixels,
    )
    breakdown = {"header": 26, "structure": 74, "symbols/fc1.weight": 9120, "symbols/fc2.weight": 2304, "symbols/fc3.weight": 402,
                 "biases/fc1.bias": 118, "biases/fc2.bias": 51, "biases/fc3.bias": 14, "scales": 96, "live": 71, "names": 0,
                 "checksum": 4}  # fmt: skip
    units = {"fc1": (300, 96), "fc2": (100, 34), "fc1.positions": (784, 584)}
    result = _result("lenet-300-100/mnist", units, 1_066_440, breakdown)
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "config.json").write_text(
        json.dumps(config("lenet-300-100/mnist", seed=seed, epochs=epochs, prior=prior))
    )
    return folder


def write_convnet(folder: Path, *, epochs: int = 12, seed: int = 0) -> Path:
    """A finished ``compress`` run of LeNet-5 (20-50-800-500) whose floor was not met."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    scales = {
        "first": _scales(rng, 20, 6),
        "second": _scales(rng, 50, 11),
        "inputs": np.array([2.0]),
    }
    ones = np.ones((1, 1, 5, 5), dtype=np.float32)
    layers = {
        "first": Layer(rng, (20, 1, 5, 5), ones * 2),
        "second": Layer(rng, (50, 20, 5, 5), ones),
    }
    _write_frames(folder / "frames", rng, layers, scales, epochs)
    groups = {"conv1": scales["first"], "conv2": scales["second"], "fc1": _scales(rng, 500, 24)}
    plan = [("plain", 10), ("structure", epochs)]
    write_history(folder / "metrics.jsonl", rng, plan, {"leaves": groups})
    _write_data(folder / "report_data.npz", rng, scales | {"fc1": groups["fc1"]},
                {"conv1": "first", "conv2": "second", "fc1": "fc1"}, None)  # fmt: skip
    breakdown = {"header": 24, "structure": 88, "conv1.weight": 131, "conv2.weight": 702, "fc1.weight": 1240,
                 "fc2.weight": 210, "biases": 88, "steps": 16, "checksum": 4}  # fmt: skip
    units = {"conv1": (20, 6), "conv2": (50, 11), "fc1": (500, 24)}
    result = _result("lenet-5/mnist", units, 1_724_320, breakdown)
    result |= {"dense_test_error_percent": 0.71, "test_error_percent": 1.12}
    result["floor"] = {
        "metric": "accuracy",
        "value": 0.99,
        "validation_value": 0.9886,
        "met": False,
    }
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "config.json").write_text(
        json.dumps(config("lenet-5/mnist", seed=seed, epochs=epochs))
    )
    return folder


def write_plain(folder: Path, *, epochs: int = 10, seed: int = 0) -> Path:
    """What ``epigram train`` leaves: no file, no units, no frames."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    write_history(folder / "metrics.jsonl", rng, [("plain", epochs)], {"leaves": {}})
    result = {
        "recipe": "lenet-300-100/mnist", "seed": seed, "epigram_version": "0.1.0", "dense_bytes": 1_066_440,
        "test_error_percent": 1.72, "test_nll": 0.071, "seconds": {"plain": 23.4},
        "splits": {"fit": {"examples": 50_000, "sha256": "c1f9a02e" * 8}},
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "config.json").write_text(
        json.dumps(config("lenet-300-100/mnist", seed=seed, epochs=0))
    )
    return folder


if __name__ == "__main__":
    target = Path(sys.argv[1])
    print(write_mlp(target / "mlp", epochs=int(sys.argv[2]) if len(sys.argv) > 2 else 30))
    print(write_convnet(target / "convnet"))
    print(write_plain(target / "plain"))
