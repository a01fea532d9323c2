"""From a network of symbols to what its file says: the smallest of the ways to say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from epigram import codec
from epigram.codec import Profile
from epigram.convert import CodedNetwork, CodedParameter
from epigram.pipeline.idle import idle_units, with_live, without_live, without_units
from epigram.quantize import told_finely
from epigram.records import BoolArray, CodedTensor, FileContents, GroupEdit, RawTensor
from epigram.structure import (
    SizedStructure,
    analyse,
    followed_numbers,
    state_tensors,
    why_not_exact,
)

COUNTER = "num_batches_tracked"


@dataclass(frozen=True, eq=False)
class Shaped:
    """What stays the same while the symbols change.

    Attributes:
        structure: of the network that is trained.
        dense_shapes: of the original's tensors, by name, in order.
        dense_kept: group -> which of the original's units the trained network has; absent = all.
        example: what the network is called with.
        profile: of the file.
        recipe: goes into the metadata of a named file.
    """

    structure: SizedStructure
    dense_shapes: Mapping[str, tuple[int, ...]]
    dense_kept: Mapping[str, BoolArray]
    example: Tensor
    profile: Profile
    recipe: str

    @classmethod
    def of(
        cls,
        network: nn.Module,
        *,
        dense_shapes: Mapping[str, tuple[int, ...]],
        dense_kept: Mapping[str, BoolArray],
        example: Tensor,
        profile: Profile,
        recipe: str,
    ) -> Shaped:
        """Analyse a plain network; one that cannot be analysed keeps its units."""
        structure = analyse(network, example, on_failure="leave")
        return cls(structure, dense_shapes, dense_kept, example, profile, recipe)


def contents_of(coded: CodedNetwork, shaped: Shaped) -> FileContents:
    """The smallest contents that give a reader this network.

    Idle units and dead inputs are left out where that makes the file smaller. The shapes of a smaller network take
    bytes too, so every way is measured.
    """
    network = coded.plain().cpu().eval()
    whole = _whole(coded, shaped)
    symbols = {t.name: t.symbols for t in whole.tensors if isinstance(t, CodedTensor)}
    keep = idle_units(network, shaped.structure, symbols, shaped.example)
    ways = [whole]
    some = any(not mask.all() for mask in keep.values())
    if some and not why_not_exact(network, shaped.structure, keep, (shaped.example,)):
        ways.append(without_units(whole, shaped.structure, keep))
    ways += [way(contents) for contents in tuple(ways) for way in _LIVE]
    return _smallest(ways, shaped.profile)


def _smallest(ways: Sequence[FileContents], profile: Profile) -> FileContents:
    """The contents whose file is smallest; those that a quick look finds far larger are not measured."""
    distinct = {
        tuple(
            (t.shape, None if t.live is None else t.live.tobytes())
            for t in contents.tensors
            if isinstance(t, CodedTensor)
        ): contents
        for contents in ways
    }
    rough = [(codec.size_estimate(c, profile, quick=True).total, c) for c in distinct.values()]
    near = [c for size, c in rough if size <= 1.05 * min(size for size, _ in rough) + 8]
    if len(near) == 1:
        return near[0]
    return min(near, key=lambda contents: codec.size_estimate(contents, profile).total)


_LIVE: tuple[Callable[[FileContents], FileContents], ...] = (with_live, without_live)


def _whole(coded: CodedNetwork, shaped: Shaped) -> FileContents:
    parts = coded.parameters_by_name()
    by_tensor = {id(p): parts[name] for name, p in coded.network.named_parameters()}
    state = state_tensors(coded.network, keep_vars=True)
    tensors = tuple(
        _tensor(name, tensor, by_tensor.get(id(tensor)), shaped.dense_shapes[name])
        for name, tensor in state.items()
        if not name.endswith(COUNTER)
    )
    edits = tuple(
        GroupEdit(
            group.name, np.array(shaped.dense_kept.get(group.name, np.ones(group.units, bool)))
        )
        for group in shaped.structure.groups
    )
    return FileContents(tensors, edits, {"recipe": shaped.recipe}, followed_numbers(coded.network))


def _tensor(
    name: str, tensor: Tensor, coded: CodedParameter | None, dense_shape: tuple[int, ...]
) -> CodedTensor | RawTensor:
    if coded is not None:
        live = None if coded.live is None else coded.live.reshape(-1).cpu().numpy() != 0
        return CodedTensor(
            name, dense_shape, coded.symbols(), coded.step, live, cosine=coded.cosine
        )
    values = tensor.detach().cpu()
    if not values.is_floating_point():
        return RawTensor(name, dense_shape, values.numpy())
    if bool(((values == 0) | (values == 1)).all()):
        return CodedTensor(name, dense_shape, values.to(torch.int32).numpy(), 1.0)
    return told_finely(name, dense_shape, values.double().numpy(), codec.representable_step)
