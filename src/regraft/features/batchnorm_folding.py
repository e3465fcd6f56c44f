"""Folding of BatchNorms into the convolutions before them, which saves a pass over the activations.

Pairs are found by observing one forward, and the result is checked on the same example.
"""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from regraft.core.torch_internals import TorchDispatchMode, tree_leaves

_LOGGER = logging.getLogger(__name__)
# Relative to the largest magnitude. A wrong fold is off by orders of magnitude more, rounding by less.
_TOLERANCE = 1e-5


class _Pair(NamedTuple):
    conv: nn.Conv2d
    norm: nn.BatchNorm2d


def fold_batch_norms(modules: Sequence[nn.Module], example: Tensor) -> int:
    """Folds each BatchNorm that is the only reader of a convolution's output into the convolution, in place.

    The convolution may be of any subclass that passes its own weight and bias to torch unchanged. The BatchNorm is
    replaced by an identity, or in the case of timm's `BatchNormAct2d` by its dropout and activation. Other subclasses,
    and BatchNorms without running statistics, aren't folded, nor is anything across two of the modules. If the outputs
    differ by more than rounding afterwards, everything is restored, and a message is logged.

    Args:
        modules: called one after the other; in eval mode, float32.
        example: input of the first module; one or two samples suffice.

    Returns:
        The number of folded BatchNorms.
    """
    before, pairs = _watch(modules, example)
    if not pairs:
        return 0
    undo = _fold(modules, pairs)
    error = max(map(_relative_error, before, _run(modules, example)))
    if error <= _TOLERANCE:
        return len(pairs)
    undo()
    _LOGGER.info("BatchNorms aren't folded: that would change the outputs by %.1e of their largest value.", error)
    return 0


class _Reads(TorchDispatchMode):
    """Records the weights of each convolution's output, and how often the output is read."""

    def __init__(self) -> None:
        super().__init__()
        # The outputs are kept, so that no later tensor gets the id of one.
        self.convolutions: dict[int, tuple[Tensor, Tensor, Tensor | None]] = {}
        self.num_reads: Counter[int] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.read((args, kwargs))
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            self.convolutions[id(result)] = (result, args[1], args[2])
        return result

    def read(self, values: Any) -> None:
        """Counts a read of each convolution output in the (nested) values."""
        self.num_reads.update(id(leaf) for leaf in tree_leaves(values) if id(leaf) in self.convolutions)

    def is_plain(self, conv: nn.Module, result: Any) -> bool:
        """Whether a module's result is a convolution with the module's own weight and bias."""
        _, weight, bias = self.convolutions.get(id(result), (None, None, None))
        return isinstance(conv, nn.Conv2d) and weight is conv.weight and bias is conv.bias


def _watch(modules: Sequence[nn.Module], example: Tensor) -> tuple[list[Tensor], list[_Pair]]:
    reads = _Reads()
    makers: dict[int, nn.Conv2d] = {}
    takers: list[tuple[nn.BatchNorm2d, int]] = []
    num_calls: Counter[nn.Module] = Counter()

    def note(module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        num_calls[module] += 1
        if reads.is_plain(module, result):
            makers[id(result)] = cast(nn.Conv2d, module)
        elif isinstance(module, nn.BatchNorm2d) and args and id(args[0]) in makers:
            takers.append((module, id(args[0])))

    with _hooked(modules, note), reads:
        outputs = _run(modules, example, reads.read)
    return outputs, [
        _Pair(makers[key], norm)
        for norm, key in takers
        if reads.num_reads[key] == 1 and num_calls[norm] == num_calls[makers[key]] == 1
        if norm.running_mean is not None and norm.running_var is not None and _rest(norm) is not None
    ]


@contextmanager
def _hooked(modules: Sequence[nn.Module], hook: Callable[..., None]) -> Iterator[None]:
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    inner = {inner for module in modules for inner in module.modules() if isinstance(inner, kinds)}
    handles = [module.register_forward_hook(hook) for module in inner]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _run(modules: Sequence[nn.Module], example: Tensor, read: Callable[[Any], None] | None = None) -> list[Tensor]:
    """Returns copies of all tensors that modules pass on, each counted as read once."""
    outputs = []
    values: Any = example.clone()
    with torch.no_grad():
        for module in modules:
            values = module(values)
            if read is not None:
                read(values)
            outputs += [leaf.clone() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
    return outputs


def _rest(norm: nn.BatchNorm2d) -> nn.Module | None:
    """Returns what a BatchNorm does after normalising; None if its class isn't known."""
    if type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    # By name, because timm takes long to import and isn't needed for other models.
    if type(norm).__name__ == "BatchNormAct2d" and type(norm).__module__.startswith("timm."):
        return nn.Sequential(cast(nn.Module, norm.drop), cast(nn.Module, norm.act))
    return None


def _fold(modules: Sequence[nn.Module], pairs: Sequence[_Pair]) -> Callable[[], None]:
    """Folds the pairs; returns a function that restores everything."""
    weights = [(conv, conv.weight, conv.bias) for conv, _ in pairs]
    rests = {norm: _rest(norm) for _, norm in pairs}
    places = [
        (module.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2], child)
        for module in modules
        for path, child in module.named_modules(remove_duplicate=False)
        if path and isinstance(child, nn.BatchNorm2d) and child in rests
    ]
    for conv, norm in pairs:
        conv.weight, conv.bias = _folded(conv, norm)
    for parent, name, norm in places:
        setattr(parent, name, rests[norm])

    def undo() -> None:
        for conv, weight, bias in weights:
            conv.weight, conv.bias = weight, bias
        for parent, name, norm in places:
            setattr(parent, name, norm)

    return undo


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[nn.Parameter, nn.Parameter]:
    """Returns weight and bias of the convolution combined with its BatchNorm, computed in float64."""
    own = (conv.weight, conv.bias, norm.running_mean, norm.running_var)
    weight, bias, mean, variance, scale, shift = (
        None if tensor is None else tensor.detach().double() for tensor in (*own, norm.weight, norm.bias)
    )
    folded = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, scale, shift)  # type: ignore[arg-type]
    new_weight, new_bias = (nn.Parameter(tensor.to(conv.weight.dtype), requires_grad=False) for tensor in folded)
    return new_weight, new_bias


def _relative_error(expected: Tensor, got: Tensor) -> float:
    """Returns the largest difference divided by the largest expected magnitude; infinite for NaN, 0 if equal."""
    if torch.equal(expected, got):
        return 0.0
    error = float((expected.double() - got.double()).abs().max() / expected.double().abs().max())
    return math.inf if math.isnan(error) else error
