"""A network in general position: random weights, random inputs, double precision where possible.

And the same network hollow: its tensors on the meta device, where a forward pass has shapes but no
values. What fails there for its shapes costs a few milliseconds instead of the work of all layers.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from epigram.structure.copying import WithoutGraph, copied, fresh
from epigram.structure.drawn import says_little, ways_to_draw
from epigram.structure.softmax import one_place_only
from epigram.structure.trace import check_call, evaluating, named_tensors
from epigram.structure.weights import PLACES, draw_weights_

if TYPE_CHECKING:
    from torch import Tensor, nn

_SEED = 20170224
_LARGE = 200_000_000
"""More parameters than this are tried in their own precision, to spare memory."""
_LIGHT_FLOPS = 500_000_000
_LEAST_WIDTH, _LEAST_LENGTH = 48, 16
_TINY = 1e-150


@dataclass(frozen=True, eq=False)
class Subject:
    """What trials are made on.

    Attributes:
        network: a calm copy in general position.
        inputs: what it is called with, as little as it takes.
        operations: floating-point operations of such a call.
        empty: the copy :func:`hollow`; None where there is none, or a call with values costs no more.
        blind: the inputs may hide what attention does (one position, or the same at all).
    """

    network: nn.Module
    inputs: tuple[Any, ...]
    operations: int
    empty: nn.Module | None
    blind: bool


def for_trials(model: nn.Module, inputs: tuple[Any, ...]) -> Subject:
    """A copy of the network that trials can be made on."""
    network, inputs = in_general_position(model, inputs)
    empty = hollow(network, inputs)
    inputs, operations = lighter(network, inputs, empty)
    calm_(network, inputs)
    shapes = (network, inputs) if empty is None else (empty, without_values(inputs))
    blind = says_little(inputs) or one_place_only(*shapes)
    empty = empty if operations > _LIGHT_FLOPS else None
    return Subject(network, inputs, operations, empty, blind)


def hollow(network: nn.Module, inputs: tuple[Any, ...]) -> nn.Module | None:
    """A copy whose tensors are on the meta device; None where it cannot run there.

    Forward passes that look at values, or make tensors on the CPU whatever they are given, cannot.
    """
    memo: dict[int, Any] = {id(t): t.to("meta") for t in named_tensors(network).values()}
    memo |= {
        id(p): torch.nn.Parameter(memo[id(p)], requires_grad=False) for p in network.parameters()
    }
    try:
        with WithoutGraph():
            empty = copy.deepcopy(network, memo)
    except Exception:  # noqa: BLE001 - modules may copy themselves in any way
        return None
    return empty if _outputs(empty, without_values(inputs)) is not None else None


def without_values(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The shapes of these inputs, on the meta device."""
    empty: tuple[Any, ...] = pytree.tree_map(
        lambda x: x.to("meta") if isinstance(x, torch.Tensor) else x, inputs
    )
    return empty


