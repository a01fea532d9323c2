"""torch's own quantisation to int8 after training, and its file."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Sequence
from types import MethodType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.recipes.residual import BasicBlock


def quantised(model: nn.Module, batches: Sequence[Tensor]) -> nn.Module:
    """Weights by channel and activations in int8, their ranges from a few preprocessed batches.

    Args:
        model: a ``CifarResNet`` with all its channels, its shortcuts' zeros after them.
        batches: of preprocessed inputs.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that another package will take this over
        from torch.ao.quantization import get_default_qconfig_mapping
        from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

        for block in model.modules():
            if isinstance(block, BasicBlock):
                _fix_shortcut_(block)
        ready = prepare_fx(model.eval(), get_default_qconfig_mapping("x86"), (batches[0],))
        with torch.no_grad():
            for batch in batches:
                ready(batch)
        found: nn.Module = convert_fx(ready)
    return found


def zipped(model: nn.Module) -> bytes:
    """The state dict as torch saves it, deflated."""
    saved, packed = io.BytesIO(), io.BytesIO()
    torch.save(model.state_dict(), saved)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("model.pt", saved.getvalue())
    return packed.getvalue()


def _fix_shortcut_(block: BasicBlock) -> None:
    """Say the shortcut with constants: torch's tracer cannot ask a size."""
    missing = block.conv1.out_channels - block.conv1.in_channels

    def shortcut(self: BasicBlock, x: Tensor, y: Tensor) -> Tensor:
        del y
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, missing)) if missing else x

    block._shortcut = MethodType(shortcut, block)  # type: ignore[method-assign]  # noqa: SLF001
