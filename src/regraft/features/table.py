"""The stored activations of one split at one cut.

How they are dealt out in the place of images belongs in `loaders`.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Rows(Protocol):
    """Where rows lie: a pool on the disk or in memory."""

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Of each row."""

    def gather(self, positions: Tensor) -> Tensor:
        """Returns the rows at some positions, (num_positions, *row_shape)."""


class FeatureTable:
    """Activations of a split, a row for each image and view.

    Args:
        depth: how many stages they are the output of.
        pools: where the rows of each view lie.
        positions: of each view, (num_images,), int64: the images' rows in that view's pool.
        indices: (num_images,), int64, ascending: the images' places in their source.
        targets: (num_images,), int64 class indices.
    """

    def __init__(
        self, depth: int, pools: Sequence[Rows], positions: Sequence[Tensor], indices: Tensor, targets: Tensor
    ) -> None:
        self.depth = depth
        self.num_views = len(pools)
        self.targets = targets
        self.indices = indices
        self._pools = pools
        self._positions = positions
        self._place_of = torch.full((int(indices.max()) + 1,), -1)
        self._place_of[indices] = torch.arange(len(indices))
        self._matrix: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def places(self, indices: np.ndarray) -> Tensor:
        """Returns the places in this split of images that are named by their place in the source, both (batch,)."""
        return self._place_of[torch.from_numpy(indices.copy())]

    def gather(self, places: Tensor, views: Tensor | None) -> Tensor:
        """Returns activations, float32.

        Args:
            places: (batch,), int64.
            views: (batch,), int64; None where there is one.

        Returns:
            (batch, *row_shape).
        """
        if views is None or self.num_views == 1:
            return self._pools[0].gather(self._positions[0][places]).float()
        rows = [
            self._pools[view].gather(self._positions[view][places[views == view]]).float()
            for view in range(self.num_views)
        ]
        # Grouped by view; the order of the batch is found again by sorting the sorter.
        return torch.cat(rows)[views.argsort(stable=True).argsort()]

    def matrix(self, device: torch.device) -> Tensor:
        """Returns all rows, view after view, (num_views * num_images, num_features), float32; read once, then kept."""
        if self._matrix is None or self._matrix.device != device:
            everything = torch.arange(len(self))
            first = self.gather(everything, torch.zeros_like(everything)).to(device)
            if self.num_views == 1:
                self._matrix = first
                return first
            self._matrix = first.new_empty(self.num_views * len(self), *first.shape[1:])
            for view, rows in enumerate(self._matrix.split(len(self))):
                rows.copy_(first if view == 0 else self.gather(everything, torch.full_like(everything, view)))
        return self._matrix

    @property
    def matrix_bytes(self) -> int:
        """Of `matrix`."""
        return math.prod(self._pools[0].row_shape) * torch.float32.itemsize * self.num_views * len(self)
