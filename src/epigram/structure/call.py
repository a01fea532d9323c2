"""One operation of the graph, as a rule sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import torch
from torch._ops import OpOverload

from epigram.structure.labels import OPAQUE, Cause, LabelSpace

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.fx import Node

    from epigram.records import Role


@dataclass(frozen=True)
class Weight:
    """A parameter or buffer of the model, not yet used: its name and shape.

    ``start``: it is a part (packed queries, keys and values) that begins at this row of the whole.
    ``flipped``: a matrix seen the other way round (``weight.T``); ``shape`` is that of what is seen.
    """

    name: str
    shape: tuple[int, ...]
    start: int | None = None
    flipped: bool = False


Value: TypeAlias = "Tensor | Weight | list[Any] | None"
"""What a node holds while the graph runs on labels: labels, a weight, several of them, or nothing."""

_CHOSEN = 4
"""As many elements a choice by values takes in what runs on labels: neither one (it would be broadcast) nor odd."""

Rule: TypeAlias = "Callable[[Call], Value]"


class Engine(Protocol):
    """What a rule may ask of the propagation that runs it."""

    space: LabelSpace
    by_places: bool
    by_stream: bool

    @property
    def training(self) -> bool: ...
    def value(self, node: Node) -> Value: ...
    def stream(self, node: Node) -> Tensor | None: ...
    def constant(self, node: Node) -> Tensor | None: ...
    def record(
        self,
        call: Call,
        weight: Weight,
        axis: int,
        labels: Tensor,
        role: Role,
        *,
        single: bool = False,
    ) -> None: ...
    def note_whole(self, cause: Cause) -> None: ...
    def note_consumed(self, call: Call, labels: Tensor) -> None: ...
    def note_counted(self, weight: Weight, labels: Tensor) -> bool: ...


class Call:
    """An operation with its arguments by name (as in the operator's schema)."""

    def __init__(self, engine: Engine, node: Node) -> None:
        self.engine, self.space, self.node = engine, engine.space, node
        target = node.target
        assert isinstance(target, OpOverload)
        self.target = target
        self.name = operation_name(node)
        self.arguments: dict[str, Any] = {}
        for position, argument in enumerate(target._schema.arguments):  # noqa: SLF001 - no public way
            if position < len(node.args):
                self.arguments[argument.name] = node.args[position]
            elif argument.name in node.kwargs:
                self.arguments[argument.name] = node.kwargs[argument.name]
            elif argument.has_default_value():
                self.arguments[argument.name] = argument.default_value

    def get(self, argument: str, default: Any = None) -> Any:
        """The raw argument; ``default`` where the operation has no such argument or got None."""
        value = self.arguments.get(argument)
        return default if value is None else value

    @property
    def subject(self) -> Tensor:
        """The labels of the first tensor argument."""
        labels = self.engine.stream(self.node.all_input_nodes[0])
        assert labels is not None
        return labels

    def weight(self, argument: str) -> Weight | None:
        """The model's own tensor given for ``argument``, if it is one."""
        node = self.arguments.get(argument)
        if not isinstance(node, torch.fx.Node):
            return None
        value = self.engine.value(node)
        return value if isinstance(value, Weight) else None

    def argument(self, name: str) -> Tensor | None:
        """The labels of the tensor given for an argument, if there is one."""
        node = self.arguments.get(name)
        return self.engine.stream(node) if isinstance(node, torch.fx.Node) else None

    def streams(self) -> list[Tensor]:
        """The labels of all tensor arguments, in order."""
        found = (self.engine.stream(node) for node in self.node.all_input_nodes)
        return [labels for labels in found if labels is not None]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the (first) result."""
        value = self.node.meta["val"]
        return sizes(value[0] if isinstance(value, tuple | list) else value)

    def results(self, labels: Tensor) -> Value:
        """``labels`` for every result tensor of that shape, opaque labels for the others."""
        value = self.node.meta.get("val")
        if not isinstance(value, tuple | list):
            return labels
        return [_fitting(v, labels) for v in value]

    def opaque(self) -> Value:
        """Labels that always stay, in the shape(s) of the result(s)."""
        value = self.node.meta.get("val")
        if isinstance(value, tuple | list):
            return [opaque_like(v) for v in value]
        return opaque_like(value)

    def cause(self, reason: str) -> Cause:
        """This operation as a cause; ``reason`` continues the sentence "it stays whole because"."""
        when = ", in train()" if self.engine.training else ""
        return Cause(self.name, self.where, reason + when)

    @property
    def where(self) -> str:
        """The qualified name of the module this ran in; "forward" for the model's own."""
        return module_of(self.node) or "forward"

    def record(
        self, argument: str, axis: int, labels: Tensor, role: Role, *, single: bool = False
    ) -> None:
        """Say what the labels along one axis of a weight are; a derived tensor is pinned.

        ``single``: each index of the axis reads one number per example.
        """
        node = self.arguments.get(argument)
        if not isinstance(node, torch.fx.Node):
            return
        value = self.engine.value(node)
        if isinstance(value, Weight):
            self.engine.record(self, value, axis, labels, role, single=single)
            return
        cause = self.cause(f"its {argument} is computed in forward, not a tensor of the model")
        self.space.pin(labels, cause)
        derived = self.engine.stream(node)
        if derived is not None:
            self.space.pin(derived, cause)


def operation_name(node: Node) -> str:
    """The operator's name without overload and in-place mark: ``relu_.default`` -> ``relu``."""
    packet = getattr(node.target, "overloadpacket", None)
    name = str(getattr(packet if packet is not None else node.target, "__name__", node.target))
    return name if name.startswith("_") or not name.endswith("_") else name[:-1]


def module_of(node: Node) -> str:
    """The qualified name of the innermost module a node was traced in; "" for the model itself."""
    modules = modules_of(node)
    return modules[-1] if modules else ""


def modules_of(node: Node) -> list[str]:
    """The qualified names of all modules a node was traced in, the model itself ("") first."""
    return [str(path) for path, _ in (node.meta.get("nn_module_stack") or {}).values()]


def opaque_like(value: Any) -> Tensor | None:
    """Opaque labels in the shape of a traced value; None for what is no tensor."""
    if not isinstance(value, torch.Tensor):
        return None
    return torch.tensor(OPAQUE).expand(sizes(value))


def sizes(value: Tensor) -> tuple[int, ...]:
    """The traced shape; where sizes depend on values (``h[mask]``), that of one possible call."""
    return tuple(map(size_of, value.shape))


def size_of(size: int | torch.SymInt) -> int:
    """A traced size; one that depends on values is worked out for ``_CHOSEN`` elements chosen by each choice.

    It is never nothing: where there is no element, nothing is said about units.
    """
    if isinstance(size, int):
        return size
    expression = size.node.expr
    number = expression.subs(dict.fromkeys(expression.free_symbols, _CHOSEN))
    return max(1, int(number)) if number.is_integer else 1


def _fitting(value: Any, labels: Tensor) -> Tensor | None:
    if isinstance(value, torch.Tensor) and sizes(value) == tuple(labels.shape):
        return labels
    return opaque_like(value)
