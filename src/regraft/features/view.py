"""What the features of a data set's split are computed of."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class InputView(Protocol):
    """The inputs of a split under one deterministic transform, such as `data.images.deterministic_views.ImageView`.

    `content_hashes` are (num_inputs, HASH_BYTES), uint8.
    """

    content_hashes: np.ndarray

    @property
    def num_tokens(self) -> np.ndarray | None:
        """How many tokens each text has, (num_inputs,), int64; None for inputs of one shape."""

    @property
    def padded_lengths(self) -> np.ndarray | None:
        """How many tokens each text is padded to, (num_inputs,), int64; None for inputs of one shape."""

    def __len__(self) -> int: ...

    @property
    def transform(self) -> dict[str, Any]:
        """Plain types; equal transforms of equal inputs are equal."""

    def subset(self, positions: Tensor) -> "InputView":
        """Returns the view of some inputs, by their positions, in this order."""

    def arranged(self, positions: Tensor) -> Tensor:
        """Returns positions in the order in which their inputs are computed."""

    def batches(self, positions: Tensor, batch_size: int, device: torch.device) -> Iterator[Tensor]:
        """Yields the inputs at some positions in the split, in order, as the first stage takes them.

        Each batch has `batch_size` or fewer inputs.
        """
