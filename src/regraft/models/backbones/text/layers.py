"""Stages of the encoders and decoders of transformers: embeddings, layer0, layer1, ..., pool.

Each stage runs the library's own forward, with modules that pass their input on in the place of those of the other
stages. What a layer needs besides its input (masks, rotary embeddings, positions) is therefore computed as the library
does it, from the hidden states and the mask alone.
"""

import copy
import itertools
import logging
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from regraft.models.backbones.text.pooling import Pool
from regraft.models.backbones.text.stage import Borrowed, Skipped, Stage

_LOGGER = logging.getLogger(__name__)
_TOLERANCE = 1e-5
"""Relative to the largest magnitude."""


class _SplitError(Exception):
    """A model's layers don't follow one another, or need more than hidden states and the mask."""


def split(model: nn.Module, pool: str | None, name: str) -> tuple[dict[str, nn.Module], str]:
    """Returns the stages of a model of transformers, whose composition gives features, by name, and their pooling.

    Every parameter that hidden states depend on is in exactly one stage, under the library's name. A model whose layers
    need more than hidden states and the mask becomes the one stage `backbone`, with a warning.

    Args:
        model: maps token ids to hidden states, without cache; it is taken apart.
        pool: the pooling of the last hidden states; None for the last token of a causal model, and the mean of others.
        name: the model's, for the log.
    """
    was_training = model.training
    model.eval()
    _keep_frequencies_exact(model)
    ids = _tried_ids(model)
    expected = _run(Stage(model, padding_id=_padding_id(model)), ids)
    last = Pool(pool or ("last" if _is_causal(expected) else "mean"))
    try:
        stages = _split(model, ids)
        got = _run(nn.Sequential(*stages.values()), ids)
        error = float((got - expected).abs().max() / expected.abs().max())
        if not error <= _TOLERANCE:
            raise _SplitError(f"the stages' output differs by {error:.1e} of its largest value")
        stages["pool"].pool = last
    except Exception as error:  # what taking apart unknown code raises is open-ended
        reason = (str(error) or type(error).__name__).splitlines()[0]
        _LOGGER.warning("%s can't be split into layers (%s); it is one stage, `backbone`.", name, reason)
        stages = {"backbone": Stage(model, padding_id=_padding_id(model), pool=last)}
    for stage in stages.values():
        stage.train(was_training)
    return stages, last.kind


def _split(model: nn.Module, ids: Tensor) -> dict[str, nn.Module]:
    """Returns the stages without the pooling."""
    order, num_outputs = _called(model, ids)
    path, layers = _layers(model, order)
    first, last = order.index(f"{path}.0"), order.index(f"{path}.{len(layers) - 1}")
    before, after, both = _others(model, path, order[:first], order[last:])
    beside = [each for each in model.get_submodule(path.rpartition(".")[0]).children() if each in before]
    if any(first < index < last and not name.startswith(f"{path}.") for index, name in enumerate(order)):
        raise _SplitError("modules are called between its layers")
    _share_position_bias(layers)
    skipped: dict[int, Any] = {id(each): Skipped(each) for each in (*before, *after, *both)}
    if "." in path:
        skipped |= {id(each): Borrowed(each) for each in beside}
    skipped |= {id(each): Skipped(each, num_outputs[f"{path}.{index}"]) for index, each in enumerate(layers)}
    skipped[id(model.config)] = model.config

    def shell(*kept: nn.Module) -> nn.Module:
        # What is looked up here isn't copied.
        return copy.deepcopy(model, skipped | {id(each): each for each in kept})

    dropouts: list[Any] = [copy.deepcopy(each) for each in both * 2] or [None, None]
    stages: dict[str, nn.Module] = {
        "embeddings": Stage(shell(*before), padding_id=_padding_id(model), dropout=dropouts[0])
    }
    stages |= {f"layer{index}": Stage(shell(layer)) for index, layer in enumerate(layers)}
    return stages | {"pool": Stage(shell(*after), dropout=dropouts[1])}


def _called(model: nn.Module, ids: Tensor) -> tuple[list[str], dict[str, int]]:
    """Returns the names of modules in the order of their calls, and how many outputs each gives, 0 for a tensor."""
    order: list[str] = []
    num_outputs: dict[str, int] = {}

    def hooks(name: str) -> tuple[Callable[..., None], Callable[..., None]]:
        def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
            num_outputs[name] = len(output) if isinstance(output, tuple) else 0

        return lambda *_: order.append(name), note

    handles = []
    for name, module in model.named_modules():
        called, returned = hooks(name)
        handles += [module.register_forward_pre_hook(called), module.register_forward_hook(returned)]
    try:
        _run(Stage(model, padding_id=_padding_id(model)), ids)
    finally:
        for handle in handles:
            handle.remove()
    return order, num_outputs


