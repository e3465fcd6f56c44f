"""Single images of a split as evaluation shows them to the model, for people to look at."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from regraft.data.datamodule import ImageDataModule
from regraft.data.dataset import BatchDataset
from regraft.data.sampler import BatchKey
from regraft.data.sources.base import ArrayImages


def shown(
    data: ImageDataModule, split: str, indices: Sequence[int], seconds: float | None = None
) -> Iterator[tuple[int, Tensor, str | None]]:
    """Yields an image's place in `indices`, its view and its path in the data set, for each that can be read.

    Args:
        data: prepared.
        split: `train`, `val` or `test`.
        indices: the images' places in their split's source.
        seconds: after which no other image is read; None for all of them.

    Yields:
        The view is (num_channels, image_size, image_size), uint8; the path is None of images in memory.
    """
    images = data.images(split)
    dataset = BatchDataset(images, data.input_spec, None, seed=0)
    started = time.perf_counter()
    for place, index in enumerate(indices):
        if seconds is not None and time.perf_counter() - started > seconds:
            return
        try:
            view = dataset[BatchKey(0, 0, np.array([index]), np.zeros(1, np.int64))]["images"][0]
        except (OSError, ValueError, IndexError):
            continue  # it has vanished since, or changed; the report says how many are missing
        yield place, view, None if isinstance(images, ArrayImages) else str(images.path(index).relative_to(images.root))
