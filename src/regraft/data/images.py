"""Where pixels live before they are a batch: whole in memory, or one file an image; and how a file is decoded.

Resizing, cropping and augmenting don't belong here.
"""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from regraft.data.digests import digest_of


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


def decode_image(path: str | Path, num_channels: int, digest: bytes | None = None) -> Tensor:
    """Returns the picture in a file, upright.

    Args:
        path: a file that Pillow can decode; of an animation, the first frame.
        num_channels: 3 for RGB (transparency is dropped), 1 for luminance.
        digest: that the file's bytes must have, see `digest_of`; None for not checked.

    Returns:
        (num_channels, height, width), uint8.

    Raises:
        ValueError: the file can't be decoded, or has another digest.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(
            f"data.root: can't read {path} ({error.strerror}). Fix: put it back, and start again."
        ) from error
    if digest is not None and digest_of(content) != digest:
        raise ValueError(f"data.root: {path} has changed since this run began. Fix: start again.")
    try:
        with Image.open(io.BytesIO(content)) as file:
            upright = ImageOps.exif_transpose(file)
            pixels = np.array(_convert(upright, "RGB" if num_channels == 3 else "L"))
    # Pillow's plugins raise nearly anything on broken bytes: OSError, SyntaxError, struct.error, IndexError.
    except Exception as error:
        raise ValueError(
            f"data.root: can't decode {path} ({type(error).__name__}: {error}). Fix: remove or replace that file."
        ) from error
    image = torch.from_numpy(pixels)
    return image.permute(2, 0, 1) if num_channels == 3 else image[None]


def _convert(image: Image.Image, mode: str) -> Image.Image:
    """Returns the image in `mode`, RGB or L, with 8 bits a channel."""
    if image.mode.startswith("I;16"):
        # Pillow clips 16-bit gray at 255 instead of scaling it.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(
            f"its pixels are of mode {image.mode}, whose range isn't known; allowed: 8 or 16 bits a channel"
        )
    elif "transparency" in image.info:
        # A palette with transparent entries is converted without a warning only by way of RGBA.
        image = image.convert("RGBA")
    return image.convert(mode)
