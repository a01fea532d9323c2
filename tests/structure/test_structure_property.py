"""Random chains: the small network is the big one whose readers see zeros, on fresh inputs."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from epigram.structure import analyse, mask_units, remove_units, slice_plan, verify_removal

READERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@st.composite
def chains(draw: st.DrawFn) -> nn.Sequential:
    """Convolutions, plain or transposed, with anything harmless between, and a linear head."""
    layers: list[nn.Module] = []
    channels = 2
    for _ in range(draw(st.integers(1, 3))):
        wide = draw(st.integers(2, 6))
        kernel = draw(st.sampled_from([1, 3]))
        kind = draw(st.sampled_from([nn.Conv2d, nn.ConvTranspose2d]))
        layers.append(kind(channels, wide, kernel, padding=kernel // 2, bias=draw(st.booleans())))
        if draw(st.booleans()):
            norm = nn.BatchNorm2d(wide)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
            layers.append(norm)
        layers.append(draw(st.sampled_from([nn.ReLU(), nn.Tanh(), nn.PReLU(wide), nn.SiLU()])))
        layers += draw(st.sampled_from([[], [nn.Dropout(0.5)], [nn.AvgPool2d(3, 1, 1)]]))
        channels = wide
    layers += [nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(channels * 4, 5), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(5, 3)).double()


def silenced(model: nn.Sequential, keep: dict[str, np.ndarray], x: Tensor) -> Tensor:
    """The model's output when every reader gets zeros for the dropped units of the layer before.

    Works on activations, layer by layer, and knows nothing of members or indices.
    """
    mask: np.ndarray | None = None
    for name, layer in model.eval().named_children():
        if isinstance(layer, READERS):
            if mask is not None:
                per_unit = torch.from_numpy(mask).repeat_interleave(x.shape[1] // len(mask))
                x = x * per_unit.reshape(1, -1, *[1] * (x.dim() - 2))
            mask = keep.get(name)
        x = layer(x)
    return x


@settings(max_examples=25)
@given(chains(), st.integers(0, 2**16))
def test_removal_is_exact_on_random_chains(model: nn.Sequential, seed: int) -> None:
    example = torch.randn(2, 2, 6, 6, dtype=torch.float64)
    structure = analyse(model, example)
    layers = [n for n, layer in model.named_children() if isinstance(layer, READERS)]
    assert [g.name for g in structure.groups] == layers[:-1]
    random = np.random.default_rng(seed)
    keep = {}
    for group in structure.groups:
        keep[group.name] = random.random(group.units) < 0.6
        keep[group.name][random.integers(group.units)] = True
    small = remove_units(model, slice_plan(structure, keep))
    fresh = torch.randn(5, 2, 6, 6, dtype=torch.float64)
    masked = mask_units(model, structure, keep)
    assert verify_removal(small, masked, fresh, tolerance=1e-10) <= 1e-10
    with torch.no_grad():
        torch.testing.assert_close(
            small.eval()(fresh), silenced(model, keep, fresh), rtol=0, atol=1e-10
        )