def _layers(model: nn.Module, order: list[str]) -> tuple[str, nn.ModuleList]:
    """Returns the outermost list of modules that are each called once, one after the other, and its name."""
    found = []
    for path, module in model.named_modules():
        names = [f"{path}.{index}" for index in range(len(module))] if isinstance(module, nn.ModuleList) else []
        if names and [name for name in order if name in set(names)] == names:
            found.append((path, cast(nn.ModuleList, module)))
    if not found:
        raise _SplitError("it has no list of layers that are each called once")
    return min(found, key=lambda each: (each[0].count("."), -len(each[1])))


def _others(
    model: nn.Module, path: str, before: list[str], after: list[str]
) -> tuple[list[nn.Module], list[nn.Module], list[nn.Module]]:
    """Returns the modules beside the layers that are called before them, after them, and on both sides.

    Those without parameters, such as rotary embeddings, aren't among them: each stage has a copy.
    """
    found: tuple[list[nn.Module], list[nn.Module], list[nn.Module]] = ([], [], [])
    parts = path.split(".")
    for holder in [".".join(parts[:depth]) for depth in range(len(parts))]:
        module = model.get_submodule(holder)
        if next(module.parameters(recurse=False), None) is not None:
            raise _SplitError(f"{type(module).__name__} has parameters outside of its layers")
        for name, child in module.named_children():
            full = f"{holder}.{name}".lstrip(".")
            is_dropout = any(isinstance(each, nn.Dropout) for each in child.modules())
            if f"{path}.".startswith(f"{full}.") or not (is_dropout or [*child.parameters()]):
                continue
            sides = [full in names for names in (before, after)]
            if all(sides) and not (isinstance(child, nn.Dropout) and before[-1] == after[-1] == full):
                raise _SplitError(f"{full} is called before its layers and after them")
            found[2 if all(sides) else 1 if sides[1] else 0].append(child)
    return found


def _share_position_bias(layers: nn.ModuleList) -> None:
    """Lets each layer compute the relative positions' bias of the first one, as T5's layers pass it on.

    The embedding stays a part of the first layer: the others refer to it without registering it.
    """
    attentions = [
        [each for each in layer.modules() if hasattr(each, "has_relative_attention_bias")] for layer in layers
    ]
    for attention in itertools.chain.from_iterable(attentions[1:]):
        if not attention.has_relative_attention_bias:
            vars(attention)["relative_attention_bias"] = attentions[0][0].relative_attention_bias
            attention.has_relative_attention_bias = True  # type: ignore[assignment]


def _keep_frequencies_exact(model: nn.Module) -> None:
    """Makes the frequencies of rotary embeddings plain attributes, which aren't rounded with a model to bfloat16.

    Rounded ones would be those of other positions. The library moves them to the device of what they turn.
    """
    for module in model.modules():
        for name, buffer in [*module.named_buffers(recurse=False)]:
            if name.endswith("inv_freq"):
                delattr(module, name)
                setattr(module, name, buffer.detach().clone())  # which isn't marked as a buffer


def _padding_id(model: Any) -> int:
    # RoBERTa counts positions by it.
    found = model.config.pad_token_id
    return found if isinstance(found, int) and 0 <= found < model.config.vocab_size else 0


def _tried_ids(model: Any) -> Tensor:
    """Returns two texts, (2, 9), of 9 and 7 tokens, the first 5 of which are the same."""
    used = [each for each in range(min(model.config.vocab_size, 30)) if each != model.config.pad_token_id]
    first, second = ([used[(start + step) % len(used)] for step in range(9)] for start in (1, 1))
    second[5:] = [used[0], used[-1], -1, -1]
    device = next(model.parameters()).device
    return torch.tensor([first, second], device=device)


@torch.no_grad()
def _run(module: nn.Module, ids: Tensor) -> Tensor:
    return cast(Tensor, module(ids))


def _is_causal(hidden: Tensor) -> bool:
    """Whether the hidden states of the same first tokens, before other ones, are the same."""
    first, second = hidden[:, :5]
    return bool((first - second).abs().max() <= _TOLERANCE * hidden.abs().max())
