"""CIFAR in every layout it is found in; the original and the JPEG copy are never taken for another."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from epigram.data import cifar
from epigram.data.cifar import CIFAR10, CIFAR10_JPEG, CIFAR100, Cifar
from epigram.data.splits import split_indices
from epigram.errors import DataError

COUNT = 10  # per batch; one of each class
RANDOM = np.random.RandomState(0)
BATCHES = {
    name: RANDOM.randint(0, 256, (COUNT, 3, 32, 32)).astype(np.uint8)
    for name in (*CIFAR10.train, CIFAR10.test)
}
LABELS = list(range(10))[::-1]


def stored(image: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(stream, kind)
    return stream.getvalue()


def write_pickled(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, images in BATCHES.items():
        table = {b"data": images.reshape(COUNT, -1), b"labels": LABELS, b"batch_label": b"x"}
        (folder / name).write_bytes(pickle.dumps(table, protocol=2))
    return folder


def write_binary(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, images in BATCHES.items():
        records = (
            bytes([one]) + image.tobytes() for one, image in zip(LABELS, images, strict=True)
        )
        (folder / f"{name}.bin").write_bytes(b"".join(records))
    return folder


def write_tables(folder: Path, kind: str = "PNG") -> Path:
    folder.mkdir(parents=True)
    for split, names in (("train", CIFAR10.train), ("test", ("test_batch",))):
        for number, name in enumerate(names):
            cells = [{"bytes": stored(image, kind), "path": None} for image in BATCHES[name]]
            table = pa.table({"img": cells, "label": LABELS})
            pq.write_table(table, folder / f"{split}-{number:05}-of-{len(names):05}.parquet")
    return folder


def write_folders(folder: Path) -> Path:
    for split, names in (("train", CIFAR10.train), ("test", ("test_batch",))):
        for name in names:
            for label, image in zip(LABELS, BATCHES[name], strict=True):
                place = folder / split / f"class{label}"
                place.mkdir(parents=True, exist_ok=True)
                (place / f"{name}.png").write_bytes(stored(image))
    return folder


@pytest.mark.parametrize(
    ("write", "layout"),
    [
        (write_pickled, ""),
        (write_pickled, "cifar10"),
        (write_pickled, "cifar-10-batches-py"),
        (write_pickled, "cifar10/cifar-10-batches-py"),
        (write_binary, "cifar-10-batches-bin"),
        (write_binary, "cifar10"),
        (write_tables, "cifar10"),
        (write_tables, "cifar10/data"),
        (write_folders, "cifar10"),
    ],
)
def test_layouts(nowhere: Path, write: Callable[[Path], Path], layout: str) -> None:
    """The same pixels, to the bit, from every form; classes in folders are sorted instead."""
    root = nowhere / "root"
    write(root / "cifar10" / layout if not layout else root / layout)
    train, test = CIFAR10.load(root)
    assert (train.name, test.name) == ("cifar10/train", "cifar10/test")
    assert train.inputs.dtype == torch.uint8
    images = np.concatenate([BATCHES[name] for name in CIFAR10.train])
    order = np.arange(len(images))
    if write is write_folders:
        order = np.argsort(np.array(LABELS * 5), kind="stable")
    np.testing.assert_array_equal(train.inputs.numpy(), images[order])
    assert train.targets.tolist() == np.array(LABELS * 5)[order].tolist()
    expected = BATCHES["test_batch"][::-1] if write is write_folders else BATCHES["test_batch"]
    np.testing.assert_array_equal(test.inputs.numpy(), expected)


def test_cifar100_takes_the_fine_labels(nowhere: Path) -> None:
    images, coarse, fine = BATCHES["test_batch"], list(range(10)), list(range(90, 100))
    for folder in ("pickled/cifar-100-python", "binary/cifar-100-binary"):
        (nowhere / folder).mkdir(parents=True)
    for split in ("train", "test"):
        table = {"data": images.reshape(COUNT, -1), "coarse_labels": coarse, "fine_labels": fine}
        content = pickle.dumps(table, protocol=2)
        (nowhere / "pickled" / "cifar-100-python" / split).write_bytes(content)
        rows = zip(coarse, fine, images, strict=True)
        binary = b"".join(bytes([c, f]) + image.tobytes() for c, f, image in rows)
        (nowhere / "binary" / "cifar-100-binary" / f"{split}.bin").write_bytes(binary)
    sets = [CIFAR100.load(nowhere / form)[0] for form in ("pickled", "binary")]
    assert sets[0].targets.tolist() == fine
    assert sets[0].fingerprint() == sets[1].fingerprint()


def test_jpeg_is_never_taken_for_the_original(nowhere: Path) -> None:
    write_tables(nowhere / "root" / "cifar10-jpeg", "JPEG")
    assert CIFAR10.find(nowhere / "root") is None
    train, _ = CIFAR10_JPEG.load(nowhere / "root")
    assert train.name == "cifar10-jpeg/train"
    (nowhere / "root" / "cifar10-jpeg").rename(nowhere / "root" / "cifar10")
    assert CIFAR10_JPEG.find(nowhere / "root") is None
    with pytest.raises(DataError, match=r"train-00000.*row 0: is stored as JPEG, expected PNG"):
        CIFAR10.load(nowhere / "root")


def test_pickled_and_binary_batches_are_no_jpeg_copy(nowhere: Path) -> None:
    write_pickled(nowhere / "root" / "cifar10-jpeg")
    assert CIFAR10_JPEG.find(nowhere / "root") is None


@pytest.mark.parametrize("which", [CIFAR10, CIFAR100, CIFAR10_JPEG], ids=lambda which: which.name)
def test_nowhere_lists_where_it_looked(nowhere: Path, which: Cifar) -> None:
    with pytest.raises(DataError, match=f"{which.name}: not found") as caught:
        which.load(nowhere / "root")
    assert str(nowhere / "root" / which.name) in str(caught.value)
    assert "EPIGRAM_DATA" in str(caught.value)


def test_splits_are_fixed_and_disjoint(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "CONTROL", 5)
    monkeypatch.setattr(cifar, "VALIDATION", 5)
    write_pickled(nowhere / "root" / "cifar10")
    splits = CIFAR10.splits(nowhere / "root")
    sizes = {name: part["examples"] for name, part in splits.describe().items()}
    assert sizes == {"fit": 40, "control": 5, "validation": 5, "test": 10}
    parts = [splits.fit, splits.control, splits.validation]
    seen = {image.numpy().tobytes() for part in parts for image in part.inputs}
    assert len(seen) == 50
    assert splits.describe() == CIFAR10.splits(nowhere / "root").describe()


def test_the_real_sets_have_40_000_images_to_fit_and_the_split_never_moves() -> None:
    assert (cifar.CONTROL, cifar.VALIDATION) == (5_000, 5_000)
    rows = split_indices(50_000, control=cifar.CONTROL, validation=cifar.VALIDATION)
    assert [len(part) for part in rows] == [40_000, 5_000, 5_000]
    assert [part[:3].tolist() for part in rows] == [[0, 1, 2], [3, 9, 24], [35, 40, 41]]


def test_downloads_the_archive_and_runs_no_pickle(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, str, str]] = []

    def fetch(url: str, folder: str, *, filename: str, md5: str) -> None:
        asked.append((url, folder, filename, md5))
        write_pickled(Path(folder) / "cifar-10-batches-py")

    remote = SimpleNamespace(url="http://x", filename="x.tar.gz", tgz_md5="1234")
    for name, content in (
        ("torchvision", {}),
        ("torchvision.datasets", {"CIFAR10": remote}),
        ("torchvision.datasets.utils", {"download_and_extract_archive": fetch}),
    ):
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    assert len(CIFAR10.load(nowhere / "root")[0]) == 50
    assert asked == [("http://x", str(nowhere / "root"), "x.tar.gz", "1234")]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"data": BATCHES["test_batch"].reshape(COUNT, -1)}, "'labels' is not a list"),
        ({"data": [1], "labels": LABELS}, "'data' is not an array"),
        ({"data": np.zeros((10, 7), np.uint8), "labels": LABELS}, "'data' is not an array"),
        ({"data": np.zeros((9, 3072), np.uint8), "labels": LABELS}, "9 images and 10 labels"),
        ({"data": np.zeros((10, 3072), np.uint8), "labels": [10] * 10}, "has label 10"),
        ({"data": np.zeros((10, 3072), np.uint8), "labels": ["1"] * 10}, "not a list of integers"),
    ],
)
def test_damaged_batches(nowhere: Path, table: dict[str, object], message: str) -> None:
    folder = write_pickled(nowhere / "root" / "cifar10")
    (folder / "data_batch_3").write_bytes(pickle.dumps(table, protocol=2))
    with pytest.raises(DataError, match=message):
        CIFAR10.load(nowhere / "root")


def test_a_truncated_binary_batch(nowhere: Path) -> None:
    folder = write_binary(nowhere / "root" / "cifar10")
    (folder / "data_batch_2.bin").write_bytes(b"\0" * 3072)
    with pytest.raises(DataError, match=r"data_batch_2.bin: has 3072 bytes, expected a multiple"):
        CIFAR10.load(nowhere / "root")


def test_other_sizes_and_other_classes_are_refused(nowhere: Path) -> None:
    folder = write_folders(nowhere / "root" / "cifar10")
    (folder / "test" / "class3" / "test_batch.png").rename(folder / "moved.png")
    (folder / "test" / "class3").rmdir()
    with pytest.raises(DataError, match=r"test: has 9 sub-folders, expected 10"):
        CIFAR10.load(nowhere / "root")
    for path in (folder / "train").rglob("*.png"):
        path.write_bytes(stored(np.zeros((3, 8, 8), np.uint8)))
    with pytest.raises(DataError, match=r"shape \(3, 8, 8\), expected \(3, 32, 32\)"):
        CIFAR10.load(nowhere / "root")
