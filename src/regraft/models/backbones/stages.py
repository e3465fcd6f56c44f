"""Splitting of any model into ordered, named stages, with torch.fx.

Only the top-level forward is traced: a module whose parameters and buffers belong to at most one stage is a leaf, so
whatever is dynamic inside it (padding by size, dropout by mode, window attention) stays as its library wrote it.
"""

import copy
import itertools
import logging
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from torch import Tensor, fx, nn
from torch.nn import functional

_LOGGER = logging.getLogger(__name__)


class _SplitError(Exception):
    """The model's graph can't be ordered so that the stages follow one another."""


class _ImagesOnly(nn.Module):
    """Calls the model with images alone, so that optional arguments keep their defaults in tracing."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.model(images))


class _StageTracer(fx.Tracer):
    """Traces into a module only where it spans several stages."""

    # A buffer must be a node of the graph; otherwise arithmetic on it would become a constant.
    proxy_buffer_attributes = True

    def __init__(self, stage_of: Mapping[int, int], leaf_functions: Iterable[Callable[..., Any]]) -> None:
        super().__init__(autowrap_functions=tuple(leaf_functions))
        self._stage_of = stage_of

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if module_qualified_name == "model":
            return False
        return len({self._stage_of[id(tensor)] for tensor in _tensors(m) if id(tensor) in self._stage_of}) <= 1


def split(
    model: nn.Module,
    stages: Mapping[str, Sequence[str]],
    name: str,
    leaf_functions: Iterable[Callable[..., Any]] = (),
) -> dict[str, nn.Module]:
    """Returns the model's forward as modules to be called one after the other, by stage name.

    A stage ends where the first parameter of the next one is used; operations without parameters (a final pooling, the
    sum of a shortcut) belong to the stage before. If several values cross a boundary, they are passed as a tuple.
    Submodules are shared with `model`, under their own names; tensors that the forward never uses are left out. A model
    that can't be traced, or not split in this order, becomes the one stage `backbone`, with a warning.

    Args:
        model: maps images to features.
        stages: from the input up, the names of each stage's parameters and buffers. A buffer that belongs to no stage
            joins the stage that uses it.
        name: the model's, for the log.
        leaf_functions: functions that the model's forward calls and that can't be traced.
    """
    tensors = dict(_named_tensors(model))
    order = list(stages)
    stage_of = {id(tensors[key]): order.index(stage) for stage, keys in stages.items() for key in keys}
    try:
        graph = _trace(model, stage_of, leaf_functions)
        parts = _split(model, graph, _assign(model, graph, stage_of))
    # What tracing unknown code can raise is open-ended (TraceError, TypeError, AttributeError, ...).
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        _LOGGER.warning("%s can't be split into stages (%s); it is one stage, `backbone`.", name, reason)
        return {"backbone": model}
    unused = tensors.keys() - {key for part in parts.values() for key, _ in _named_tensors(part)}
    if unused:
        _LOGGER.info("%s: features don't depend on %s; left out.", name, ", ".join(sorted(unused)))
    return {order[index]: part for index, part in parts.items()}


def _named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return itertools.chain(module.named_parameters(), module.named_buffers())


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(module.parameters(), module.buffers())


def _trace(model: nn.Module, stage_of: Mapping[int, int], leaf_functions: Iterable[Callable[..., Any]]) -> fx.Graph:
    """Returns the graph of the top-level forward, which must be the same in training and in evaluation mode."""
    was_training = model.training
    entry = _ImagesOnly(model)
    try:
        training_graph, graph = (
            _StageTracer(stage_of, leaf_functions).trace(entry.train(mode)) for mode in (True, False)
        )
    finally:
        model.train(was_training)
    for traced in (training_graph, graph):
        _use_dropout_modules(model, traced)
    if training_graph.python_code("self").src != graph.python_code("self").src:
        raise _SplitError("its forward differs between training and evaluation")
    return graph


def _use_dropout_modules(model: nn.Module, graph: fx.Graph) -> None:
    """Puts modules, which follow their stage's mode, in the place of calls that got the mode of the tracing."""
    calls = [node for node in graph.nodes if node.op == "call_function" and node.target is functional.dropout]
    for number, node in enumerate(calls):
        probability = node.kwargs.get("p", node.args[1] if len(node.args) > 1 else 0.5)
        name = f"functional_dropout{number}"
        model.add_module(name, nn.Dropout(float(cast(float, probability))).train(model.training))
        with graph.inserting_before(node):
            node.replace_all_uses_with(graph.call_module(f"model.{name}", (node.args[0],)))
        graph.erase_node(node)


