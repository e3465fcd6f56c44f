"""Decodes an image, from a file or in memory, to pixels; errors say in a few words what is wrong with it."""

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from regraft.core.content_hash import content_hash
from regraft.data.images.decoding import decode_image, decoded_size, pixels_of
from regraft.data.images.file_reading.facts import read_facts
from regraft.data.images.file_reading.problems import described
from regraft.data.sources.folder_scan import why_closed
from regraft.deployment.predict.inputs import expanded

Picture = Path | Image.Image | np.ndarray | Tensor

_MAX_BYTES = 2**31
"""Of a file: more than any image needs that can be decoded, and a bound on what is read into memory."""

# Larger images are decoded one at a time, as one in each thread might not fit into memory.
_LARGE_PIXELS = 2**25
_one_large = threading.Lock()
# An opened image that hasn't been read yet is read when it is copied, which threads can't do at once.
_one_lazy = threading.Lock()


def read_pixels(picture: Picture, num_channels: int, least_side: int | None) -> Tensor:
    """Returns an image's pixels, (channels, height, width), uint8.

    Args:
        picture: a path, or an image in memory that `require_picture` accepts.
        num_channels: of a file's pixels, 1 or 3.
        least_side: pixels that the shorter side of a file's image must keep; None for all.

    Raises:
        ValueError: it can't be read or decoded; the reason is short and doesn't name the file.
        MemoryError: there is no memory for it.
    """
    if isinstance(picture, Path):
        return _of_file(picture, num_channels, least_side)
    if isinstance(picture, Image.Image):
        return _of_picture(picture, num_channels)
    if isinstance(picture, np.ndarray):
        # A copy, as torch needs writable memory and no negative strides.
        pixels = torch.from_numpy(picture.copy())
        return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    return picture.cpu()


def content_digest(path: Path) -> bytes:
    """Returns the hash of a file's content, the key of its stored features.

    Raises:
        ValueError: it can't be read.
    """
    _require_readable(path)
    try:
        return content_hash(path.read_bytes())
    except OSError as error:
        raise ValueError(described("unreadable", error.strerror or str(error))) from error


def require_picture(picture: object) -> Picture:
    """Returns the image, with a path as a Path.

    Raises:
        ValueError: it isn't a path, PIL image, uint8 array (height, width, 3) or uint8 tensor (3, height, width).
    """
    if isinstance(picture, str | os.PathLike):
        return Path(expanded(os.fsdecode(picture)))
    if isinstance(picture, Image.Image):
        return picture
    if isinstance(picture, np.ndarray):
        is_right = picture.dtype == np.uint8 and (
            picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] in (1, 3))
        )
        what = f"an array of {picture.dtype}, {picture.shape}"
    elif isinstance(picture, Tensor):
        is_right = picture.dtype == torch.uint8 and picture.ndim == 3 and picture.shape[0] in (1, 3)
        what = f"a tensor of {picture.dtype}, {tuple(picture.shape)}"
    else:
        is_right, what = False, repr(type(picture).__name__)
    if not is_right:
        raise ValueError(
            f"images: got {what}; allowed: a path, a PIL image, a uint8 array of shape (height, width, 3), a uint8 "
            f"tensor of shape (3, height, width), or several of them."
        )
    return picture  # type: ignore[return-value]


@contextmanager
def alone_if_large(picture: Picture, least_side: int | None) -> Iterator[None]:
    """Waits inside the block's start until no other large image is in memory, if this one is large.

    Args:
        picture: the image that is decoded inside the block.
        least_side: pixels that its shorter side must keep; None for all.
    """
    with _one_large if _num_pixels(picture, least_side) > _LARGE_PIXELS else nullcontext():
        yield


def _num_pixels(picture: Picture, least_side: int | None) -> int:
    """Returns how many pixels decoding takes; 0 for an image in memory, or one that can't be read."""
    if isinstance(picture, Image.Image):
        return picture.width * picture.height
    if not isinstance(picture, Path):  # it is in memory as it is
        return 0
    try:
        _require_readable(picture)
        width, height = decoded_size(picture, least_side)
    except ValueError:
        return 0
    return width * height


def _of_picture(picture: Image.Image, num_channels: int) -> Tensor:
    try:
        with _one_lazy:
            copy = picture.copy()
        copy.format = picture.format  # it decides what 16-bit pixels mean
        return pixels_of(copy, num_channels)
    # Pillow's plugins raise nearly anything on broken bytes, which may be read only now.
    except Exception as error:
        raise ValueError(described("undecodable", " ".join(str(error).split()) or type(error).__name__)) from error


def _of_file(path: Path, num_channels: int, least_side: int | None) -> Tensor:
    _require_readable(path)
    try:
        return decode_image(path, num_channels, least_side=least_side)
    except ValueError as error:
        if isinstance(error.__cause__, MemoryError):  # not a fault of the image
            raise error.__cause__ from error
        facts, detail = read_facts(str(path))
        problem = facts["problem"].item().decode()
        # The file may have changed since, or have a fault that `read_facts` doesn't look for.
        raise ValueError(
            described(problem, detail) if problem else described("undecodable", str(error.__cause__))
        ) from error


def _require_readable(path: Path) -> None:
    """Raises an error for what mustn't be opened: reading a FIFO, for example, would wait forever."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a zero byte
        if os.path.islink(path):  # noqa: PTH114 (pathlib's raises where a folder mustn't be looked into)
            raise ValueError(described("closed", why_closed(path))) from error
        raise ValueError(described("unreadable", getattr(error, "strerror", None) or str(error))) from error
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(described("closed", why_closed(path)))
    if found.st_size > _MAX_BYTES:
        raise ValueError(f"too large ({found.st_size / 2**30:.1f} GiB; allowed: {_MAX_BYTES // 2**30})")
