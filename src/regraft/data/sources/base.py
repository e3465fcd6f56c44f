"""Where pixels live before they are a batch: whole in memory, or one file an image.

How a file is decoded belongs in `decoding`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images of one size, whole in memory.

    Attributes:
        pixels: (num_images, channels, height, width), uint8.
        labels: (num_images,), int64 class indices.
    """

    pixels: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        assert self.pixels.dtype == torch.uint8
        assert self.pixels.ndim == 4
        assert self.labels.dtype == torch.int64
        assert self.labels.shape == self.pixels.shape[:1]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class FileImages:
    """Images that are decoded when asked for.

    Attributes:
        root: folder that the names are relative to.
        names: all relative paths, file system encoded, end to end. One object instead of a string a file: forked
            loader workers touch every string's reference count, and so copy its memory page.
        offsets: (num_images + 1,), int64: name i is `names[offsets[i]:offsets[i + 1]]`.
        labels: (num_images,), int64 class indices.
        digests: (num_images, DIGEST_BYTES), uint8: of the files that this process has read already; zeros of others.
    """

    root: str
    names: bytes
    offsets: Tensor
    labels: Tensor
    digests: np.ndarray | None = None

    @classmethod
    def from_names(
        cls, root: str | Path, names: Sequence[str], labels: Tensor, digests: np.ndarray | None = None
    ) -> Self:
        """Returns the images of `names`, paths relative to `root`."""
        encoded = [os.fsencode(name) for name in names]
        lengths = torch.tensor([0, *map(len, encoded)], dtype=torch.int64)
        return cls(str(root), b"".join(encoded), lengths.cumsum(0), labels, digests)

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> Path:
        """Returns the path of image `index`."""
        start, stop = self.offsets[index : index + 2].tolist()
        return Path(self.root, os.fsdecode(self.names[start:stop]))


Images = ArrayImages | FileImages


@dataclass(frozen=True, eq=False)
class Splits:
    """What a source holds. A split that the source doesn't define is None and is carved from `train`.

    `skipped` says of each file that was left out, by its path in the source, why.
    """

    class_names: tuple[str, ...]
    train: Images
    val: Images | None = None
    test: Images | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)


class Source(Protocol):
    """A data set, built from its own YAML keys."""

    def prepare(self) -> None:
        """Downloads and checks what has to be; one process a machine calls it."""

    def splits(self) -> Splits:
        """Returns the data set's official splits."""