def _assign(model: nn.Module, graph: fx.Graph, stage_of: Mapping[int, int]) -> dict[fx.Node, int]:
    """Returns the stage index of each node: that of its tensors, or the one that the forward has reached."""
    claimed = dict(stage_of)
    reached = 0
    node_stages = {}
    for node in graph.nodes:
        for tensor in _tensors_of(model, node):
            stage = claimed.setdefault(id(tensor), reached)
            if stage < reached and node.op == "get_attr":
                # A parameter outside of any layer (such as a class token) belongs to the stage that uses it.
                stage = reached
            if stage < reached:
                raise _SplitError(f"{_target(node)} is used after the next stage has begun")
            reached = stage
        node_stages[node] = reached
    return node_stages


def _target(node: fx.Node) -> str:
    return str(node.target).removeprefix("model.")


def _tensors_of(model: nn.Module, node: fx.Node) -> list[Tensor]:
    if node.op == "call_module":
        return list(_tensors(model.get_submodule(_target(node))))
    if node.op == "get_attr":
        path, _, attribute = _target(node).rpartition(".")
        return [getattr(model.get_submodule(path), attribute)]
    return []


def _split(model: nn.Module, graph: fx.Graph, node_stages: Mapping[fx.Node, int]) -> dict[int, fx.GraphModule]:
    """Returns a module for each stage that has nodes, by stage index."""
    nodes = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
    result = next(node for node in graph.nodes if node.op == "output").args[0]
    assert isinstance(result, fx.Node), "features are one tensor"
    incoming = [node for node in graph.nodes if node.op == "placeholder"]
    indices = sorted({node_stages[node] for node in nodes})
    parts: dict[int, fx.GraphModule] = {}
    for index in indices:
        own = [node for node in nodes if node_stages[node] == index]
        is_last = index == indices[-1]
        outgoing = [result] if is_last else [n for n in incoming + own if _is_needed_after(n, index, node_stages)]
        parts[index] = fx.GraphModule(model, _stage_graph(incoming, own, outgoing))
        incoming = outgoing
    owned = [id(tensor) for part in parts.values() for tensor in _tensors(part)]
    if len(owned) != len(set(owned)):
        raise _SplitError("a parameter is used in two stages")
    _unshare(list(parts.values()))
    return parts


def _is_needed_after(node: fx.Node, index: int, node_stages: Mapping[fx.Node, int]) -> bool:
    return any(node_stages[user] > index or user.op == "output" for user in node.users)


def _stage_graph(incoming: list[fx.Node], own: list[fx.Node], outgoing: list[fx.Node]) -> fx.Graph:
    """Returns the graph of one stage: one argument, one result, each a tuple if several values cross the boundary."""
    graph = fx.Graph()
    argument = graph.placeholder("x")
    if len(incoming) == 1:
        copies = {incoming[0]: argument}
    else:
        copies = {node: graph.call_function(operator.getitem, (argument, index)) for index, node in enumerate(incoming)}
    for node in own:
        copied = graph.node_copy(node, copies.__getitem__)
        if node.op in ("call_module", "get_attr"):
            copied.target = _target(node)
        copies[node] = copied
    graph.output(copies[outgoing[0]] if len(outgoing) == 1 else tuple(copies[node] for node in outgoing))
    return graph


def _unshare(parts: list[fx.GraphModule]) -> None:
    """Gives each stage its own copy of shared modules without parameters, so that modes are set for one stage alone."""
    seen: set[int] = set()
    for part in parts:
        targets = {str(node.target) for node in part.graph.nodes if node.op == "call_module"}
        for target in targets:
            module = part.get_submodule(target)
            if id(module) in seen:
                part.set_submodule(target, copy.deepcopy(module))
        seen.update(id(module) for module in part.modules())
