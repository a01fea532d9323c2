"""The data set in memory: what it accepts, what it refuses, what its fingerprint sees."""

from __future__ import annotations

import hashlib
import pickle
import struct

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from epigram.data import TensorSet
from epigram.errors import DataError


def digits(examples: int = 6) -> TensorSet:
    images = torch.arange(examples * 4, dtype=torch.uint8).view(examples, 1, 2, 2)
    return TensorSet(images, torch.arange(examples) % 3, "digits", num_classes=3)


def test_keeps_uint8_images_and_makes_labels_int64() -> None:
    data = TensorSet(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.ones(3, dtype=torch.uint8))
    assert data.inputs.dtype == torch.uint8
    assert data.targets.dtype == torch.int64
    assert len(data) == 3


def test_float_targets_stay_float() -> None:
    assert TensorSet(torch.zeros(3, 2), torch.zeros(3, 4)).targets.dtype == torch.float32


def test_subset_by_integers_mask_slice_and_array() -> None:
    data = digits()
    for index in ([4, 1], torch.tensor([4, 1]), np.array([4, 1])):
        part = data.subset(index, name="part")
        assert torch.equal(part.inputs, data.inputs[[4, 1]])
        assert part.targets.tolist() == [1, 1]
        assert part.name == "part"
    mask = torch.tensor([True, False, False, True, False, False])
    assert torch.equal(data.subset(mask).inputs, data.inputs[[0, 3]])
    assert torch.equal(data.subset(slice(1, None, 2)).inputs, data.inputs[1::2])


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([6], "index 6 is outside"),
        ([-1], "index -1 is outside"),
        ([], "empty"),
        (torch.zeros(6, dtype=torch.bool), "empty"),
        (torch.ones(5, dtype=torch.bool), "mask of shape"),
        ([0.5], "row of integers"),
        ([[0]], "row of integers"),
    ],
)
def test_subset_refuses(index: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        digits().subset(index)  # type: ignore[arg-type]


def test_fingerprint_is_sha256_of_types_shapes_and_contents() -> None:
    data = TensorSet(torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8), torch.tensor([7, 8]))
    expected = hashlib.sha256(
        b"torch.uint8 (2, 2)\n" + bytes([1, 2, 3, 4]) + b"torch.int64 (2,)\n"
        + struct.pack("<2q", 7, 8)
    )  # fmt: skip
    assert data.fingerprint() == expected.hexdigest()


def test_fingerprint_sees_contents_shape_type_and_order_but_not_the_name() -> None:
    x, y = torch.arange(8, dtype=torch.uint8).view(4, 2), torch.arange(4)
    changed = x.clone()
    changed[3, 1] += 1
    prints = [
        TensorSet(x, y).fingerprint(),
        TensorSet(changed, y).fingerprint(),
        TensorSet(x.view(4, 2, 1), y).fingerprint(),
        TensorSet(x.to(torch.int16), y).fingerprint(),
        TensorSet(x.flip(0), y.flip(0)).fingerprint(),
        TensorSet(x, y.flip(0)).fingerprint(),
    ]
    assert len(set(prints)) == len(prints)
    assert TensorSet(x.clone(), y, "another name").fingerprint() == prints[0]
    transposed = x.T.contiguous().T  # the same numbers, laid out differently
    assert TensorSet(transposed, y).fingerprint() == prints[0]


def test_fingerprint_is_computed_once_and_survives_moving_and_pickling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = digits()
    first = data.fingerprint()
    monkeypatch.setattr(hashlib, "sha256", None)
    assert data.fingerprint() == first
    assert data.to("cpu") is data
    moved = data.to("meta")
    assert moved.fingerprint() == first
    assert moved.num_classes == 3
    assert pickle.loads(pickle.dumps(data)).fingerprint() == first


def test_bfloat16_has_a_fingerprint() -> None:
    data = TensorSet(torch.ones(2, 3, dtype=torch.bfloat16), torch.zeros(2))
    assert len(data.fingerprint()) == 64


