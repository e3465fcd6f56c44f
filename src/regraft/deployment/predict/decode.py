"""Decodes an image, from a file or in memory, to pixels; errors are short reasons without the file's name."""

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
from regraft.core.errors import ConfigError
from regraft.core.pixel_format import PixelFormat
from regraft.data.images.decoding import decode_image, decoded_size, pixels_of
from regraft.data.images.file_reading.convert import StoredLayout
from regraft.data.images.file_reading.facts import facts_of, read_facts
from regraft.data.images.file_reading.problems import described
from regraft.data.images.transforms.batch import without_alpha
from regraft.data.shards.member import Member
from regraft.data.sources.folder_scan import why_closed
from regraft.deployment.predict.inputs import expanded

ImageLike = Path | Member | Image.Image | np.ndarray | Tensor

_MAX_BYTES = 2**31
"""Of a file: more than any image needs that can be decoded, and a bound on what is read into memory."""

# Larger images are decoded one at a time, as one in each thread might not fit into memory.
_LARGE_PIXELS = 2**25
_one_large = threading.Lock()
# PIL reads an opened file when the image is copied, which threads can't do at once.
_one_lazy = threading.Lock()


def read_pixels(image: ImageLike, pixel_format: PixelFormat, least_side: int | None) -> Tensor:
    """Returns an image's pixels, (channels, height, width), uint8.

    Args:
        image: a path, or an image in memory that `require_image` accepts.
        least_side: pixels that the shorter side of a file's image must keep; None for all.

    Raises:
        ValueError: it can't be read or decoded; the reason is short and doesn't name the file.
        MemoryError: there is no memory for it.
    """
    if isinstance(image, Path | Member):
        return _of_file(image, pixel_format, least_side)
    if isinstance(image, Image.Image):
        return _of_pil(image, pixel_format)
    if isinstance(image, np.ndarray):
        # A copy, as torch needs writable memory and no negative strides.
        pixels = torch.from_numpy(image.copy())
        image = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    return without_alpha(image.cpu(), pixel_format.rgb)


def hash_of_file(path: Path | Member) -> bytes:
    """Returns the hash of a file's content, the key of its stored features."""
    _require_readable(path)
    try:
        return content_hash(path.read_bytes())
    except OSError as error:
        raise ValueError(described("unreadable", error.strerror or str(error))) from error


def require_image(image: object) -> ImageLike:
    """Returns the image, with a path as a Path.

    Raises:
        ValueError: it isn't a path, PIL image, uint8 array (height, width, 3) or uint8 tensor (3, height, width);
            gray ones have 1 channel, transparent ones 4.
    """
    if isinstance(image, str | os.PathLike):
        return Path(expanded(os.fsdecode(image)))
    if isinstance(image, Image.Image):
        return image
    what = repr(type(image).__name__)
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3, 4))):
            return image
        what = f"an array of {image.dtype}, {image.shape}"
    elif isinstance(image, Tensor):
        if image.dtype == torch.uint8 and image.ndim == 3 and image.shape[0] in (1, 3, 4):
            return image
        what = f"a tensor of {image.dtype}, {tuple(image.shape)}"
    allowed = (
        "a path, a PIL image, a uint8 array of shape (height, width, 3), a uint8 tensor of shape (3, height, width), "
        "each with 1 channel, 3, or 4 (RGBA)"
    )
    raise ConfigError("images", f"got {what}", allowed=f"{allowed}, or several of them")


@contextmanager
def alone_if_large(image: ImageLike, least_side: int | None) -> Iterator[None]:
    """Waits until no other large image is being decoded, if decoding this one takes many pixels."""
    with _one_large if _num_pixels(image, least_side) > _LARGE_PIXELS else nullcontext():
        yield


def _num_pixels(image: ImageLike, least_side: int | None) -> int:
    """Returns how many pixels decoding takes; 0 for an image in memory, or one that can't be read."""
    if isinstance(image, Image.Image):
        return image.width * image.height
    if not isinstance(image, Path | Member):
        return 0
    try:
        _require_readable(image)
        width, height = decoded_size(image, least_side)
    except ValueError:
        return 0
    return width * height


def _of_pil(image: Image.Image, pixel_format: PixelFormat) -> Tensor:
    try:
        with _one_lazy:
            layout = StoredLayout.of(image)  # which a loaded image has no longer
            image.load()
        return pixels_of(image, pixel_format, layout)
    # Pillow's plugins raise nearly anything on broken bytes, which may be read only now.
    except Exception as error:
        raise ValueError(described("undecodable", " ".join(str(error).split()) or type(error).__name__)) from error


def _of_file(path: Path | Member, pixel_format: PixelFormat, least_side: int | None) -> Tensor:
    _require_readable(path)
    try:
        return decode_image(path, pixel_format, least_side=least_side)
    except ValueError as error:
        if isinstance(error.__cause__, MemoryError):  # not a fault of the image
            raise error.__cause__ from error
        facts, detail = _facts_of(path)
        # The file may have changed since, or have a fault that `read_facts` doesn't look for.
        problem = facts["problem"].item().decode()
        reason = described(problem, detail) if problem else described("undecodable", str(error.__cause__))
        raise ValueError(reason) from error


def _facts_of(path: Path | Member) -> tuple[np.ndarray, str]:
    if isinstance(path, Path):
        return read_facts(str(path))
    try:
        return facts_of(path.read_bytes())
    except OSError as error:
        raise ValueError(described("unreadable", error.strerror or str(error))) from error


def _require_readable(path: Path | Member) -> None:
    """Raises an error for what mustn't be opened: reading a FIFO, for example, would wait forever."""
    if isinstance(path, Member):
        return
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
