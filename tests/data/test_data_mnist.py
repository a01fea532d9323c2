"""The MNIST that ships with the repository, and where `load` looks."""

from __future__ import annotations

import gzip
import hashlib
import struct
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from epigram.data import mnist, places
from epigram.errors import DataError

REPOSITORY = Path(__file__).resolve().parents[2]
SHA256 = {
    "train-images-idx3-ubyte.gz": "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
    "train-labels-idx1-ubyte.gz": "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",
    "t10k-images-idx3-ubyte.gz": "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
    "t10k-labels-idx1-ubyte.gz": "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
}


def idx(array: torch.Tensor) -> bytes:
    shape = tuple(array.shape)
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + bytes(
        array.reshape(-1).tolist()
    )


def write_small(folder: Path, *, first_pixel: int = 0, compress: bool = False) -> Path:
    """Four files of three examples each."""
    folder.mkdir(parents=True)
    images = torch.full((3, 28, 28), first_pixel)
    for stem, array in (
        ("train-images-idx3-ubyte", images),
        ("train-labels-idx1-ubyte", torch.tensor([1, 2, 3])),
        ("t10k-images-idx3-ubyte", images),
        ("t10k-labels-idx1-ubyte", torch.tensor([4, 5, 6])),
    ):
        raw = idx(array)
        name = folder / (f"{stem}.gz" if compress else stem)
        name.write_bytes(gzip.compress(raw) if compress else raw)
    return folder


def test_the_shipped_files_are_the_originals() -> None:
    for name, expected in SHA256.items():
        data = (REPOSITORY / "data" / "mnist" / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == expected, name


def test_the_shipped_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EPIGRAM_DATA", raising=False)
    train, test = mnist.load()
    assert train.inputs.shape == (60_000, 1, 28, 28)
    assert test.inputs.shape == (10_000, 1, 28, 28)
    assert train.inputs.dtype == torch.uint8
    assert train.targets[:5].tolist() == [5, 0, 4, 1, 9]
    assert test.targets[:5].tolist() == [7, 2, 1, 0, 4]
    assert torch.bincount(train.targets).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    pixels = train.inputs.double() / 255
    assert float(pixels.mean()) == pytest.approx(mnist.MEAN, abs=5e-5)
    assert float(pixels.std()) == pytest.approx(mnist.STD, abs=5e-5)


def test_splits_of_the_shipped_copy() -> None:
    splits = mnist.splits(REPOSITORY / "data")
    sizes = {name: part["examples"] for name, part in splits.describe().items()}
    assert sizes == {"fit": 50_000, "control": 5_000, "validation": 5_000, "test": 10_000}
    hashes = {part["sha256"] for part in splits.describe().values()}
    assert len(hashes) == 4
    for part in (splits.fit, splits.control, splits.validation):  # no class is far from its share
        share = torch.bincount(part.targets, minlength=10) / len(part)
        assert float(share.min()) > 0.08
        assert float(share.max()) < 0.125


@pytest.mark.parametrize("layout", ["", "mnist", "MNIST/raw", "raw"])
@pytest.mark.parametrize("compress", [True, False])
def test_layouts(nowhere: Path, layout: str, compress: bool) -> None:
    write_small(nowhere / "root" / layout, first_pixel=7, compress=compress)
    train, test = mnist.load(nowhere / "root")
    assert train.targets.tolist() == [1, 2, 3]
    assert test.targets.tolist() == [4, 5, 6]
    assert int(train.inputs[0, 0, 0, 0]) == 7
    assert train.name == "mnist/train"


def test_the_variable_comes_before_the_clone_and_the_clone_before_the_cache(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> int:
        return int(mnist.load()[0].inputs[0, 0, 0, 0])

    write_small(nowhere / "home" / ".cache" / "epigram" / "MNIST" / "raw", first_pixel=3)
    assert found() == 3
    write_small(nowhere / "clone" / "mnist", first_pixel=2)
    monkeypatch.setattr(places, "clone_data", lambda: [nowhere / "clone"])
    assert found() == 2
    write_small(nowhere / "variable" / "mnist", first_pixel=1)
    monkeypatch.setenv("EPIGRAM_DATA", str(nowhere / "variable"))
    assert found() == 1
    write_small(nowhere / "argument", first_pixel=0)
    assert int(mnist.load(nowhere / "argument")[0].inputs[0, 0, 0, 0]) == 0


def test_places_and_find(nowhere: Path) -> None:
    assert mnist.find(nowhere / "root") is None
    raw = write_small(nowhere / "root" / "MNIST" / "raw")
    assert mnist.find(nowhere / "root") == raw
    assert raw in mnist.places(nowhere / "root")
    assert mnist.find() is None
    assert nowhere / "home" / ".cache" / "epigram" / "mnist" in mnist.places()


def test_nowhere_lists_where_it_looked(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPIGRAM_DATA", str(nowhere / "variable"))
    with pytest.raises(DataError, match="torchvision, which could download it") as caught:
        mnist.load()
    for place in ("variable/mnist", "variable/MNIST/raw", "home/.cache/epigram"):
        assert str(nowhere / place) in str(caught.value)


def test_a_named_root_without_the_files_is_not_passed_over(nowhere: Path) -> None:
    write_small(nowhere / "home" / ".cache" / "epigram" / "mnist")
    partial = write_small(nowhere / "partial")
    (partial / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=str(partial)):
        mnist.load(partial)


def test_downloads_with_torchvision(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool, bool]] = []

    def fake(root: str, *, train: bool, download: bool) -> SimpleNamespace:
        asked.append((root, train, download))
        if not train:
            write_small(Path(root) / "MNIST" / "raw")
        return SimpleNamespace()

    module = ModuleType("torchvision.datasets")
    module.MNIST = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)
    assert len(mnist.load(nowhere / "root")[0]) == 3
    assert asked == [(str(nowhere / "root"), True, True), (str(nowhere / "root"), False, True)]


def test_a_failed_download_is_a_clear_line(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(*_: object, **__: object) -> None:
        raise RuntimeError("no network")

    module = ModuleType("torchvision.datasets")
    module.MNIST = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)
    with pytest.raises(DataError, match="the download failed: no network"):
        mnist.load()


@pytest.mark.parametrize(
    ("stem", "content", "message"),
    [
        ("train-labels-idx1-ubyte", idx(torch.tensor([1, 10, 3])), "example 1 has label 10"),
        ("train-labels-idx1-ubyte", idx(torch.tensor([1, 2])), "3 inputs and 2 targets"),
        (
            "train-labels-idx1-ubyte",
            idx(torch.ones(3, 1).int()),
            r"expected uint8 of shape \(examples,",
        ),
        ("train-images-idx3-ubyte", idx(torch.zeros(3, 28, 27).int()), r"shape \(3, 28, 27\)"),
        ("train-images-idx3-ubyte", b"\1\2\3\4", "not an IDX file"),
        ("t10k-images-idx3-ubyte", idx(torch.zeros(3, 28, 28).int())[:-1], "truncated"),
    ],
)
def test_damaged_files(nowhere: Path, stem: str, content: bytes, message: str) -> None:
    folder = write_small(nowhere / "root")
    (folder / stem).write_bytes(content)
    with pytest.raises(DataError, match=message):
        mnist.load(folder)
