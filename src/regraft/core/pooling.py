"""Pooling of the outputs of a backbone's stages, for heads that read several of them."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor

Stage = TypeVar("Stage", str, int)
Layout = Literal["channels first", "channels last", "tokens"]
_MAX_OTHER_TOKENS = 8
"""Class, distillation and register tokens come before the patches and have no position."""
MAX_WIDTH = 10240
"""Features that a head reads by default, at most: the closed form solves equations of that size, in minutes."""
MAX_CORRELATED = 80
"""Channels of a map whose correlations are features, too, at most: n channels have n * (n - 1) / 2 of them."""
_MAX_SAMPLED = 1024
"""Positions that correlations are computed of, at most; all 12,544 of a map took 7 % of a small backbone's pass."""
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


def pooled_width(shape: Sequence[int]) -> int:
    """Returns the width of the pooled output of a stage, whose output has this shape, (batch, ...)."""
    match layout_of(shape):
        case "channels first":
            return _num_moments(shape[1], shape[2] * shape[3])
        case "channels last":
            return _num_moments(shape[3], shape[1] * shape[2])
        case "tokens" if others := num_other_tokens(shape):
            return shape[2] + _num_moments(shape[2], shape[1] - others)
    return _num_moments(shape[2], shape[1]) if len(shape) == 3 else math.prod(shape[1:])


def pool_tokens(output: Tensor) -> Tensor:
    """Returns the means and standard deviations of the channels over the tokens of texts, (batch, 2 * channels).

    Args:
        output: (batch, length, channels), zero at padding; or (batch, channels), which is returned as it is.
    """
    if output.dim() != 3:
        return output.flatten(1)
    values = output.float() if output.dtype in (torch.bfloat16, torch.float16) else output
    num_tokens = token_mask(values).sum(1, keepdim=True).clamp_min(1)
    mean = values.sum(1) / num_tokens
    variance = values.square().sum(1) / num_tokens - mean.square()
    return torch.cat([mean, _root(variance)], dim=1).to(output.dtype)


def token_mask(inputs: Tensor) -> Tensor:
    """Returns where texts have tokens, (batch, length), bool.

    Args:
        inputs: token ids (batch, length), -1 at padding; or hidden states (batch, length, channels), zero there.
    """
    if not inputs.is_floating_point():
        return inputs >= 0
    # `any(-1)` takes seven times as long, a tenth of a small model's layer.
    return torch.linalg.vector_norm(inputs.detach(), dim=-1) != 0


def thinned(widths: Mapping[Stage, int]) -> dict[Stage, int]:
    """Returns the widths of every k-th stage from the last one down, with the least k for `MAX_WIDTH`."""
    stages = list(widths)
    kept = stages
    for step in range(1, len(stages) + 1):
        kept = stages[::-1][::step][::-1]
        if sum(widths[stage] for stage in kept) <= MAX_WIDTH:
            break
    return {stage: widths[stage] for stage in kept}


def _moments(output: Tensor) -> Tensor:
    """Returns means, standard deviations and correlations of (batch, channels, positions), in single precision."""
    values = output.float() if output.dtype in (torch.bfloat16, torch.float16) else output
    mean = values.mean(2)
    num_channels, num_positions = values.shape[1:]
    if not _has_correlations(num_channels, num_positions):
        # Takes half as long as torch's own variance, which takes a fifth of a small backbone's forward pass.
        variance = values.square().mean(2) - mean.square()
        return torch.cat([mean, _root(variance)], dim=1).to(output.dtype)
    centred = values[:, :, :: _sampling_step(num_positions)] - mean[:, :, None]
    covariance = centred @ centred.mT / centred.shape[2]
    variance = covariance.diagonal(dim1=1, dim2=2)
    scale = (variance + _EPSILON).rsqrt()
    rows, columns = torch.triu_indices(num_channels, num_channels, offset=1, device=values.device)
    correlations = (covariance * scale[:, :, None] * scale[:, None])[:, rows, columns]
    return torch.cat([mean, _root(variance), correlations], dim=1).to(output.dtype)


def _sampling_step(num_positions: int) -> int:
    """Returns the least step that leaves at most `_MAX_SAMPLED` positions, and meets every column of a square map."""
    step = -(-num_positions // _MAX_SAMPLED)
    while math.gcd(step, num_positions) > 1:
        step += 1
    return step


def _has_correlations(num_channels: int, num_positions: int) -> bool:
    return num_channels <= MAX_CORRELATED and num_positions > 1


def _num_moments(num_channels: int, num_positions: int) -> int:
    pairs = num_channels * (num_channels - 1) // 2
    return 2 * num_channels + (pairs if _has_correlations(num_channels, num_positions) else 0)


def _root(variance: Tensor) -> Tensor:
    return variance.clamp_min(_MIN_VARIANCE).sqrt()
