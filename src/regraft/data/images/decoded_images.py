"""What of a file's pixels is the same in every epoch: all that is done to them before the first random draw.

That is the evaluation view, or, where crops are drawn from anywhere in the picture, the whole picture. What is drawn
belongs in `dataset`; where decoded pictures are kept between epochs and runs, in `features`.
"""

import hashlib
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from regraft.core.types import InputSpec
from regraft.data.images.decoding import decode_image
from regraft.data.images.transforms.augment import Augment
from regraft.data.sources.base import FileImages
from regraft.data.splits import Part


class Decoded(Protocol):
    """Gives pictures before the first random draw.

    Attributes:
        is_stored: whether they were decoded before.
    """

    is_stored: bool

    def read(self, indices: np.ndarray) -> Tensor | Iterator[Tensor]:
        """Returns pictures, uint8: (batch, channels, size, size), or where they are whole one after the other.

        Args:
            indices: (batch,), int64, places in the source.
        """


class DecodedFiles:
    """Decodes files each time.

    Args:
        images: the files.
        spec: what the backbone wants.
        augment: of training batches; None for evaluation.
        digests: of all files, (num_images, 16), uint8: what is decoded must have them; None for not checked.
    """

    is_stored = False

    def __init__(
        self, images: FileImages, spec: InputSpec, augment: Augment | None, digests: np.ndarray | None = None
    ) -> None:
        self.images = images
        self.is_whole = augment is not None and augment.crop == "resized"
        self.spec = spec
        self.least_side = _least_side(spec, augment)
        self._digests = digests

    def read(self, indices: np.ndarray) -> Tensor | Iterator[Tensor]:
        """Returns decoded pictures; see `Decoded`.

        Raises:
            ValueError: a file can't be decoded, or hasn't its digest.
        """
        from regraft.data.images.transforms.image import eval_view_of_file

        decoded = map(self._decode, indices.tolist())
        if self.is_whole:
            return decoded  # a batch of whole photos needn't fit into memory
        return torch.stack([eval_view_of_file(image, self.spec) for image in decoded])

    def _decode(self, index: int) -> Tensor:
        digest = None if self._digests is None else self._digests[index].tobytes()
        return decode_image(self.images.path(index), self.spec.num_channels, digest, self.least_side)


def by_index(part: Part, digests: np.ndarray) -> np.ndarray:
    """Returns a split's digests by place in the source, so that what is decoded is known to be what was hashed."""
    found = np.zeros((len(part.images), digests.shape[1]), np.uint8)
    found[part.indices.numpy()] = digests
    return found


@cache
def code_digest(*names: str) -> str:
    """Returns a hash of source files, by their paths in the package, so that other code's pixels have another name."""
    digest = hashlib.blake2b(digest_size=8)
    for name in names:
        digest.update(Path(__file__).parents[2].joinpath(name).read_bytes())
    return digest.hexdigest()


def _least_side(spec: InputSpec, augment: Augment | None) -> int:
    """Returns the shorter side that a picture must have for the backbone's sake, or for that of its smallest crop."""
    if augment is None or augment.crop != "resized":
        return round(spec.image_size / spec.crop_fraction)
    # A crop of the least area and the most extreme shape, of a square picture.
    part = math.sqrt(augment.scale[0] * min(augment.ratio[0], 1 / augment.ratio[1]))
    return math.ceil(spec.image_size / part)
