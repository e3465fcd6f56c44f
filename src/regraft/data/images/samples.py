"""Labelled images before they form a batch: all of them in memory, or one file each."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from regraft.core.content_hash import HASH_BYTES, content_hash
from regraft.data.sources.base import Columns

_NUM_THREADS = 8
_CHUNK = 64
_MIN_FILE_BYTES_FOR_THREADS = 2**16


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images of one size, in memory.

    Attributes:
        pixels: (num_images, channels, height, width), uint8.
        labels: class indices, (num_images,), int64; or (num_images, num_outputs), float32, see `Samples`.
    """

    kind: ClassVar[str] = "image"

    pixels: Tensor
    labels: Tensor
    columns: Columns = field(default_factory=Columns)

    def __post_init__(self) -> None:
        assert self.pixels.dtype == torch.uint8
        assert self.pixels.ndim == 4
        assert self.labels.dtype in (torch.int64, torch.float32)
        assert self.labels.shape[:1] == self.pixels.shape[:1]

    def __len__(self) -> int:
        return len(self.labels)

    def with_labels(self, labels: Tensor) -> Self:
        """Returns the same images with other labels."""
        return replace(self, labels=labels)

    def joined_with(self, other: Self) -> Self:
        """Returns these images and others of the same size."""
        return replace(
            self,
            pixels=torch.cat([self.pixels, other.pixels]),
            labels=torch.cat([self.labels, other.labels]),
            columns=self.columns.joined_with(other.columns, (len(self), len(other))),
        )

    def content_hashes(self) -> np.ndarray:
        """Returns the hash of each image's shape and pixels, (num_images, HASH_BYTES), uint8."""
        pixels = self.pixels.numpy()
        shape = str(pixels.shape[1:]).encode()
        return _as_array(content_hash(shape, image.data) for image in pixels)


@dataclass(frozen=True, eq=False)
class FileImages:
    """Images in files, which are decoded when they are needed.

    Attributes:
        root: folder that the names are relative to.
        names: all relative paths, file system encoded, concatenated. One object instead of a string per file: forked
            loader workers touch the reference count of every string, and so copy its memory page.
        offsets: (num_images + 1,), int64: name i is `names[offsets[i]:offsets[i + 1]]`.
        labels: class indices, (num_images,), int64; or (num_images, num_outputs), float32, see `Samples`.
        known_hashes: (num_images, HASH_BYTES), uint8: of files that this process has read already; zeros for others.
    """

    kind: ClassVar[str] = "image"

    root: str
    names: bytes
    offsets: Tensor
    labels: Tensor
    known_hashes: np.ndarray | None = None
    columns: Columns = field(default_factory=Columns)

    @classmethod
    def from_names(
        cls,
        root: str | Path,
        names: Sequence[str],
        labels: Tensor,
        known_hashes: np.ndarray | None = None,
        columns: Columns | None = None,
    ) -> Self:
        """Returns the images at `names`, paths relative to `root`."""
        encoded = [os.fsencode(name) for name in names]
        lengths = torch.tensor([0, *map(len, encoded)], dtype=torch.int64)
        return cls(str(root), b"".join(encoded), lengths.cumsum(0), labels, known_hashes, columns or Columns())

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Returns the path of image `index`, relative to the root."""
        start, stop = self.offsets[index : index + 2].tolist()
        return os.fsdecode(self.names[start:stop])

    def path(self, index: int) -> Path:
        """Returns the path of image `index`."""
        return Path(self.root, self.name(index))

    def num_bytes(self, index: int) -> int:
        """Returns the size of the file of image `index`; raises OSError if it is gone."""
        return self.path(index).stat().st_size

    def with_labels(self, labels: Tensor) -> Self:
        """Returns the same images with other labels."""
        return replace(self, labels=labels)

    def joined_with(self, other: Self) -> Self:
        """Returns these images and others, whose files may be in another folder."""
        root = os.path.commonpath([self.root, other.root])
        names = [os.path.relpath(images.path(index), root) for images in (self, other) for index in range(len(images))]
        columns = self.columns.joined_with(other.columns, (len(self), len(other)))
        return self.from_names(root, names, torch.cat([self.labels, other.labels]), columns=columns)

    def content_hashes(self) -> np.ndarray:
        """Returns the hash of each file's bytes, (num_images, HASH_BYTES), uint8; reads the files not yet known."""
        if self.known_hashes is None:
            return self._read_hashes(np.arange(len(self)))
        hashes = self.known_hashes.copy()
        unknown = np.flatnonzero(~hashes.any(1))
        if len(unknown):
            hashes[unknown] = self._read_hashes(unknown)
        return hashes

    def _read_hashes(self, indices: np.ndarray) -> np.ndarray:
        chunks = [indices[start : start + _CHUNK].tolist() for start in range(0, len(indices), _CHUNK)]
        first = chunks[0] if chunks else []
        num_bytes = sum(map(self.num_bytes, first))
        # Reading and hashing release the interpreter lock, but to acquire it again costs more than a small file.
        num_threads = _NUM_THREADS if num_bytes > _MIN_FILE_BYTES_FOR_THREADS * len(first) else 1
        with ThreadPoolExecutor(num_threads) as pool:
            return _as_array(pool.map(lambda chunk: b"".join(_hash_file(self.path(index)) for index in chunk), chunks))


Images = ArrayImages | FileImages


def _hash_file(path: Path) -> bytes:
    with path.open("rb", buffering=0) as file:
        return content_hash(file.read())


def _as_array(hashes: Iterable[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, HASH_BYTES)
