"""Decoding of image files: any format that Pillow can decode, upright, with 8 bits per channel."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from regraft.core.content_hash import content_hash
from regraft.core.errors import ConfigError
from regraft.data.images.file_reading.problems import (
    NUM_BYTES,
    ProgramError,
    UnknownRangeError,
    can_read_heic,
    is_heic,
    refuse_program,
)

_MIN_PIXELS_TO_SHRINK = 2_000 * 1_500
"""Smaller photos are decoded at full size; shrinking them would save little."""

_SHRINKS = (8, 4, 2)
"""Divisors of width and height at which a JPEG can be decoded: its blocks are 8 pixels wide."""

_MARGIN = 2
"""Least ratio of the shrunk photo's shorter side to `least_side`. At 2 the resized result of photos differs from that
of the full-size photo by 0.1 to 0.4 gray levels on average and by 5 at most; at 1 by up to 65."""

_BITS_PER_SAMPLE = 258  # TIFF's tag


def decode_image(
    path: str | Path, num_channels: int, expected_hash: bytes | None = None, least_side: int | None = None
) -> Tensor:
    """Returns the image in a file, upright, (num_channels, height, width), uint8; of an animation, the first frame.

    Args:
        path: a file in any format that Pillow can decode, whatever its extension; HEIC needs pillow-heif.
        num_channels: 3 for RGB (transparency is dropped), 1 for luminance.
        expected_hash: `content_hash` that the file must have; None to skip the check.
        least_side: pixels that the shorter side needs; a JPEG of 3 megapixels or more is decoded at a half, a quarter
            or an eighth of its size if that leaves at least twice as many. None for full size.

    Raises:
        ValueError: the file can't be read or decoded, has more pixels than Pillow considers safe, or another hash.
    """
    with _reading(path):
        content = Path(path).read_bytes()
    if expected_hash is not None and content_hash(content) != expected_hash:
        raise ConfigError("data.root", f"{path} has changed since this run began. Start again.")
    with _opened(path, io.BytesIO(content), least_side) as image:
        return pixels_of(image, num_channels)


def pixels_of(image: Image.Image, num_channels: int) -> Tensor:
    """Returns an image's pixels, (num_channels, height, width), uint8; turns it upright in place by its EXIF."""
    ImageOps.exif_transpose(image, in_place=True)
    pixels = torch.from_numpy(np.array(_convert(image, "RGB" if num_channels == 3 else "L")))
    return pixels.permute(2, 0, 1) if num_channels == 3 else pixels[None]


def decoded_size(path: str | Path, least_side: int | None = None) -> tuple[int, int]:
    """Returns width and height of `decode_image`'s result, in either order; ValueError if the header can't be read."""
    with _reading(path), Path(path).open("rb") as file, _opened(path, file, least_side) as image:
        return image.size


def shrink_of(size: tuple[int, int], least_side: int | None) -> int:
    """Returns the divisor of width and height at which a JPEG of `size` pixels is decoded: 1, 2, 4 or 8."""
    if least_side is None or size[0] * size[1] < _MIN_PIXELS_TO_SHRINK:
        return 1
    return next((shrink for shrink in _SHRINKS if min(size) // shrink >= _MARGIN * least_side), 1)


class TooManyPixelsError(ValueError):
    """The header of an image promises more pixels than are allowed."""


def decode_stream(file: IO[bytes], num_channels: int, least_side: int | None, max_pixels: int) -> Tensor:
    """Returns the image in an untrusted, seekable stream, as `decode_image` does.

    Args:
        max_pixels: limit of the full size, checked before anything is decoded.

    Raises:
        TooManyPixelsError: the image has more pixels.
        ValueError: it can't be decoded; the reason is short and names no file.
        MemoryError: there isn't enough memory for it.
    """
    allowed = f"{round(max_pixels / 1e6, 2):g}"
    try:
        with _opened("", file, None) as image:
            num_pixels = image.width * image.height
        if num_pixels <= max_pixels:
            file.seek(0)
            with _opened("", file, least_side) as image:
                return pixels_of(image, num_channels)
    except ValueError as error:
        cause = error.__cause__
        if isinstance(cause, MemoryError):  # it isn't the image's fault
            raise cause from error
        if isinstance(cause, Image.DecompressionBombError):
            raise TooManyPixelsError(f"it has more than {allowed} megapixels") from error
        if isinstance(cause, ImportError):
            raise ValueError("it is a HEIC image, which needs pillow-heif here") from error
        raise ValueError(_reason(cause) if isinstance(cause, Exception) else str(error)) from error
    raise TooManyPixelsError(f"it has {round(num_pixels / 1e6, 2):g} megapixels; allowed: {allowed}")


@cache
def heif_version() -> str | None:
    """Returns the version of pillow-heif, on which the pixels of HEIC images depend; None if it isn't installed."""
    try:
        return version("pillow-heif")
    except PackageNotFoundError:
        return None


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            "data.root", f"can't read {path} ({error.strerror}). Put it back, and start again."
        ) from error


@contextmanager
def _opened(path: str | Path, file: IO[bytes], least_side: int | None) -> Iterator[Image.Image]:
    """Opens an image without decoding it; turns any error into a ValueError that names the file."""
    start = file.read(NUM_BYTES)
    if is_heic(start) and not can_read_heic():
        raise ConfigError(
            "data.root",
            f"can't decode {path}: it is a HEIC image, which needs pillow-heif. Run pip install "
            "'regraft[heic]', or convert it to JPEG.",
        ) from ModuleNotFoundError("pillow_heif")
    try:
        with warnings.catch_warnings():
            # Pillow's warnings don't name the file: about 100 megapixels, which are fine, or unreadable metadata,
            # which doesn't change a pixel. Whatever does change pixels raises an error.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            with Image.open(file) as image:
                refuse_program(image.format)
                shrink = shrink_of(image.size, least_side)
                if shrink > 1:  # without effect on formats other than JPEG
                    image.draft(None, (image.width // shrink, image.height // shrink))
                yield image
    # On broken bytes Pillow's plugins raise nearly anything: OSError, SyntaxError, struct.error, IndexError.
    except Exception as error:
        reason = "it is empty" if not start else _reason(error)
        raise ConfigError("data.root", f"can't decode {path} ({reason}). Remove or replace that file.") from error


def _reason(error: Exception) -> str:
    if isinstance(error, ProgramError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image, or of a format that Pillow doesn't know"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more pixels than are safe to decode: {str(error).rstrip('.')}"
    return f"{type(error).__name__}: {error}"


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        # Pillow clips 16-bit gray at 255 instead of scaling it. Of the 16 bits a TIFF may use 12.
        depth = int(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0])
        image = Image.fromarray((np.asarray(image) >> (depth - 8)).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise UnknownRangeError(
            f"its pixels are of mode {image.mode}, whose range isn't known; allowed: 8 or 16 bits a channel"
        )
    elif "transparency" in image.info:
        # A palette with transparent entries is converted without a warning only by way of RGBA.
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)
