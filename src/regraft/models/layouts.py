"""Where the positions are in a stage's output: of feature maps and of a transformer's tokens."""

import math
from collections.abc import Sequence
from typing import Literal

Layout = Literal["channels first", "channels last", "tokens"]

_MAX_OTHER_TOKENS = 8
"""Class, distillation and register tokens come before the patches and have no position."""


def layout_of(shape: Sequence[int]) -> Layout | None:
    """Returns the layout of an output of square images, (batch, ...); None if it has no positions."""
    if len(shape) == 4:
        return "channels last" if shape[1] == shape[2] != shape[3] else "channels first"
    return "tokens" if len(shape) == 3 and num_other_tokens(shape) <= _MAX_OTHER_TOKENS else None


def num_other_tokens(shape: Sequence[int]) -> int:
    """Returns how many tokens of an output (batch, num_tokens, width) are not patches of a square image."""
    return int(shape[1]) - math.isqrt(int(shape[1])) ** 2
