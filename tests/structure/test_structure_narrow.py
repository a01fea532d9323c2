"""Attention that takes a head's width from its input: heads leave, and ``forward`` is read another way."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from epigram.artifact import load, save
from epigram.records import FileContents, RawTensor, Structure
from epigram.structure import (
    analyse,
    mask_units,
    rebase,
    remove_units,
    resize_to_shapes_,
    set_attributes_,
    slice_plan,
    verify_removal,
)
from epigram.structure.narrow import Count, NarrowForward

pytestmark = pytest.mark.filterwarnings("ignore")


class FromInput(nn.Module):
    """All that gets in the way: C in both reshapes, and in the factor before the softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 4
        self.qkv, self.proj = nn.Linear(24, 72), nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, c // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q = q * (c // self.num_heads) ** -0.5
        heads = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(heads.transpose(1, 2).reshape(b, n, c))


def swin(*, second: bool) -> nn.Module:
    from torchvision.models import swin_transformer as t

    block, merging = t.SwinTransformerBlock, t.PatchMerging
    if second:
        block, merging = t.SwinTransformerBlockV2, t.PatchMergingV2
    return t.SwinTransformer(
        [4, 4], 8, [1, 1], [4, 8], [4, 4], 1.0, 0.0, 0.0, 0.0, 3, None, block, merging
    )


def cait() -> nn.Module:
    from timm.models.cait import Cait

    return Cait(img_size=16, patch_size=8, embed_dim=12, depth=1, num_heads=3, num_classes=3)


def convit() -> nn.Module:
    from timm.models.convit import ConVit

    return ConVit(
        img_size=16,
        patch_size=8,
        embed_dim=12,
        depth=2,
        num_heads=3,
        num_classes=3,
        local_up_to_layer=1,
    )


def tokens() -> Tensor:
    return torch.randn(2, 7, 24).double()


def images(side: int) -> Tensor:
    return torch.randn(2, 3, side, side).double()


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], dict[str, int]]] = {
    "by hand": (FromInput, tokens, {"qkv": 4}),
    "torchvision swin": (
        lambda: swin(second=False),
        lambda: images(32),
        {"features.1.0.attn.qkv": 4, "features.3.0.attn.qkv": 8},
    ),
    "torchvision swin v2": (
        lambda: swin(second=True),
        lambda: images(32),
        {"features.1.0.attn.cpb_mlp.2": 4, "features.3.0.attn.cpb_mlp.2": 8},
    ),
    "timm cait": (
        cait,
        lambda: images(16),
        {"blocks.0.attn.qkv": 3, "blocks_token_only.0.attn.q": 3},
    ),
    "timm convit": (convit, lambda: images(16), {"blocks.0.attn.qk": 3, "blocks.1.attn.qkv": 3}),
}


def built(case: str) -> tuple[nn.Module, Callable[[], Tensor]]:
    build, example, _ = CASES[case]
    torch.manual_seed(0)
    model = build().double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.0, 0.3)
    return model, example


def masks(structure: Structure) -> dict[str, np.ndarray]:
    """The first stays, one leaves of some groups and two of others."""
    return {
        g.name: (np.arange(g.units) == 0) | (np.arange(g.units) > 1 + i % 2)
        for i, g in enumerate(structure.groups)
    }


@pytest.mark.parametrize("case", CASES)
def test_heads_leave_exactly(case: str) -> None:
    model, example = built(case)
    structure = analyse(model, example())
    found = {g.name: g.units for g in structure.groups}
    assert {name: found.get(name) for name in CASES[case][2]} == CASES[case][2]
    keep = masks(structure)
    plan = slice_plan(structure, keep)
    small, masked = remove_units(model, plan), mask_units(model, structure, keep)
    fresh = example()
    assert verify_removal(small, masked, fresh, tolerance=1e-10) <= 1e-10
    torch.testing.assert_close(small.train()(fresh), masked.train()(fresh), rtol=0, atol=1e-10)
    assert (small.eval()(fresh) - model(fresh)).abs().max() > 1e-6
    narrow = [m for m in small.modules() if isinstance(m, NarrowForward)]
    own = {m for m in model.modules() if isinstance(m, tuple(type(n).__mro__[2] for n in narrow))}
    assert len(narrow) == len(own) >= len(CASES[case][2])
    assert not [m for m in model.modules() if isinstance(m, NarrowForward)]
    assert all(int(n.num_heads) < n.whole_numbers["num_heads"] for n in narrow)  # type: ignore[attr-defined]