def calm_(network: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Scale the weights of each layer so that it puts out numbers of about one, in place.

    Otherwise scales multiply from layer to layer, and a deep network makes so much of rounding that a
    removal that is exact looks as if it were not.
    """

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if module in settled or not isinstance(output, torch.Tensor):
            return None
        settled.add(module)
        size = float(output.square().mean().sqrt()) if output.is_floating_point() else 0.0
        if not _TINY < size < 1.0 / _TINY:
            return None
        for parameter in module.parameters(recurse=False):
            if parameter.is_floating_point():
                parameter.data.div_(size)
        return module.forward(*args, **kwargs)

    settled: set[nn.Module] = set()
    with contextlib.ExitStack() as stack:
        for module in network.modules():
            weight = module._parameters.get("weight")  # noqa: SLF001 - some classes compute their weight
            if weight is not None and weight.dim() > 1 and not list(module.children()):
                handle = module.register_forward_hook(hook, with_kwargs=True)
                stack.callback(handle.remove)
        _outputs(network, inputs)


def in_general_position(
    model: nn.Module, inputs: tuple[Any, ...]
) -> tuple[nn.Module, tuple[Any, ...]]:
    """A copy with random weights, and random inputs of the same shapes where it accepts them.

    Where it puts out no numbers then (the root of a parameter), its weights keep their signs, or are near
    what they are.

    Raises:
        UnsupportedModelError: it cannot be copied, or does not run with random weights.
    """
    generator = torch.Generator().manual_seed(_SEED)
    first: tuple[nn.Module, tuple[Any, ...]] | None = None
    for place in PLACES:
        network = copied(model).requires_grad_(False)
        draw_weights_(network, place, generator)
        ways = ways_to_draw(network, inputs, generator)
        found = _that_runs(network, ways)
        if found is not None:
            return found
        first = first or (network, ways[-1])
    assert first is not None
    check_call(*first, how="with random weights, as removals are tried, ")
    return first


def _that_runs(
    network: nn.Module, ways: list[tuple[Any, ...]]
) -> tuple[nn.Module, tuple[Any, ...]] | None:
    """The network, in double precision where possible, and the first of the inputs on which it puts out numbers."""
    if sum(parameter.numel() for parameter in network.parameters()) <= _LARGE:
        with contextlib.suppress(TypeError, RuntimeError):  # some devices have no double precision
            double = copied(network).double()
            for given in map(doubled, ways):
                if _runs(double, given):
                    return double, given
    return next(((network, given) for given in ways if _runs(network, given)), None)


def lighter(
    network: nn.Module, inputs: tuple[Any, ...], empty: nn.Module | None = None
) -> tuple[tuple[Any, ...], int]:
    """Fewer examples, smaller maps or shorter sequences, where a forward pass is long and takes them.

    A network that insists on a size (``view(-1, 800)``, a table of positions) keeps it. ``empty`` is
    the network :func:`hollow`: operations are counted on it, and inputs it refuses are not tried.

    Returns:
        The inputs, and the floating-point operations of a forward pass on them.
    """
    operations = flops(network, inputs, empty)
    for change in (_one_example, _half_as_wide, _half_as_wide, _half_as_long, _half_as_long):
        if operations <= _LIGHT_FLOPS:
            break
        changed = tuple(change(x) for x in inputs)
        if not _same_shapes(changed, inputs) and _takes(network, changed, empty):
            inputs, operations = changed, flops(network, changed, empty)
    return inputs, operations


def flops(network: nn.Module, inputs: tuple[Any, ...], empty: nn.Module | None = None) -> int:
    """Floating-point operations of one forward pass: counted, not timed, so alike on all machines."""
    if empty is not None:
        network, inputs = empty, without_values(inputs)
    with FlopCounterMode(display=False) as counter, evaluating(network):
        network(*fresh(inputs))
    return int(counter.get_total_flops())


def _takes(network: nn.Module, inputs: tuple[Any, ...], empty: nn.Module | None) -> bool:
    if empty is not None and _outputs(empty, without_values(inputs)) is None:
        return False
    return _runs(network, inputs)


def _same_shapes(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> bool:
    a, b = (
        [x.shape for x in pytree.tree_leaves(given) if isinstance(x, torch.Tensor)]
        for given in (ours, theirs)
    )
    return a == b


def _one_example(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(x, torch.Tensor) and x.dim() < 4 for x in value):
        return value[:1]
    batch = isinstance(value, torch.Tensor) and value.dim() > 1
    return value[:1] if batch else value


def _half_as_wide(value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or value.dim() < 4:
        return value
    for axis in range(2, value.dim()):
        if value.shape[axis] >= 2 * _LEAST_WIDTH:
            value = value.narrow(axis, 0, value.shape[axis] // 2)
    return value.contiguous()


def _half_as_long(value: Any) -> Any:
    sequence = isinstance(value, torch.Tensor) and value.dim() in (2, 3)
    long = sequence and value.shape[1] >= 2 * _LEAST_LENGTH and not value.is_floating_point()
    return value[:, : value.shape[1] // 2].contiguous() if long else value


def doubled(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs, their floating-point tensors in double precision."""

    def double(value: Any) -> Any:
        floating = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.double() if floating else value

    found: tuple[Any, ...] = pytree.tree_map(double, inputs)
    return found


def _runs(network: nn.Module, inputs: tuple[Any, ...]) -> bool:
    """Does it put out numbers, all of them finite?"""
    tensors = _outputs(network, inputs) or []
    finite = all(bool(torch.isfinite(t).all()) for t in tensors)
    return finite and any(t.numel() for t in tensors)


def _outputs(network: nn.Module, inputs: tuple[Any, ...]) -> list[Tensor] | None:
    """The tensors it returns; None if it raises."""
    try:
        with evaluating(network), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            leaves = pytree.tree_leaves(network(*fresh(inputs)))
    except Exception:  # noqa: BLE001 - forward is the user's, it may raise anything
        return None
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
