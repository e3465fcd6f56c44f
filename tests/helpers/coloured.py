"""Made images whose colours are known: as numbers for a regression, and as labels of which several hold at once."""

from collections.abc import Mapping

import numpy as np
import torch

from regraft.data.images.samples import ArrayImages
from regraft.data.sources.base import Columns, Splits

NAMES: Mapping[str, tuple[str, ...]] = {
    "classification": ("dark", "bright"),
    "multilabel": ("red", "green", "blue"),
    "regression": ("red", "green"),
}


class Coloured:
    """Images of one colour with noise, whose mean channels are what is predicted.

    Args:
        kind: the task: numbers are the mean of red and green, times 100 and plus 1000; labels are channels that are
            bright; a class is whether all of them are on the mean.
        weights: whether there are sample weights.
    """

    def __init__(self, kind: str, num_images: int = 120, side: int = 16, *, weights: bool = False) -> None:
        self._kind, self._num_images, self._side, self._weights = kind, num_images, side, weights

    def prepare(self) -> None:
        """Does nothing."""

    def splits(self) -> Splits:
        """Returns a training split."""
        generator = np.random.default_rng(0)
        colours = generator.uniform(40, 215, (self._num_images, 3, 1, 1))
        noise = generator.normal(0, 8, (self._num_images, 3, self._side, self._side))
        pixels = torch.from_numpy(np.clip(colours + noise, 0, 255).astype(np.uint8))
        means = pixels.float().mean((2, 3)) / 255
        labels = {
            "classification": (means.mean(1) > 0.5).long(),
            "multilabel": (means > 0.6).float(),
            "regression": 1000 + 100 * means[:, :2],
        }[self._kind]
        columns = Columns(weights=torch.linspace(0.5, 2, self._num_images) if self._weights else None)
        return Splits(NAMES[self._kind], ArrayImages(pixels, labels, columns), task=self._kind, unit="%")