@pytest.mark.parametrize(
    ("inputs", "targets", "num_classes", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(2), None, "3 inputs and 2 targets"),
        (torch.zeros(0, 2), torch.zeros(0), None, "no examples"),
        (torch.tensor(1.0), torch.zeros(1), None, "scalar"),
        (torch.zeros(3, 2), torch.tensor([0, 3, 1]), 3, "example 1 has label 3, expected 0 to 2"),
        (torch.zeros(3, 2), torch.tensor([0, 1, -1]), 3, "example 2 has label -1"),
        (torch.zeros(3, 2), torch.zeros(3), 3, "expected integer class labels"),
    ],
)
def test_refuses(inputs: Tensor, targets: Tensor, num_classes: int | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TensorSet(inputs, targets, "bad", num_classes)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_refuses_what_is_not_finite_and_says_where(value: float, dtype: torch.dtype) -> None:
    inputs = torch.zeros(5000, 2, 3, dtype=dtype)  # beyond the first block that is checked
    inputs[4321, 1, 2] = value
    inputs[4700, 0, 0] = value
    with pytest.raises(DataError, match=f"pixels.inputs: example 4321 holds {value}"):
        TensorSet(inputs, torch.zeros(5000), "pixels")


def test_refuses_nan_targets() -> None:
    with pytest.raises(DataError, match=r"targets: example 1 holds nan"):
        TensorSet(torch.zeros(2, 2), torch.tensor([0.0, float("nan")]))


def test_finite_numbers_whose_sum_overflows_are_accepted() -> None:
    assert len(TensorSet(torch.full((4, 4), 3e38), torch.zeros(4))) == 4


# --- TensorSet.of -----------------------------------------------------------------------------


class Pairs:
    """A map-style data set from a list."""

    def __init__(self, items: list[object]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> object:
        return self.items[index]


def test_of_a_set_is_the_set() -> None:
    data = digits()
    assert TensorSet.of(data) is data
    assert TensorSet.of(data, num_classes=3) is data
    assert TensorSet.of(data, num_classes=10).num_classes == 10
    with pytest.raises(DataError, match="label 2"):
        TensorSet.of(data, num_classes=2)


@pytest.mark.parametrize("kind", ["tuple", "arrays", "dataset", "map-style", "list of pairs"])
def test_of_takes_what_people_have(kind: str) -> None:
    x, y = torch.arange(12, dtype=torch.uint8).view(3, 4), torch.tensor([2, 0, 1])
    items: list[object] = [(x[i], int(y[i])) for i in range(3)]
    data = {
        "tuple": (x, y),
        "arrays": (x.numpy(), y.numpy()),
        "dataset": TensorDataset(x, y),
        "map-style": Pairs(items),
        "list of pairs": items,
    }[kind]
    made = TensorSet.of(data, name="made", num_classes=3)
    assert torch.equal(made.inputs, x)
    assert torch.equal(made.targets, y)
    assert made.name == "made"


def test_of_two_examples_is_not_taken_for_inputs_and_targets() -> None:
    made = TensorSet.of([(torch.zeros(3), 1), (torch.ones(3), 0)])
    assert made.inputs.shape == (2, 3)
    assert made.targets.tolist() == [1, 0]


class Endless(IterableDataset):  # type: ignore[type-arg]
    def __iter__(self):  # type: ignore[no-untyped-def]
        yield torch.zeros(1), 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Pairs([(torch.zeros(2), 0), (torch.zeros(3), 0)]), r"input of item 1 .*shape \(3,\)"),
        (Pairs([(torch.zeros(2), 0), (torch.zeros(2), 0.5)]), "target of item 1 is torch.float32"),
        (Pairs([(torch.zeros(2), 0), torch.zeros(2)]), "item 1 is torch.Tensor, expected a pair"),
        (Pairs([{"img": 0, "label": 1}]), "item 0 is dict, expected a pair"),
        (Pairs([("abc", 0)]), "input of item 0 is str"),
        (Pairs([]), "no examples"),
        ((torch.zeros(2), torch.zeros(2), torch.zeros(2)), "3 tensors, expected two"),
        (Endless(), "got Endless"),
        (DataLoader([(torch.zeros(1), 0)]), "pass its `.dataset`"),  # type: ignore[arg-type]
        (7, "got int"),
    ],
)
def test_of_refuses(data: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TensorSet.of(data, name="bad")


def test_of_a_picture_names_the_remedy() -> None:
    image = pytest.importorskip("PIL.Image").new("L", (2, 2))
    with pytest.raises(DataError, match="PILToTensor"):
        TensorSet.of(Pairs([(image, 0)]))
