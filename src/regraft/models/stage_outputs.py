"""Backbones whose features are the pooled outputs of several stages, side by side.

All that a pooled output depends on is in this file, since the fingerprint of a stage hashes the file of its class only.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from regraft.core.errors import ConfigError, UnknownNameError
from regraft.core.types import Backbone
from regraft.models.dry_run import dry_outputs

log = logging.getLogger(__name__)

Layout = Literal["channels first", "channels last", "tokens"]
_MAX_OTHER_TOKENS = 8
"""Class, distillation and register tokens come before the patches and have no position."""
MAX_WIDTH = 10240
"""Features that `auto` stages give, at most: the closed form solves equations of that size, in minutes."""
MAX_CORRELATED = 80
"""Channels of a map whose correlations are features, too, at most: n channels have n * (n - 1) / 2 of them."""
_MIN_VARIANCE = 1e-12
"""Of a map that is constant, whose standard deviation would have an infinite gradient."""
_EPSILON = 1e-5
"""Added to variances before correlations are divided by them, as BatchNorm does."""


def layout_of(shape: Sequence[int]) -> Layout | None:
    """Returns the layout of an output of square images, (batch, ...); None if it has no positions."""
    if len(shape) == 4:
        return "channels last" if shape[1] == shape[2] != shape[3] else "channels first"
    return "tokens" if len(shape) == 3 and num_other_tokens(shape) <= _MAX_OTHER_TOKENS else None


def num_other_tokens(shape: Sequence[int]) -> int:
    """Returns how many tokens of an output (batch, num_tokens, width) are not patches of a square image."""
    return int(shape[1]) - math.isqrt(int(shape[1])) ** 2


def pool(output: Tensor) -> Tensor:
    """Returns the means and standard deviations of the channels over positions, and their correlations, (batch, width).

    Correlations of up to `MAX_CORRELATED` channels are among them: they tell textures apart that have the same means.
    Of tokens, positions are the patches, after the first token if there are others, such as a class token.

    Args:
        output: (batch, channels, height, width), (batch, height, width, channels), (batch, tokens, channels) or
            (batch, channels), which is returned as it is.
    """
    match layout_of(output.shape):
        case "channels first":
            return _moments(output.flatten(2))
        case "channels last":
            return _moments(output.flatten(1, 2).mT)
        case "tokens" if others := num_other_tokens(output.shape):
            return torch.cat([output[:, 0], _moments(output[:, others:].mT)], dim=1)
    return _moments(output.mT) if output.dim() == 3 else output.flatten(1)


def _moments(output: Tensor) -> Tensor:
    """Returns means, standard deviations and correlations of (batch, channels, positions), in single precision."""
    values = output.float() if output.dtype in (torch.bfloat16, torch.float16) else output
    mean = values.mean(2)
    num_channels, num_positions = values.shape[1:]
    if num_channels > MAX_CORRELATED or num_positions == 1:
        # Takes half as long as torch's own variance, which takes a fifth of a small backbone's forward pass.
        variance = values.square().mean(2) - mean.square()
        return torch.cat([mean, _root(variance)], dim=1).to(output.dtype)
    centred = values - mean[:, :, None]
    covariance = centred @ centred.mT / num_positions
    variance = covariance.diagonal(dim1=1, dim2=2)
    scale = (variance + _EPSILON).rsqrt()
    rows, columns = torch.triu_indices(num_channels, num_channels, offset=1, device=values.device)
    correlations = (covariance * scale[:, :, None] * scale[:, None])[:, rows, columns]
    return torch.cat([mean, _root(variance), correlations], dim=1).to(output.dtype)


def _root(variance: Tensor) -> Tensor:
    return variance.clamp_min(_MIN_VARIANCE).sqrt()


class TappedStage(nn.Module):
    """A stage that passes on, with its own output, the pooled outputs of the stages up to it.

    Args:
        is_first: whether it is the first such stage, whose input is the output of the stage before.
        is_last: whether it gives the features, and not a pair of its output and the pooled outputs.
    """

    def __init__(self, stage: nn.Module, *, is_first: bool, is_last: bool, is_pooled: bool) -> None:
        super().__init__()
        self.stage = stage
        self.is_first = is_first
        self.is_last = is_last
        self.is_pooled = is_pooled

    def forward(self, inputs: Any) -> Any:
        """Returns (output, pooled outputs), or of the last stage the features, (batch, sum of widths)."""
        values, pooled = (inputs, ()) if self.is_first else inputs
        values = self.stage(values)
        if self.is_pooled:
            pooled = (*pooled, pool(values))
        return torch.cat(pooled, dim=1) if self.is_last else (values, pooled)


class TappedBackbone(Backbone):
    """A backbone whose features are the pooled outputs of some of its stages; it ends with the last of these.

    Args:
        backbone: whose stages are taken over; its own features aren't used.
        widths: by stage, from the input up, of its pooled output.
    """

    def __init__(self, backbone: Backbone, widths: Mapping[str, int]) -> None:
        own = untapped_stages(backbone)
        names = list(own)
        first, last = names.index(next(iter(widths))), names.index([*widths][-1])
        stages = {
            name: own[name]
            if index < first
            else TappedStage(own[name], is_first=index == first, is_last=index == last, is_pooled=name in widths)
            for index, name in enumerate(names[: last + 1])
        }
        super().__init__(stages, sum(widths.values()), backbone.input_spec)
        self._widths = dict(widths)

    @property
    def feature_widths(self) -> dict[str, int]:
        """How many of the features each stage gives, in their order."""
        return dict(self._widths)


def tapped(backbone: Backbone, stages: str | Sequence[str]) -> Backbone:
    """Returns a backbone whose features are the pooled outputs of stages.

    Args:
        stages: `last` for the backbone's own features; `all`; names of stages; or `auto`, which is all that can be
            pooled, or every second, third, ... of them from the last one down, with `MAX_WIDTH` features at most.

    Raises:
        ConfigError: an unknown name, or a stage without an output that can be pooled.
    """
    known = list(backbone.stage_names)
    if stages == "last" and not isinstance(backbone, TappedBackbone):
        return backbone
    names = {"all": known, "auto": known, "last": known[-1:]}.get(stages) if isinstance(stages, str) else stages
    if not (names and isinstance(names, Sequence)):
        raise ConfigError("head.stages", got=stages, allowed=f"auto, last, all, or a list of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise UnknownNameError("head.stages", "stage", str(name), known)
    shapes = output_shapes(backbone)
    widths = {name: pool(torch.empty(shape, device="meta")).shape[1] for name, shape in shapes.items()}
    if stages == "auto":
        return TappedBackbone(backbone, _thinned({name: widths[name] for name in known if name in widths}))
    for name in names:
        if name not in widths:
            able = ", ".join(each for each in known if each in widths)
            raise ConfigError(
                "head.stages",
                f"stage {name} does not give one floating tensor with a part for each image, so it can't be pooled",
                fix=f"Leave it out: head.stages=[{able}].",
            )
    return TappedBackbone(backbone, {name: widths[name] for name in known if name in names})


def _thinned(widths: Mapping[str, int]) -> dict[str, int]:
    """Returns the widths of every k-th stage from the last one down, with the least k for `MAX_WIDTH`."""
    names = list(widths)
    kept = names
    for step in range(1, len(names) + 1):
        kept = names[::-1][::step][::-1]
        if sum(widths[name] for name in kept) <= MAX_WIDTH:
            break
    if len(kept) < len(names):
        log.info("The head reads %d of %d stages (head.stages=auto): %s.", len(kept), len(names), ", ".join(kept))
    return {name: widths[name] for name in kept}


def untapped_stages(backbone: Backbone) -> dict[str, nn.Module]:
    """Returns the stages of a backbone without what pools their outputs."""
    return {name: stage.stage if isinstance(stage, TappedStage) else stage for name, stage in backbone.stages.items()}


def output_shapes(backbone: Backbone) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each stage's output of two images, where it is one floating tensor with a part for each."""
    names = {stage: name for name, stage in untapped_stages(backbone).items()}
    return {
        names[stage]: tuple(output.shape)
        for stage, output in dry_outputs(backbone, names, num_images=2)
        if output.is_floating_point() and output.dim() > 1 and len(output) == 2
    }
