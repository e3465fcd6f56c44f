"""Single images of a split in the view of evaluation, for reports."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from regraft.core.types import BatchKey
from regraft.data.datamodule import DataModule
from regraft.data.images.samples import FileImages


def shown(
    data: DataModule, split: str, indices: Sequence[int], seconds: float | None = None
) -> Iterator[tuple[int, Tensor, str | None]]:
    """Yields for each image that can be read its position in `indices`, its view, and its path in the data set.

    The view is (num_channels, image_size, image_size), uint8; the path is None for images in memory.

    Args:
        indices: in the source of the split.
        seconds: time limit after which no further image is read; None for no limit.
    """
    images = data.part(split).samples
    dataset = data.inputs.dataset(split, is_training=False)
    started = time.perf_counter()
    for position, index in enumerate(indices):
        if seconds is not None and time.perf_counter() - started > seconds:
            return
        try:
            view = dataset[BatchKey(0, 0, np.array([index]), np.zeros(1, np.int64))]["images"][0]
        except (OSError, ValueError, IndexError):
            continue  # it was removed or changed since; the report says how many are missing
        path = images.name(index) if isinstance(images, FileImages) else None
        yield position, view, path
