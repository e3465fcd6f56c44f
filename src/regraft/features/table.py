"""The stored features of one split at one depth."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from regraft.core.memory import memory_bytes


def matrix_limit(device: torch.device) -> float:
    """Returns the bytes of features that may be one matrix: a quarter of the memory, the CPU's and the device's."""
    return min(memory_bytes(torch.device("cpu")), memory_bytes(device)) / 4


def repeated(rows: Tensor, num_views: int) -> Tensor:
    """Returns rows, (num_images, ...), as often as there are views, view after view."""
    return rows.repeat(num_views, *[1] * (rows.ndim - 1))


class FeatureTable:
    """The features of each image and view of a split.

    Args:
        gather: for each view, returns the features of images by their positions in the split; see
            `StoredFeatures.of_view`.
        shape: of the features of one image.
        indices: (num_images,), int64, ascending: of the images in their source.
        targets: (num_images,), int64 class indices; or (num_images, num_outputs), float32.
    """

    def __init__(
        self,
        depth: int,
        gather: Sequence[Callable[[Tensor], Tensor]],
        shape: tuple[int, ...],
        indices: Tensor,
        targets: Tensor,
    ) -> None:
        self.depth = depth
        self.num_views = len(gather)
        self.targets = targets
        self.indices = indices
        self._gather = gather
        self._shape = shape
        self._position_of = torch.full((int(indices.max()) + 1,), -1)
        self._position_of[indices] = torch.arange(len(indices))
        self._matrix: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def positions(self, indices: np.ndarray) -> Tensor:
        """Returns the positions in this split of images given by their indices in the source, both (batch,)."""
        return self._position_of[torch.from_numpy(indices.copy())]

    def gather(self, positions: Tensor, views: Tensor | None) -> Tensor:
        """Returns features, (batch, *feature_shape), float32.

        Args:
            positions: (batch,), int64.
            views: (batch,), int64; None if there is one.
        """
        if views is None or self.num_views == 1:
            return self._gather[0](positions).float()
        features = [self._gather[view](positions[views == view]).float() for view in range(self.num_views)]
        # They are grouped by view; sorting the sorting order restores the order of the batch.
        return torch.cat(features)[views.argsort(stable=True).argsort()]

    def matrix(self, device: torch.device) -> Tensor:
        """Returns all features, view after view, (num_views * num_images, num_features), float32; read once."""
        if self._matrix is None or self._matrix.device != device:
            everything = torch.arange(len(self))
            first = self.gather(everything, torch.zeros_like(everything)).to(device)
            if self.num_views == 1:
                self._matrix = first
                return first
            self._matrix = first.new_empty(self.num_views * len(self), *first.shape[1:])
            for view, part in enumerate(self._matrix.split(len(self))):
                part.copy_(first if view == 0 else self.gather(everything, torch.full_like(everything, view)))
        return self._matrix

    @property
    def matrix_bytes(self) -> int:
        """Size of `matrix`."""
        return math.prod(self._shape) * torch.float32.itemsize * self.num_views * len(self)
