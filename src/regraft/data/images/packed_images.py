"""Decoded images packed into tensors of few shapes for the store, and unpacked again.

Whole images of any size are packed into vectors, whose lengths form a geometric series.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, Protocol

import numpy as np
import torch
from rich.filesize import decimal
from torch import Tensor
from torch.utils.data import Dataset

from regraft.core.content_hash import code_hash
from regraft.core.image_spec import ImageSpec
from regraft.data.images.decoded_images import DecodedFiles, by_index
from regraft.data.images.decoding import decoded_size, image_libraries
from regraft.data.images.samples import FileImages
from regraft.data.images.transforms.augment import Augment
from regraft.data.loader import in_order
from regraft.data.splits import Part

_CODE = (
    *("data/images/decoded_images.py", "data/images/decoding.py", "data/images/packed_images.py"),
    *("data/images/file_reading/convert.py", "data/images/file_reading/opening.py", "core/pixel_format.py"),
    *("data/images/file_reading/kinds.py", "data/images/file_reading/marks.py", "data/images/transforms/image.py"),
    "data/shards/member.py",
)
_HEADER_BYTES = 12


class StoredPixels(Protocol):
    """The packed images of a split in a store, by position in the split."""

    def read(self, positions: Tensor) -> Tensor:
        """Returns images of one shape, (batch, *shape), uint8."""

    def each(self, positions: Tensor) -> Iterator[Tensor]:
        """Yields images of any shapes, uint8."""


class StoredFiles:
    """Reads a split's decoded images from a store.

    Args:
        indices: (num_images,), int64, of the split's images in the source.
        is_whole: whether they are whole images of any size.
    """

    is_stored = True

    def __init__(self, pixels: StoredPixels, indices: Tensor, *, is_whole: bool) -> None:
        self._pixels = pixels
        self._position_of = torch.full((int(indices.max()) + 1,), -1)
        self._position_of[indices] = torch.arange(len(indices))
        self._is_whole = is_whole

    def read(self, indices: np.ndarray) -> Tensor | Iterator[Tensor]:
        """Returns stored images, as `Decoded.read`."""
        positions = self._position_of[torch.from_numpy(indices)]
        return map(unpack, self._pixels.each(positions)) if self._is_whole else self._pixels.read(positions)


class DecodedView:
    """A split's images before any random transform, packed for the store.

    Args:
        content_hashes: (num_images, HASH_BYTES), uint8.
    """

    def __init__(
        self, part: Part, content_hashes: np.ndarray, spec: ImageSpec, augment: Augment | None, *, num_workers: int
    ) -> None:
        assert isinstance(part.samples, FileImages)
        self.content_hashes = content_hashes
        self._part = part
        self._files = DecodedFiles(part.samples, spec, augment, by_index(part, content_hashes))
        self._num_workers = num_workers

    @property
    def transform(self) -> dict[str, Any]:
        """Everything that packed pixels depend on except the file."""
        files = self._files
        pixel_format = asdict(files.spec.pixel_format)
        what = {"whole": files.is_whole, "least_side": files.least_side} | pixel_format
        # Normalising comes later; whole images are also resized later.
        square = {} if files.is_whole else asdict(replace(files.spec, mean=None, std=None, eval_view=None))
        return {"kind": "decoded", "code": code_hash(*_CODE)} | image_libraries() | what | square

    def label(self, shape: tuple[int, ...]) -> str:
        """Returns a description of the packed images of a shape, for people."""
        if self._files.is_whole:
            return f"decoded images, whole, {decimal(shape[0])} each"
        return f"decoded images, {self._files.spec.image_size} px{', gray' if shape[0] == 1 else ''}"

    @property
    def possible_shapes(self) -> list[tuple[int, ...]]:
        """Shapes that packed images can have."""
        if self._files.is_whole:
            return [(length,) for length in _LENGTHS]
        return [(self._files.spec.num_channels, self._files.spec.image_size, self._files.spec.image_size)]

    def shapes(self, positions: Tensor) -> list[tuple[int, ...]]:
        """Returns the packed shapes of images, from the first bytes of their files; ValueError if one isn't valid."""
        if not self._files.is_whole:
            return self.possible_shapes * len(positions)
        images, num_channels = self._files.images, self._files.spec.num_channels
        sizes = (
            decoded_size(images.path(index), self._files.least_side) for index in self._part.indices[positions].tolist()
        )
        return [(_packed_length(num_channels * width * height),) for width, height in sizes]

    def batches(self, batches: Sequence[Tensor]) -> Iterator[list[tuple[np.ndarray, Tensor]]]:
        """Yields the images of each batch by shape: their positions in it, and their pixels, (num, *shape), uint8."""
        keys = [self._part.indices[positions].numpy() for positions in batches]
        yield from in_order(_PackedBatches(self._files), keys, self._num_workers)

    def stored(self, pixels: StoredPixels) -> StoredFiles:
        """Returns the reader of the split's images from a store."""
        return StoredFiles(pixels, self._part.indices, is_whole=self._files.is_whole)


class _PackedBatches(Dataset[list[tuple[np.ndarray, Tensor]]]):
    """Few tensors per batch, because every tensor sent by a loader process opens a file."""

    def __init__(self, files: DecodedFiles) -> None:
        self._files = files

    def __getitem__(self, indices: np.ndarray) -> list[tuple[np.ndarray, Tensor]]:
        decoded = self._files.read(indices)
        if isinstance(decoded, Tensor):
            return [(np.arange(len(indices)), decoded)]
        packed = [pack(image) for image in decoded]
        lengths = np.array([len(vector) for vector in packed])
        return [
            (positions, torch.stack([packed[position] for position in positions]))
            for positions in ((lengths == length).nonzero()[0] for length in np.unique(lengths))
        ]


def pack(image: Tensor) -> Tensor:
    """Returns an image (channels, height, width) as a vector of uint8: its shape, its pixels, and trailing zeros."""
    packed = torch.zeros(_packed_length(image.numel()), dtype=torch.uint8)
    packed[:_HEADER_BYTES] = torch.tensor(image.shape, dtype=torch.int32).view(torch.uint8)
    packed[_HEADER_BYTES : _HEADER_BYTES + image.numel()] = image.reshape(-1)
    return packed


def unpack(packed: Tensor) -> Tensor:
    """Returns a packed image, (channels, height, width), uint8."""
    shape = packed[:_HEADER_BYTES].view(torch.int32).tolist()
    return packed[_HEADER_BYTES : _HEADER_BYTES + math.prod(shape)].view(shape)


def _packed_length(num_bytes: int) -> int:
    return next(length for length in _LENGTHS if length >= num_bytes + _HEADER_BYTES)


# From 4 KiB to 1 GiB, each about a fifth above the one before.
_LENGTHS = [2**12 * round(2 ** (step / 4) * 16) // 16 for step in range(73)]
