"""Decoded images before any random transform, which are therefore the same in every epoch.

For random resized crops that is the whole image, otherwise the evaluation view.
"""

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from regraft.core.image_spec import ImageSpec
from regraft.data.images.decoding import decode_image
from regraft.data.images.samples import FileImages
from regraft.data.images.transforms.augment import Augment
from regraft.data.splits import Part


class Decoded(Protocol):
    """A source of decoded images before any random transform; `is_stored` if they were decoded before."""

    is_stored: bool

    def read(self, indices: np.ndarray) -> Tensor | Iterator[Tensor]:
        """Returns images by index in the source, uint8: (batch, channels, size, size), or one by one if of any size."""


class DecodedFiles:
    """Decodes files each time.

    Args:
        content_hashes: (num_images, HASH_BYTES), uint8, which the decoded files must have; None to skip the check.
    """

    is_stored = False

    def __init__(
        self, images: FileImages, spec: ImageSpec, augment: Augment | None, content_hashes: np.ndarray | None = None
    ) -> None:
        self.images = images
        self.is_whole = augment is not None and augment.crop == "resized"
        self.spec = spec
        self.least_side = _least_side(spec, augment)
        self._hashes = content_hashes

    def read(self, indices: np.ndarray) -> Tensor | Iterator[Tensor]:
        """Returns decoded images; raises ValueError if a file can't be decoded, or has changed."""
        if self.is_whole:
            return map(self._decode, indices.tolist())  # a batch of whole photos may not fit into memory
        return torch.stack([self._view(index) for index in indices.tolist()])

    def _view(self, index: int, before: Callable[[int], None] | None = None) -> Tensor:
        from regraft.data.images.transforms.image import eval_view_of_file

        return eval_view_of_file(self._decode(index, before), self.spec)

    def _decode(self, index: int, before: Callable[[int], None] | None = None) -> Tensor:
        expected_hash = None if self._hashes is None else self._hashes[index].tobytes()
        return decode_image(self.images.path(index), self.spec.pixel_format, expected_hash, self.least_side, before)


def by_index(part: Part, content_hashes: np.ndarray) -> np.ndarray:
    """Returns a split's hashes by index in the source, to check that the files decoded are those that were hashed."""
    found = np.zeros((len(part.samples), content_hashes.shape[1]), np.uint8)
    found[part.indices.numpy()] = content_hashes
    return found


def _least_side(spec: ImageSpec, augment: Augment | None) -> int:
    """Returns the shorter side that an image needs, so that neither the input nor the smallest crop is upsampled."""
    if augment is None or augment.crop != "resized":
        return spec.resized_side
    # The crop of the least area and the most extreme aspect ratio of a square image.
    part = math.sqrt(augment.scale[0] * min(augment.ratio[0], 1 / augment.ratio[1]))
    return math.ceil(spec.image_size / part)