@pytest.mark.parametrize("case", CASES)
def test_it_trains_on_and_comes_back_from_disk(case: str, tmp_path: Path) -> None:
    model, example = built(case)
    structure = analyse(model, example())
    plan = slice_plan(structure, masks(structure))
    small, fresh = remove_units(model, plan), example()
    before = small(fresh).detach()
    optimiser = torch.optim.SGD(small.parameters(), lr=1e-3)
    small.train()(fresh).square().mean().backward()
    optimiser.step()
    small.eval()
    after = small(fresh).detach()
    assert after.square().mean() < before.square().mean()

    restored = copy.deepcopy(model)
    shapes = {name: tuple(t.shape) for name, t in small.state_dict().items()}
    resize_to_shapes_(restored, shapes, plan.attributes)
    restored.load_state_dict(small.state_dict())
    torch.testing.assert_close(restored(fresh), after, rtol=0, atol=0)

    file = io.BytesIO()
    torch.save(small, file)
    file.seek(0)
    pickled = torch.load(file, weights_only=False)
    torch.testing.assert_close(pickled(fresh), after, rtol=0, atol=0)

    from_file = small_from_file(small, model, tmp_path / "small.epg")
    set_attributes_(from_file, plan.attributes)
    torch.testing.assert_close(from_file.double()(fresh), after, rtol=0, atol=1e-4)


def small_from_file(small: nn.Module, model: nn.Module, path: Path) -> nn.Module:
    """Through a file of single precision; the numbers of modules are not in it."""
    dense = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    tensors = tuple(
        RawTensor(name, dense[name], (t.float() if t.is_floating_point() else t).numpy())
        for name, t in small.float().state_dict().items()
    )
    save(FileContents(tensors), path)
    return load(path, into=copy.deepcopy(model).float())


@pytest.mark.parametrize("case", ["by hand", "torchvision swin"])
def test_it_is_exported_for_any_number_of_examples(case: str) -> None:
    model, example = built(case)
    structure = analyse(model, example())
    small = remove_units(model, slice_plan(structure, masks(structure)))
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(small, (example(),), dynamic_shapes=({0: batch},)).module()
    fresh = torch.cat([example(), example()])[:3]
    torch.testing.assert_close(exported(fresh), small(fresh), rtol=0, atol=1e-12)


def test_what_belongs_to_heads_goes_with_them() -> None:
    model, example = built("torchvision swin v2")
    group = analyse(model, example()).group("features.1.0.attn.cpb_mlp.2")
    at = "features.1.0.attn."
    members = {(m.tensor.removeprefix(at), m.axis): m.index for m in group.members}
    rows = np.stack([np.arange(8).reshape(4, 2) + 8 * part for part in range(3)], 1).reshape(4, 6)
    np.testing.assert_array_equal(members["qkv.weight", 0], rows)
    np.testing.assert_array_equal(members["qkv.bias", 0], rows)
    np.testing.assert_array_equal(members["proj.weight", 1], np.arange(8).reshape(4, 2))
    np.testing.assert_array_equal(members["logit_scale", 0], np.arange(4)[:, None])
    np.testing.assert_array_equal(members["cpb_mlp.2.weight", 0], np.arange(4)[:, None])


def test_removed_twice_a_head_is_still_as_wide() -> None:
    model, example = built("by hand")
    structure = analyse(model, example())
    first = {"qkv": np.array([True, False, True, True])}
    small = remove_units(model, slice_plan(structure, first))
    second = {"qkv": np.array([False, True, True])}
    smaller = remove_units(small, slice_plan(rebase(structure, first), second))
    masked = mask_units(model, structure, {"qkv": np.array([False, False, True, True])})
    assert verify_removal(smaller, masked, example(), tolerance=1e-12) <= 1e-12
    assert {g.name: g.units for g in analyse(small, example()).groups} == {"qkv": 3}


def test_classes_stay_where_numbers_suffice() -> None:
    """timm's first Swin says -1 for the width."""
    from timm.models.swin_transformer import WindowAttention

    torch.manual_seed(0)
    model = nn.Sequential(WindowAttention(12, 3, window_size=3), nn.Linear(12, 2)).double()
    x = torch.randn(2, 9, 12).double()
    structure = analyse(model, x)
    keep = {"0.qkv": np.array([True, False, True])}
    small = remove_units(model, slice_plan(structure, keep))
    assert type(small[0]) is WindowAttention
    verify_removal(small, mask_units(model, structure, keep), torch.randn(2, 9, 12).double())


def test_a_forward_that_stays_wrong_is_left_whole() -> None:
    """The width of a head is no longer that of the input shared out evenly."""

    class Twice(FromInput):
        def forward(self, x: Tensor) -> Tensor:
            b, n, c = x.shape
            heads = self.qkv(x).reshape(b, n, -1, c // 4)
            return self.proj(heads[:, :, :4].reshape(b, n, c)) * self.num_heads

    torch.manual_seed(0)
    structure = analyse(nn.Sequential(Twice(), nn.Linear(24, 2)).double(), tokens())
    assert not [g for g in structure.groups if g.name == "0.qkv"]


def test_what_fits_is_not_touched() -> None:
    model, example = built("by hand")
    structure = analyse(model, example())
    keep = {"qkv": np.array([True, True, True, False])}
    small = remove_units(model, slice_plan(structure, keep))
    small.proj = nn.Linear(17, 24).double()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        small(example())


def test_a_width_is_divided_by_what_a_count_was() -> None:
    heads = Count(3, 4)
    assert (24 // heads, 24 / heads, 24 % heads, 2 * heads, heads * 2) == (6, 6.0, 0, 6, 6)
    assert 24 % Count(3, 5) == 4
    twin = copy.deepcopy(heads)
    assert (twin, twin.whole) == (3, 4)
