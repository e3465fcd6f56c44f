"""Decoded pictures as rows of few shapes, and back again; where rows are kept is the business of `features`.

Whole pictures, each of another size, are packed into rows whose lengths are those of a geometric series.
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

from regraft.core.types import InputSpec
from regraft.data.images.decoded_images import DecodedFiles, by_index, code_digest
from regraft.data.images.decoding import decoded_size, heif_version
from regraft.data.images.transforms.augment import Augment
from regraft.data.loader import in_order
from regraft.data.sources.base import FileImages
from regraft.data.splits import Part

_CODE = (
    *("data/images/decoded_images.py", "data/images/decoding.py", "data/images/packed_images.py"),
    "data/images/transforms/image.py",
)
_HEADER_BYTES = 12


class Rows(Protocol):
    """Gives pictures that are kept as rows, see `DecodedView`."""

    def read(self, places: Tensor) -> Tensor:
        """Returns the rows at some places of a split, which are of one shape."""

    def each(self, places: Tensor) -> Iterator[Tensor]:
        """Yields the rows at some places of a split, whatever their shapes."""


class StoredFiles:
    """Reads what was decoded before.

    Args:
        rows: a split's pictures, as a `DecodedView` gave them.
        indices: (num_images,), int64, the split's places in its source.
        is_whole: whether they are whole pictures.
    """

    is_stored = True

    def __init__(self, rows: Rows, indices: Tensor, *, is_whole: bool) -> None:
        self._rows = rows
        self._place_of = torch.full((int(indices.max()) + 1,), -1)
        self._place_of[indices] = torch.arange(len(indices))
        self._is_whole = is_whole

    def read(self, indices: np.ndarray) -> Tensor | Iterator[Tensor]:
        """Returns stored pictures; see `Decoded`."""
        places = self._place_of[torch.from_numpy(indices)]
        return map(unpacked, self._rows.each(places)) if self._is_whole else self._rows.read(places)


class DecodedView:
    """A split's pictures before any random draw, as rows to be kept.

    Args:
        part: the split; its images are files.
        digests: hash of each file's content, (num_images, 16), uint8.
        spec: what the backbone wants.
        augment: of training batches; None for evaluation.
        num_workers: loader processes.
    """

    def __init__(
        self, part: Part, digests: np.ndarray, spec: InputSpec, augment: Augment | None, *, num_workers: int
    ) -> None:
        assert isinstance(part.images, FileImages)
        self.digests = digests
        self._part = part
        self._files = DecodedFiles(part.images, spec, augment, by_index(part, digests))
        self._num_workers = num_workers

    @property
    def transform(self) -> dict[str, Any]:
        """All that a row depends on besides its file and the versions of Pillow and torchvision, as plain types."""
        files = self._files
        what = {"whole": files.is_whole, "least_side": files.least_side, "num_channels": files.spec.num_channels}
        # Normalising comes later, and whole pictures are resized later, too.
        square = {} if files.is_whole else asdict(replace(files.spec, mean=None, std=None))
        return {"kind": "decoded", "code": code_digest(*_CODE), "heif": heif_version()} | what | square

    def label(self, row_shape: tuple[int, ...]) -> str:
        """Returns what rows of a shape are, for people."""
        if self._files.is_whole:
            return f"decoded images, whole, {decimal(row_shape[0])} each"
        return f"decoded images, {self._files.spec.image_size} px{', gray' if row_shape[0] == 1 else ''}"

    @property
    def possible_row_shapes(self) -> list[tuple[int, ...]]:
        """Shapes that rows can have."""
        if self._files.is_whole:
            return [(length,) for length in _LENGTHS]
        return [(self._files.spec.num_channels, self._files.spec.image_size, self._files.spec.image_size)]

    def row_shapes(self, places: Tensor) -> list[tuple[int, ...]]:
        """Returns the shape of each row, from the first bytes of its file.

        Args:
            places: (num_images,), int64, of the split.

        Raises:
            ValueError: a file is no picture.
        """
        if not self._files.is_whole:
            return self.possible_row_shapes * len(places)
        images, num_channels = self._files.images, self._files.spec.num_channels
        sizes = (
            decoded_size(images.path(index), self._files.least_side) for index in self._part.indices[places].tolist()
        )
        return [(_row_length(num_channels * width * height),) for width, height in sizes]

    def batches(self, batches: Sequence[Tensor]) -> Iterator[list[tuple[np.ndarray, Tensor]]]:
        """Yields for each batch its rows by shape: which of the batch they are, and (num_rows, *row_shape), uint8.

        Args:
            batches: of each the places of its images in the split, (batch,), int64.

        Raises:
            ValueError: a file can't be decoded, or isn't what it was when its digest was taken.
        """
        keys = [self._part.indices[places].numpy() for places in batches]
        yield from in_order(_RowBatches(self._files), keys, self._num_workers)

    def stored(self, rows: Rows) -> StoredFiles:
        """Returns what reads the rows of all of the split's images."""
        return StoredFiles(rows, self._part.indices, is_whole=self._files.is_whole)


class _RowBatches(Dataset[list[tuple[np.ndarray, Tensor]]]):
    """Few tensors a batch, because each one on its way from a loader process opens a file."""

    def __init__(self, files: DecodedFiles) -> None:
        self._files = files

    def __getitem__(self, indices: np.ndarray) -> list[tuple[np.ndarray, Tensor]]:
        decoded = self._files.read(indices)
        if isinstance(decoded, Tensor):
            return [(np.arange(len(indices)), decoded)]
        rows = [packed(image) for image in decoded]
        lengths = np.array([len(row) for row in rows])
        return [
            (places, torch.stack([rows[place] for place in places]))
            for places in ((lengths == length).nonzero()[0] for length in np.unique(lengths))
        ]


def packed(image: Tensor) -> Tensor:
    """Returns a picture as a row: its shape, its pixels, and zeros up to the row's length.

    Args:
        image: (channels, height, width), uint8.
    """
    row = torch.zeros(_row_length(image.numel()), dtype=torch.uint8)
    row[:_HEADER_BYTES] = torch.tensor(image.shape, dtype=torch.int32).view(torch.uint8)
    row[_HEADER_BYTES : _HEADER_BYTES + image.numel()] = image.reshape(-1)
    return row


def unpacked(row: Tensor) -> Tensor:
    """Returns the picture that was packed into a row, (channels, height, width), uint8."""
    shape = row[:_HEADER_BYTES].view(torch.int32).tolist()
    return row[_HEADER_BYTES : _HEADER_BYTES + math.prod(shape)].view(shape)


def _row_length(num_bytes: int) -> int:
    """Returns the length of the shortest row that takes so many bytes of pixels."""
    return next(length for length in _LENGTHS if length >= num_bytes + _HEADER_BYTES)


def _lengths() -> list[int]:
    """Returns lengths of rows, ascending, from 4 KiB to 1 GiB, each a fifth above the one before."""
    return [2**12 * round(2 ** (step / 4) * 16) // 16 for step in range(73)]


_LENGTHS = _lengths()
