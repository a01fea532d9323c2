"""Run a traced graph on labels and collect what it says about the model's tensors."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch._ops import HigherOrderOperator, OpOverload
from torch.utils import _pytree as pytree

from epigram.structure import settle
from epigram.structure.call import (
    Call,
    Value,
    Weight,
    module_of,
    modules_of,
    opaque_like,
    operation_name,
)
from epigram.structure.labels import INPUT, Cause, LabelSpace
from epigram.structure.notes import Movement, Product, Use
from epigram.structure.rules import find_rule
from epigram.structure.rules.opaque import pin_everything

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from torch import Tensor
    from torch.fx import Node

    from epigram.records import Role
    from epigram.structure.trace import Traced

_OUTPUT = Cause("output", "forward", "it is the network's output", natural=True)
_ANOTHER_OUTPUT = Cause("output", "forward", "it is an output that the network has in train() only")


class Propagation:
    """The run of one graph on labels; see :class:`epigram.structure.call.Engine`.

    ``trained``: the graph of train mode, where it is another. Both run on the same labels, so what
    either of them ties or pins is tied or pinned.
    ``by_places``: of heads times places it is not the heads that are units, but the places.
    ``by_stream``: units may go under the normalisations ``narrowable`` (names of modules).
    ``chooses``: sizes depend on values.
    ``whole``: layers that no tensor stands for, and why their units stay.
    """

    def __init__(
        self,
        traced: Traced,
        trained: Traced | None = None,
        *,
        by_places: bool = False,
        narrowable: Collection[str] = (),
    ) -> None:
        self.space, self.by_places = LabelSpace(), by_places
        self.by_stream, self._narrowable = bool(narrowable), frozenset(narrowable)
        self._counted: list[Tensor] = []
        self.uses: list[Use] = []
        self.movements: list[Movement] = []
        self.products: list[Product] = []
        self.whole: list[Cause] = []
        self.chooses = traced.chooses
        self._values: dict[Node, Value] = {}
        self._direct: dict[str, Tensor] = {}
        for graph in (traced,) if trained is None else (traced, trained):
            self._traced = graph
            self._follow(graph.graph_module, _ANOTHER_OUTPUT if graph.training else _OUTPUT)
        self.uses += settle.carriers(self.space, self._direct, self.uses)
        settle.make_rectangular(self.space, self._tensors())
        settle.silence(self.space, self._counted, self.uses)

    # --- what rules ask for

    def value(self, node: Node) -> Value:
        return self._values.get(node)

    def stream(self, node: Node) -> Tensor | None:
        value = self._values.get(node)
        if isinstance(value, Weight):
            return self._direct_labels(value)
        return value if isinstance(value, torch.Tensor) else None

    def constant(self, node: Node) -> Tensor | None:
        """The value of a node that depends on constants only; None for any other."""
        if node.op == "placeholder":
            value = self._traced.constants.get(node.name)
            return None if value is None else value.cpu()
        if node.op != "call_function" or not isinstance(node.target, OpOverload):
            return None
        values = {n: self.constant(n) for n in node.all_input_nodes}
        if any(v is None for v in values.values()):
            return None
        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: values[n])
        result = node.target(*args, **kwargs)
        return result.cpu() if isinstance(result, torch.Tensor) else None

    def record(
        self,
        call: Call,
        weight: Weight,
        axis: int,
        labels: Tensor,
        role: Role,
        *,
        single: bool = False,
    ) -> None:
        if weight.flipped:
            axis = 1 - axis
        if weight.start is not None:
            labels = self._in_the_whole(weight, axis, labels)
        for use in self.uses:
            if (use.tensor, use.axis) == (weight.name, axis):
                self.space.unite(use.labels, labels, call.cause(f"{weight.name} is used twice"))
                use.single = use.single and single
                if use.role == role:
                    return
        self.uses.append(Use(weight.name, axis, role, call.name, labels, single))

    def note_whole(self, cause: Cause) -> None:
        """A layer that has no tensor to delete rows from keeps its units."""
        self.whole.append(cause)

    def note_consumed(self, call: Call, labels: Tensor) -> None:
        """A product sums over these labels of one factor: zeroing them takes units out of it."""
        scaled = call.name == "scaled_dot_product_attention" and call.get("scale") is None
        self.products.append(Product(call.name, scaled, labels, single=1 in call.shape[-2:]))
        first_roots = np.unique(self.space.roots(labels))
        for use in self.uses:
            if use.role == "produces":
                found = np.isin(self.space.roots(use.labels), first_roots)
                use.consumed = found if use.consumed is None else use.consumed | found

    def note_counted(self, weight: Weight, labels: Tensor) -> bool:
        """A normalisation counts these labels; may it do so when some are not there any more?"""
        found = weight.name.rpartition(".")[0] in self._narrowable
        if found:
            self._counted.append(labels)
        return found

    def activations(self) -> Iterator[tuple[Tensor, list[str]]]:
        """The labels of every activation, and the modules it was computed in, outermost first."""
        for node, value in self._values.items():
            modules = modules_of(node)
            for labels in value if isinstance(value, list) else [value]:
                if isinstance(labels, torch.Tensor):
                    yield labels, modules

    # --- running

    @property
    def training(self) -> bool:
        """Is it the graph of train mode that runs?"""
        return self._traced.training

    def _follow(self, graph_module: torch.fx.GraphModule, output: Cause) -> None:
        """Run one graph; what it puts out stays."""
        inputs = [self._placeholder(node) for node in _placeholders(graph_module)]
        for labels in self._run(graph_module, inputs):
            if isinstance(labels, torch.Tensor):
                self.space.pin(labels, output)

    def _placeholder(self, node: Node) -> Value:
        name = self._traced.tensors.get(node.name)
        if name is not None:
            return Weight(name, self._traced.shapes[name])
        value = node.meta.get("val")
        if node.name in self._traced.constants or not isinstance(value, torch.Tensor):
            return opaque_like(value)
        return torch.tensor(INPUT).expand(tuple(value.shape))

    def _run(self, graph_module: torch.fx.GraphModule, inputs: list[Value]) -> list[Any]:
        self._values.update(zip(_placeholders(graph_module), inputs, strict=True))
        for node in graph_module.graph.nodes:
            if node.op == "call_function":
                self._values[node] = self._step(graph_module, node)
            elif node.op == "output":
                flat = pytree.tree_leaves(node.args)
                return [self._output(a) if isinstance(a, torch.fx.Node) else None for a in flat]
        return []

    def _output(self, node: Node) -> Value:
        value = self._values.get(node)
        return self._direct_labels(value) if isinstance(value, Weight) else value

    def _step(self, graph_module: torch.fx.GraphModule, node: Node) -> Value:
        if node.target is operator.getitem:
            items, index = self._values.get(node.args[0]), node.args[1]  # type: ignore[arg-type]
            return items[index] if isinstance(items, list) and isinstance(index, int) else None
        if isinstance(node.target, HigherOrderOperator):
            return self._region(graph_module, node)
        if not isinstance(node.target, OpOverload):
            return opaque_like(node.meta.get("val"))
        call = Call(self, node)
        if all(self._values.get(n) is None for n in node.all_input_nodes):
            return call.opaque()
        if node.meta.get("val") is None or call.name == "sym_size":  # an assertion, a size
            return None
        rule = find_rule(node.target, call.name)
        try:
            result = rule(call)
            if self.chooses and isinstance(result, torch.Tensor) and not result.numel():
                raise ValueError("what it keeps of a choice depends on how much was chosen")
        except Exception as error:  # noqa: BLE001 - labels may have shapes that numbers never have
            cause = call.cause(f"units cannot be followed through it ({error})")
            return pin_everything(self.space, call.streams(), node.meta.get("val"), cause)
        if rule.__module__.endswith("movement"):
            self._note_movement(call)
        return result

    def _region(self, graph_module: torch.fx.GraphModule, node: Node) -> Value:
        """A ``with torch.no_grad()`` or autocast block: its own graph, called with these arguments."""
        for position, argument in enumerate(node.args):
            if isinstance(argument, torch.fx.Node) and argument.op == "get_attr":
                body = getattr(graph_module, str(argument.target), None)
                inner = node.args[position + 1 :]
                if operation_name(node).startswith("wrap_with_") and body is not None:
                    return self._run(body, [self._argument(a) for a in inner])
        streams = [s for s in map(self.stream, node.all_input_nodes) if s is not None]
        cause = Cause(operation_name(node), module_of(node) or "forward", "it is not understood")
        return pin_everything(self.space, streams, node.meta.get("val"), cause)

    def _argument(self, argument: Any) -> Value:
        return self._values.get(argument) if isinstance(argument, torch.fx.Node) else None

    def _note_movement(self, call: Call) -> None:
        if isinstance(self._values.get(call.node.all_input_nodes[0]), Weight):
            return
        source = (call.node.meta.get("stack_trace") or "").strip().splitlines()
        last = source[-1].strip() if source else ""
        self.movements.append(Movement(call.name, call.where, last, call.subject))

    def _tensors(self) -> list[Tensor]:
        """The labels of all activations, each once, and those of tensors used by themselves."""
        tensors = {id(v): v for v in self._values.values() if isinstance(v, torch.Tensor)}
        for value in self._values.values():
            if isinstance(value, list):
                tensors.update({id(v): v for v in value if isinstance(v, torch.Tensor)})
        return list(tensors.values()) + list(self._direct.values())

    # --- labels of the model's own tensors

    def _in_the_whole(self, weight: Weight, axis: int, labels: Tensor) -> Tensor:
        """Labels along an axis of a part of a tensor, as labels along that axis of all of it."""
        if axis != 0 or weight.start is None:
            return labels
        whole = self.space.fresh(self._traced.shapes[weight.name][0])
        whole[weight.start : weight.start + len(labels)] = labels
        return whole

    def _direct_labels(self, weight: Weight) -> Tensor:
        """Labels of a tensor that forward uses by itself: one for each element."""
        if weight.name not in self._direct:
            shape = self._traced.shapes[weight.name]
            self._direct[weight.name] = self.space.fresh(torch.Size(shape).numel()).reshape(shape)
        labels = self._direct[weight.name]
        if weight.start is not None:
            rows = weight.shape[1 if weight.flipped else 0]
            labels = labels.narrow(0, weight.start, rows)
        return labels.t() if weight.flipped else labels


def _placeholders(graph_module: torch.fx.GraphModule) -> list[Node]:
    return [node for node in graph_module.graph.nodes if node.op == "placeholder"]
